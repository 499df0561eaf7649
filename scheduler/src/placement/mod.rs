//! Which board a task gets: boards grouped by what they are, what history says of run times, and a policy.

mod classes;
mod estimate;
mod policy;

pub(crate) use self::{
    classes::{Boards, Class, ClassId, Moved, Room, State},
    estimate::{Estimates, Seen, mean, span},
    policy::{Candidate, Chooser, expected, order},
};
