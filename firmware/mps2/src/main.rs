//! Firmware of the Arm MPS2 boards.

#![no_std]
#![no_main]

mod counter;
mod place;
mod uart;

use crate::counter::Timers;
use crate::uart::{RECEIVE, Uart};

edgeprof_firmware_cortex_m::firmware!(line: Uart, counter: Timers, receive: RECEIVE);
