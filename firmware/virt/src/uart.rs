//! The 16550 of `virt`, and the PLIC that its interrupt comes through.

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

use edgeprof_firmware_core::Line;
use edgeprof_firmware_riscv::{sleep, wake_on_external};

const BASE: usize = 0x1000_0000;
const RBR_THR: usize = BASE;
const IER: usize = BASE + 1;
const FCR: usize = BASE + 2;
const LCR: usize = BASE + 3;
const MCR: usize = BASE + 4;
const LSR: usize = BASE + 5;

const RX_READY: u8 = 1;
const TX_EMPTY: u8 = 1 << 5;

const PLIC: usize = 0x0c00_0000;
const UART_IRQ: usize = 10;
/// Registers of hart 0 in machine mode.
const PLIC_PRIORITY: usize = PLIC + 4 * UART_IRQ;
const PLIC_ENABLE: usize = PLIC + 0x2000;
const PLIC_THRESHOLD: usize = PLIC + 0x20_0000;
const PLIC_CLAIM: usize = PLIC + 0x20_0004;

unsafe fn read(address: usize) -> u8 {
    // SAFETY: a byte register of the UART, by the caller's word.
    unsafe { with_exposed_provenance::<u8>(address).read_volatile() }
}

unsafe fn write(address: usize, value: u8) {
    // SAFETY: a byte register of the UART, by the caller's word.
    unsafe { with_exposed_provenance_mut::<u8>(address).write_volatile(value) }
}

/// The line.
pub(crate) struct Uart(());

impl Uart {
    /// Sets UART and PLIC up; harmless if they were.
    pub(crate) fn open() -> Self {
        // SAFETY: registers of UART and PLIC.
        unsafe {
            write(LCR, 3);
            write(MCR, 3);
            // Enabling the FIFOs resets them. If a byte came before, the emulator now holds back all
            // that follow until the byte register is read once.
            // With the trigger at 14 bytes it hands over as many at a time, and not one; fewer are told of a
            // moment later.
            write(FCR, 0xc1);
            let _ = read(RBR_THR);
            write(IER, 1);
            with_exposed_provenance_mut::<u32>(PLIC_PRIORITY).write_volatile(1);
            with_exposed_provenance_mut::<u32>(PLIC_ENABLE).write_volatile(1 << UART_IRQ);
            with_exposed_provenance_mut::<u32>(PLIC_THRESHOLD).write_volatile(0);
        }
        wake_on_external();
        Self(())
    }
}

impl Line for Uart {
    fn read(&mut self) -> Option<u8> {
        // SAFETY: the UART's registers; reading RBR takes the byte.
        unsafe { (read(LSR) & RX_READY != 0).then(|| read(RBR_THR)) }
    }

    fn wait(&mut self) {
        sleep();
        // SAFETY: claims what is pending and completes it. The bytes are read by now or will be next:
        // while there are any the UART holds its line up, and it is pending again.
        unsafe {
            let claim = with_exposed_provenance_mut::<u32>(PLIC_CLAIM);
            claim.write_volatile(claim.read_volatile());
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // SAFETY: the UART's registers.
            unsafe {
                while read(LSR) & TX_EMPTY == 0 {}
                write(RBR_THR, *byte);
            }
        }
    }
}
