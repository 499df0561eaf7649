//! The coordinator's wall clock, for people and records; of what is decided, only the end of a reservation is by it.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since 1970, UTC.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

/// RFC 3339, in milliseconds, UTC.
pub(crate) fn text(ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

/// Milliseconds since 1970 of such a text.
pub(crate) fn ms(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The present as text.
pub(crate) fn now() -> String {
    text(now_ms())
}

#[cfg(test)]
mod tests {
    use super::{ms, text};

    #[test]
    fn milliseconds_are_shown_in_utc() {
        assert_eq!(text(1_700_000_000_250), "2023-11-14T22:13:20.25Z");
        assert_eq!(ms("2023-11-14T22:13:20.25Z"), Some(1_700_000_000_250));
        assert_eq!(ms("yesterday"), None);
        // Beyond what the calendar has.
        assert_eq!(text(u64::MAX), "");
    }
}
