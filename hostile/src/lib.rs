//! Every parser of outside input as a function of bytes.
//!
//! Each function takes any bytes whatever, does with them what the program would, and returns. It panics
//! when an invariant does not hold, which is what a fuzzer looks for; that the parsers themselves panic
//! nowhere is the point. [`TARGETS`] names them all: the targets in `fuzz/` run them under libFuzzer, the
//! tests of this crate on the corpus.

mod access;
pub mod allocation;
mod files;
mod link;
mod messages;
mod model;
mod words;

/// A parser under its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, each with a target in `fuzz/targets` and a folder in `fuzz/corpus`.
pub const TARGETS: &[Target] = &[
    ("link-from-board", link::from_board),
    ("link-to-board", link::to_board),
    ("link-messages", link::messages),
    ("gguf", model::gguf),
    ("llama2c", model::llama2c),
    ("tokenizer", model::tokenizer),
    ("image", model::image),
    ("firmware", files::firmware),
    ("fault", files::fault),
    ("outbox", files::outbox),
    ("config", files::config),
    ("prepare", files::prepare),
    ("certificate", files::certificate),
    ("revocations", files::revocations),
    ("authorization", access::authorization),
    ("traceparent", access::traceparent),
    ("audit", access::audit),
    ("words", words::words),
    ("selector", words::selector),
    ("emulator", words::emulator),
    ("submit", messages::submit),
    ("start", messages::start),
    ("session", messages::session),
    ("result", messages::result),
    ("run-json", messages::run_json),
    ("run-message", messages::run_message),
];

/// The target of this name.
///
/// # Panics
/// When there is none.
pub fn target(name: &str) -> fn(&[u8]) {
    TARGETS.iter().find(|(other, _)| *other == name).expect("a target of this name").1
}

/// What a fuzzer does with an input: runs its target, and ends the process where that takes more memory
/// than a file of this length may cost.
pub fn fuzzed(name: &str, bytes: &[u8]) {
    allocation::within(memory_bound(bytes.len() as u64), || target(name)(bytes));
}

/// What reading a file may take in memory: 256 MiB for all that is not weights, and twice the file.
pub const fn memory_bound(file_bytes: u64) -> u64 {
    (256 << 20) + 2 * file_bytes
}
