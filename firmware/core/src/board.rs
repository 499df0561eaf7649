//! What a main provides.

use edgeprof_link::LoadFailure;

/// The serial line to the host.
pub trait Line {
    /// A received byte, if there is one. Never waits.
    fn read(&mut self) -> Option<u8>;

    /// Sleeps until a byte may have come; may return early.
    ///
    /// A sleeping core costs the emulator's host nothing, and lets it deliver bytes faster than it does
    /// to one that polls.
    fn wait(&mut self);

    /// Sends all bytes; waits until the transmitter has taken the last.
    fn write(&mut self, bytes: &[u8]);
}

/// The counter that intervals are measured with.
///
/// Both functions must not be inlined, so that an empty interval costs the same wherever it stands, and
/// no interrupt is taken between them.
pub trait Counter {
    /// Begins an interval.
    fn start(&mut self);

    /// Ends it: raw ticks since `start`.
    fn stop(&mut self) -> u64;

    /// Something that differs from boot to boot by the time of the call; 0 if there is nothing.
    fn session(&mut self) -> u32;
}

/// The fixed regions.
pub trait Memory {
    /// The model region.
    fn model(&self) -> &[u8];

    /// The model region to read, and the arena.
    fn model_and_arena(&mut self) -> (&[u8], &mut [u64]);

    /// Makes ready the first `len` bytes of the model region for [`Memory::store`]. What was there is no image
    /// any more.
    ///
    /// # Errors
    /// If this board's region cannot be written, or does not take it.
    fn clear(&mut self, len: usize) -> Result<(), LoadFailure>;

    /// Writes to the model region. `at` is a multiple of 4; bytes are written once after [`Memory::clear`].
    ///
    /// # Errors
    /// If the region does not keep them.
    fn store(&mut self, at: usize, bytes: &[u8]) -> Result<(), LoadFailure>;

    /// CRC-32 of a piece of code and constants; `None` if any of it is something else.
    fn code_sum(&self, address: u64, len: u32) -> Option<u32>;

    /// Deepest stack since boot in bytes.
    fn stack_high_water(&self) -> u32;
}

/// What the board says about itself beside what the traits tell; sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Board kind.
    pub kind: &'static str,
    /// The builder's word for the source.
    pub build_id: &'static str,
    /// Version of the firmware.
    pub version: &'static str,
    /// Bits of [`edgeprof_link::isa`].
    pub isa: u32,
    /// Unit of the counter.
    pub counter: &'static str,
    /// Ticks a second of the counter.
    pub tick_hz: u64,
    /// Static data.
    pub static_ram: u32,
    /// Code and constants.
    pub flash_code: u32,
    /// Room for the stack.
    pub stack_bytes: u32,
}
