//! Errors that cross gRPC: a code, a sentence, and the way out in the metadata.

use edgeprof_common::ClusterId;
use tonic::{Code, Status, metadata::MetadataValue};

const HINT: &str = "edgeprof-hint-bin";
const RETRY_AFTER: &str = "edgeprof-retry-after-ms";
const REASON: &str = "edgeprof-reason";
const CLAIM: &str = "edgeprof-claim";

/// Reason of a worker's refusal: it has seen a newer epoch of the coordinator's own cluster.
pub const FENCED: &str = "fenced";

/// Reason of a worker's refusal: the same epoch came from another life of the coordinator, over a copy of its data.
pub const DOUBLED: &str = "doubled";

/// Whom a worker obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The cluster.
    pub cluster: ClusterId,
    /// The highest epoch that it has seen of that.
    pub epoch: u64,
}

/// A worker's refusal, with whom it obeys instead.
pub fn with_claim(mut status: Status, claim: Claim) -> Status {
    if let Ok(value) = format!("{} {}", claim.epoch, claim.cluster).parse() {
        status.metadata_mut().insert(CLAIM, value);
    }
    status
}

/// Whom the worker that refused obeys.
pub fn claim(status: &Status) -> Option<Claim> {
    let (epoch, cluster) = status.metadata().get(CLAIM)?.to_str().ok()?.split_once(' ')?;
    Some(Claim { cluster: cluster.parse().ok()?, epoch: epoch.parse().ok()? })
}

/// A status with the way out beside its message.
pub fn with_hint(code: Code, message: impl Into<String>, hint: Option<&str>) -> Status {
    let mut status = Status::new(code, message);
    if let Some(hint) = hint {
        status.metadata_mut().insert_bin(HINT, MetadataValue::from_bytes(hint.as_bytes()));
    }
    status
}

/// `RESOURCE_EXHAUSTED` with the time after which trying again makes sense.
pub fn exhausted(message: impl Into<String>, retry_after: std::time::Duration) -> Status {
    let mut status = Status::resource_exhausted(message);
    let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    status.metadata_mut().insert(RETRY_AFTER, MetadataValue::from(millis));
    status
}

/// A status with a word beside its message that a program can go by.
pub fn with_reason(code: Code, message: impl Into<String>, reason: &'static str) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(REASON, MetadataValue::from_static(reason));
    status
}

/// The word that a status carries.
pub fn reason(status: &Status) -> Option<&str> {
    status.metadata().get(REASON)?.to_str().ok()
}

/// The way out that a status carries.
pub fn hint(status: &Status) -> Option<String> {
    let bytes = status.metadata().get_bin(HINT)?.to_bytes().ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// How long to wait before trying again, where the status says so.
pub fn retry_after(status: &Status) -> Option<std::time::Duration> {
    let millis = status.metadata().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(std::time::Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_retry_and_reason_ride_along() {
        let status = with_hint(Code::InvalidArgument, "no", Some("naïve – try q8_0"));
        assert_eq!(hint(&status).as_deref(), Some("naïve – try q8_0"));
        let status = exhausted("full", std::time::Duration::from_secs(2));
        assert_eq!(retry_after(&status), Some(std::time::Duration::from_secs(2)));
        assert_eq!(hint(&status), None);
        let status = with_reason(Code::FailedPrecondition, "epoch 1 is behind", FENCED);
        assert_eq!((status.message(), reason(&status)), ("epoch 1 is behind", Some(FENCED)));
        let own = Claim { cluster: ClusterId::from_raw(7), epoch: 9 };
        let status = with_claim(status, own);
        assert_eq!(claim(&status), Some(own));
        assert_eq!(reason(&status), Some(FENCED));
        for text in ["", "9", "9 c0", "9 `rm`", "-1 c0000000000007", "c0000000000007 9"] {
            let mut status = Status::failed_precondition("no");
            status.metadata_mut().insert(CLAIM, text.parse().unwrap());
            assert_eq!(claim(&status), None, "{text:?}");
        }
        assert_eq!(reason(&exhausted("full", std::time::Duration::ZERO)), None);
    }
}
