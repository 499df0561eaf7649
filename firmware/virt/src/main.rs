//! Firmware of QEMU's RISC-V machine `virt`.

#![no_std]
#![no_main]

mod uart;

use core::panic::PanicInfo;
#[cfg(not(feature = "counter-check"))]
use core::ptr::addr_of_mut;

use edgeprof_firmware_core::linked::LinkedMemory;
#[cfg(not(feature = "counter-check"))]
use edgeprof_firmware_core::{Facts, Server, linked};
use edgeprof_firmware_riscv::{Minstret, stop_on_panic, stop_on_trap};

use crate::uart::Uart;

/// What the catalogue says about this kind.
mod kind {
    #![allow(dead_code)]
    include!(concat!(env!("OUT_DIR"), "/kind.rs"));
}

#[cfg(not(feature = "counter-check"))]
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    type Board = Server<Uart, Minstret, LinkedMemory, { kind::MAX_FRAME }>;
    static mut PROMPT: [u32; kind::MAX_PROMPT] = [0; kind::MAX_PROMPT];
    static mut SERVER: core::mem::MaybeUninit<Board> = core::mem::MaybeUninit::uninit();
    // SAFETY: the start code calls this once.
    let memory = unsafe { LinkedMemory::take(kind::MODEL_IN_RAM) };
    let mut isa = 0;
    if cfg!(target_feature = "f") {
        isa |= edgeprof_link::isa::FPU_SINGLE;
    }
    if cfg!(target_feature = "d") {
        isa |= edgeprof_link::isa::FPU_DOUBLE;
    }
    let facts = Facts {
        kind: kind::NAME,
        build_id: kind::BUILD_ID,
        version: env!("CARGO_PKG_VERSION"),
        isa,
        counter: kind::COUNTER,
        tick_hz: kind::TICK_HZ,
        static_ram: linked::static_ram(),
        flash_code: linked::flash_code(),
        stack_bytes: linked::stack_bytes(),
    };
    // SAFETY: the start code calls this once, so nobody else refers to the statics.
    let (server, prompt) = unsafe { (&mut *addr_of_mut!(SERVER), &mut *addr_of_mut!(PROMPT)) };
    server.write(Server::new(Uart::open(), Minstret::default(), memory, facts, prompt)).serve()
}

#[cfg(feature = "counter-check")]
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    use edgeprof_firmware_riscv::check::{PER_TURN, sled, turns};
    // SAFETY: the start code calls this once.
    let _ = unsafe { LinkedMemory::take(kind::MODEL_IN_RAM) };
    let (line, counter) = (Uart::open(), Minstret::default());
    edgeprof_firmware_core::check::run::<_, _, { kind::MAX_FRAME }>(line, counter, sled, turns, PER_TURN)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop_on_panic(&mut Uart::open(), info)
}

#[unsafe(no_mangle)]
extern "C" fn edgeprof_trap(cause: usize, pc: usize, ra: usize, sp: usize) -> ! {
    stop_on_trap(&mut Uart::open(), cause, pc, ra, sp)
}
