//! Firmware of the nRF51 boards.

#![no_std]
#![no_main]

mod counter;
mod uart;

use crate::counter::Timer;
use crate::uart::{RECEIVE, Uart};

edgeprof_firmware_cortex_m::firmware!(line: Uart, counter: Timer, receive: RECEIVE);
