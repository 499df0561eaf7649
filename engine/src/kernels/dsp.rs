//! Kernels for Cortex-M cores with the DSP extension and a single-precision FPU.
//!
//! Two rows at a time share the loads of the activations. Of each word of four Q8_0 weights UXTB16
//! takes the low bytes, the high ones are used in place (see [the module](super)), so that four
//! weights cost three instructions. Float operations are those of the portable kernel in the same
//! order, none fused; dividing the integer sum by a power of two rides on VCVT for free.
//!
//! The assembly covers pairs of rows and, of each row, pairs of whole groups, whose two scales lie in
//! one word; for Q4_1, where a word holds scale and minimum, single ones. The portable kernel does the
//! rest.

use core::arch::global_asm;

use crate::dtype::{DType, GROUP};
use crate::image::Tensor;
use crate::quant::{Act, Group};

/// What the assembly works on; it reads words at these offsets.
#[repr(C)]
struct Job {
    /// 0: values of the first row.
    data: *const u8,
    /// 4: bytes from row to row.
    stride: usize,
    /// 8: scales of the first row.
    scales: *const u8,
    /// 12: bytes from row to row.
    scale_stride: usize,
    /// 16: first group of activations.
    act: *const Group,
    /// 20: after the last group.
    act_end: *const Group,
    /// 24: where the results go.
    out: *mut f32,
    /// 28: after the last result.
    out_end: *mut f32,
    /// 32: bytes from the last used value of a row to the row after the next.
    skip: usize,
    /// 36: the same of scales.
    scale_skip: usize,
}

unsafe extern "C" {
    fn edgeprof_dsp_q8(job: *mut Job);
    fn edgeprof_dsp_q4(job: *mut Job);
    fn edgeprof_dsp_q4_1(job: *mut Job);
}

/// Tells the assembler of the extension where the target leaves it open.
#[cfg(kernel_dsp = "optional")]
macro_rules! processor {
    () => {
        ".cpu cortex-m33"
    };
}
#[cfg(not(kernel_dsp = "optional"))]
macro_rules! processor {
    () => {
        ""
    };
}

// Registers: r0, r1 values of both rows; lr, r12 their scales; r2 activations; r3 to r6 activations
// of 8 columns; r7, r8 weights (Q4_0: r8 the nibble mask); r9 scratch; r10, r11 integer sums;
// s0, s1 scale pairs; s2 activation scale; s4 to s7 scratch; s8, s9 the rows' totals. Q4_1: s0, s1
// scale and minimum; s10 to s12 start, minimum factor and activation scale; s13, s14 scratch.
// On the stack: 40 bytes of the job.
global_asm!(
    ".syntax unified",
    processor!(),
    ".fpu fpv4-sp-d16",
    // 8 columns of a Q8_0 row: pointer, sum
    ".macro EDGEPROF_Q8_ROW ptr, sum",
    "  ldrd r7, r8, [\\ptr], #8",
    "  uxtb16 r9, r7",
    "  smlad \\sum, r9, r3, \\sum",
    "  smlad \\sum, r7, r5, \\sum",
    "  uxtb16 r9, r8",
    "  smlad \\sum, r9, r4, \\sum",
    "  smlad \\sum, r8, r6, \\sum",
    ".endm",
    ".macro EDGEPROF_Q8_GROUP",
    "  .rept 4",
    "  ldm r2!, {{r3-r6}}",
    "  EDGEPROF_Q8_ROW r0, r10",
    "  EDGEPROF_Q8_ROW r1, r11",
    "  .endr",
    ".endm",
    // 8 columns of a Q4_0 row
    ".macro EDGEPROF_Q4_ROW ptr, sum",
    "  ldr r7, [\\ptr], #4",
    "  and r9, r8, r7",
    "  smlad \\sum, r9, r3, \\sum",
    "  and r9, r8, r7, lsr #8",
    "  smlad \\sum, r9, r4, \\sum",
    "  uxtb16 r9, r7",
    "  smlad \\sum, r9, r5, \\sum",
    "  uxtb16 r9, r7, ror #8",
    "  smlad \\sum, r9, r6, \\sum",
    ".endm",
    ".macro EDGEPROF_Q4_GROUP",
    "  .rept 4",
    "  ldm r2!, {{r3-r6}}",
    "  EDGEPROF_Q4_ROW r0, r10",
    "  EDGEPROF_Q4_ROW r1, r11",
    "  .endr",
    ".endm",
    // One group of both rows: which kernel, VCVTB or VCVTT, fraction bits, first of the row or not
    ".macro EDGEPROF_GROUP kind, cvt, bits, first",
    "  ldm r2!, {{r10, r11}}",
    "  vldmia r2!, {{s2}}",
    "  EDGEPROF_\\kind\\()_GROUP",
    "  vmov s4, s5, r10, r11",
    "  \\cvt\\().f32.f16 s6, s0",
    "  \\cvt\\().f32.f16 s7, s1",
    "  vcvt.f32.s32 s4, s4, #\\bits",
    "  vcvt.f32.s32 s5, s5, #\\bits",
    "  vmul.f32 s6, s6, s2",
    "  vmul.f32 s7, s7, s2",
    "  .if \\first",
    "  vmul.f32 s8, s4, s6",
    "  vmul.f32 s9, s5, s7",
    "  .else",
    "  vmul.f32 s4, s4, s6",
    "  vmul.f32 s5, s5, s7",
    "  vadd.f32 s8, s8, s4",
    "  vadd.f32 s9, s9, s5",
    "  .endif",
    ".endm",
    // One group of both rows of Q4_1: first of the row or not
    ".macro EDGEPROF_MIN_GROUP first",
    "  vldmia lr!, {{s0}}",
    "  vldmia r12!, {{s1}}",
    "  vldmia r2!, {{s10-s12}}",
    "  mov r10, #0",
    "  mov r11, #0",
    "  EDGEPROF_Q4_GROUP",
    "  vmov s4, s5, r10, r11",
    "  vcvtb.f32.f16 s6, s0",
    "  vcvtb.f32.f16 s7, s1",
    "  vcvtt.f32.f16 s13, s0",
    "  vcvtt.f32.f16 s14, s1",
    "  vcvt.f32.s32 s4, s4, #4",
    "  vcvt.f32.s32 s5, s5, #4",
    "  vmul.f32 s6, s6, s12",
    "  vmul.f32 s7, s7, s12",
    "  vmul.f32 s13, s13, s11",
    "  vmul.f32 s14, s14, s11",
    "  vmul.f32 s4, s4, s6",
    "  vmul.f32 s5, s5, s7",
    "  .if \\first",
    "  vadd.f32 s8, s4, s13",
    "  vadd.f32 s9, s5, s14",
    "  .else",
    "  vadd.f32 s4, s4, s13",
    "  vadd.f32 s5, s5, s14",
    "  vadd.f32 s8, s8, s4",
    "  vadd.f32 s9, s9, s5",
    "  .endif",
    ".endm",
    // What a turn of the loop over a row takes
    ".macro EDGEPROF_GROUPS_Q8 bits, first",
    "  EDGEPROF_TWO_GROUPS Q8, \\bits, \\first",
    ".endm",
    ".macro EDGEPROF_GROUPS_Q4 bits, first",
    "  EDGEPROF_TWO_GROUPS Q4, \\bits, \\first",
    ".endm",
    ".macro EDGEPROF_GROUPS_Q4_1 bits, first",
    "  EDGEPROF_MIN_GROUP \\first",
    ".endm",
    ".macro EDGEPROF_TWO_GROUPS kind, bits, first",
    "  vldmia lr!, {{s0}}",
    "  vldmia r12!, {{s1}}",
    "  EDGEPROF_GROUP \\kind, vcvtb, \\bits, \\first",
    "  EDGEPROF_GROUP \\kind, vcvtt, \\bits, 0",
    ".endm",
    // All pairs of rows
    ".macro EDGEPROF_MATVEC kind, bits",
    "  push {{r4-r11, lr}}",
    "  sub sp, sp, #44",
    "  ldm r0!, {{r1-r10}}",
    "  stm sp, {{r1-r10}}",
    "  mov lr, r3",
    "  add r12, r3, r4",
    "  mov r0, r1",
    "  add r1, r1, r2",
    "  .ifnc \\kind, Q8",
    "  mov r8, #0x000f000f",
    "  .endif",
    "1: ldr r2, [sp, #16]",
    "  EDGEPROF_GROUPS_\\kind \\bits, 1",
    "  ldr r9, [sp, #20]",
    "  cmp r2, r9",
    "  beq.w 3f",
    "2: EDGEPROF_GROUPS_\\kind \\bits, 0",
    "  ldr r9, [sp, #20]",
    "  cmp r2, r9",
    "  bne.w 2b",
    "3: ldrd r3, r4, [sp, #24]",
    "  ldrd r5, r6, [sp, #32]",
    "  vstmia r3!, {{s8, s9}}",
    "  str r3, [sp, #24]",
    "  add r0, r0, r5",
    "  add r1, r1, r5",
    "  add lr, lr, r6",
    "  add r12, r12, r6",
    "  cmp r3, r4",
    "  bne.w 1b",
    "  add sp, sp, #44",
    "  pop {{r4-r11, pc}}",
    ".endm",
    ".section .text.edgeprof_dsp_q8,\"ax\",%progbits",
    ".global edgeprof_dsp_q8",
    ".type edgeprof_dsp_q8,%function",
    ".thumb_func",
    ".p2align 2",
    "edgeprof_dsp_q8:",
    "  EDGEPROF_MATVEC Q8, 8",
    ".size edgeprof_dsp_q8, . - edgeprof_dsp_q8",
    ".section .text.edgeprof_dsp_q4,\"ax\",%progbits",
    ".global edgeprof_dsp_q4",
    ".type edgeprof_dsp_q4,%function",
    ".thumb_func",
    ".p2align 2",
    "edgeprof_dsp_q4:",
    "  EDGEPROF_MATVEC Q4, 4",
    ".size edgeprof_dsp_q4, . - edgeprof_dsp_q4",
    ".section .text.edgeprof_dsp_q4_1,\"ax\",%progbits",
    ".global edgeprof_dsp_q4_1",
    ".type edgeprof_dsp_q4_1,%function",
    ".thumb_func",
    ".p2align 2",
    "edgeprof_dsp_q4_1:",
    "  EDGEPROF_MATVEC Q4_1, 4",
    ".size edgeprof_dsp_q4_1, . - edgeprof_dsp_q4_1",
    ".text",
);

/// Computes the even number of first rows over the first groups, an even number of them unless `w` is
/// Q4_1; returns both numbers. `out` is untouched if either is 0.
pub(super) fn matvec(out: &mut [f32], w: &Tensor<'_>, act: &Act<'_>) -> (usize, usize) {
    let rows = out.len().min(w.rows) & !1;
    let groups = (w.cols / GROUP).min(act.groups.len());
    let (kernel, groups, bytes, scale_bytes): (unsafe extern "C" fn(*mut Job), _, _, _) = match w.dtype {
        DType::Q4_0 => (edgeprof_dsp_q4, groups & !1, GROUP / 2, 2),
        DType::Q4_1 => (edgeprof_dsp_q4_1, groups, GROUP / 2, 4),
        _ => (edgeprof_dsp_q8, groups & !1, GROUP, 2),
    };
    if rows == 0 || groups == 0 {
        return (0, 0);
    }
    debug_assert!(w.data.len() >= rows * w.stride && w.scales.len() >= rows * w.scale_stride);
    let mut job = Job {
        data: w.data.as_ptr(),
        stride: w.stride,
        scales: w.scales.as_ptr(),
        scale_stride: w.scale_stride,
        act: act.groups.as_ptr(),
        act_end: act.groups[..groups].as_ptr_range().end,
        out: out.as_mut_ptr(),
        out_end: out[..rows].as_mut_ptr_range().end,
        skip: 2 * w.stride - groups * bytes,
        scale_skip: 2 * w.scale_stride - groups * scale_bytes,
    };
    // SAFETY: the assembly reads `groups` whole groups of each of `rows` rows and their scales, which
    // a `Tensor` of this shape has; reads `groups` activation groups; writes `rows` results. All
    // addresses are multiples of 4: rows at multiples of 8 from an image base that
    // `Image::parse` checks, scale rows at multiples of 4. Clobbers only what AAPCS allows.
    unsafe { kernel(&mut job) };
    (rows, groups)
}
