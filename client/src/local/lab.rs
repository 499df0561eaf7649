//! A private coordinator and worker: started, watched, stopped.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use edgeprof_client::Client;
use edgeprof_report::number;
use edgeprof_service::children::Spawner;
use futures::future::select_all;
use nix::{
    sys::{
        signal::{Signal, kill},
        statvfs::statvfs,
    },
    unistd::Pid,
};
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};

use super::folder::Folder;
use crate::{exit::Failure, programs};

/// How long a daemon may take to serve, and all boards to be good. They take a fraction of a second each.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private worker is nobody's: it is not announced, and when it is to end nobody waits for what still runs.
const PRIVATE: &str = "announce = false\n[limits]\ndrain_grace = \"0s\"\n";

/// How long daemons may take to end in order before they are killed.
const FAREWELL: Duration = Duration::from_secs(10);

/// Between two looks for what is about to be there.
const LOOK: Duration = Duration::from_millis(2);

/// What the coordinator leaves free on its disk, beside what models take.
const RESERVE: u64 = 80 << 20;

/// A model is there as its file, as an image, and as the worker's copy of that.
const COPIES: u64 = 3;

/// Lines of a daemon's log that an error shows.
const LAST_LINES: usize = 8;

pub(crate) const COORDINATOR: &str = "edgeprof-coordinator";
pub(crate) const WORKER: &str = "edgeprof-worker";

/// The daemons' programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) coordinator: PathBuf,
    pub(crate) worker: PathBuf,
}

impl Programs {
    /// Beside this program, else in `PATH`.
    pub(crate) fn find() -> Result<Self, Failure> {
        let find = |name| {
            programs::beside(name).ok_or_else(|| {
                let folder = programs::folder().unwrap_or_default();
                Failure::unreachable(format!("{name} is neither in {} nor in PATH", folder.display()))
                    .hint("--local starts it: install it beside edgeprof, or add its folder to PATH")
            })
        };
        Ok(Self { coordinator: find(COORDINATOR)?, worker: find(WORKER)? })
    }
}

/// A lab of one run. Dropped, its processes are killed and its folder is removed; [`Lab::stop`] does it in
/// order.
#[derive(Debug)]
pub(super) struct Lab {
    daemons: Vec<Daemon>,
    spawner: Spawner,
    folder: Folder,
}

#[derive(Debug)]
struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Lab {
    /// An empty lab in the folder for temporary files, which is to take so many bytes of models.
    pub(super) fn new(models: u64) -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        super::folder::sweep(&parent);
        let (free, needed) = (free(&parent), RESERVE + models.saturating_mul(COPIES));
        if let Some(free) = free.filter(|free| *free < needed) {
            let (free, needed) = (number::bytes(free), number::bytes(needed));
            return Err(Failure::unreachable(format!(
                "{} has {free} free, a private lab needs {needed}",
                parent.display()
            ))
            .hint("make room there, or name a folder with room in TMPDIR"));
        }
        let folder = Folder::new(&parent).map_err(|error| full(&parent, &error))?;
        let spawner = Spawner::start("daemons")
            .map_err(|error| Failure::unreachable(format!("cannot start a thread: {error}")))?;
        Ok(Self { daemons: Vec::new(), spawner, folder })
    }

    /// Starts the daemons with these boards (`KIND`, or `KINDxN`), and waits until every board is good.
    pub(super) async fn start(
        &mut self,
        programs: &Programs,
        boards: &[(&str, usize)],
    ) -> Result<Client, Failure> {
        let mut worker = vec!["--name".to_owned(), "local".to_owned()];
        for (kind, count) in boards {
            worker.extend(["--board".to_owned(), format!("{kind}x{count}")]);
        }
        let url = self.daemon(WORKER, &programs.worker, &worker, PRIVATE).await?;
        let address = url.trim_start_matches("http://").to_owned();
        let arguments = ["--no-discovery".to_owned(), "--worker".to_owned(), address];
        let url = self.daemon(COORDINATOR, &programs.coordinator, &arguments, "").await?;
        let client = Client::connect(&url).await?;
        let count = boards.iter().map(|(_, count)| count).sum();
        tokio::select! {
            good = all_good(&client, count) => good?,
            failure = self.broken() => return Err(failure),
        }
        Ok(client)
    }

    /// Starts one daemon, and waits until it serves. It reads `config` in the place of the system's file.
    async fn daemon(
        &mut self,
        name: &'static str,
        program: &Path,
        arguments: &[String],
        config: &str,
    ) -> Result<String, Failure> {
        let folder = self.folder.path();
        let file = |extension| folder.join(name).with_extension(extension);
        let (log, ready) = (file("log"), file("url"));
        let written = fs::write(file("toml"), config).and_then(|()| File::create(&log));
        let stderr = written.map_err(|error| full(folder, &error))?;
        let mut command = std::process::Command::new(program);
        // What the environment says of a standing lab is not for this one.
        for (variable, _) in std::env::vars_os() {
            let kept = ["EDGEPROF_FIRMWARE", "EDGEPROF_LOG"].iter().any(|name| variable == *name);
            if variable.to_string_lossy().starts_with("EDGEPROF_") && !kept {
                command.env_remove(&variable);
            }
        }
        command.args(["--listen", "127.0.0.1:0", "--site"]).arg(folder.file_name().unwrap_or_default());
        command.arg("--config").arg(file("toml")).arg("--data").arg(file("data"));
        command.arg("--ready-file").arg(&ready).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let child =
            self.spawner.spawn(command, None).await.map_err(|error| {
                Failure::unreachable(format!("cannot start {}: {error}", program.display()))
            })?;
        self.daemons.push(Daemon { name, child, log });
        tokio::select! {
            url = appears(&ready) => url.ok_or_else(|| self.broke(name, "does not serve")),
            failure = self.broken() => Err(failure),
        }
    }

    /// Waits until a daemon has ended by itself, and says why.
    pub(super) async fn broken(&mut self) -> Failure {
        let ends = self.daemons.iter_mut().map(|daemon| Box::pin(daemon.child.wait()));
        let (status, place, _) = select_all(ends).await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        self.broke(self.daemons[place].name, &format!("has ended ({status})"))
    }

    fn broke(&self, name: &str, how: &str) -> Failure {
        let log =
            self.daemons.iter().find(|daemon| daemon.name == name).map(|daemon| last_lines(&daemon.log));
        Failure::unreachable(format!("the private {name} {how}{}", log.unwrap_or_default()))
            .hint("edgeprof doctor says what this machine lacks")
    }

    /// Stops the daemons and removes everything. `hurry` cuts an orderly end short.
    pub(super) async fn stop(mut self, hurry: impl Future<Output = ()>) -> io::Result<()> {
        for daemon in &self.daemons {
            daemon.signal(Signal::SIGTERM);
        }
        let ended = async {
            for daemon in &mut self.daemons {
                let _ = daemon.child.wait().await;
            }
        };
        tokio::select! {
            _ = timeout(FAREWELL, ended) => {}
            () = hurry => {}
        }
        for daemon in &mut self.daemons {
            // One that has ended is only waited for.
            let _ = daemon.child.kill().await;
        }
        self.folder.remove()
    }
}

impl Daemon {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = kill(Pid::from_raw(id), signal);
        }
    }
}

/// What a ready file says once it is there; nothing if it does not come.
async fn appears(ready: &Path) -> Option<String> {
    let read = async {
        loop {
            match fs::read_to_string(ready) {
                Ok(url) => return url.trim().to_owned(),
                Err(_) => sleep(LOOK).await,
            }
        }
    };
    timeout(PATIENCE, read).await.ok()
}

/// Waits until so many boards are there and good.
async fn all_good(client: &Client, count: usize) -> Result<(), Failure> {
    let since = Instant::now();
    loop {
        let boards = client.boards(&[]).await?;
        if let Some(board) = boards.iter().find(|board| board.health == "bad") {
            let reason = board.reason.as_deref().unwrap_or("it does not say why");
            return Err(Failure::unreachable(format!("board {} does not work: {reason}", board.id))
                .hint("edgeprof doctor says what this machine lacks"));
        }
        let good = boards.iter().filter(|board| board.health == "good").count();
        if good == count {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            return Err(Failure::unreachable(format!(
                "only {good} of {count} boards are good after {} s",
                PATIENCE.as_secs()
            )));
        }
        sleep(LOOK).await;
    }
}

/// The end of a log, indented as a part of an error.
fn last_lines(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| format!("\n  {line}")).collect()
}

/// Bytes free for this user where a folder is.
pub(crate) fn free(folder: &Path) -> Option<u64> {
    let stat = statvfs(folder).ok()?;
    #[allow(clippy::useless_conversion)] // It is u32 elsewhere.
    Some(u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size()))
}

fn full(folder: &Path, error: &io::Error) -> Failure {
    Failure::unreachable(format!("cannot write in {}: {error}", folder.display()))
        .hint("name a writable folder with room in TMPDIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_the_end_of_a_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..20).map(|n| format!("line {n}\n\n")).collect();
        fs::write(log.path(), text).unwrap();
        let said = last_lines(log.path());
        assert!(said.starts_with("\n  line 12\n") && said.ends_with("\n  line 19"), "{said}");
        assert_eq!(last_lines(Path::new("/nowhere/log")), "");
    }
}
