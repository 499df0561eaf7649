//! Closed vocabularies, each with one spelling for flags, JSON and tables.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A word outside its vocabulary.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown {what} {word:?}, expected one of {expected}")]
pub struct UnknownWord {
    what: &'static str,
    word: String,
    expected: String,
}

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every member.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            /// Its spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|v| v.as_str() == word).ok_or_else(|| UnknownWord {
                    what: $what,
                    word: word.to_owned(),
                    expected: Self::ALL.iter().map(|v| v.as_str()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

vocabulary!(
    /// What somebody may do; each role may do what those before it may.
    Role, "role" {
        /// Looks.
        Viewer = "viewer",
        /// Submits jobs, and cancels their own.
        Submitter = "submitter",
        /// Takes boards and workers out of service and back, and cancels anybody's job.
        Operator = "operator",
        /// Gives access, and reads who did what.
        Admin = "admin",
    }
);

vocabulary!(
    /// How weights are stored on the board.
    Quant, "quantization" {
        /// As they are in the model file.
        Native = "native",
        /// Blocks of 32 int8 with one f16 scale: 8.5 bits a weight.
        Q8_0 = "q8_0",
        /// Blocks of 32 int4 with one f16 scale: 4.5 bits a weight.
        Q4_0 = "q4_0",
    }
);

vocabulary!(
    /// Element type of the key-value cache.
    Kv, "kv cache type" {
        /// 4 bytes an element.
        F32 = "f32",
        /// 2 bytes an element.
        F16 = "f16",
        /// 1 byte an element and a scale for each head and position.
        I8 = "i8",
    }
);

vocabulary!(
    /// Scheduling class; within one, submitters share.
    Priority, "priority" {
        /// When nothing else waits.
        Low = "low",
        /// The default.
        Normal = "normal",
        /// Before normal work.
        High = "high",
        /// Before everything.
        Critical = "critical",
    }
);

vocabulary!(
    /// Where a task is.
    TaskState, "task state" {
        /// Waiting for a board.
        Queued = "queued",
        /// An attempt holds a lease.
        Leased = "leased",
        /// Waiting before a retry.
        Backoff = "backoff",
        /// Recorded.
        Succeeded = "succeeded",
        /// Failed for good.
        Failed = "failed",
        /// Cancelled by a person.
        Cancelled = "cancelled",
        /// Took its workers down with it; not tried again.
        Exhausted = "exhausted",
    }
);

impl TaskState {
    /// Whether it never changes again.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Exhausted)
    }
}

vocabulary!(
    /// Where a job is.
    JobState, "job state" {
        /// Some task is not terminal.
        Open = "open",
        /// Cancel was asked, some attempt has not ended.
        Cancelling = "cancelling",
        /// Every task succeeded.
        Succeeded = "succeeded",
        /// Every task is terminal and at least one failed.
        Failed = "failed",
        /// Cancelled before every task ended.
        Cancelled = "cancelled",
    }
);

vocabulary!(
    /// What the coordinator believes of a worker.
    WorkerHealth, "worker health" {
        /// Heard from lately.
        Alive = "alive",
        /// Silent for seconds; its leases stand.
        Suspect = "suspect",
        /// Given up; its leases are lost.
        Dead = "dead",
        /// Takes no new work, by an operator's word.
        Draining = "draining",
    }
);

vocabulary!(
    /// What is known of a board.
    BoardHealth, "board health" {
        /// Answered its last check.
        Good = "good",
        /// Not heard yet.
        Unknown = "unknown",
        /// Failed its last check.
        Bad = "bad",
        /// Set aside by a person or by policy.
        Maintenance = "maintenance",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_names_the_right_ones() {
        let error = "q5_0".parse::<Quant>().unwrap_err();
        assert_eq!(error.to_string(), "unknown quantization \"q5_0\", expected one of native, q8_0, q4_0");
    }

    #[test]
    fn json_and_flags_spell_alike() {
        for quant in Quant::ALL {
            assert_eq!(serde_json::to_value(quant).unwrap(), quant.as_str());
        }
    }
}
