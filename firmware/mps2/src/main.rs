//! Firmware of the Arm MPS2 boards.

#![no_std]
#![no_main]

mod counter;
mod place;
mod uart;

use core::panic::PanicInfo;
#[cfg(not(feature = "counter-check"))]
use core::ptr::addr_of_mut;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use edgeprof_firmware_core::linked::LinkedMemory;
#[cfg(not(feature = "counter-check"))]
use edgeprof_firmware_core::{Facts, Server, linked};
use edgeprof_firmware_cortex_m::{stop_on_fault, stop_on_panic};

use crate::counter::Timers;
use crate::uart::{RECEIVE, Uart};

/// What the catalogue says about this kind.
mod kind {
    #![allow(dead_code)]
    include!(concat!(env!("OUT_DIR"), "/kind.rs"));
}

#[cfg(not(feature = "counter-check"))]
#[entry]
fn main() -> ! {
    type Board = Server<Uart, Timers, LinkedMemory, { kind::MAX_FRAME }>;
    static mut PROMPT: [u32; kind::MAX_PROMPT] = [0; kind::MAX_PROMPT];
    static mut SERVER: core::mem::MaybeUninit<Board> = core::mem::MaybeUninit::uninit();
    // SAFETY: the entry point runs once.
    let memory = unsafe { LinkedMemory::take(kind::MODEL_IN_RAM) };
    let facts = Facts {
        kind: kind::NAME,
        build_id: kind::BUILD_ID,
        version: env!("CARGO_PKG_VERSION"),
        isa: edgeprof_firmware_cortex_m::ISA,
        counter: kind::COUNTER,
        tick_hz: kind::TICK_HZ,
        static_ram: linked::static_ram(),
        flash_code: linked::flash_code(),
        stack_bytes: linked::stack_bytes(),
    };
    // SAFETY: the entry point runs once, so nobody else refers to the statics.
    let (server, prompt) = unsafe { (&mut *addr_of_mut!(SERVER), &mut *addr_of_mut!(PROMPT)) };
    server.write(Server::new(Uart::open(), Timers::open(), memory, facts, prompt)).serve()
}

#[cfg(feature = "counter-check")]
#[entry]
fn main() -> ! {
    use edgeprof_firmware_cortex_m::check::{PER_TURN, sled, turns};
    // SAFETY: the entry point runs once.
    let _ = unsafe { LinkedMemory::take(kind::MODEL_IN_RAM) };
    let (line, timers) = (Uart::open(), Timers::open());
    edgeprof_firmware_core::check::run::<_, _, { kind::MAX_FRAME }>(line, timers, sled, turns, PER_TURN)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop_on_panic(&mut Uart::open(), RECEIVE, info)
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    stop_on_fault(&mut Uart::open(), RECEIVE, frame)
}
