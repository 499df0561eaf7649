//! Timer 0 for the ticks, the dual timer's first half for its wraps.
//!
//! Timer 0 runs at SYSCLK as SysTick does, but has 32 bits instead of 24: under icount shift 6 it
//! wraps after 2.7 billion instructions or more and not after 10.5 million. The DWT cycle counter, which
//! would be the natural one, reads 0 under QEMU.

use core::sync::atomic::{Ordering, compiler_fence};

use edgeprof_firmware_core::Counter;
use edgeprof_firmware_core::extend::extend;
use edgeprof_firmware_cortex_m::register::{read, write};

use crate::place::{DUAL_TIMER, TIMER};

const TIMER_CTRL: usize = TIMER;
const TIMER_VALUE: usize = TIMER + 0x4;
const TIMER_RELOAD: usize = TIMER + 0x8;

const DUAL_LOAD: usize = DUAL_TIMER;
const DUAL_VALUE: usize = DUAL_TIMER + 0x4;
const DUAL_CONTROL: usize = DUAL_TIMER + 0x8;
/// Enabled, free running, clock ÷ 256, 32 bits.
const DUAL_RUN: u32 = 1 << 7 | 2 << 2 | 1 << 1;
const DUAL_STEP: u64 = 256;

const TOP: u32 = u32::MAX;

/// The counter.
pub(crate) struct Timers(());

impl Timers {
    /// Sets the timers up.
    pub(crate) fn open() -> Self {
        // SAFETY: the timers' registers; no interrupt is enabled in them. The session number is read
        // from the running dual timer.
        unsafe {
            write(TIMER_RELOAD, TOP);
            write(DUAL_LOAD, TOP);
            write(DUAL_CONTROL, DUAL_RUN);
        }
        Self(())
    }
}

impl Counter for Timers {
    #[inline(never)]
    fn start(&mut self) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the timers' registers. Timer 0 is stopped, set and started anew, so that its ticks and
        // the instructions begin together whatever the time was: the same work shows the same ticks.
        unsafe {
            write(DUAL_CONTROL, 0);
            write(DUAL_LOAD, TOP);
            write(DUAL_CONTROL, DUAL_RUN);
            write(TIMER_CTRL, 0);
            write(TIMER_VALUE, TOP);
            write(TIMER_CTRL, 1);
        }
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(never)]
    fn stop(&mut self) -> u64 {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the timers' registers. Timer 0 first: what follows is not counted.
        let (left, coarse) = unsafe { (read(TIMER_VALUE), TOP - read(DUAL_VALUE)) };
        // The timer shows what is left without the tick that has begun: that one is ours.
        extend((TOP - left).wrapping_add(1), 32, u64::from(coarse) * DUAL_STEP)
    }

    fn session(&mut self) -> u32 {
        // SAFETY: the timer's register.
        unsafe { TOP - read(DUAL_VALUE) }.max(1)
    }
}
