//! The board catalogue as data: cores, memory, counters, emulator recipes, linker scripts.
//!
//! One TOML file a kind lies in `kinds/` and is embedded here, so that the worker, the fit check and
//! the firmware's linker all read the same figures. A kind's regions are fixed addresses: whether a
//! model fits is arithmetic, done before any board is touched.
//!
//! ```
//! let kind = edgeprof_boards::catalogue().get("mps2-an386").unwrap();
//! assert_eq!(kind.ticks_to_instructions(16), Some(10));
//! ```

mod catalogue;
mod counter;
mod estimate;
pub mod fit;
mod kind;
mod linker;

pub use catalogue::{Catalogue, CatalogueError, NOOP, catalogue};
pub use estimate::{Estimate, Range};
pub use kind::{
    Counter, Emulator, EstimateBasis, Firmware, Kind, Memory, ModelStore, Region, Rounding, Runtime, Source,
};
