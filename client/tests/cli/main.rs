//! The command as people and scripts run it, against a coordinator played by the test.

mod cases;
mod fake;
mod files;
