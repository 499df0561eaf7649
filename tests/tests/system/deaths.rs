//! Firmware that dies says where, and the worker says it in the words of the source.

use edgeprof_tests::{Lab, firmware};
use object::{Object, ObjectSection, ObjectSymbol};
use serde_json::Value;

use crate::{job, model};

/// The firmware of `kind` with other code at the beginning of a function, which is named by a part of its symbol.
pub(crate) fn patched(kind: &str, function: &str, code: &[u8]) -> Vec<u8> {
    let mut elf = std::fs::read(firmware().join(format!("{kind}.elf"))).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let symbol = file.symbols().find(|symbol| symbol.name().is_ok_and(|name| name.contains(function)));
    // Thumb code has odd addresses.
    let address = symbol.unwrap_or_else(|| panic!("the firmware has a {function}")).address() & !1;
    let section = file.sections().find(|s| (s.address()..s.address() + s.size()).contains(&address));
    let section = section.unwrap();
    let at = (section.file_range().unwrap().0 + address - section.address()) as usize;
    elf[at..at + code.len()].copy_from_slice(code);
    elf
}

/// How a run on that firmware ends: its error, and the transcript of its first attempt.
fn death(kind: &str, function: &str, code: &[u8]) -> (String, String) {
    let lab = Lab::with_addresses(&[&[kind]]);
    let path = lab.file("patched.elf", &patched(kind, function, code)).display().to_string();
    let model = model();
    let job = job(&model, &[kind], "4");
    let finished = lab.client(&[&["run"], &job[..], &["--firmware", &path, "-o", "json"]].concat());
    assert_eq!(finished.code, 1, "{finished:?}");
    let run: Value = finished.json()[0].clone();
    let logs = lab.json(&["logs", run["job_id"].as_str().unwrap()]);
    assert_eq!(logs[0]["outcome"], "failed");
    // Another task finds the board well again.
    let well = lab.json(&[&["run"], &job[..]].concat());
    assert_eq!(well[0]["state"], "ok", "{well}");
    let words = |value: &Value| value.as_str().unwrap().to_owned();
    (words(&run["error"]["message"]), words(&logs[0]["text"]))
}

#[test]
fn an_undefined_instruction_on_arm_is_told_with_function_line_and_callers() {
    // UDF #0.
    let (error, log) = death("mps2-an386", "7Session7forward", &[0x00, 0xde]);
    for part in [
        "took a fault at 0x",
        "undefined instruction",
        "in forward (engine/src/session.rs:",
        "called from generate",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    assert!(log.contains("Trace {") && log.contains("Fault {"), "{log}");
}

#[test]
fn an_illegal_instruction_on_risc_v_is_told_with_function_line_and_callers() {
    let (error, log) = death("riscv32", "7Session7forward", &[0; 4]);
    for part in [
        "took a fault at 0x",
        "illegal instruction",
        "in forward (engine/src/session.rs:",
        "called from generate",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    assert!(log.contains("Trace {") && log.contains("Fault {"), "{log}");
}

/// A stack that nobody has painted looks used up: at the end of its run the firmware panics.
#[test]
fn a_panic_is_told_with_its_message_and_its_callers() {
    for (kind, ret) in [("mps2-an386", [0x70, 0x47]), ("riscv32", [0x82, 0x80])] {
        let (error, log) = death(kind, "6linked5paint", &ret);
        for part in ["panicked: core/src/server.rs:", "stack overflow", "on the stack: "] {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
        assert!(log.contains("Panic {"), "{log}");
    }
}
