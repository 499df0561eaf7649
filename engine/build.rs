//! Chooses the hand-written kernels: `cfg(kernel_dsp)`.
//!
//! Whether a Cortex-M core has the DSP extension is no stable `target_feature`, so it is read off
//! the target: every `thumbv7em-*-eabihf` core has it along with a single-precision FPU. For
//! Armv8-M mainline it is optional, so there the cargo feature `kernel-dsp` asks for it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(kernel_dsp)");
    let target = std::env::var("TARGET").unwrap_or_default();
    let asked = std::env::var_os("CARGO_FEATURE_KERNEL_DSP").is_some();
    let hard_float = target.ends_with("eabihf");
    if hard_float && (target.starts_with("thumbv7em-") || (asked && target.starts_with("thumbv8m.main-"))) {
        println!("cargo::rustc-cfg=kernel_dsp");
    }
}
