//! The UART, on the pins that the board's interface chip is wired to.

use edgeprof_firmware_core::Line;
use edgeprof_firmware_cortex_m::register::{read, write};
use edgeprof_firmware_cortex_m::{Irq, sleep, wake_on};

/// Sets GPIO pins as outputs.
const GPIO_DIRSET: usize = 0x5000_0518;

const BASE: usize = 0x4000_2000;
const START_RX: usize = BASE;
const START_TX: usize = BASE + 0x8;
const RX_READY: usize = BASE + 0x108;
const TX_READY: usize = BASE + 0x11c;
const INTENSET: usize = BASE + 0x304;
const ENABLE: usize = BASE + 0x500;
const PIN_TX: usize = BASE + 0x50c;
const PIN_RX: usize = BASE + 0x514;
const RXD: usize = BASE + 0x518;
const TXD: usize = BASE + 0x51c;
const BAUDRATE: usize = BASE + 0x524;

const TX: u32 = 24;
const RX: u32 = 25;
const ENABLED: u32 = 4;
const BAUD_115200: u32 = 0x01d7_e000;
const RX_READY_INTERRUPT: u32 = 1 << 2;

/// Its interrupt.
pub(crate) const RECEIVE: Irq = Irq(2);

/// The line.
pub(crate) struct Uart(());

impl Uart {
    /// Sets the UART up; harmless if it was.
    pub(crate) fn open() -> Self {
        // SAFETY: registers of pins and UART.
        unsafe {
            write(GPIO_DIRSET, 1 << TX);
            write(PIN_TX, TX);
            write(PIN_RX, RX);
            write(BAUDRATE, BAUD_115200);
            write(ENABLE, ENABLED);
            write(INTENSET, RX_READY_INTERRUPT);
            write(START_TX, 1);
            write(START_RX, 1);
        }
        wake_on(RECEIVE);
        Self(())
    }
}

impl Line for Uart {
    fn read(&mut self) -> Option<u8> {
        // SAFETY: the UART's registers; reading RXD takes the byte. The event is cleared first, as the next
        // byte, which may be waiting behind this one, sets it again.
        unsafe {
            (read(RX_READY) != 0).then(|| {
                write(RX_READY, 0);
                read(RXD) as u8
            })
        }
    }

    fn wait(&mut self) {
        // The cause goes away when the byte is read.
        sleep(RECEIVE, || {});
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // SAFETY: the UART's registers.
            unsafe {
                write(TX_READY, 0);
                write(TXD, u32::from(*byte));
                while read(TX_READY) == 0 {}
            }
        }
    }
}
