//! Firmware of the nRF51 boards.

#![no_std]
#![no_main]

mod counter;
#[cfg(not(feature = "counter-check"))]
mod flash;
mod uart;

use crate::counter::Timer;
#[cfg(not(feature = "counter-check"))]
use crate::flash::Flash;
use crate::uart::{RECEIVE, Uart};

edgeprof_firmware_cortex_m::firmware!(
    line: Uart,
    counter: Timer,
    receive: RECEIVE,
    memory: Flash,
    from: Flash::new
);
