//! Text that people and programs write: names, selectors, what an emulator prints.

use std::{fmt::Display, str::FromStr, sync::Arc};

use edgeprof_common::{
    BoardId, ClusterId, Digest, Epoch, Incarnation, JobId, Kv, Nonce, Priority, Quant, RunId, TaskId, Token,
    WorkerId,
};
use edgeprof_coordinator::submit::{Present, resolve};
use edgeprof_worker::{board::emulator, config::typed_boards};

/// Ids and the like: what is read is written as something that reads the same.
pub(crate) fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    word::<BoardId>(text);
    word::<ClusterId>(text);
    word::<Digest>(text);
    word::<Incarnation>(text);
    word::<JobId>(text);
    word::<Kv>(text);
    word::<Nonce>(text);
    word::<Priority>(text);
    word::<Quant>(text);
    word::<RunId>(text);
    word::<TaskId>(text);
    word::<WorkerId>(text);
    let _ = Token { epoch: Epoch(bytes.len() as u64), counter: 1 }.to_string();
    assert!(!edgeprof_report::printable(text).chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    let _ = edgeprof_boards::catalogue().suggest(text);
}

fn word<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{text:?}");
    }
}

/// What `-b` and `--board` take.
pub(crate) fn selector(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for (each, wait) in [(false, false), (true, false), (false, true), (true, true)] {
        if let Ok(targets) = resolve(text, each, wait, &lab()) {
            assert!(wait || targets.iter().all(|target| !target.kinds.is_empty()), "{text:?}");
        }
    }
    if let Ok(boards) = typed_boards(text) {
        assert!((1..=64).contains(&boards.len()), "{text:?}");
    }
}

pub(crate) fn lab() -> Vec<Present> {
    let board = |id: &str, kind: &str, label: Option<(&str, &str)>| Present {
        id: id.parse().expect("a board's id"),
        kind: kind.into(),
        labels: Arc::new(label.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()),
    };
    vec![
        board("a/m4-0", "mps2-an386", Some(("rack", "1"))),
        board("a/stm", "netduinoplus2", Some(("rack", "1"))),
        board("b/m4-0", "mps2-an386", None),
        board("b/rv", "riscv32", None),
    ]
}

/// What QEMU prints.
pub(crate) fn emulator(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.split('\n') {
        if let Some(path) = emulator::pty_of(line) {
            assert!(path.to_str().is_some_and(|path| !path.is_empty()), "{line:?}");
        }
    }
    let _ = emulator::version_of(&text);
}
