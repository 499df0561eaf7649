//! The section `[limits]`.

use std::time::Duration;

use edgeprof_service::config::Source;
use serde::{Deserialize, Serialize};

use super::SetupError;

/// No time that is waited for is longer: no instant overflows, and a mistyped unit is seen.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// Bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Longest silence of a board in a run, beyond what the model's size explains.
    #[serde(with = "humantime_serde")]
    pub frame_timeout: Duration,
    /// How long a board may take to answer after its start.
    #[serde(with = "humantime_serde")]
    pub boot_timeout: Duration,
    /// How long an attempt waits for the next piece of a blob.
    #[serde(with = "humantime_serde")]
    pub blob_timeout: Duration,
    /// How long a board may take to end a cancelled run before it is restarted.
    #[serde(with = "humantime_serde")]
    pub cancel_timeout: Duration,
    /// Largest blob in bytes.
    pub blob_bytes: u64,
    /// Size that the blob cache is kept below.
    pub cache_bytes: u64,
    /// Results that may wait for a coordinator; beyond that boards take no work.
    pub outbox: usize,
    /// Attempts that a board takes behind the one in work.
    pub queue: u32,
    /// How long running attempts may go on when the worker is told to stop.
    #[serde(with = "humantime_serde")]
    pub drain_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_timeout: Duration::from_secs(60),
            boot_timeout: Duration::from_secs(30),
            blob_timeout: Duration::from_secs(120),
            cancel_timeout: Duration::from_secs(10),
            blob_bytes: 1 << 30,
            cache_bytes: 4 << 30,
            outbox: 1_000,
            queue: 32,
            drain_grace: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// Whether a worker can live with them. `source`: the file that they may stand in.
    ///
    /// # Errors
    /// The first one that it cannot.
    pub(super) fn check(&self, source: Option<&Source>) -> Result<(), SetupError> {
        let times = [
            ("frame_timeout", self.frame_timeout),
            ("boot_timeout", self.boot_timeout),
            ("blob_timeout", self.blob_timeout),
            ("cancel_timeout", self.cancel_timeout),
            ("drain_grace", self.drain_grace),
        ];
        let long = times.into_iter().find(|(_, time)| *time > LONGEST);
        let wrong = match long {
            Some((key, _)) => SetupError::TooLong(key),
            None if self.outbox == 0 => SetupError::NoOutbox,
            None => return Ok(()),
        };
        Err(match source {
            Some(source) => {
                let place = source.place(&["limits", wrong.key()]);
                SetupError::At { place, error: Box::new(wrong) }
            }
            None => wrong,
        })
    }
}
