//! What is due when: at most one alarm for each thing that waits.

use std::collections::BTreeSet;

use edgeprof_common::{BoardId, TaskId, Token, WorkerId};

use crate::{Now, table::Table};

/// What an alarm wakes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Alarm {
    /// A task in backoff.
    Task(TaskId),
    /// An open attempt.
    Attempt(Token),
    /// A worker.
    Worker(WorkerId),
    /// A board that is reserved, or has to be good by then.
    Board(BoardId),
    /// An idle board that something waits for elsewhere.
    Idle(BoardId),
    /// Tasks that wait for long.
    Ageing,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Now, Alarm)>,
    by_owner: Table<Alarm, Now>,
}

impl Alarms {
    /// Sets, moves or removes the owner's alarm.
    pub(crate) fn set(&mut self, owner: Alarm, at: Option<Now>) {
        let before = match at {
            Some(at) => self.by_owner.insert(owner.clone(), at),
            None => self.by_owner.swap_remove(&owner),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, owner.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, owner));
        }
    }

    /// The earliest.
    pub(crate) fn next(&self) -> Option<Now> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest that is due.
    pub(crate) fn pop_due(&mut self, now: Now) -> Option<Alarm> {
        if self.next()? > now {
            return None;
        }
        let (_, owner) = self.by_time.pop_first()?;
        self.by_owner.swap_remove(&owner);
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_one_alarm_and_the_earliest_goes_first() {
        let task = |raw| Alarm::Task(TaskId::from_raw(raw));
        let mut alarms = Alarms::default();
        alarms.set(task(1), Some(Now(5)));
        alarms.set(task(2), Some(Now(3)));
        alarms.set(task(1), Some(Now(2)));
        alarms.set(task(3), Some(Now(1)));
        alarms.set(task(3), None);
        assert_eq!(alarms.next(), Some(Now(2)));
        assert_eq!(alarms.pop_due(Now(1)), None);
        assert_eq!(alarms.pop_due(Now(9)), Some(task(1)));
        assert_eq!(alarms.pop_due(Now(9)), Some(task(2)));
        assert_eq!((alarms.pop_due(Now(9)), alarms.next()), (None, None));
    }
}
