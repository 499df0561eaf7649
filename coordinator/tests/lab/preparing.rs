//! The child that reads model files, as a process of its own.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use edgeprof_common::{ErrorClass, Quant};
use edgeprof_coordinator::preparing::{Line, Order, command};

use crate::{support::program, testing::tiny_model};

/// What a child answers that may take so much address space.
fn answer(model: &std::path::Path, tokenizer: &std::path::Path, memory_limit: u64) -> Line {
    let out = tempfile::tempdir().unwrap();
    let order = Order {
        model: model.to_owned(),
        tokenizer: Some(tokenizer.to_owned()),
        quant: Quant::Native,
        image: None,
        out: out.path().to_owned(),
        workloads: Vec::new(),
        reference_limit: 0,
        memory_limit,
    };
    let mut child = command(&program()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", serde_json::to_string(&order).unwrap()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    drop(stdin);
    child.wait().unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

#[test]
fn a_model_that_takes_more_memory_than_it_may_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let [model, tokenizer] = ["model.bin", "tokenizer.bin"].map(|name| folder.path().join(name));
    let (bytes, vocabulary) = tiny_model();
    std::fs::write(&tokenizer, vocabulary).unwrap();
    std::fs::write(&model, &bytes).unwrap();
    const MIB: u64 = 1 << 20;
    assert_eq!(answer(&model, &tokenizer, 1024 * MIB), Line::Built);
    // The same with a feed-forward of 4 million numbers in each of three matrices; zeros take no disk.
    let (dim, hidden, vocab) = (32_u64, 1 << 20, 262);
    let weights = vocab * dim + dim + 4 * dim * dim + dim + 3 * dim * hidden + dim + 64 * (dim / 2);
    let mut file = File::create(&model).unwrap();
    let mut head = bytes[..28].to_vec();
    head[4..8].copy_from_slice(&(hidden as u32).to_le_bytes());
    file.write_all(&head).unwrap();
    file.set_len(28 + 4 * weights).unwrap();
    match answer(&model, &tokenizer, 600 * MIB) {
        Line::Broken(error) => {
            assert_eq!((error.class, error.code.as_str()), (ErrorClass::Model, "model_too_large"), "{error}");
            assert!(error.hint.is_some(), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(answer(&model, &tokenizer, 2048 * MIB), Line::Built);
}
