//! The entries of the catalogue.

use serde::Deserialize;

use crate::estimate::Range;

/// A board kind: what all boards of one make have in common.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Name on the command line and in records, `mps2-an386`.
    pub name: String,
    /// A line for people.
    pub title: String,
    /// Core, in the compiler's spelling where it has one.
    pub cpu: String,
    /// Instruction set with the extensions the firmware is built for.
    pub isa: String,
    /// Rust target triple of the firmware.
    pub target: String,
    /// Clock of the core in Hz; for an emulated board, of what the emulator stands for.
    pub clock_hz: u64,
    /// Longest frame the board takes or sends, in bytes on the wire with the terminator.
    pub max_frame: u32,
    /// Longest prompt in tokens: the firmware's buffer takes 4 bytes each.
    pub max_prompt: u32,
    /// Which firmware package to build.
    pub firmware: Firmware,
    /// The fixed regions.
    pub memory: Memory,
    /// What the board counts with.
    pub counter: Counter,
    /// How to emulate the board; absent for a kind that exists only as hardware.
    pub emulator: Option<Emulator>,
    /// What time is derived from where only instructions are counted.
    pub estimate: EstimateBasis,
}

impl Kind {
    /// Whether boards of this kind do nothing: no firmware, no image, no figures.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.name == crate::NOOP
    }
}

/// The firmware of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// Package in the firmware workspace.
    pub package: String,
    /// Its cargo features.
    pub features: Vec<String>,
    /// Its cargo profile.
    #[serde(default = "release")]
    pub profile: String,
    /// Start code, which decides the linker script's shape.
    pub runtime: Runtime,
}

fn release() -> String {
    "release".into()
}

/// Start code of a firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// The `cortex-m-rt` crate: a `memory.x` beside its own `link.x`.
    CortexMRt,
    /// Our own start code for RISC-V: a `memory.x` beside `firmware/riscv/link.x`.
    Riscv,
}

/// Fixed regions; none overlaps another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Firmware: code and constants.
    pub code: Region,
    /// The board image, read in place and never written by the firmware.
    pub model: Region,
    /// Statics from the bottom, the stack from the top.
    pub ram: Region,
    /// The engine's arena.
    pub arena: Region,
    /// How the model region is written by the firmware.
    pub model_store: ModelStore,
}

/// How a firmware writes its model region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelStore {
    /// It is RAM.
    Ram,
    /// It is flash of its own pages, which the firmware erases and programs.
    Flash,
    /// Not at all: an emulator or a probe puts the image there.
    ReadOnly,
}

impl Memory {
    /// The regions with their names, in a fixed order.
    #[must_use]
    pub fn regions(&self) -> [(&'static str, Region); 4] {
        [("code", self.code), ("model", self.model), ("ram", self.ram), ("arena", self.arena)]
    }
}

/// A region of a board's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// First address.
    pub origin: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Region {
    /// The address after the last.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.origin + self.size
    }
}

/// The counter of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counter {
    /// Unit of the recorded counts: `instructions` under an emulator.
    pub name: String,
    /// How it is obtained.
    pub method: String,
    /// Ticks a second of the raw counter.
    pub tick_hz: u64,
    /// How raw ticks relate to whole instructions under the emulator.
    pub rounding: Rounding,
    /// Ticks a second of the same counter on silicon, with the clocks as this firmware leaves them; absent where
    /// there is no silicon, or the firmware does not set its clocks up.
    pub silicon_hz: Option<u64>,
}

/// How a raw tick count relates to whole instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// An instruction is a whole number of ticks: anything else is an error.
    Exact,
    /// The counter was started on an instruction's edge and shows the ticks begun since: instructions are
    /// rounded down, and a tick count that no whole number of them gives is an error.
    Begun,
    /// The same, but it shows the ticks that have ended since: instructions are rounded up.
    Ended,
}

/// How to emulate a board of this kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    /// Program, looked up in `PATH`.
    pub program: String,
    /// Argument of `-M`.
    pub machine: String,
    /// Arguments that only this machine needs.
    pub args: Vec<String>,
    /// `-icount shift=N`: an instruction takes 2^N ns of virtual time.
    pub icount_shift: u32,
    /// Where the board image is put; the start of the model region.
    pub loader_address: u64,
    /// Debian package that has the program.
    pub debian_package: String,
}

/// What an estimate of time rests on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EstimateBasis {
    /// Name of the model, recorded beside every figure derived through it.
    pub model: String,
    /// Silicon that the estimate speaks of.
    pub reference: String,
    /// Its clock in Hz.
    pub clock_hz: u64,
    /// Bounds of cycles an instruction, whole program, memory included.
    pub cycles_per_instruction: Range,
    /// What the bounds were taken from.
    pub sources: Vec<Source>,
}

/// A published fact behind an estimate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The fact.
    pub claim: String,
    /// Where it is published.
    pub citation: String,
}
