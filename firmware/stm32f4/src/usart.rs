//! USART 1.

use edgeprof_firmware_core::Line;
use edgeprof_firmware_cortex_m::register::{read, write};
use edgeprof_firmware_cortex_m::{Irq, sleep, wake_on};

/// APB2 clock enables; bit 4 is USART 1.
const RCC_APB2ENR: usize = 0x4002_3844;

const BASE: usize = 0x4001_1000;
const SR: usize = BASE;
const DR: usize = BASE + 0x4;
const BRR: usize = BASE + 0x8;
const CR1: usize = BASE + 0xc;

const RXNE: u32 = 1 << 5;
const TXE: u32 = 1 << 7;
/// Enabled, both directions, interrupt on a received byte.
const RUN: u32 = 1 << 13 | 1 << 5 | 1 << 3 | 1 << 2;

/// Its interrupt.
pub(crate) const RECEIVE: Irq = Irq(37);

/// The line.
pub(crate) struct Usart(());

impl Usart {
    /// Sets the USART up; harmless if it was.
    pub(crate) fn open() -> Self {
        // SAFETY: registers of clock control and USART. 84 MHz ÷ 729 is 115,200 baud.
        unsafe {
            write(RCC_APB2ENR, read(RCC_APB2ENR) | 1 << 4);
            write(BRR, 729);
            write(CR1, RUN);
        }
        wake_on(RECEIVE);
        Self(())
    }
}

impl Line for Usart {
    fn read(&mut self) -> Option<u8> {
        // SAFETY: the USART's registers; reading DR takes the byte.
        unsafe { (read(SR) & RXNE != 0).then(|| read(DR) as u8) }
    }

    fn wait(&mut self) {
        // The cause goes away when the byte is read.
        sleep(RECEIVE, || {});
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // SAFETY: the USART's registers.
            unsafe {
                while read(SR) & TXE == 0 {}
                write(DR, u32::from(*byte));
            }
        }
    }
}
