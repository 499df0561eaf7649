//! The board's side of the link: answers, runs, reports.
//!
//! A main gives it a [`Line`], a [`Counter`] and a [`Memory`] and calls [`Server::serve`]. There are no
//! registers here, so the whole conversation is tested on the host.

#![cfg_attr(not(test), no_std)]

mod board;
#[cfg(feature = "counter-check")]
pub mod check;
pub mod extend;
#[cfg(target_os = "none")]
pub mod linked;
mod load;
mod port;
mod records;
mod run;
mod server;

pub use board::{Counter, Facts, Line, Memory};
pub use port::send_last;
pub use server::Server;
