//! TIM2 for the ticks, TIM5 for its wraps.
//!
//! Both have 32 bits. Under QEMU they count at 1 GHz, so that an instruction of icount shift 3 is
//! exactly 8 ticks of TIM2, where one of SysTick (168 MHz) is 1.344. TIM2 wraps after 537 million
//! instructions; TIM5 at 1/65536 runs on for four and a half months. The DWT cycle counter reads 0 under
//! QEMU.

use core::sync::atomic::{Ordering, compiler_fence};

use edgeprof_firmware_core::Counter;
use edgeprof_firmware_core::extend::extend;
use edgeprof_firmware_cortex_m::register::{read, write};

/// APB1 clock enables; bit 0 is TIM2, bit 3 TIM5.
const RCC_APB1ENR: usize = 0x4002_3840;

const TIM2: usize = 0x4000_0000;
const TIM5: usize = 0x4000_0c00;
const CR1: usize = 0x0;
const EGR: usize = 0x14;
const CNT: usize = 0x24;
const PSC: usize = 0x28;

const STEP: u64 = 65_536;

/// The counter.
pub(crate) struct Timers {
    fine: u32,
    coarse: u32,
}

impl Timers {
    /// Sets the timers up and lets them run for ever.
    pub(crate) fn open() -> Self {
        // SAFETY: registers of clock control and timers; no interrupt is enabled in them. The
        // prescaler is taken over by the update event. Reload is left at its reset value, the top.
        unsafe {
            write(RCC_APB1ENR, read(RCC_APB1ENR) | 1 << 3 | 1);
            write(TIM5 + PSC, STEP as u32 - 1);
            write(TIM5 + EGR, 1);
            write(TIM2 + CR1, 1);
            write(TIM5 + CR1, 1);
        }
        Self { fine: 0, coarse: 0 }
    }
}

impl Counter for Timers {
    #[inline(never)]
    fn start(&mut self) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the timers' registers. TIM2 last: what comes before is not counted.
        unsafe {
            self.coarse = read(TIM5 + CNT);
            self.fine = read(TIM2 + CNT);
        }
        compiler_fence(Ordering::SeqCst);
    }

    #[inline(never)]
    fn stop(&mut self) -> u64 {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the timers' registers. TIM2 first: what follows is not counted.
        let (fine, coarse) = unsafe { (read(TIM2 + CNT), read(TIM5 + CNT)) };
        let about = u64::from(coarse.wrapping_sub(self.coarse)) * STEP;
        extend(fine.wrapping_sub(self.fine), 32, about)
    }

    fn session(&mut self) -> u32 {
        // SAFETY: the timer's register.
        unsafe { read(TIM2 + CNT) }.max(1)
    }
}
