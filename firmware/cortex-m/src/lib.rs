//! What boards with a Cortex-M core share: sleeping, stopping, telling of faults.
//!
//! Interrupts stay masked by PRIMASK for ever, so none is taken inside a timed interval or anywhere
//! else. An enabled one that becomes pending still ends WFI, which is all that it is for.

#![no_std]

use core::fmt::Write;
use core::panic::PanicInfo;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::ExceptionFrame;
use edgeprof_firmware_core::linked::trace;
use edgeprof_firmware_core::{Line, send_last};
use edgeprof_link::{FromBoard, Text, isa};

/// What the code is built for: a Cortex-M with FPU has the DSP extension as well, and the engine's
/// kernels then use it.
pub const ISA: u32 = if cfg!(target_abi = "eabihf") { isa::FPU_SINGLE | isa::DSP } else { 0 };

pub mod check;
mod firmware;
pub mod register;

/// An interrupt's number in the NVIC.
#[derive(Clone, Copy)]
pub struct Irq(pub u16);

// SAFETY: a plain number that never changes.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        self.0
    }
}

/// Masks all interrupts and lets `irq` end [`sleep`].
pub fn wake_on(irq: Irq) {
    cortex_m::interrupt::disable();
    // SAFETY: it is masked, so no handler ever runs.
    unsafe { NVIC::unmask(irq) };
}

/// Sleeps until an interrupt is pending, lets `acknowledge` take away its cause in the device, and
/// clears it.
///
/// In this order: a byte that comes in between is seen by the caller, who looks into the device next.
pub fn sleep(irq: Irq, acknowledge: impl FnOnce()) {
    cortex_m::asm::wfi();
    acknowledge();
    NVIC::unpend(irq);
}

/// Sends a panic's message and stops.
pub fn stop_on_panic(line: &mut impl Line, irq: Irq, info: &PanicInfo<'_>) -> ! {
    let mut message = Text::new();
    let place = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    // A text takes what fits and never fails.
    let _ = write!(message, "{}:{}: {}", place.0, place.1, info.message());
    let here = core::ptr::addr_of!(message).addr();
    send_last(line, &[FromBoard::Trace { addresses: trace(here, is_return) }, FromBoard::Panic { message }]);
    stop(irq)
}

/// Sends a fault's whereabouts and stops.
pub fn stop_on_fault(line: &mut impl Line, irq: Irq, frame: &ExceptionFrame) -> ! {
    // ARMv6-M, which is told by its lack of atomic operations, has no register that tells the cause.
    let has_status = cfg!(target_has_atomic = "32");
    // SAFETY: the configurable fault status register, read only, on every other core.
    let status = if has_status { unsafe { register::read(0xe000_ed28) } } else { 0 };
    let (pc, lr) = (u64::from(frame.pc()), u64::from(frame.lr()));
    let here = core::ptr::from_ref(frame).addr() + size_of::<ExceptionFrame>();
    let fault = FromBoard::Fault { pc, lr, status: u64::from(status) };
    send_last(line, &[FromBoard::Trace { addresses: trace(here, is_return) }, fault]);
    stop(irq)
}

/// Whether a word may be a return address: odd, as all are in Thumb code, and behind a BL or BLX.
fn is_return(word: usize) -> bool {
    let half = |at: usize| {
        // SAFETY: code of this firmware, by the caller's range; volatile, since address 0 is among it.
        unsafe { core::ptr::with_exposed_provenance::<u16>(at).read_volatile() }
    };
    if word & 1 == 0 || word < 5 {
        return false;
    }
    let at = word - 1;
    let (long, short) = (half(at - 4), half(at - 2));
    // BL <label> (T1), BLX <register> (T1): Armv7-M Architecture Reference Manual, A7.7.18 and A7.7.19.
    (long & 0xf800 == 0xf000 && short & 0xd000 == 0xd000) || short & 0xff87 == 0x4780
}

fn stop(irq: Irq) -> ! {
    // Else every byte from the host would end WFI, and a stopped board would cost a whole core.
    NVIC::mask(irq);
    loop {
        cortex_m::asm::wfi();
    }
}
