//! The daemons' programs: there, of this version, and content with their configuration.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::{
    check::Check,
    emulators::{State, version},
};
use crate::programs;

/// How long a daemon may take to look at its configuration.
const PATIENCE: Duration = Duration::from_secs(20);

/// This build.
const OURS: &str = env!("CARGO_PKG_VERSION");

/// One daemon's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) path: Option<PathBuf>,
    pub(crate) version: State,
    /// What it says against its configuration files and environment.
    pub(crate) complaint: Option<String>,
    pub(crate) settings: Settings,
}

/// What a daemon would start with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) data: Option<PathBuf>,
    /// Bytes that it leaves free on its disk.
    pub(crate) reserve: Option<u64>,
}

impl Settings {
    /// Out of a configuration, where that can be read.
    fn read(text: &str) -> Self {
        let table: toml::Table = text.parse().unwrap_or_default();
        let word = |key: &str| table.get(key).and_then(toml::Value::as_str);
        Self {
            listen: word("listen").and_then(|text| text.parse().ok()),
            data: word("data").map(PathBuf::from),
            reserve: table
                .get("reserve_bytes")
                .and_then(toml::Value::as_integer)
                .and_then(|n| u64::try_from(n).ok()),
        }
    }

    fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            data: self.data.or(below.data),
            reserve: self.reserve.or(below.reserve),
        }
    }
}

/// Asks the program `edgeprof-<role>`.
pub(crate) async fn probe(name: &'static str, role: &str) -> Daemon {
    let path = programs::beside(name);
    let Some(program) = path.as_deref() else {
        return Daemon {
            name,
            path,
            version: State::Missing,
            complaint: None,
            settings: Settings::default(),
        };
    };
    let (version, checked, printed) = tokio::join!(
        version(program),
        output(program, "--check-config"),
        output(program, "--print-default-config")
    );
    let complaint = checked.err();
    let system = fs::read_to_string(format!("/etc/edgeprof/{role}.toml")).unwrap_or_default();
    let settings = Settings::read(&system).over(Settings::read(&printed.unwrap_or_default()));
    Daemon { name, path, version, complaint, settings }
}

async fn output(program: &Path, flag: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg(flag).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.map_err(|_| "it does not answer".to_owned())?;
    let output = output.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A machine that only speaks to a lab needs no daemon: `served` says that a coordinator answers.
pub(crate) fn judge(daemon: &Daemon, served: bool) -> Vec<Check> {
    let name = daemon.name;
    let install = format!(
        "sudo apt install ./{name}_*.deb, or in a clone: \
         cargo build --release --bins && sudo install target/release/{name} /usr/bin/"
    );
    let there = daemon.path.as_deref().unwrap_or(Path::new("")).display();
    let mut checks = vec![match &daemon.version {
        State::Missing => {
            let found = "neither beside edgeprof nor in PATH";
            if served { Check::warning(name, found, install) } else { Check::problem(name, found, install) }
        }
        State::Broken(why) => Check::problem(name, format!("{there} {why}"), install),
        State::Version(version) if version != OURS => {
            Check::problem(name, format!("{there} is version {version}, this client is {OURS}"), install)
        }
        State::Version(version) => Check::ok(name, format!("{version}, {there}")),
    }];
    if let Some(complaint) = &daemon.complaint
        && matches!(daemon.version, State::Version(_))
    {
        let said = complaint.strip_prefix(&format!("{name}: ")).unwrap_or(complaint);
        let what = format!("configuration of {name}");
        checks.push(if said.contains("Permission denied") {
            // Its key is for its user alone.
            Check::warning(what, said, format!("sudo -u {name} {name} --check-config"))
        } else {
            let remedy = format!("correct it; every key with its default: {name} --print-default-config");
            Check::problem(what, said, remedy)
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    fn daemon(version: State, complaint: Option<&str>) -> Daemon {
        let path = (version != State::Missing).then(|| "/usr/bin/edgeprof-worker".into());
        let complaint = complaint.map(str::to_owned);
        Daemon { name: "edgeprof-worker", path, version, complaint, settings: Settings::default() }
    }

    #[test]
    fn a_missing_daemon_is_a_problem_unless_a_lab_is_there() {
        let missing = daemon(State::Missing, None);
        assert_eq!(judge(&missing, false)[0].status, Status::Problem);
        assert_eq!(judge(&missing, true)[0].status, Status::Warning);
    }

    #[test]
    fn another_version_and_a_configuration_that_does_not_parse_are_problems() {
        let good = daemon(State::Version(OURS.into()), None);
        assert_eq!(judge(&good, false)[0].status, Status::Ok);
        let old = judge(&daemon(State::Version("0.0.1".into()), None), true);
        assert!(old[0].status == Status::Problem && old[0].found.contains("0.0.1"), "{old:?}");
        let said = "edgeprof-worker: in config /etc/edgeprof/worker.toml: line 2: unknown key";
        let wrong = judge(&daemon(State::Version(OURS.into()), Some(said)), false);
        assert_eq!(wrong[1].found, "in config /etc/edgeprof/worker.toml: line 2: unknown key");
        assert_eq!(wrong[1].status, Status::Problem);
        let said =
            "edgeprof-worker: cannot use /etc/edgeprof/tls/worker/key.pem: Permission denied (os error 13)";
        let hidden = judge(&daemon(State::Version(OURS.into()), Some(said)), false);
        assert_eq!(hidden[1].status, Status::Warning, "who may not read a daemon's key cannot judge it");
    }

    #[test]
    fn the_systems_file_goes_over_the_defaults() {
        let defaults = Settings::read("listen = \"127.0.0.1:7450\"\ndata = \"/a\"\nreserve_bytes = 9\n");
        let system = Settings::read("listen = \"0.0.0.0:7450\"\n").over(defaults);
        assert_eq!(system.listen, Some("0.0.0.0:7450".parse().unwrap()));
        assert_eq!((system.data, system.reserve), (Some("/a".into()), Some(9)));
        assert_eq!(Settings::read("no = toml = at all"), Settings::default());
    }
}
