//! Puts `link.x` where the linker finds it.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=link.x");
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::copy("link.x", Path::new(&out).join("link.x")).expect("OUT_DIR is writable");
    println!("cargo::rustc-link-search={}", Path::new(&out).display());
}
