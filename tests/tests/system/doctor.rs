//! `edgeprof doctor`: what this machine has and lacks.

use edgeprof_tests::{Lab, firmware};
use serde_json::Value;

/// Status, finding and remedy of one check.
fn check<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let found = checks.as_array().unwrap().iter().find(|check| check["check"] == name);
    found.unwrap_or_else(|| panic!("no check {name:?} in {checks}"))
}

#[test]
fn the_doctor_tries_every_kind_and_names_what_is_missing_with_the_remedy() {
    let lab = Lab::with_addresses(&[&["riscv32"]]);
    let doctor = |path: Option<&str>| {
        let mut command = lab.client_command();
        command
            .args(["doctor", "-o", "json"])
            .env("EDGEPROF_FIRMWARE", firmware())
            .env("TMPDIR", lab.folder());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let out = command.output().unwrap();
        let checks: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stderr)));
        (out.status.code(), checks)
    };
    let (_, checks) = doctor(None);
    for name in ["edgeprof-coordinator", "edgeprof-worker", "emulator qemu-system-arm", "firmware images"] {
        assert_eq!(check(&checks, name)["status"], "ok", "{checks}");
    }
    let trial = check(&checks, "trial run")["found"].as_str().unwrap();
    assert!(trial.contains("compute what the host does"), "{trial}");
    assert!(!checks.to_string().contains("trial run on"), "no kind failed: {checks}");
    let url = lab.coordinator.as_ref().unwrap().url();
    let coordinator = check(&checks, "coordinator");
    assert_eq!(coordinator["status"], "ok");
    assert!(coordinator["found"].as_str().unwrap().contains(url), "{coordinator}");

    let (code, checks) = doctor(Some("/nowhere"));
    assert_eq!(code, Some(1));
    let emulator = check(&checks, "emulator qemu-system-arm");
    assert_eq!(
        (&emulator["status"], &emulator["remedy"]),
        (&"problem".into(), &"sudo apt install qemu-system-arm".into())
    );
    assert!(!checks.to_string().contains("trial run"), "nothing can be tried: {checks}");
}
