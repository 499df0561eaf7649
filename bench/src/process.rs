//! What the system says of a process.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Pid, SysconfVar, sysconf},
};

/// A thousand workers are a thousand sockets on either side; daemons inherit what this process may have.
pub(crate) fn many_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Processor time of a process so far, with its children that have ended.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = ticks(&text).with_context(|| format!("{path} has another form"))?;
    let rate = sysconf(SysconfVar::CLK_TCK)?.context("the system has no clock ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / rate as f64))
}

/// utime, stime, cutime and cstime: fields 14 to 17, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<u64> =
        rest.split_whitespace().skip(11).take(4).map(|field| field.parse().ok()).collect::<Option<_>>()?;
    (fields.len() == 4).then(|| fields.iter().sum())
}

/// Memory of a process in MiB: resident now, and at most so far.
pub(crate) fn memory(pid: u32) -> Result<(f64, f64)> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.map(|kib| kib / 1024.0).with_context(|| format!("{path} has no {name}"))
    };
    Ok((field("VmRSS")?, field("VmHWM")?))
}

/// Keeps every thread of a process on one core. Threads that it starts later stay there too.
pub(crate) fn pin(pid: u32, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    apply(pid, &set)
}

/// Gives a process every core back.
pub(crate) fn unpin(pid: u32) -> Result<()> {
    let mut set = CpuSet::new();
    for core in 0..std::thread::available_parallelism()?.get() {
        set.set(core)?;
    }
    apply(pid, &set)
}

fn apply(pid: u32, set: &CpuSet) -> Result<()> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let id = thread?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(id), set)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_counted_behind_a_name_that_looks_like_fields() {
        let stat = "7 (a) 1 2 (b) S 1 7 7 0 -1 4194304 900 0 0 0 40 30 20 10 20 0 3 0 5";
        assert_eq!(ticks(stat), Some(100));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert_eq!(ticks("nothing"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let (now, most) = memory(std::process::id()).unwrap();
        assert!(now > 0.0 && most >= now);
    }
}
