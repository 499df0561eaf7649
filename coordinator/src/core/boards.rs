//! Words of operators on boards and workers, and what was learned of boards: kept over restarts.

use std::{collections::VecDeque, time::Duration};

use edgeprof_common::{BoardHealth, BoardId, WorkerId};
use edgeprof_proto::v1;
use edgeprof_scheduler::{BoardRow, Estimate, Event, Mark, OURSELVES};

use super::Core;
use crate::{
    clock,
    shown::millis,
    store::rows::{self, StoredBoard, key},
};

/// Whether a person may work with a board, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Where its worker listens, once known.
    pub address: Option<String>,
    /// Who reserved it, and for how long still; absent where nobody did.
    pub by: Option<(String, Duration)>,
}

/// What an operator wants of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Set it aside. Nobody's reservation is taken over by another one, nor does one end a person's quarantine.
    Set(Mark),
    /// End its quarantine.
    Unquarantine,
    /// End its reservation, whoever made it.
    Release,
}

/// Why an operator does not get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotMarked {
    /// There is no such board.
    Unknown,
    /// It is set aside otherwise, or not at all.
    Is(Option<Mark>),
}

/// What was known for its mark or its drain alone, and is known no more since that was taken back: whoever has lost
/// the answer asks again in this life, and gets the same one.
#[derive(Debug, Default)]
pub(super) struct TakenBack(VecDeque<String>);

impl TakenBack {
    /// Beyond this the first are forgotten.
    const KEEP: usize = 1024;

    fn add(&mut self, id: &str) {
        if self.has(id) {
            return;
        }
        if self.0.len() == Self::KEEP {
            self.0.pop_front();
        }
        self.0.push_back(id.to_owned());
    }

    fn has(&self, id: &str) -> bool {
        self.0.iter().any(|known| known == id)
    }
}

impl Wish {
    /// The mark that the board gets, if what it has allows that.
    fn over(self, has: Option<&Mark>) -> Result<Option<Mark>, NotMarked> {
        match (self, has) {
            (Self::Set(Mark::Reserved { by, .. }), Some(Mark::Reserved { by: first, .. }))
                if by != *first =>
            {
                Err(NotMarked::Is(has.cloned()))
            }
            // What a canary found is no person's word: whoever looks into it may have the board.
            (Self::Set(Mark::Reserved { .. }), Some(Mark::Quarantined { by, .. })) if by != OURSELVES => {
                Err(NotMarked::Is(has.cloned()))
            }
            (Self::Set(mark), _) => Ok(Some(mark)),
            // A client that lost the answer asks again.
            (Self::Unquarantine, Some(Mark::Quarantined { .. }) | None)
            | (Self::Release, Some(Mark::Reserved { .. }) | None) => Ok(None),
            (Self::Unquarantine | Self::Release, _) => Err(NotMarked::Is(has.cloned())),
        }
    }
}

impl Core {
    pub(super) fn put_board(&mut self, row: BoardRow) {
        let at = key::board(&row.board);
        self.reserved.remove(&row.board);
        let reserved_until = match &row.mark {
            Some(Mark::Reserved { left, .. }) => Some(until(*left)),
            _ => None,
        };
        if let Some(until) = reserved_until {
            self.reserved.insert(row.board.clone(), until);
        }
        if row.mark.is_none() && row.suspicion.is_none() {
            self.transaction.delete(at);
        } else {
            self.transaction.put(at, rows::encode(&StoredBoard { row, reserved_until }));
        }
    }

    pub(super) fn put_drained(&mut self, worker: WorkerId, on: bool) {
        let at = key::drained(&worker);
        if on {
            self.transaction.put(at, rows::encode(&true));
            self.drained.insert(worker);
        } else {
            self.transaction.delete(at);
            self.drained.remove(&worker);
        }
    }

    pub(super) fn put_estimate(&mut self, estimate: &Estimate) {
        self.transaction.put(key::estimate(estimate.image, &estimate.kind), rows::encode(estimate));
    }

    pub(super) fn drain(&mut self, worker: WorkerId, on: bool) -> Option<v1::WorkerStatus> {
        let known =
            |list: &[v1::WorkerStatus]| list.iter().find(|status| status.id == worker.as_str()).cloned();
        if known(&self.worker_list()).is_none() {
            let again = !on && self.taken_back.has(worker.as_str());
            return again.then(|| self.unfound(&worker, false));
        }
        self.step(Event::Drain { worker: worker.clone(), on });
        let status = known(&self.worker_list());
        // One that is not there was listed for its drain alone.
        Some(status.unwrap_or_else(|| {
            self.taken_back.add(worker.as_str());
            self.unfound(&worker, on)
        }))
    }

    pub(super) fn mark_board(&mut self, board: &BoardId, wish: Wish) -> Result<v1::BoardStatus, NotMarked> {
        let listed = |core: &Self| core.board_list().into_iter().find(|status| status.id == board.as_str());
        // What is kept of a board outlives its worker's absence.
        let kept = self.scheduler.kept(board);
        if kept.is_none() && listed(self).is_none() {
            let again = !matches!(wish, Wish::Set(_)) && self.taken_back.has(board.as_str());
            return if again { Ok(self.absent(board)) } else { Err(NotMarked::Unknown) };
        }
        let mark = wish.over(kept.and_then(|kept| kept.mark.as_ref()))?;
        self.step(Event::Mark { board: board.clone(), mark });
        Ok(listed(self).unwrap_or_else(|| {
            self.taken_back.add(board.as_str());
            self.absent(board)
        }))
    }

    /// A board whose worker was not heard in this life.
    fn absent(&self, board: &BoardId) -> v1::BoardStatus {
        let mark = self.scheduler.kept(board).and_then(|kept| kept.mark.as_ref());
        let (mark, by) = match mark {
            Some(Mark::Quarantined { by, .. }) => (Some("quarantined"), Some(by)),
            Some(Mark::Reserved { by, .. }) => (Some("reserved"), Some(by)),
            None => (None, None),
        };
        v1::BoardStatus {
            id: board.to_string(),
            worker: board.as_str().split('/').next().unwrap_or_default().to_owned(),
            health: BoardHealth::Unknown.to_string(),
            reason: Some("its worker was not found since this coordinator started".into()),
            reserved_ms: (mark == Some("reserved")).then(|| millis(self.reserved_for(board))),
            mark: mark.map(str::to_owned),
            marked_by: by.cloned(),
            ..v1::BoardStatus::default()
        }
    }

    pub(super) fn reserved(&self, board: &BoardId) -> Option<Reserved> {
        let view = self.scheduler.boards().find(|known| known.report.id == *board)?;
        let by = view.kept.and_then(|kept| match &kept.mark {
            Some(Mark::Reserved { by, .. }) => Some((by.clone(), self.reserved_for(board))),
            _ => None,
        });
        Some(Reserved { address: self.address_of(board), by })
    }

    /// What is left of a reservation.
    pub(super) fn reserved_for(&self, board: &BoardId) -> Duration {
        self.reserved.get(board).map_or(Duration::ZERO, |until| left(*until))
    }
}

/// What is kept of a board, in a new life: a reservation goes on as long as it was to last.
pub(super) fn in_new_life(stored: StoredBoard) -> BoardRow {
    let StoredBoard { mut row, reserved_until } = stored;
    if let (Some(Mark::Reserved { left: span, .. }), Some(until)) = (&mut row.mark, reserved_until) {
        *span = left(until);
    }
    row
}

fn until(span: Duration) -> u64 {
    clock::now_ms().saturating_add(millis(span))
}

fn left(until: u64) -> Duration {
    Duration::from_millis(until.saturating_sub(clock::now_ms()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(until: u64) -> StoredBoard {
        let hour = Duration::from_secs(3600);
        let mark = Mark::Reserved { by: "ann".into(), left: hour };
        let row = BoardRow { board: "w/b-0".parse().unwrap(), mark: Some(mark), suspicion: None };
        StoredBoard { row, reserved_until: Some(until) }
    }

    fn left_of(row: &BoardRow) -> Duration {
        match &row.mark {
            Some(Mark::Reserved { left, .. }) => *left,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reservation_goes_on_while_nobody_runs() {
        let now = clock::now_ms();
        let half = left_of(&in_new_life(stored(now + 1_800_000)));
        assert!(half <= Duration::from_secs(1800), "{half:?}");
        assert!(
            left_of(&in_new_life(stored(now + 7_200_000))) > Duration::from_secs(3600),
            "by the stored end"
        );
        assert_eq!(left_of(&in_new_life(stored(now))), Duration::ZERO);
    }
}
