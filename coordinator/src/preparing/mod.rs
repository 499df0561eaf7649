//! Model files made ready for boards: image, tokens, and what the host's engine gives for them. Done in
//! a child process, since a model file is input from outside and can take any amount of work.

pub mod child;
mod order;
mod supervise;
mod vocabulary;

pub use order::{Line, Order, Ready, Workload};
pub use supervise::{Children, Limits, Outcome, Request, command};
pub use vocabulary::Vocabulary;

use tokio::sync::mpsc;

/// Makes models ready.
#[tonic::async_trait]
pub trait Preparer: std::fmt::Debug + Send + Sync {
    /// Prepares what is asked for to its end, handing on each answer. Dropped, it leaves nothing running.
    async fn run(&self, request: Request, answers: mpsc::Sender<Outcome>);
}
