//! Float dot products for Cortex-M cores with a single-precision FPU.
//!
//! The order of the [portable ones](super::float): eight strided partial sums that start at +0, nothing
//! fused, one fold. VCVTB and VCVTT convert a binary16 exactly, subnormals included, and make a
//! signalling NaN quiet, as software does; flush-to-zero and the alternative half-precision format
//! are off from reset on and nobody sets them.

use core::arch::global_asm;

unsafe extern "C" {
    fn edgeprof_dot_f32(a: *const f32, b: *const f32, eights: usize, rest: usize) -> f32;
    fn edgeprof_dot_f16(a: *const u16, b: *const f32, eights: usize, rest: usize) -> f32;
}

// Registers: r0, r1 the vectors; r2 groups of 8 left; r3 values left after those; r12 scratch; s0 to s7
// partial sums; s8 to s15 of b; s16 to s23 of a, then products.
global_asm!(
    ".syntax unified",
    ".fpu fpv4-sp-d16",
    ".macro EDGEPROF_A8_f32",
    "  vldmia r0!, {{s16-s23}}",
    ".endm",
    ".macro EDGEPROF_A1_f32",
    "  vldmia r0!, {{s16}}",
    ".endm",
    ".macro EDGEPROF_A8_f16",
    "  vldmia r0!, {{s20-s23}}",
    "  vcvtb.f32.f16 s16, s20",
    "  vcvtt.f32.f16 s17, s20",
    "  vcvtb.f32.f16 s18, s21",
    "  vcvtt.f32.f16 s19, s21",
    "  vcvtb.f32.f16 s20, s22",
    "  vcvtt.f32.f16 s21, s22",
    "  vcvtb.f32.f16 s22, s23",
    "  vcvtt.f32.f16 s23, s23",
    ".endm",
    ".macro EDGEPROF_A1_f16",
    "  ldrh r12, [r0], #2",
    "  vmov s16, r12",
    "  vcvtb.f32.f16 s16, s16",
    ".endm",
    ".macro EDGEPROF_DOT kind",
    "  vpush {{s16-s23}}",
    "  mov r12, #0",
    "  vmov s0, s1, r12, r12",
    "  vmov s2, s3, r12, r12",
    "  vmov s4, s5, r12, r12",
    "  vmov s6, s7, r12, r12",
    "  cmp r2, #0",
    "  beq.w 2f",
    "1: vldmia r1!, {{s8-s15}}",
    "  EDGEPROF_A8_\\kind",
    "  vmul.f32 s16, s16, s8",
    "  vmul.f32 s17, s17, s9",
    "  vmul.f32 s18, s18, s10",
    "  vmul.f32 s19, s19, s11",
    "  vmul.f32 s20, s20, s12",
    "  vmul.f32 s21, s21, s13",
    "  vmul.f32 s22, s22, s14",
    "  vmul.f32 s23, s23, s15",
    "  vadd.f32 s0, s0, s16",
    "  vadd.f32 s1, s1, s17",
    "  vadd.f32 s2, s2, s18",
    "  vadd.f32 s3, s3, s19",
    "  vadd.f32 s4, s4, s20",
    "  vadd.f32 s5, s5, s21",
    "  vadd.f32 s6, s6, s22",
    "  vadd.f32 s7, s7, s23",
    "  subs r2, r2, #1",
    "  bne.w 1b",
    "2: cmp r3, #0",
    "  beq.w 3f",
    "  .irp sum, s0, s1, s2, s3, s4, s5, s6",
    "  vldmia r1!, {{s8}}",
    "  EDGEPROF_A1_\\kind",
    "  vmul.f32 s16, s16, s8",
    "  vadd.f32 \\sum, \\sum, s16",
    "  subs r3, r3, #1",
    "  beq.w 3f",
    "  .endr",
    "3: vadd.f32 s0, s0, s4",
    "  vadd.f32 s2, s2, s6",
    "  vadd.f32 s1, s1, s5",
    "  vadd.f32 s3, s3, s7",
    "  vadd.f32 s0, s0, s2",
    "  vadd.f32 s1, s1, s3",
    "  vadd.f32 s0, s0, s1",
    "  vpop {{s16-s23}}",
    "  bx lr",
    ".endm",
    ".section .text.edgeprof_dot_f32,\"ax\",%progbits",
    ".global edgeprof_dot_f32",
    ".type edgeprof_dot_f32,%function",
    ".thumb_func",
    ".p2align 2",
    "edgeprof_dot_f32:",
    "  EDGEPROF_DOT f32",
    ".size edgeprof_dot_f32, . - edgeprof_dot_f32",
    ".section .text.edgeprof_dot_f16,\"ax\",%progbits",
    ".global edgeprof_dot_f16",
    ".type edgeprof_dot_f16,%function",
    ".thumb_func",
    ".p2align 2",
    "edgeprof_dot_f16:",
    "  EDGEPROF_DOT f16",
    ".size edgeprof_dot_f16, . - edgeprof_dot_f16",
    ".text",
);

/// `Σ a·b` over the shorter length.
pub(crate) fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    // SAFETY: reads n values of each; clobbers only what AAPCS allows.
    unsafe { edgeprof_dot_f32(a.as_ptr(), b.as_ptr(), n / 8, n % 8) }
}

/// `Σ a·b` over the shorter length, a in binary16.
pub(crate) fn dot_f16(a: &[u16], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    debug_assert_eq!(a.as_ptr().addr() % 4, 0);
    // SAFETY: as above. The load of words needs `a` at a multiple of 4: rows of an image begin at
    // multiples of 8, heads of the cache at multiples of 2 values from an arena of u64.
    unsafe { edgeprof_dot_f16(a.as_ptr(), b.as_ptr(), n / 8, n % 8) }
}
