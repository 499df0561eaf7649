//! Pure functions over samples and histories.

pub mod record;
pub mod summary;
