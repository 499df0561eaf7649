//! Where the peripherals lie.

/// Timers and what else belongs to the subsystem. A core with security extensions starts in secure state,
/// and bit 28 of an address makes it a secure alias.
const SUBSYSTEM: usize = if cfg!(feature = "iotkit") { 0x5000_0000 } else { 0x4000_0000 };

/// Timer 0.
pub(crate) const TIMER: usize = SUBSYSTEM;
/// The dual timer.
pub(crate) const DUAL_TIMER: usize = SUBSYSTEM + 0x2000;

/// UART 0.
pub(crate) const UART: usize = if cfg!(feature = "iotkit") { 0x5020_0000 } else { 0x4000_4000 };
/// UART 0's receive interrupt.
pub(crate) const UART_RECEIVE: u16 = if cfg!(feature = "iotkit") { 32 } else { 0 };
