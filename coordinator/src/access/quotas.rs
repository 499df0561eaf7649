//! How much one submitter may have, and what was uploaded lately. The configuration's section `[quotas]`.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Reason, Refusal};
use crate::store::rows::UploadsRow;

/// Uploads are counted over so long.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When a submitter whose jobs fill their quota may try again.
const LATER: Duration = Duration::from_secs(10);

/// What one submitter may have; absent is as much as there is room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Jobs that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u64>,
    /// Tasks that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Bytes uploaded in 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_bytes: Option<u64>,
}

/// The quotas of everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Jobs of a submitter that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u64>,
    /// Tasks of a submitter that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Bytes that a submitter uploads in 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_bytes: Option<u64>,
    /// Of submitters by name, where they differ.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub of: BTreeMap<String, Quota>,
}

impl Quotas {
    /// What `submitter` may have.
    #[must_use]
    pub fn quota(&self, submitter: &str) -> Quota {
        let own = self.of.get(submitter).copied().unwrap_or_default();
        Quota {
            jobs: own.jobs.or(self.jobs),
            tasks: own.tasks.or(self.tasks),
            upload_bytes: own.upload_bytes.or(self.upload_bytes),
        }
    }
}

impl Quota {
    /// Whether one more job fits for `submitter`, who has these jobs and tasks.
    ///
    /// # Errors
    /// What there would be too much of.
    pub fn admits(&self, submitter: &str, jobs: u64, tasks: u64, new: u64) -> Result<(), OverQuota> {
        let counts = [("jobs", self.jobs, jobs, 1), ("tasks", self.tasks, tasks, new)];
        for (what, limit, has, asks) in counts {
            if let Some(limit) = limit
                && has.saturating_add(asks) > limit
            {
                return Err(OverQuota { submitter: submitter.to_owned(), what, limit, has, asks });
            }
        }
        Ok(())
    }
}

/// What a submitter would have too much of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverQuota {
    submitter: String,
    what: &'static str,
    limit: u64,
    has: u64,
    asks: u64,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { submitter, what, limit, has, asks } = self;
        let who = if submitter.is_empty() { "a submitter without a name" } else { submitter };
        write!(f, "{who} has {has} {what} that have not ended; {asks} more are beyond the quota of {limit}")
    }
}

impl std::error::Error for OverQuota {}

impl From<OverQuota> for Refusal {
    fn from(over: OverQuota) -> Self {
        if over.asks > over.limit {
            let hint =
                "submit it in parts, or ask for more under [quotas] in the coordinator's configuration";
            return Self::new(tonic::Code::InvalidArgument, Reason::Quota, over.to_string(), hint);
        }
        Self::later(Reason::Quota, over.to_string(), LATER)
    }
}

/// What was uploaded lately, by whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Uploads {
    of: Arc<Mutex<HashMap<String, UploadsRow>>>,
}

/// Bytes that are being uploaded: given back unless they are kept.
#[derive(Debug)]
pub(crate) struct Held {
    uploads: Uploads,
    who: String,
    bytes: u64,
}

impl Uploads {
    pub(super) fn recovered(rows: impl IntoIterator<Item = (String, UploadsRow)>) -> Self {
        Self { of: Arc::new(Mutex::new(rows.into_iter().collect())) }
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, UploadsRow>) -> T) -> T {
        change(&mut self.of.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes `bytes` out of what `who` may upload.
    pub(super) fn hold(&self, who: &str, bytes: u64, limit: u64, now: u64) -> Result<Held, Refusal> {
        if bytes > limit {
            let what = format!("{bytes} bytes are beyond the {limit} that {who} may upload in 24 hours");
            let hint = "ask for more under [quotas] in the coordinator's configuration";
            return Err(Refusal::new(tonic::Code::InvalidArgument, Reason::Quota, what, hint));
        }
        self.with(|of| {
            of.retain(|_, row| left(row.since, now).is_some());
            let row = of.entry(who.to_owned()).or_insert(UploadsRow { since: now, bytes: 0 });
            if row.bytes.saturating_add(bytes) > limit {
                let what = format!(
                    "{who} has uploaded {} bytes of the {limit} of 24 hours; {bytes} more are beyond the quota",
                    row.bytes
                );
                return Err(Refusal::later(Reason::Quota, what, left(row.since, now).unwrap_or(DAY)));
            }
            row.bytes += bytes;
            Ok(Held { uploads: self.clone(), who: who.to_owned(), bytes })
        })
    }
}

impl Held {
    /// The upload is there: the row to keep, of whom.
    pub(crate) fn keep(mut self) -> (String, UploadsRow) {
        self.bytes = 0;
        let row = self.uploads.with(|of| of.get(&self.who).copied());
        (std::mem::take(&mut self.who), row.unwrap_or_default())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (who, bytes) = (&self.who, self.bytes);
        self.uploads.with(|of| {
            if let Some(row) = of.get_mut(who) {
                row.bytes = row.bytes.saturating_sub(bytes);
            }
        });
    }
}

/// What is left of a day that began then; nothing once it is over, or if it begins in the future.
fn left(since: u64, now: u64) -> Option<Duration> {
    let gone = Duration::from_millis(now.checked_sub(since)?);
    DAY.checked_sub(gone).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    #[test]
    fn what_a_name_does_not_say_is_everybodys() {
        let quotas: Quotas = toml::from_str("jobs = 3\ntasks = 10\nof.nightly = { tasks = 500 }\n").unwrap();
        assert_eq!(quotas.quota("ann"), Quota { jobs: Some(3), tasks: Some(10), upload_bytes: None });
        assert_eq!(quotas.quota("nightly").tasks, Some(500));
        assert_eq!(quotas.quota("nightly").jobs, Some(3));
        assert!(toml::from_str::<Quotas>("of.ann = { taks = 1 }").unwrap_err().to_string().contains("taks"));
    }

    #[test]
    fn a_job_fits_up_to_the_quota_and_one_that_never_does_is_told_so() {
        let quota = Quota { jobs: Some(2), tasks: Some(10), upload_bytes: None };
        assert_eq!(quota.admits("ann", 1, 6, 4), Ok(()));
        let over = quota.admits("ann", 1, 7, 4).unwrap_err();
        assert_eq!(
            over.to_string(),
            "ann has 7 tasks that have not ended; 4 more are beyond the quota of 10"
        );
        let status = Refusal::from(over).status();
        assert_eq!(edgeprof_service::status::retry_after(&status), Some(LATER));
        assert!(quota.admits("ann", 2, 0, 1).is_err());
        let never = Refusal::from(quota.admits("ann", 0, 0, 11).unwrap_err()).status();
        assert_eq!(never.code(), tonic::Code::InvalidArgument);
        assert_eq!(Quota::default().admits("ann", u64::MAX, u64::MAX, u64::MAX), Ok(()));
    }

    #[test]
    fn what_was_not_kept_is_given_back_and_a_day_later_everything() {
        let uploads = Uploads::default();
        let held = uploads.hold("ann", 60, 100, 5).unwrap();
        let refusal = uploads.hold("ann", 60, 100, 5).unwrap_err();
        assert_eq!(edgeprof_service::status::retry_after(&refusal.status()), Some(DAY));
        drop(held);
        let kept = uploads.hold("ann", 60, 100, 10).unwrap().keep();
        assert_eq!(kept, ("ann".into(), UploadsRow { since: 5, bytes: 60 }));
        assert!(uploads.hold("ann", 60, 100, DAY_MS + 4).is_err());
        assert!(uploads.hold("bob", 60, 100, 10).is_ok());
        assert!(uploads.hold("ann", 60, 100, DAY_MS + 5).is_ok());
        // Over a restart.
        let uploads = Uploads::recovered([kept]);
        assert!(uploads.hold("ann", 60, 100, 20).is_err());
        let never = uploads.hold("ann", 101, 100, 20).unwrap_err();
        assert_eq!(never.status().code(), tonic::Code::InvalidArgument);
    }
}
