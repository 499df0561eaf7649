//! The example of docs/api.md: a client in another language, made from the published protos alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use edgeprof_tests::{Finished, Lab, program, root, shipped_model};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

/// A Python that has gRPC and reads YAML; none where it cannot be had.
pub(crate) fn python() -> Option<PathBuf> {
    // target/PROFILE/PROGRAM.
    let target =
        program("edgeprof").ancestors().nth(2).expect("a program lies in a profile's folder").to_owned();
    let folder = target.join("tools/python-api");
    let python = folder.join("bin/python");
    let ready = folder.join("ready");
    fs::create_dir_all(&folder).unwrap();
    // Tests run at the same time, and one makes it for all.
    let lock = fs::File::create(folder.join("lock")).unwrap();
    let _locked = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
    if !ready.exists() {
        let runs = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
        let made = runs(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            && runs(
                Command::new(&python)
                    .args(["-m", "pip", "install", "--quiet", "pyyaml>=6,<7", "-r"])
                    .arg(root().join("docs/examples/python/requirements.txt")),
            );
        if !made {
            eprintln!(
                "SKIPPED: no python3 with venv and pip, or no way to PyPI; what needs one was not tested"
            );
            return None;
        }
        fs::write(ready, "").unwrap();
    }
    Some(python)
}

/// As docs/api.md says.
fn stubs(python: &Path, into: &Path) {
    let proto = root().join("proto");
    let mut files: Vec<_> =
        fs::read_dir(proto.join("edgeprof/v1")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "proto"));
    let out = |kind: &str| format!("--{kind}_out={}", into.display());
    let made = Finished::of(
        Command::new(python)
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(&proto)
            .args([out("python"), out("grpc_python")])
            .args(files),
    );
    assert_eq!(made.code, 0, "{made:?}");
}

#[test]
fn the_example_in_python_runs_a_job_and_gets_what_the_command_gets() {
    let Some(python) = python() else { return };
    let lab = Lab::with_addresses(&[&["riscv32"]]);
    stubs(&python, lab.folder());
    let run = |address: &str, board: &str| {
        Finished::of(
            Command::new(&python)
                .arg(root().join("docs/examples/python/profile.py"))
                .arg(address.trim_start_matches("http://"))
                .arg(shipped_model())
                .arg(board)
                .env("PYTHONPATH", lab.folder())
                .env_remove("EDGEPROF_TLS_DIR")
                .env_remove("EDGEPROF_TOKEN"),
        )
    };
    let address = lab.coordinator.as_ref().unwrap().url();
    let done = run(address, "riscv32");
    assert_eq!(done.code, 0, "{done:?}");
    let said: Value =
        serde_json::from_str(done.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let recorded = lab.json(&["results", said["run_id"].as_str().unwrap()]);
    for field in ["run_id", "task_id", "state"] {
        assert_eq!(said[field], recorded[0][field], "{field} of {said} and {recorded}");
    }
    for field in ["output_text", "logits_hash", "verification"] {
        assert_eq!(said["workload"][field], recorded[0]["workload"][field], "{field}");
    }
    assert_eq!(said["workload"]["verification"], "hash");
    let refused = run(address, "riscv33");
    assert!(refused.code == 1 && refused.stderr.lines().count() == 2, "message and hint: {refused:?}");
    let nowhere = run("http://127.0.0.1:1", "riscv32");
    assert!(nowhere.code != 0 && nowhere.stderr.contains("UNAVAILABLE"), "{nowhere:?}");
}

/// The commands of the document that run the example, in its order, with their variables.
fn documented() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/api.md")).unwrap();
    text.lines().filter(|line| line.contains("docs/examples/python/profile.py ")).map(str::to_owned).collect()
}

#[test]
fn the_example_in_python_is_let_in_by_a_certificate_or_a_token_as_the_document_says() {
    let Some(python) = python() else { return };
    let mut lab = Lab::new();
    lab.fixed = true;
    lab.secure();
    lab.start(&[&["riscv32"]]);
    stubs(&python, lab.folder());
    let home = lab.folder().join("home");
    let certificate = home.join(".config/edgeprof/tls");
    fs::create_dir_all(&certificate).unwrap();
    lab.pki().run(&["issue", "client", "ann", "--role", "submitter", "--out", certificate.to_str().unwrap()]);
    fs::create_dir(lab.folder().join("tls")).unwrap();
    fs::copy(certificate.join("ca.pem"), lab.folder().join("tls/ca.pem")).unwrap();
    let token = lab.folder().join("nightly.token");
    let issued =
        lab.client(&["token", "issue", "nightly", "--role", "submitter", "--to", token.to_str().unwrap()]);
    assert_eq!(issued.code, 0, "{issued:?}");

    // In a folder as that of a clone, with the example's own Python.
    for (name, at) in [("docs", root().join("docs")), ("models", root().join("models"))] {
        std::os::unix::fs::symlink(at, lab.folder().join(name)).unwrap();
    }
    let venv = python.parent().and_then(Path::parent).unwrap();
    std::os::unix::fs::symlink(venv, lab.folder().join("venv")).unwrap();
    let run = |line: &str| {
        let address = lab.coordinator.as_ref().unwrap().address();
        Finished::of(
            Command::new("sh")
                .args(["-c", &line.replace("lab:7450", address)])
                .current_dir(lab.folder())
                .env("HOME", &home)
                .env_remove("EDGEPROF_TLS_DIR")
                .env_remove("EDGEPROF_TOKEN"),
        )
    };
    let [_, by_certificate, by_token] = documented().try_into().expect("three commands");
    for line in [&by_certificate, &by_token] {
        let done = run(line);
        assert_eq!(done.code, 0, "{line}: {done:?}");
    }
    let jobs = lab.json(&["jobs"]);
    let names: Vec<_> =
        jobs.as_array().unwrap().iter().map(|job| job["submitter"].as_str().unwrap()).collect();
    assert_eq!(names, ["nightly", "ann"], "the newest first: {jobs}");

    let nobody = run(&by_token.replace("EDGEPROF_TOKEN=$(cat nightly.token) ", ""));
    assert!(nobody.code == 1 && nobody.stderr.contains("UNAUTHENTICATED"), "{nobody:?}");
    assert_eq!(nobody.stderr.lines().count(), 2, "message and hint: {nobody:?}");
}
