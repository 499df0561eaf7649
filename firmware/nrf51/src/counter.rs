//! TIMER0 for the ticks.
//!
//! It is the only timer of the chip with 32 bits, and none of the others runs long enough to count its
//! wraps. It wraps after 268 seconds, or 4.2 billion instructions under icount shift 6, some four hundred
//! times what a token of a model that fits takes. A longer interval is told as one, never as a short one.

use core::sync::atomic::{Ordering, compiler_fence};

use edgeprof_firmware_core::Counter;
use edgeprof_firmware_cortex_m::register::{read, write};

const HFCLK_START: usize = 0x4000_0000;
const HFCLK_STARTED: usize = 0x4000_0100;

const TIMER: usize = 0x4000_8000;
const START: usize = TIMER;
const STOP: usize = TIMER + 0x4;
const CLEAR: usize = TIMER + 0xc;
const CAPTURE: usize = TIMER + 0x40;
/// Set when the timer reaches [`LAST`].
const OVER: usize = TIMER + 0x144;
const BITMODE: usize = TIMER + 0x508;
const PRESCALER: usize = TIMER + 0x510;
const CAPTURED: usize = TIMER + 0x540;
const LAST: usize = TIMER + 0x544;

const BITS_32: u32 = 3;

/// The counter.
pub(crate) struct Timer(());

impl Timer {
    /// Sets the timer up.
    pub(crate) fn open() -> Self {
        // SAFETY: registers of clock control and timer, which is a timer at reset and stopped; no
        // interrupt is enabled in it. The timer's clock is the crystal's from here on.
        unsafe {
            write(HFCLK_START, 1);
            while read(HFCLK_STARTED) == 0 {}
            write(BITMODE, BITS_32);
            write(PRESCALER, 0);
            write(LAST, u32::MAX);
        }
        Self(())
    }
}

impl Counter for Timer {
    #[inline(never)]
    fn start(&mut self) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the timer's registers. It is stopped, cleared and started anew, so that its ticks and the
        // instructions begin together whatever the time was: the same work shows the same ticks. What was
        // captured is cleared as well: on passing it again the emulated timer would round in between.
        unsafe {
            write(STOP, 1);
            write(CAPTURED, 0);
            write(OVER, 0);
            write(CLEAR, 1);
            write(START, 1);
        }
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(never)]
    fn stop(&mut self) -> u64 {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the timer's registers. Capture first: what follows is not counted.
        let (ticks, over) = unsafe {
            write(CAPTURE, 1);
            (read(CAPTURED), read(OVER) != 0)
        };
        if over { u64::MAX } else { u64::from(ticks) }
    }

    fn session(&mut self) -> u32 {
        // SAFETY: the timer's registers; it runs on since the last interval.
        unsafe {
            write(CAPTURE, 1);
            read(CAPTURED).max(1)
        }
    }
}
