//! What is shipped beside the programs: units, rules, users, scripts; and how the programs get on with them.

mod supervised;
mod units;
