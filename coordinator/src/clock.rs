//! The coordinator's wall clock, for people and records only: nothing is decided by it.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// RFC 3339, in milliseconds, UTC.
pub(crate) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}
