//! Identifiers. Each is its own type, so that one cannot stand in for another.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text that is not an identifier of the kind asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a {what} id: {text:?}")]
pub struct IdError {
    what: &'static str,
    text: String,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random source answers");
    bytes
}

/// Crockford's base 32, lower case: no i, l, o, u to misread.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What each byte is worth; 32 for those that are no digit.
const VALUES: [u8; 256] = {
    let mut digits = [32; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        digits[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// Writes a number in so many digits.
fn encode<const N: usize>(mut value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
}

fn decode(text: &str, digits: usize, bits: u32) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = u128::from(VALUES[usize::from(byte)]);
        if digit >= 32 {
            return None;
        }
        value = value.checked_mul(32)? | digit;
    }
    (bits == 128 || value >> bits == 0).then_some(value)
}

/// Declares a random identifier: `$repr` random bits, written as a prefix letter and base 32.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $prefix:literal, $repr:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name($repr);

        impl $name {
            /// A fresh one, from the operating system's random source.
            pub fn random() -> Self {
                Self(<$repr>::from_le_bytes(random()))
            }
            /// From its number: for stores and seeded simulations.
            pub const fn from_raw(raw: $repr) -> Self {
                Self(raw)
            }
            /// Its number.
            pub const fn raw(self) -> $repr {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                encode::<$digits>(self.0 as u128, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(|digits| decode(digits, $digits, <$repr>::BITS))
                    .map(|value| Self(value as $repr))
                    .ok_or_else(|| IdError { what: $what, text: text.to_owned() })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

random_id!(
    /// One coordinator store: drawn when the store is made, kept for its life.
    ClusterId, "cluster", "c", u64, 13
);
random_id!(
    /// What a client submitted.
    JobId, "job", "j", u64, 13
);
random_id!(
    /// One cell of a job's matrix. Drawn from so many that a result of an unknown task cannot hit another.
    TaskId, "task", "t", u128, 26
);
random_id!(
    /// The recorded result of a task. Derived from the task's id: a task has at most one run.
    RunId, "run", "r", u128, 26
);
random_id!(
    /// One life of a coordinator process; binds an epoch to it.
    Nonce, "nonce", "n", u64, 13
);
random_id!(
    /// One life of a worker process.
    Incarnation, "incarnation", "i", u64, 13
);

impl TaskId {
    /// The ids of one job's tasks, ascending: 48 bits of the time in ms since 1970, 64 random ones, then a
    /// number. Tasks of one job, and of jobs that follow each other, have rows side by side in a store: a commit
    /// of many touches few of its pages, however many there are.
    pub fn of_job(ms: u64) -> impl Iterator<Item = Self> {
        let first = (u128::from(ms) << 80) | (u128::from(u64::from_le_bytes(random())) << 16);
        (0..=u16::MAX).map(move |number| Self(first | u128::from(number)))
    }
}

impl From<TaskId> for RunId {
    fn from(task: TaskId) -> Self {
        Self(task.raw())
    }
}

impl From<RunId> for TaskId {
    fn from(run: RunId) -> Self {
        Self(run.raw())
    }
}

/// Number of an attempt of one task, from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct AttemptNo(pub u32);

/// Declares a name chosen by people: letters, digits, `.`, `_`, `-` and what `$extra` allows.
macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || $extra.contains(c);
                if text.is_empty() || text.len() > 128 || !text.chars().all(good) {
                    return Err(IdError { what: $what, text: text.chars().take(128).collect() });
                }
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_id!(
    /// A worker daemon: its configured name, or one made on its first start and kept.
    WorkerId, "worker", ""
);
name_id!(
    /// A board: `<worker>/<name on that worker>`.
    BoardId, "board", "/"
);

impl BoardId {
    /// The id of board `name` on `worker`.
    ///
    /// # Errors
    /// When `name` holds characters that an id may not have.
    pub fn on(worker: &WorkerId, name: &str) -> Result<Self, IdError> {
        format!("{worker}/{name}").parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_task_id_round_trips(raw: u128) {
            let id = TaskId::from_raw(raw);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(TaskId::from(RunId::from(id)), id);
        }

        #[test]
        fn every_job_id_round_trips(raw: u64) {
            let id = JobId::from_raw(raw);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<TaskId>();
            let _ = text.parse::<JobId>();
            let _ = text.parse::<BoardId>();
        }
    }

    #[test]
    fn tasks_of_a_job_ascend_from_job_to_job_and_are_no_other_jobs() {
        let of = |ms| TaskId::of_job(ms).take(3).collect::<Vec<_>>();
        let jobs = [of(1), of(1_700_000_000_000), of(1_700_000_000_001)].concat();
        assert!(jobs.is_sorted_by(|a, b| a < b), "{jobs:?}");
        assert!(of(1).iter().all(|id| !of(1).contains(id)));
    }

    #[test]
    fn what_is_no_digit_is_refused() {
        for bad in ["j000000000000i", "j00000000000é", "j000000000000\u{0}", "j000000000000A"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_overflowing_id_is_refused() {
        assert!("jzzzzzzzzzzzzz".parse::<JobId>().is_err());
        assert!("tzzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<TaskId>().is_err());
    }

    #[test]
    fn names_refuse_what_would_break_a_path_or_a_table() {
        for bad in ["", "a b", "a\n", "é", "a/b"] {
            assert!(bad.parse::<WorkerId>().is_err(), "{bad:?}");
        }
        assert!("lab-1/mps2-an386.0".parse::<BoardId>().is_ok());
    }
}
