//! Files of the service manager and of udev.

use std::{fs, path::PathBuf, process::Command};

use edgeprof_tests::{Finished, root};

const DAEMONS: [&str; 2] = ["coordinator", "worker"];

/// What `systemd-analyze security` may give at most; 10 is a service with every right.
const EXPOSURE: f64 = 2.5;

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

fn unit(daemon: &str) -> PathBuf {
    deploy(&format!("systemd/edgeprof-{daemon}.service"))
}

fn read(path: &str) -> String {
    let path = deploy(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The values of a key, in order.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.split_once('=')).filter(|(k, _)| *k == key).map(|(_, v)| v).collect()
}

fn has_systemd_analyze() -> bool {
    let there = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: no systemd-analyze here, the exposure of the units was not measured");
    }
    there
}

#[test]
fn a_daemon_can_do_little_beyond_its_work() {
    if !has_systemd_analyze() {
        return;
    }
    for daemon in DAEMONS {
        let said = Finished::of(
            Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--no-pager"])
                .arg(unit(daemon)),
        );
        let overall = said.stdout.lines().find(|line| line.contains("Overall exposure level"));
        let figure = overall.and_then(|line| line.split(": ").nth(1)).and_then(|text| text.split(' ').next());
        let exposure: f64 = figure.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{said:?}"));
        assert!(exposure <= EXPOSURE, "{daemon} has {exposure}:\n{}", said.stdout);
    }
}

/// Every line of the units is understood: whatever systemd does not know, it would ignore with a word in its log.
#[test]
fn the_service_manager_understands_every_line() {
    if !has_systemd_analyze() {
        return;
    }
    for daemon in DAEMONS {
        let said =
            Finished::of(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit(daemon)));
        // The programs are not installed here.
        let wrong: Vec<_> = said.stderr.lines().filter(|line| !line.contains("is not executable")).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// The worker waits for what runs, and ends its emulators itself.
#[test]
fn a_stop_leaves_a_worker_the_time_that_it_asks_for() {
    let text = fs::read_to_string(unit("worker")).unwrap();
    let seconds: u64 = values(&text, "TimeoutStopSec")[0].parse().unwrap();
    let grace = edgeprof_worker::config::Limits::default().drain_grace;
    assert!(seconds > grace.as_secs() + 30, "{seconds} s for a grace of {grace:?}");
    assert_eq!(values(&text, "KillMode"), ["mixed"]);
}

#[test]
fn users_of_the_units_are_those_that_are_made() {
    for daemon in DAEMONS {
        let unit = fs::read_to_string(unit(daemon)).unwrap();
        let user = format!("edgeprof-{daemon}");
        assert_eq!((values(&unit, "User"), values(&unit, "Group")), (vec![&*user], vec![&*user]));
        let users = read(&format!("sysusers.d/{user}.conf"));
        assert!(users.lines().any(|line| line.starts_with(&format!("u {user} "))), "{users}");
        for group in values(&unit, "SupplementaryGroups").iter().flat_map(|groups| groups.split(' ')) {
            for line in [format!("g {group} -"), format!("m {user} {group}")] {
                assert!(users.lines().any(|l| l == line), "{line:?} is not in\n{users}");
            }
        }
        let folders = read(&format!("tmpfiles.d/{user}.conf"));
        let state = values(&unit, "StateDirectory")[0];
        let line = format!("d /var/lib/{state} {} {user} {user} -", values(&unit, "StateDirectoryMode")[0]);
        assert!(folders.lines().any(|l| l == line), "{line:?} is not in\n{folders}");
    }
}

/// `KEY OP "VALUE"`, with commas between: udev drops a line with any other word in it.
#[test]
fn every_rule_is_one_and_jumps_to_a_label_that_is_there() {
    const OPERATORS: [&str; 5] = ["==", "!=", "+=", ":=", "="];
    let rules = read("udev/60-edgeprof.rules");
    let (mut targets, mut labels) = (Vec::new(), Vec::new());
    for line in rules.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        for word in line.split(", ") {
            let operator = OPERATORS.iter().find(|o| word.contains(*o)).unwrap_or_else(|| panic!("{line}"));
            let (key, value) = word.split_once(operator).unwrap();
            let name = key.split('{').next().unwrap();
            assert!(name.bytes().all(|b| b.is_ascii_uppercase()) && !name.is_empty(), "{key:?} in {line}");
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            let value = value.unwrap_or_else(|| panic!("{word:?} in {line}"));
            assert!(!value.contains('"'), "{word:?} in {line}");
            match name {
                "GOTO" => targets.push(value),
                "LABEL" => labels.push(value),
                _ => {}
            }
        }
    }
    assert!(
        !targets.is_empty() && targets.iter().all(|target| labels.contains(target)),
        "{targets:?} {labels:?}"
    );
}
