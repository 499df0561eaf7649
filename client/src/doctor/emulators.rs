//! Emulators: there, and do they start.

use std::{process::Stdio, time::Duration};

use edgeprof_boards::Catalogue;
use tokio::{process::Command, time::timeout};

use super::check::Check;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// An emulator of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Emulator {
    pub(crate) program: String,
    /// Debian's package.
    pub(crate) package: String,
    /// What it emulates.
    pub(crate) kinds: Vec<String>,
    pub(crate) state: State,
}

/// What came of asking a program for its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Missing,
    /// It is there and does not start.
    Broken(String),
    Version(String),
}

/// Asks every emulator of the catalogue for its version.
pub(crate) async fn probe(catalogue: &Catalogue) -> Vec<Emulator> {
    let mut all: Vec<Emulator> = Vec::new();
    for kind in catalogue.kinds() {
        let Some(emulator) = &kind.emulator else { continue };
        match all.iter_mut().find(|known| known.program == emulator.program) {
            Some(known) => known.kinds.push(kind.name.clone()),
            None => all.push(Emulator {
                program: emulator.program.clone(),
                package: emulator.debian_package.clone(),
                kinds: vec![kind.name.clone()],
                state: State::Missing,
            }),
        }
    }
    for emulator in &mut all {
        emulator.state = version(emulator.program.as_ref()).await;
    }
    all
}

/// What a program answers to `--version`: its first line, without its own name.
pub(crate) async fn version(program: &std::path::Path) -> State {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    // What the environment says of a lab is not asked about here.
    for (variable, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EDGEPROF_"))
    {
        command.env_remove(variable);
    }
    match timeout(PATIENCE, command.output()).await {
        Err(_) => State::Broken(format!("does not answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => State::Missing,
        Ok(Err(error)) => State::Broken(format!("cannot be started: {error}")),
        Ok(Ok(output)) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            State::Broken(format!("does not start ({}): {last}", output.status))
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let line = said.lines().next().unwrap_or_default().trim();
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            let line = line.strip_prefix(&*name).unwrap_or(line).trim();
            let line = line.strip_prefix("QEMU emulator version ").unwrap_or(line);
            // What follows in brackets is the packager's.
            State::Version(line.split(" (").next().unwrap_or(line).to_owned())
        }
    }
}

/// Without one emulator a lab lacks kinds; without any it needs real boards, of which `real` says whether
/// one may be plugged in.
pub(crate) fn judge(emulators: &[Emulator], real: bool) -> Vec<Check> {
    let any = real || emulators.iter().any(|emulator| matches!(emulator.state, State::Version(_)));
    let one = |emulator: &Emulator| {
        let name = format!("emulator {}", emulator.program);
        let kinds = format!("for {}", emulator.kinds.join(", "));
        let package = &emulator.package;
        match &emulator.state {
            State::Version(version) => Check::ok(name, format!("{version}, {kinds}")),
            State::Missing => {
                let (found, remedy) =
                    (format!("not installed, {kinds}"), format!("sudo apt install {package}"));
                if any { Check::warning(name, found, remedy) } else { Check::problem(name, found, remedy) }
            }
            State::Broken(why) => Check::problem(
                name,
                format!("{why}, {kinds}"),
                format!("sudo apt install --reinstall {package}"),
            ),
        }
    };
    emulators.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    fn emulator(program: &str, state: State) -> Emulator {
        Emulator {
            program: program.into(),
            package: format!("{program}-deb"),
            kinds: vec!["k".into()],
            state,
        }
    }

    fn statuses(emulators: &[Emulator], real: bool) -> Vec<Status> {
        judge(emulators, real).into_iter().map(|check| check.status).collect()
    }

    #[test]
    fn a_missing_emulator_is_a_problem_only_where_nothing_else_can_run() {
        let (there, missing) = (State::Version("7.2".into()), State::Missing);
        let both = [emulator("a", there), emulator("b", missing.clone())];
        assert_eq!(statuses(&both, false), [Status::Ok, Status::Warning]);
        let none = [emulator("a", missing.clone()), emulator("b", missing)];
        assert_eq!(statuses(&none, false), [Status::Problem; 2]);
        assert_eq!(statuses(&none, true), [Status::Warning; 2]);
        assert_eq!(judge(&none, false)[1].remedy.as_deref(), Some("sudo apt install b-deb"));
    }

    #[test]
    fn one_that_is_there_and_does_not_start_is_a_problem() {
        let broken = [emulator("a", State::Broken("does not start".into()))];
        assert_eq!(statuses(&broken, true), [Status::Problem]);
    }

    #[tokio::test]
    async fn a_version_is_what_the_program_says_of_itself() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let script = |text: &str| {
            let path = folder.path().join("qemu");
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let path = script("echo 'QEMU emulator version 7.2.1 (Debian 1:7.2)'; echo Copyright");
        assert_eq!(version(&path).await, State::Version("7.2.1".into()));
        let path = script("echo qemu 0.1.0");
        assert_eq!(version(&path).await, State::Version("0.1.0".into()));
        let State::Broken(why) = version(&script("echo libfoo.so is missing >&2; exit 127")).await else {
            panic!()
        };
        assert!(why.contains("127") && why.contains("libfoo.so is missing"), "{why}");
        assert_eq!(version("/nowhere/qemu".as_ref()).await, State::Missing);
    }
}
