//! Model files made ready for boards: image, tokens, and what the host's engine gives for them. Done in
//! a child process, since a model file is input from outside and can take any amount of work.

pub mod child;
mod order;
mod supervise;
mod vocabulary;

pub use order::{Line, Order, Ready, Workload};
pub use supervise::{Limits, Outcome, Preparer, Request};
pub use vocabulary::Vocabulary;
