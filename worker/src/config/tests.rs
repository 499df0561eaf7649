use std::{fs, time::Duration};

use super::*;
use crate::board::attached::Port;

fn resolved(toml: &str, flags: &[&str]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    resolved_in(folder.path(), toml, flags)
}

fn resolved_in(folder: &Path, toml: &str, flags: &[&str]) -> Result<Settings, String> {
    let file = folder.join("worker.toml");
    fs::write(&file, toml).unwrap();
    let mut all = vec!["edgeprof-worker", "--config", file.to_str().unwrap()];
    all.extend(flags);
    resolve(&Cli::try_parse_from(all).unwrap()).map_err(|e| e.to_string())
}

fn names(settings: &Settings) -> Vec<&str> {
    settings.boards.iter().map(|b| b.name.as_str()).collect()
}

#[test]
fn flags_win_over_the_file() {
    let settings = resolved(
        "listen = \"127.0.0.1:9\"\nsite = \"attic\"\n[[board]]\nkind = \"riscv32\"\n",
        &["--site", "cellar", "--board", "mps2-an386x2", "--board", "riscv32"],
    )
    .unwrap();
    assert_eq!(settings.config.listen.port(), 9);
    assert_eq!(settings.config.site, "cellar");
    assert_eq!(names(&settings), ["mps2-an386.0", "mps2-an386.1", "riscv32.0"]);
}

#[test]
fn boards_come_from_the_file_and_from_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("boards.d")).unwrap();
    let more =
        "[[board]]\nkind = \"riscv32\"\nname = \"shelf\"\ntransport = \"pty\"\nlabels = { rack = \"2\" }\n";
    fs::write(folder.path().join("boards.d/b.toml"), more).unwrap();
    let settings = resolved_in(folder.path(), "[[board]]\nkind = \"riscv32\"\n", &[]).unwrap();
    assert_eq!(names(&settings), ["riscv32.0", "shelf"]);
    let shelf = &settings.boards[1];
    assert_eq!((&shelf.behind, shelf.labels["rack"].as_str()), (&Behind::Emulator(Transport::Pty), "2"));
}

#[test]
fn a_board_may_be_at_a_port() {
    let settings = resolved("[[board]]\nkind = \"mps2-an386\"\nport = \"/dev/ttyUSB9\"\n", &[]).unwrap();
    let port = Port { path: "/dev/ttyUSB9".into(), baud: 115_200, emulated: false };
    assert_eq!(settings.boards[0].behind, Behind::Port(port));
}

#[test]
fn boards_that_do_nothing_are_offered_to_who_asks() {
    let settings = resolved("allow_noop = true", &["--board", "noopx2"]).unwrap();
    assert_eq!(names(&settings), ["noop.0", "noop.1"]);
    assert_eq!(settings.boards[0].behind, Behind::Nothing(Duration::ZERO));
    let slow = "[[board]]\nkind = \"noop\"\nnoop = { run = \"50ms\" }";
    let settings = resolved(slow, &["--allow-noop"]).unwrap();
    assert_eq!(settings.boards[0].behind, Behind::Nothing(Duration::from_millis(50)));
}

#[test]
fn what_is_wrong_is_named() {
    for (toml, flags, words) in [
        ("sight = \"x\"", &[][..], &["worker.toml, line 1, key sight", "known here: listen"][..]),
        ("[limits]\nframe = 1", &[], &["line 2, key limits.frame", "frame_timeout"]),
        ("listen = \"here\"", &[], &["line 1, key listen", "invalid socket address"]),
        ("[limits]\nframe_timeout = \"soon\"", &[], &["line 2, key limits.frame_timeout", "\"soon\""]),
        ("[[board]]\nkind = \"riscv32\"\nspeed = 9", &[], &["line 3, key board.speed", "kind, name"]),
        ("\n[[board]]\nname = \"a\"", &[], &["line 2, key board.kind", "missing"]),
        (
            "[[board]]\nkind = \"riscv32\"\n[[board]]\nkind = \"riscv23\"",
            &[],
            &["worker.toml, line 4, key board.kind", "did you mean \"riscv32\""],
        ),
        ("", &["--board", "riscv23"], &["\"riscv23\"", "did you mean \"riscv32\"", "mps2-an386"]),
        ("", &["--board", "toaster"], &["\"toaster\"", "known kinds", "mps2-an386"]),
        ("", &["--board", "noopx4"], &["noop", "benchmarks", "EDGEPROF_ALLOW_NOOP=1"]),
        ("[[board]]\nkind = \"noop\"", &[], &["line 2, key board.kind", "allow_noop = true"]),
        (
            "allow_noop = true\n[[board]]\nkind = \"noop\"\nport = \"/dev/x\"",
            &[],
            &["line 4, key board.port", "noop.0"],
        ),
        (
            "[[board]]\nkind = \"riscv32\"\nnoop = { run = \"1s\" }",
            &[],
            &["line 3, key board.noop", "boards of kind noop"],
        ),
        ("", &["--board", "riscv32x0"], &["riscv32x0", "1 to 64"]),
        ("", &["--board", "riscv32x65"], &["riscv32x65"]),
        ("[[board]]\nkind = \"riscv32\"\nname = \"a b\"", &[], &["line 3, key board.name", "\"a b\""]),
        ("[[board]]\nkind = \"riscv32\"\nbaud = 9600", &[], &["line 3, key board.baud", "riscv32.0", "port"]),
        (
            "[[board]]\nkind = \"riscv32\"\nport = \"/dev/x\"",
            &[],
            &["line 3, key board.port", "riscv32.0", "/dev/x", "emulated = true"],
        ),
        (
            "[[board]]\nkind = \"mps2-an386\"\nport = \"/dev/x\"\ntransport = \"pty\"",
            &[],
            &["line 4, key board.transport", "port"],
        ),
        (
            "[[board]]\nkind = \"mps2-an386\"\nport = \"/dev/x\"\n[[board]]\nkind = \"mps2-an385\"\nport = \"/dev/x\"",
            &[],
            &["line 6, key board.port", "mps2-an386.0", "mps2-an385.0", "/dev/x"],
        ),
        (
            "[[board]]\nkind = \"riscv32\"\nname = \"a\"\n[[board]]\nkind = \"riscv32\"\nname = \"a\"",
            &[],
            &["line 6, key board.name", "two boards", "\"a\""],
        ),
    ] {
        let error = resolved(toml, flags).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{error:?} lacks {word:?}");
        }
    }
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let text = config::print_default::<Config>(KEYS);
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
}

#[test]
fn limits_that_no_worker_can_live_with_are_named_with_their_line() {
    for key in ["frame_timeout", "boot_timeout", "blob_timeout", "cancel_timeout", "drain_grace"] {
        let error = resolved(&format!("[limits]\n{key} = \"500000000000y\"\n"), &[]).unwrap_err();
        let said = format!("worker.toml, line 2, key limits.{key}: {key} is at most 7 days");
        assert!(error.ends_with(&said), "{error}");
        resolved(&format!("[limits]\n{key} = \"7days\"\n"), &[]).unwrap();
    }
    let error = resolved("[limits]\noutbox = 0\n", &[]).unwrap_err();
    assert!(error.contains("line 2, key limits.outbox: outbox is 1 at least"), "{error}");
}
