//! The cluster's brain: a pure state machine, events in, effects out.
//!
//! `scheduler.step(now, event)` gives [`Effects`]; the caller commits the writes, then sends. The state
//! here may run ahead of the disk, because nothing leaves before the commit. There is no clock, no
//! random source and no I/O in this crate: the same events give the same effects.
//!
//! ```text
//! Scheduler::new(now: Now, config: Config, epoch: Epoch, recovered: Recovered) -> Result<Self, EpochNotNew>
//! scheduler.step(now: Now, event: Event) -> Effects
//! scheduler.next_wakeup() -> Option<Now>                  when an Event::Tick is wanted
//! scheduler.admits(tasks: usize) -> Result<(), QueueFull> ask before Event::Submitted
//! scheduler.issued(&WorkerId) -> BTreeMap<BoardId, Token> for the coordinator's Hello
//! scheduler.all_issued() -> BTreeMap<BoardId, Token>     the same for a worker that has not said who it is
//! scheduler.kept(&BoardId) -> Option<&BoardRow>           also of boards that nobody reports
//! scheduler.next_seq() -> u64                             place of the next task that is submitted
//! scheduler.task(TaskId) / tasks_of(JobId) / job(JobId) / jobs() / position(TaskId) / eta(TaskId)
//! scheduler.workers() / boards()
//! scheduler.backlog() / suspicion(&WorkerId)             for metrics
//! ```

mod alarms;
mod alone;
mod attempt;
mod blame;
mod boards;
mod config;
mod detector;
mod dispatch;
mod drain;
mod effect;
mod event;
mod frames;
mod gauges;
mod job;
mod liveness;
mod marks;
mod placement;
mod query;
mod queue;
mod recall;
mod reconcile;
mod requirement;
mod results;
mod row;
mod scheduler;
mod table;
mod task;
mod time;
mod view;
mod worker;

pub use blame::OURSELVES;
#[cfg(feature = "planted-bugs")]
pub use config::Bug;
pub use config::{Config, Policy};
pub use effect::{CANARY, CloseReason, Effects, Notice, Order, Send, Step, Verdict, Write};
pub use event::{
    BoardReport, Command, Event, Frame, Held, HeldState, LeaseRef, Mark, NewTask, Outcome, Peer, Recovered,
    RejectReason, SessionId,
};
pub use gauges::Backlog;
pub use requirement::{Image, Requirement, Term};
pub use row::{BoardRow, Closed, Estimate, Lease, Past, Phase, Standing, Suspicion, TaskRow};
pub use scheduler::Scheduler;
pub use time::Now;
pub use view::{AttemptPhase, BoardView, EpochNotNew, JobView, Occupant, QueueFull, TaskView, WorkerView};
