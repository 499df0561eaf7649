//! UART 0, a CMSDK APB UART.

use edgeprof_firmware_core::Line;
use edgeprof_firmware_cortex_m::register::{read, write};
use edgeprof_firmware_cortex_m::{Irq, sleep, wake_on};

use crate::kind::TICK_HZ;
use crate::place::{UART, UART_RECEIVE};

const DATA: usize = UART;
const STATE: usize = UART + 0x4;
const CTRL: usize = UART + 0x8;
const INTCLEAR: usize = UART + 0xc;
const BAUDDIV: usize = UART + 0x10;

const BAUD: u64 = 115_200;

const TX_FULL: u32 = 1;
const RX_FULL: u32 = 1 << 1;
const TX_ENABLE: u32 = 1;
const RX_ENABLE: u32 = 1 << 1;
const RX_INTERRUPT: u32 = 1 << 3;
const RX_CAUSE: u32 = 1 << 1;

/// Its receive interrupt.
pub(crate) const RECEIVE: Irq = Irq(UART_RECEIVE);

/// The line.
pub(crate) struct Uart(());

impl Uart {
    /// Sets the UART up; harmless if it was.
    pub(crate) fn open() -> Self {
        // SAFETY: the UART's registers; its clock is that of the timers.
        unsafe {
            write(BAUDDIV, ((TICK_HZ + BAUD / 2) / BAUD) as u32);
            write(CTRL, TX_ENABLE | RX_ENABLE | RX_INTERRUPT);
        }
        wake_on(RECEIVE);
        Self(())
    }
}

impl Line for Uart {
    fn read(&mut self) -> Option<u8> {
        // SAFETY: the UART's registers; reading DATA takes the byte.
        unsafe { (read(STATE) & RX_FULL != 0).then(|| read(DATA) as u8) }
    }

    fn wait(&mut self) {
        // SAFETY: the UART's register.
        sleep(RECEIVE, || unsafe { write(INTCLEAR, RX_CAUSE) });
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // SAFETY: the UART's registers.
            unsafe {
                while read(STATE) & TX_FULL != 0 {}
                write(DATA, u32::from(*byte));
            }
        }
    }
}
