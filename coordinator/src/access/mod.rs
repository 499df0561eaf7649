//! Who may do what, and who did: one table of RPCs and the roles that they need, a layer before every service that
//! holds it, bearer tokens, quotas of submitters, and the log of what was changed and refused.

pub mod audit;
mod caller;
mod guard;
mod keeper;
pub mod policy;
mod quotas;
mod refusals;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

pub use caller::{Caller, Via};
pub use guard::{Guard, GuardLayer};
pub use keeper::keep;
pub use quotas::{OverQuota, Quota, Quotas};
pub use refusals::{Reason, Refusal, Refusals};
pub use state::Access;
pub use tokens::{Secret, Tokens, bearer};
