use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

use edgeprof_hostile::{TARGETS, allocation, memory_bound};

use super::seeds;

/// Bytes that the whole corpus may have in the repository.
const ROOM: u64 = 1 << 20;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The inputs of a target: seeds, and what once broke it.
pub(crate) fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Each input as it is, cut short, and with bytes changed at fixed places.
fn variants(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![bytes.to_vec()];
    for n in 1..16 {
        let at = bytes.len() * n / 16;
        all.push(bytes[..at].to_vec());
        let mut changed = bytes.to_vec();
        if let Some(byte) = changed.get_mut(at) {
            *byte = byte.wrapping_add(1 << (n % 8));
        }
        all.push(changed);
    }
    all
}

#[test]
fn every_parser_survives_its_corpus_and_what_is_near_it() {
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name} has no corpus: cargo xtask fuzz --seed");
        for (path, bytes) in inputs {
            for (n, variant) in variants(&bytes).into_iter().enumerate() {
                let took = allocation::peak(|| {
                    let survived = catch_unwind(|| target(&variant)).is_ok();
                    assert!(survived, "{name}: variant {n} of {}", path.display());
                });
                let bound = memory_bound(variant.len() as u64);
                assert!(took <= bound, "{name}: {took} bytes for variant {n} of {}", path.display());
            }
        }
    }
}

#[test]
fn every_parser_has_a_fuzzer_and_every_fuzzer_a_parser() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).unwrap();
        entries.map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(stems("targets"), names);
    assert_eq!(stems("corpus"), names);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let list = fs::read_to_string(fuzz().join("README.md")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "fuzz/Cargo.toml lacks {name}");
        assert!(list.contains(&format!("`{name}`")), "fuzz/README.md lacks {name}");
    }
}

/// With `UPDATE_CORPUS=1` they are written, as `cargo xtask fuzz --seed` does.
#[test]
fn the_seeds_in_the_corpus_are_what_their_makers_make() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    for (target, name, bytes) in seeds::all() {
        let path = fuzz().join("corpus").join(target).join(format!("seed-{name}"));
        if update {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let found = fs::read(&path).unwrap_or_default();
        assert!(found == bytes, "{} is another: cargo xtask fuzz --seed", path.display());
    }
}

#[test]
fn the_corpus_is_small() {
    let sizes = TARGETS.iter().flat_map(|(name, _)| inputs(name)).map(|(_, bytes)| bytes.len() as u64);
    let total: u64 = sizes.sum();
    assert!(total < ROOM, "{total} bytes");
}
