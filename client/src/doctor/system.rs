//! The clock, and how many files a process may have open.

use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit};

use super::check::Check;

/// A coordinator has a connection or two a worker and a file a blob in flight.
const FILES: u64 = 1024;

/// A clock may be off by this much and more before it is held against it.
const DAY: Duration = Duration::from_secs(86_400);

/// What the system says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) now: SystemTime,
    /// When this program was written to its disk.
    pub(crate) built: Option<SystemTime>,
    pub(crate) open_files: Option<u64>,
}

pub(crate) fn probe() -> System {
    let exe = std::env::current_exe().and_then(std::fs::metadata).and_then(|meta| meta.modified());
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft);
    System { now: SystemTime::now(), built: exe.ok(), open_files }
}

pub(crate) fn judge(system: &System) -> Vec<Check> {
    let stamp = |time| humantime::format_rfc3339_seconds(time).to_string();
    let now = stamp(system.now);
    let clock = match system.built {
        Some(built) if system.now + DAY < built => Check::warning(
            "clock",
            format!("it says {now}, before this program was installed ({})", stamp(built)),
            "sudo timedatectl set-ntp true",
        ),
        _ => Check::ok("clock", now),
    };
    let files = match system.open_files {
        Some(limit) if limit < FILES => {
            let found = format!("{limit} a process, fewer than {FILES}");
            Check::warning("open files", found, "ulimit -n 4096")
        }
        Some(limit) => Check::ok("open files", format!("{limit} a process")),
        None => Check::ok("open files", "the system sets no limit"),
    };
    vec![clock, files]
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    #[test]
    fn a_clock_before_the_program_and_few_files_are_warnings() {
        let now = SystemTime::UNIX_EPOCH + 1_000 * DAY;
        let statuses = |system| judge(&system).into_iter().map(|check| check.status).collect::<Vec<_>>();
        let good = System { now, built: Some(now), open_files: Some(FILES) };
        assert_eq!(statuses(good), [Status::Ok, Status::Ok]);
        let bad = System { now, built: Some(now + 2 * DAY), open_files: Some(256) };
        assert_eq!(statuses(bad), [Status::Warning, Status::Warning]);
    }
}
