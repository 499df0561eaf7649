//! What boards with a RISC-V core share: start code, counter, traps.
//!
//! Interrupts stay disabled in `mstatus` for ever, so none is taken inside a timed interval or anywhere
//! else. One that is enabled in `mie` and becomes pending still ends WFI, which is all that it is for.

#![no_std]

use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;

use edgeprof_firmware_core::linked::trace;
use edgeprof_firmware_core::{Line, send_last};
use edgeprof_link::{FromBoard, Text};

pub mod check;
mod counter;
mod start;

pub use counter::Minstret;

/// Bit of external interrupts in `mie`.
const EXTERNAL: usize = 1 << 11;

/// Lets external interrupts end [`sleep`].
pub fn wake_on_external() {
    // SAFETY: interrupts are disabled globally, so nothing is ever taken.
    unsafe { asm!("csrs mie, {}", in(reg) EXTERNAL, options(nomem, nostack)) };
}

/// Sleeps until an interrupt is pending.
pub fn sleep() {
    // SAFETY: waits, nothing else.
    unsafe { asm!("wfi", options(nomem, nostack)) };
}

/// Sends a panic's message and stops.
pub fn stop_on_panic(line: &mut impl Line, info: &PanicInfo<'_>) -> ! {
    let mut message = Text::new();
    let place = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    // A text takes what fits and never fails.
    let _ = write!(message, "{}:{}: {}", place.0, place.1, info.message());
    let here = core::ptr::addr_of!(message).addr();
    send_last(line, &[FromBoard::Trace { addresses: trace(here, is_return) }, FromBoard::Panic { message }]);
    stop()
}

/// Sends a trap's whereabouts and stops.
pub fn stop_on_trap(line: &mut impl Line, cause: usize, pc: usize, ra: usize, sp: usize) -> ! {
    let (pc, lr, status) = (pc as u64, ra as u64, cause as u64);
    let addresses = trace(sp, is_return);
    send_last(line, &[FromBoard::Trace { addresses }, FromBoard::Fault { pc, lr, status }]);
    stop()
}

/// Whether a word may be a return address: even, and behind a JAL or JALR that sets `ra`.
fn is_return(word: usize) -> bool {
    let half = |at: usize| {
        // SAFETY: code of this firmware, by the caller's range.
        u32::from(unsafe { core::ptr::with_exposed_provenance::<u16>(at).read_volatile() })
    };
    if word & 1 != 0 {
        return false;
    }
    let (high, low) = (half(word - 2), half(word - 4));
    let long = high << 16 | low;
    // JAL ra and JALR ra (RISC-V unprivileged specification, 2.5.1), C.JALR (16.4), C.JAL on RV32 (16.4).
    let jal = long & 0xfff == 0x0ef || long & 0x7fff == 0x00e7;
    let short = high & 0xf07f == 0x9002 && high & 0x0f80 != 0;
    jal || short || cfg!(target_pointer_width = "32") && high & 0xe003 == 0x2001
}

fn stop() -> ! {
    // Else every byte from the host would end WFI, and a stopped board would cost a whole core.
    // SAFETY: interrupts are disabled already; this takes away what ends WFI.
    unsafe { asm!("csrw mie, zero", options(nomem, nostack)) };
    loop {
        sleep();
    }
}
