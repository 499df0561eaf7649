//! Firmware of the STM32F405 boards.

#![no_std]
#![no_main]

mod counter;
mod usart;

use crate::counter::Timers;
use crate::usart::{RECEIVE, Usart};

edgeprof_firmware_cortex_m::firmware!(line: Usart, counter: Timers, receive: RECEIVE);
