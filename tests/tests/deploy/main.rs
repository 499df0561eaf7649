//! What is shipped beside the programs: units, rules, users, scripts; and how the programs get on with them.

mod backup;
mod containers;
mod docs;
mod links;
mod packages;
mod prometheus;
mod python;
mod supervised;
mod units;
