//! A worker's refusal, and the way out. Pure.

use std::path::Path;

use edgeprof_service::status::{self, Claim};
use tonic::{Code, Status};

use super::serve::End;
use crate::store::rows::Identity;

/// What a refusal means for this coordinator, whose data is in `data`.
pub(super) fn read(status: &Status, identity: &Identity, data: &Path) -> End {
    let said = status.message();
    let claim = status::claim(status);
    // A word of another cluster, or of nobody's, is no word on this coordinator's life.
    let own = claim.filter(|claim| claim.cluster == identity.cluster);
    match (status::reason(status), own, claim) {
        (Some(status::FENCED), Some(own), _) => End::Superseded(format!(
            "a newer life of this coordinator commands the workers: {said}; if no other coordinator runs, because \
             this data was restored from a backup: {}",
            adopt(&own, data)
        )),
        (Some(status::DOUBLED), Some(_), _) => End::Superseded(format!(
            "another coordinator was started at the same time with a copy of the data in {}, and commands the \
             workers: {said}; keep one of the two, and remove the other's copy before it is started again",
            data.display()
        )),
        (_, None, Some(claim)) => End::Refused(format!(
            "{said}; if that coordinator is gone, and this one is to take its place: stop this one, then {}",
            adopt(&claim, data)
        )),
        _ => match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented => {
                End::Refused(said.to_owned())
            }
            code => End::Lost(format!("{code}: {said}")),
        },
    }
}

/// The command, and how its epoch is found: it has to be above that of every worker, not only of this one.
fn adopt(claim: &Claim, data: &Path) -> String {
    let Claim { cluster, epoch } = claim;
    format!(
        "`edgeprof-coordinator adopt --cluster {cluster} --epoch {} --data {}`, with a higher epoch where another \
         worker has seen one (`edgeprof workers` says what each that refuses has seen)",
        epoch.saturating_add(1),
        data.display()
    )
}

#[cfg(test)]
mod tests {
    use edgeprof_common::{ClusterId, Epoch, Nonce};
    use edgeprof_service::status::{DOUBLED, FENCED, with_claim, with_reason};

    use super::*;
    use crate::store::rows::Life;

    fn read_by(own: u64, status: &Status) -> End {
        let life = Life { epoch: Epoch(3), nonce: Nonce::from_raw(1) };
        let identity = Identity { cluster: ClusterId::from_raw(own), life };
        read(status, &identity, "/data".as_ref())
    }

    fn claimed(status: Status) -> Status {
        with_claim(status, Claim { cluster: ClusterId::from_raw(7), epoch: 9 })
    }

    #[test]
    fn a_worker_of_another_cluster_names_the_command_that_adopts_it_and_ends_nobody() {
        let status = claimed(Status::failed_precondition("claimed by another"));
        let End::Refused(reason) = read_by(1, &status) else { panic!("not refused") };
        let command = format!("adopt --cluster {} --epoch 10 --data /data", ClusterId::from_raw(7));
        assert!(reason.contains(&command) && reason.contains("edgeprof workers"), "{reason}");
        // Of the own cluster, but of another site: nothing to adopt.
        let End::Refused(reason) = read_by(7, &status) else { panic!("not refused") };
        assert_eq!(reason, "claimed by another");
    }

    #[test]
    fn an_older_life_ends_and_names_the_command_and_a_copy_ends_and_names_none() {
        let status = claimed(with_reason(Code::FailedPrecondition, "epoch 3 is fenced", FENCED));
        let End::Superseded(reason) = read_by(7, &status) else { panic!("not superseded") };
        assert!(reason.contains("epoch 3 is fenced") && reason.contains("--epoch 10"), "{reason}");
        let status = claimed(with_reason(Code::FailedPrecondition, "epoch 9 is another's", DOUBLED));
        let End::Superseded(reason) = read_by(7, &status) else { panic!("not superseded") };
        assert!(reason.contains("copy of the data in /data") && !reason.contains("adopt"), "{reason}");
    }
    #[test]
    fn nobody_ends_by_a_word_on_another_cluster_or_without_one() {
        for reason in [FENCED, DOUBLED] {
            let status = with_reason(Code::FailedPrecondition, "epoch 3 is fenced", reason);
            assert!(matches!(read_by(7, &status), End::Refused(_)));
            let End::Refused(reason) = read_by(1, &claimed(status)) else { panic!("not refused") };
            assert!(reason.contains("epoch 3 is fenced") && reason.contains("adopt"), "{reason}");
        }
    }
}
