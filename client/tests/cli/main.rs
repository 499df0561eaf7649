//! The command as people and scripts run it, against a coordinator played by the test.

mod access;
mod cases;
mod command;
mod console;
mod fake;
mod files;
mod operator;
mod pki;
mod restarts;
