//! Wrong requests: a clear error that names the thing and the way out, and the right exit code.

use std::{fs, process::Command};

use edgeprof_tests::{Finished, Lab, program};

use crate::model;

fn refused(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, code, "{finished:?}");
    assert!(finished.stdout.trim().is_empty() || code == 1, "errors go to standard error: {finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is not in {}", finished.stderr);
    }
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn five_wrong_requests_get_five_clear_errors() {
    let lab = Lab::with_addresses(&[&["mps2-an386", "netduinoplus2"]]);
    let model = model();
    let bytes = fs::read(&model).unwrap();
    let run = |file: &str, more: &[&str]| {
        lab.client(&[&["run", "-m", file, "--prompt", "x", "-n", "4"], more].concat())
    };

    let cut = lab.file("cut.gguf", &bytes[..bytes.len() / 2]);
    refused(&run(cut.to_str().unwrap(), &["-b", "mps2-an386"]), 2, &["cut.gguf", "truncated"]);

    let png = lab.file("photo.gguf", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and so on");
    refused(&run(png.to_str().unwrap(), &["-b", "mps2-an386"]), 2, &["photo.gguf", "PNG", "GGUF"]);

    refused(&run(&model, &["-b", "mps2-an387"]), 2, &["mps2-an387", "mps2-an386"]);

    // The context's cache alone is more than the board's 128 KiB of RAM.
    let big = run(&model, &["-b", "netduinoplus2", "--ctx", "512", "--kv", "f32"]);
    refused(&big, 2, &["netduinoplus2", "arena", "hint"]);

    let mut alone = lab.client_command();
    alone.env("EDGEPROF_COORDINATOR", "http://127.0.0.1:1");
    let finished =
        Finished::of(alone.args(["run", "-m", &model, "-b", "mps2-an386", "--prompt", "x", "-n", "4"]));
    refused(&finished, 3, &["127.0.0.1:1", "edgeprof-coordinator"]);

    assert_eq!(lab.json(&["jobs"]).as_array().map(Vec::len), Some(0), "nothing refused was kept");
}

/// Where only some cells cannot be, the others run.
#[test]
fn a_cell_that_cannot_fit_is_refused_and_the_others_run() {
    let lab = Lab::with_addresses(&[&["mps2-an386", "microbit"]]);
    let model = model();
    let mut arguments = vec!["run", "-m", &model, "--prompt", "x", "-n", "4", "--ctx", "512", "--kv", "f32"];
    arguments.extend(["-b", "mps2-an386", "-b", "microbit", "-o", "json"]);
    let finished = lab.client(&arguments);
    assert_eq!(finished.code, 1, "{finished:?}");
    let runs = finished.json();
    assert_eq!((&runs[0]["state"], &runs[1]["state"]), (&"ok".into(), &"refused".into()), "{runs}");
    assert!(runs[1]["error"]["message"].as_str().unwrap().contains("arena"), "{runs}");
    let hint = runs[1]["error"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("on microbit would fit: --quant q4_0 --kv f32 --ctx 7; or "), "{hint}");
    assert!(hint.ends_with("or --quant q4_0 --kv i8 --ctx 20"), "{hint}");
    assert!(runs[1]["counts"].is_null(), "a figure that was not obtained is absent");
}

/// Daemons that cannot have their address say so, and what to do; they take nothing over.
#[test]
fn a_daemon_whose_port_is_taken_names_it_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in ["edgeprof-coordinator", "edgeprof-worker"] {
        let mut command = Command::new(program(name));
        command.args(["--listen", &address, "--data"]).arg(folder.path().join(name));
        let out = command.output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success());
        for word in [address.as_str(), "in use", "another", "--listen", "edgeprof doctor"] {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
        assert_eq!(said.matches("os error").count(), 1, "the cause is told once: {said}");
    }
    assert!(!folder.path().join("edgeprof-coordinator").exists(), "it opened no store");
}
