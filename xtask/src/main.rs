//! Every chore of the project: demo, test, bench, firmware.
fn main() {}
