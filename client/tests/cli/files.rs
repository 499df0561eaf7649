//! A model as small as one can be.

use std::{fs, path::PathBuf};

/// A folder with `tiny.bin` and its `tok.bin`, in llama2.c's formats.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

const DIM: usize = 32;
const HIDDEN: usize = 32;
const HEADS: usize = 2;
const VOCAB: usize = 300;
const CONTEXT: usize = 64;

impl Files {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Vec::new();
        for n in [DIM, HIDDEN, 1, HEADS, HEADS, VOCAB, CONTEXT] {
            model.extend((n as i32).to_le_bytes());
        }
        let layer = 4 * DIM * DIM + 3 * DIM * HIDDEN + 2 * DIM;
        let floats = VOCAB * DIM + layer + DIM + CONTEXT * (DIM / HEADS);
        for i in 0..floats {
            model.extend(((i % 7) as f32 * 0.01).to_le_bytes());
        }
        let mut tokenizer = 8i32.to_le_bytes().to_vec();
        for i in 0..VOCAB {
            let piece = match i {
                0 => "<unk>".to_owned(),
                1 => "\n<s>\n".to_owned(),
                2 => "\n</s>\n".to_owned(),
                3..259 => format!("<0x{:02X}>", i - 3),
                _ => format!("w{i}"),
            };
            tokenizer.extend(0f32.to_le_bytes());
            tokenizer.extend((piece.len() as i32).to_le_bytes());
            tokenizer.extend(piece.as_bytes());
        }
        fs::write(folder.path().join("tiny.bin"), model).unwrap();
        fs::write(folder.path().join("tok.bin"), tokenizer).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}
