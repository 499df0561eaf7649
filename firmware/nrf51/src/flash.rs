//! The model region in flash, which the controller erases by pages and programs by words.
//!
//! The core stands still meanwhile, as it runs from the same flash: 21 ms a page, 46 µs a word.

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

use edgeprof_firmware_core::Memory;
use edgeprof_firmware_core::linked::LinkedMemory;
use edgeprof_firmware_cortex_m::register::{read, write};
use edgeprof_link::LoadFailure;

const READY: usize = 0x4001_e400;
const CONFIG: usize = 0x4001_e504;
const ERASE_PAGE: usize = 0x4001_e508;

const PAGE: usize = 1_024;

/// What the controller lets happen to the flash.
#[derive(Clone, Copy)]
enum Mode {
    Read = 0,
    Write = 1,
    Erase = 2,
}

fn wait() {
    // SAFETY: the controller's register.
    unsafe { while read(READY) & 1 == 0 {} }
}

fn set(mode: Mode) {
    // SAFETY: the controller's register; what it allows is only done to the model region.
    unsafe { write(CONFIG, mode as u32) };
    wait();
}

/// The linked regions, with a model region that can be written.
pub(crate) struct Flash {
    linked: LinkedMemory,
    start: usize,
    len: usize,
}

impl Flash {
    /// Takes the regions.
    pub(crate) fn new(linked: LinkedMemory) -> Self {
        let model = linked.model();
        let (start, len) = (model.as_ptr().expose_provenance(), model.len());
        Self { linked, start, len }
    }

    fn word(&self, at: usize) -> u32 {
        // SAFETY: a word of the region, which is aligned. Volatile, since it changes behind the compiler's back.
        unsafe { with_exposed_provenance::<u32>(self.start + at).read_volatile() }
    }
}

impl Memory for Flash {
    fn model(&self) -> &[u8] {
        self.linked.model()
    }

    fn model_and_arena(&mut self) -> (&[u8], &mut [u64]) {
        self.linked.model_and_arena()
    }

    fn clear(&mut self, len: usize) -> Result<(), LoadFailure> {
        let end = len.min(self.len);
        set(Mode::Erase);
        for page in (0..end).step_by(PAGE) {
            // SAFETY: the controller's register, and a page of the region.
            unsafe { write(ERASE_PAGE, (self.start + page) as u32) };
            wait();
        }
        set(Mode::Read);
        match (0..end).step_by(4).find(|at| self.word(*at) != u32::MAX) {
            None => Ok(()),
            Some(at) => Err(LoadFailure::Storage { offset: at as u32 }),
        }
    }

    fn store(&mut self, at: usize, bytes: &[u8]) -> Result<(), LoadFailure> {
        let fault = |at: usize| LoadFailure::Storage { offset: at as u32 };
        if at % 4 != 0 || at.checked_add(bytes.len()).is_none_or(|end| end > self.len) {
            return Err(fault(at));
        }
        for (at, piece) in (at..).step_by(4).zip(bytes.chunks(4)) {
            // What is beyond the end stays erased.
            let mut word = [0xff; 4];
            word.iter_mut().zip(piece).for_each(|(to, from)| *to = *from);
            let word = u32::from_le_bytes(word);
            set(Mode::Write);
            // SAFETY: an erased word of the region, and nobody refers to it while `self` is exclusive.
            unsafe { with_exposed_provenance_mut::<u32>(self.start + at).write_volatile(word) };
            wait();
            set(Mode::Read);
            if self.word(at) != word {
                return Err(fault(at));
            }
        }
        Ok(())
    }

    fn code_sum(&self, address: u64, len: u32) -> Option<u32> {
        self.linked.code_sum(address, len)
    }

    fn stack_high_water(&self) -> u32 {
        self.linked.stack_high_water()
    }
}
