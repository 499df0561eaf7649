//! Chooses the hand-written kernels: `cfg(kernel_dsp)`, and `cfg(kernel_dsp = "optional")` on a target
//! whose cores may lack the extension, so that the assembler has to be told.
//!
//! Whether a Cortex-M core has the DSP extension is no stable `target_feature`, so it is read off
//! the target: every `thumbv7em-*-eabihf` core has it along with a single-precision FPU. For
//! Armv8-M mainline it is optional, so there the cargo feature `kernel-dsp` asks for it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(kernel_dsp, values(none(), \"optional\"))");
    let target = std::env::var("TARGET").unwrap_or_default();
    let asked = std::env::var_os("CARGO_FEATURE_KERNEL_DSP").is_some();
    let hard_float = target.ends_with("eabihf");
    let optional = hard_float && asked && target.starts_with("thumbv8m.main-");
    if optional {
        println!("cargo::rustc-cfg=kernel_dsp=\"optional\"");
    }
    if optional || (hard_float && target.starts_with("thumbv7em-")) {
        println!("cargo::rustc-cfg=kernel_dsp");
    }
}
