//! The fixed regions as the linker script names them, and the stack.

use core::mem::MaybeUninit;
use core::ptr::{self, addr_of, addr_of_mut};
use core::slice;

use edgeprof_engine::image::crc32_digest;
use edgeprof_link::{List, LoadFailure, MAX_TRACE};

use crate::board::Memory;

/// Symbols of the linker script: addresses, or sizes that look like addresses. There is nothing behind
/// those that may be read as what they are declared.
mod symbol {
    unsafe extern "C" {
        pub(super) static mut _edgeprof_model_start: u8;
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
pub struct LinkedMemory {
    /// Whether the model region is plain memory, that a store writes.
    model_in_ram: bool,
}

impl LinkedMemory {
    /// Takes the regions and paints the stack.
    ///
    /// # Safety
    /// Once only, early in `main`: the arena is handed out as exclusive, and everything between
    /// statics and stack pointer is written.
    #[must_use]
    pub unsafe fn take(model_in_ram: bool) -> Self {
        // SAFETY: the range lies within the RAM region, above the statics and below every frame in use.
        unsafe { paint() };
        Self { model_in_ram }
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
    fn model(&self) -> &[u8] {
        // SAFETY: the region is memory of that size on every board of the kind, and it is written through
        // an exclusive `self` only.
        unsafe { slice::from_raw_parts(addr_of!(symbol::_edgeprof_model_start), model_size()) }
    }

    fn model_and_arena(&mut self) -> (&[u8], &mut [u64]) {
        // SAFETY: the arena is RAM of that size, aligned to 16, apart from the model region, no static lies
        // in it, and `self` is the only way to it. Any bytes are valid u64.
        let arena = unsafe {
            slice::from_raw_parts_mut(
                addr_of_mut!(symbol::_edgeprof_arena_start),
                addr_of!(symbol::_edgeprof_arena_size).addr() / 8,
            )
        };
        (self.model(), arena)
    }

    fn clear(&mut self, len: usize) -> Result<(), LoadFailure> {
        if !self.model_in_ram {
            return Err(LoadFailure::ReadOnly);
        }
        // Without its first bytes it is no image, whatever the rest still is.
        self.store(0, &[0; 16][..len.min(16)])
    }

    fn store(&mut self, at: usize, bytes: &[u8]) -> Result<(), LoadFailure> {
        if !self.model_in_ram {
            return Err(LoadFailure::ReadOnly);
        }
        let end = at.checked_add(bytes.len()).filter(|end| *end <= model_size());
        end.ok_or(LoadFailure::Storage { offset: at as u32 })?;
        // SAFETY: the range lies in the region, which is plain RAM, and nobody else refers to it while
        // `self` is exclusive.
        unsafe {
            let to = addr_of_mut!(symbol::_edgeprof_model_start).add(at);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        if self.model().get(at..at + bytes.len()) == Some(bytes) {
            Ok(())
        } else {
            Err(LoadFailure::Storage { offset: at as u32 })
        }
    }

    fn code_sum(&self, address: u64, len: u32) -> Option<u32> {
        let first = addr_of!(symbol::__vector_table).addr();
        let start = usize::try_from(address).ok().filter(|start| *start >= first)?;
        let end = start.checked_add(len as usize)?;
        if end > first + flash_code() as usize {
            return None;
        }
        let mut digest = crc32_digest();
        for at in start..end {
            // SAFETY: code or constants of this firmware. Volatile, since address 0 is among them.
            digest.update(&[unsafe { ptr::with_exposed_provenance::<u8>(at).read_volatile() }]);
        }
        Some(digest.finalize())
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

fn model_size() -> usize {
    addr_of!(symbol::_edgeprof_model_size).addr()
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

/// What looks like return addresses on the stack from `from` up, the innermost first: every word of it that
/// points behind an instruction that can be a call. Some are left over from calls that have ended.
#[must_use]
pub fn trace(from: usize, is_return: impl Fn(usize) -> bool) -> List<u64, MAX_TRACE> {
    let first = addr_of!(symbol::__vector_table).addr();
    // Behind a call: not the very first instructions, before which there may be no memory.
    let code = first + 4..first + flash_code() as usize;
    let end = addr_of!(symbol::_stack_start).addr();
    let start = from.next_multiple_of(size_of::<usize>());
    let mut found = List::new();
    if start < addr_of!(symbol::_stack_end).addr() {
        // A stack pointer that left the stack leads nowhere.
        return found;
    }
    for at in (start..end).step_by(size_of::<usize>()) {
        // SAFETY: a word of the stack, which is RAM from its end to its start.
        let word = unsafe { ptr::with_exposed_provenance::<usize>(at).read_volatile() };
        if code.contains(&word) && is_return(word) && found.push(word as u64).is_err() {
            break;
        }
    }
    found
}
