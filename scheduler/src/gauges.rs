//! What is measured of the scheduler now and then, from outside.

use std::{collections::BTreeMap, time::Duration};

use edgeprof_common::{Priority, WorkerId};

use crate::{Scheduler, queue::Spot};

/// Tasks that wait for boards, of one priority class and kind of board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The class that they wait in.
    pub class: Priority,
    /// The kind of board; `any` where boards of several would do, `none` where none is there.
    pub kind: String,
    /// How many.
    pub depth: usize,
    /// How long the first of them has waited: of those that are next, the one that waits longest.
    pub age: Duration,
}

impl Scheduler {
    /// Prepared tasks that wait. It costs by the number of submitters and needs, not of tasks.
    #[must_use]
    pub fn backlog(&self) -> Vec<Backlog> {
        let mut found: BTreeMap<(Priority, String), (usize, Duration)> = BTreeMap::new();
        for line in self.queue.lines() {
            let mut kinds = line.spots.iter().filter_map(|spot| match spot {
                Spot::Class(class) => Some(&*self.boards.pool(*class)?.class.kind),
                Spot::Board(board) => Some(&*self.boards.class_of(board)?.kind),
            });
            let kind = match kinds.next() {
                None => "none",
                Some(first) if kinds.all(|other| other == first) => first,
                Some(_) => "any",
            };
            let age = self.now.since(line.since);
            let (depth, oldest) = found.entry((line.class, kind.to_owned())).or_default();
            *depth += line.depth;
            *oldest = age.max(*oldest);
        }
        let backlog = |((class, kind), (depth, age))| Backlog { class, kind, depth, age };
        found.into_iter().map(backlog).collect()
    }

    /// How much a worker's silence speaks for its death: φ, which is 8 where it would come by chance once in 10^8.
    #[must_use]
    pub fn suspicion(&self, worker: &WorkerId) -> Option<f64> {
        let worker = self.workers.get(worker).filter(|worker| worker.session.is_some())?;
        Some(worker.detector.phi(self.now, &self.config))
    }
}
