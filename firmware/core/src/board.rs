//! What a main provides.

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
    /// The model region, read only.
    fn model(&self) -> &'static [u8];

    /// The arena.
    fn arena(&mut self) -> &mut [u64];

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
