//! The counter of retired instructions.

use core::arch::asm;
use core::sync::atomic::{Ordering, compiler_fence};

use edgeprof_firmware_core::Counter;

/// `minstret`: under icount shift 0 it counts whole instructions, in 64 bits.
#[derive(Debug, Default)]
pub struct Minstret {
    start: u64,
}

/// Reads the counter; if the low half wraps between the reads, again.
#[inline(always)]
fn now() -> u64 {
    #[cfg(target_pointer_width = "32")]
    loop {
        let (before, low, after): (u32, u32, u32);
        // SAFETY: reads counters.
        unsafe {
            asm!(
                "csrr {0}, minstreth",
                "csrr {1}, minstret",
                "csrr {2}, minstreth",
                out(reg) before, out(reg) low, out(reg) after,
                options(nostack)
            );
        }
        if before == after {
            return u64::from(after) << 32 | u64::from(low);
        }
    }
    #[cfg(target_pointer_width = "64")]
    {
        let now: u64;
        // SAFETY: reads a counter.
        unsafe { asm!("csrr {0}, minstret", out(reg) now, options(nostack)) };
        now
    }
}

impl Counter for Minstret {
    #[inline(never)]
    fn start(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.start = now();
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(never)]
    fn stop(&mut self) -> u64 {
        compiler_fence(Ordering::SeqCst);
        now().wrapping_sub(self.start)
    }

    fn session(&mut self) -> u32 {
        (now() as u32).max(1)
    }
}
