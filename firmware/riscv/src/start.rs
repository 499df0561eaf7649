//! Start code and trap entry.
//!
//! A main provides `extern "C" fn main() -> !` and
//! `extern "C" fn edgeprof_trap(cause: usize, pc: usize, ra: usize, sp: usize) -> !`.

use core::arch::global_asm;

// A trap is the end of the firmware's life, so its entry saves nothing. It takes the stack's lower half, since
// the stack pointer may be what failed, and what lies above it tells how it came here.
global_asm!(
    r#"
    .section .init, "ax"
    .globl _start
_start:
    csrw mie, zero
    csrw mstatus, zero
    la   sp, _stack_start
    la   t0, _edgeprof_trap_entry
    csrw mtvec, t0
    la   t0, __sidata
    la   t1, __sdata
    la   t2, __edata
1:  bgeu t1, t2, 2f
    lw   t3, 0(t0)
    sw   t3, 0(t1)
    addi t0, t0, 4
    addi t1, t1, 4
    j    1b
2:  la   t1, __sbss
    la   t2, __ebss
3:  bgeu t1, t2, 4f
    sw   zero, 0(t1)
    addi t1, t1, 4
    j    3b
4:
    "#,
    #[cfg(target_feature = "f")]
    "li t0, 0x2000",
    #[cfg(target_feature = "f")]
    "csrs mstatus, t0",
    #[cfg(target_feature = "f")]
    // Assembly outside functions is assembled for the bare instruction set.
    ".option push\n.option arch, +f\nfscsr zero\n.option pop",
    r#"
    call main
    .p2align 2
_edgeprof_trap_entry:
    mv   a2, ra
    mv   a3, sp
    la   sp, _stack_start
    la   t0, _stack_end
    sub  t1, sp, t0
    srli t1, t1, 1
    add  sp, t0, t1
    andi sp, sp, -16
    csrr a0, mcause
    csrr a1, mepc
    call edgeprof_trap
    "#
);
