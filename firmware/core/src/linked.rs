//! The fixed regions as the linker script names them, and the stack.

use core::mem::MaybeUninit;
use core::ptr::{self, addr_of, addr_of_mut};
use core::slice;

use crate::board::Memory;

/// Symbols of the linker script: addresses, or sizes that look like addresses. There is nothing behind
/// those that may be read as what they are declared.
mod symbol {
    unsafe extern "C" {
        pub(super) static _edgeprof_model_start: u8;
        pub(super) static _edgeprof_model_size: u8;
        pub(super) static mut _edgeprof_arena_start: u64;
        pub(super) static _edgeprof_arena_size: u8;
        pub(super) static _ram_start: u8;
        pub(super) static mut _stack_end: u32;
        pub(super) static mut _stack_start: u32;
        pub(super) static __vector_table: u8;
        pub(super) static __sidata: u8;
        pub(super) static __sdata: u8;
        pub(super) static __edata: u8;
    }
}

/// What stack words hold until they are used.
const PAINT: u32 = 0xc5c5_c5c5;
/// Bytes below the painter's own frame that it leaves alone.
const MARGIN: usize = 256;

/// The regions of this firmware.
#[derive(Debug)]
pub struct LinkedMemory(());

impl LinkedMemory {
    /// Takes the regions and paints the stack.
    ///
    /// # Safety
    /// Once only, early in `main`: the arena is handed out as exclusive, and everything between
    /// statics and stack pointer is written.
    #[must_use]
    pub unsafe fn take() -> Self {
        // SAFETY: the range lies within the RAM region, above the statics and below every frame in use.
        unsafe { paint() };
        Self(())
    }
}

/// # Safety
/// Nothing of value lies between `_stack_end` and [`MARGIN`] below this frame.
#[inline(never)]
unsafe fn paint() {
    let here = MaybeUninit::<u32>::uninit();
    let top = here.as_ptr().addr() - MARGIN;
    let mut at = addr_of_mut!(symbol::_stack_end);
    while at.addr() < top {
        // SAFETY: by this function's contract. Volatile, as nobody seems to read it.
        unsafe {
            at.write_volatile(PAINT);
            at = at.add(1);
        }
    }
}

impl Memory for LinkedMemory {
    fn model(&self) -> &'static [u8] {
        // SAFETY: the region is memory of that size on every board of the kind, and nobody on the
        // board ever writes it.
        unsafe {
            slice::from_raw_parts(
                addr_of!(symbol::_edgeprof_model_start),
                addr_of!(symbol::_edgeprof_model_size).addr(),
            )
        }
    }

    fn arena(&mut self) -> &mut [u64] {
        // SAFETY: the region is RAM of that size, aligned to 16, no static lies in it, and `self` is the
        // only way to it. Any bytes are valid u64.
        unsafe {
            slice::from_raw_parts_mut(
                addr_of_mut!(symbol::_edgeprof_arena_start),
                addr_of!(symbol::_edgeprof_arena_size).addr() / 8,
            )
        }
    }

    fn stack_high_water(&self) -> u32 {
        let start = addr_of!(symbol::_stack_start);
        let mut at = addr_of!(symbol::_stack_end);
        // SAFETY: reads between the statics and the stack's start; volatile, as frames come and go there.
        while at < start && unsafe { ptr::read_volatile(at) } == PAINT {
            at = at.wrapping_add(1);
        }
        (start.addr() - at.addr()) as u32
    }
}

/// Bytes of static data.
#[must_use]
pub fn static_ram() -> u32 {
    (addr_of!(symbol::_stack_end).addr() - addr_of!(symbol::_ram_start).addr()) as u32
}

/// Bytes of code, constants and initial values.
#[must_use]
pub fn flash_code() -> u32 {
    let data = addr_of!(symbol::__edata).addr() - addr_of!(symbol::__sdata).addr();
    (addr_of!(symbol::__sidata).addr() + data - addr_of!(symbol::__vector_table).addr()) as u32
}

/// Bytes that the stack can grow to.
#[must_use]
pub fn stack_bytes() -> u32 {
    (addr_of!(symbol::_stack_start).addr() - addr_of!(symbol::_stack_end).addr()) as u32
}
