//! Instructions of a known number, for the check of the counter.

use core::arch::asm;

/// Instructions a turn of [`turns`].
pub const PER_TURN: u32 = 2;

/// Executes `n` instructions (at most 63) beyond those of `sled(0)`.
#[inline(never)]
pub fn sled(n: u32) {
    // SAFETY: jumps over 63 - n of the 4-byte instructions that do nothing.
    unsafe {
        asm!(
            ".option push",
            ".option norvc",
            "la {at}, 1f",
            "add {at}, {at}, {skip}",
            "jr {at}",
            "1:",
            ".rept 63",
            "nop",
            ".endr",
            ".option pop",
            at = out(reg) _,
            skip = in(reg) (63 - n) * 4,
        );
    }
}

/// Executes `n` times [`PER_TURN`] instructions beyond those of `turns(0)`.
#[inline(never)]
pub fn turns(n: u32) {
    // SAFETY: counts down in a register.
    unsafe {
        asm!("1:", "addi {n}, {n}, -1", "bnez {n}, 1b", n = inout(reg) n + 1 => _);
    }
}
