//! Instructions of a known number, for the check of the counter.

use core::arch::asm;

/// Instructions a turn of [`turns`].
pub const PER_TURN: u32 = 2;

/// Executes `n` instructions (at most 63) beyond those of `sled(0)`.
#[inline(never)]
pub fn sled(n: u32) {
    // SAFETY: jumps over 63 - n of the 2-byte instructions that do nothing. The label lies 4 bytes
    // after the `add`, which is where its PC points.
    unsafe {
        asm!(
            "add pc, {skip}",
            "nop",
            ".rept 63",
            "nop",
            ".endr",
            skip = in(reg) (63 - n) * 2,
        );
    }
}

/// Executes `n` times [`PER_TURN`] instructions beyond those of `turns(0)`.
#[inline(never)]
pub fn turns(n: u32) {
    // SAFETY: counts down in a register.
    unsafe {
        asm!("1:", "subs {n}, {n}, #1", "bne 1b", n = inout(reg) n + 1 => _);
    }
}
