//! Workers and their boards as they report themselves.

use std::collections::BTreeMap;

use edgeprof_common::{BoardHealth, BoardId, Digest, Incarnation, TaskId, Token, WorkerHealth};

use crate::{BoardReport, Command, Config, HeldState, Now, SessionId, detector::Detector};

/// Earlier lives of a worker that are remembered, to tell a restart from a second machine.
const REMEMBERED_LIVES: usize = 8;

/// What is believed of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belief {
    /// Holds leases of an earlier life of the coordinator, and has this long to show up.
    Unheard {
        until: Now,
    },
    Alive,
    Suspect,
    Dead,
}

#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) belief: Belief,
    pub(crate) detector: Detector,
    pub(crate) session: Option<SessionId>,
    pub(crate) incarnation: Option<Incarnation>,
    past_lives: Vec<Incarnation>,
    /// First of a row of refused dials.
    pub(crate) refused: Option<Now>,
    /// It was silent when most were, and is not given up before this.
    pub(crate) spared_until: Option<Now>,
    /// Two machines claim this id; it gets no work until then.
    pub(crate) contested_until: Option<Now>,
    /// It said that it takes no new work, in this session.
    pub(crate) stopping: bool,
    /// It is drained, by an operator's word or its own.
    pub(crate) drain: Option<Drain>,
    /// Mean time from a lease to its acceptance, in µs.
    pub(crate) refill: Option<u64>,
    /// Number of the last command to it.
    pub(crate) command: Command,
    pub(crate) boards: BTreeMap<BoardId, Board>,
}

/// A worker that gets no new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// When what still runs is stopped, unless that was done.
    pub(crate) stop_at: Option<Now>,
}

/// What a handshake shows of the process behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// The one that was known, or the first.
    Same,
    /// A new one, so the one before is gone.
    New,
    /// One that had been replaced: there are two.
    Returned,
}

impl Worker {
    pub(crate) const fn new(belief: Belief, now: Now) -> Self {
        Self {
            belief,
            detector: Detector::new(now),
            session: None,
            incarnation: None,
            past_lives: Vec::new(),
            refused: None,
            spared_until: None,
            contested_until: None,
            stopping: false,
            drain: None,
            refill: None,
            command: Command(0),
            boards: BTreeMap::new(),
        }
    }

    /// Takes note of the process that a handshake showed.
    pub(crate) fn meet(&mut self, incarnation: Incarnation) -> Process {
        let Some(before) = self.incarnation.replace(incarnation) else { return Process::Same };
        if before == incarnation {
            return Process::Same;
        }
        let returned = self.past_lives.contains(&incarnation);
        self.past_lives.retain(|&life| life != before && life != incarnation);
        self.past_lives.push(before);
        if self.past_lives.len() > REMEMBERED_LIVES {
            self.past_lives.remove(0);
        }
        if returned { Process::Returned } else { Process::New }
    }

    /// Whether it may get work.
    pub(crate) fn usable(&self) -> bool {
        self.reachable() && self.drain.is_none()
    }

    /// Whether what it says of its boards can be relied on.
    pub(crate) fn reachable(&self) -> bool {
        self.belief == Belief::Alive && self.session.is_some() && self.contested_until.is_none()
    }

    /// Whether it has something that is not known here.
    pub(crate) fn has_strangers(&self) -> bool {
        self.boards.values().any(|board| !board.strangers.is_empty())
    }

    pub(crate) const fn health(&self) -> WorkerHealth {
        match self.belief {
            Belief::Alive if self.drain.is_some() => WorkerHealth::Draining,
            Belief::Alive => WorkerHealth::Alive,
            Belief::Suspect | Belief::Unheard { .. } => WorkerHealth::Suspect,
            Belief::Dead => WorkerHealth::Dead,
        }
    }

    /// When it next wants to be looked at.
    pub(crate) fn alarm(&self, config: &Config) -> Option<Now> {
        let silence = match self.belief {
            Belief::Unheard { until } => Some(until),
            Belief::Alive => Some(self.detector.suspect_at(config)),
            Belief::Suspect => Some(self.dead_at(config)),
            Belief::Dead => None,
        };
        let stop = self.drain.and_then(|drain| drain.stop_at);
        [silence, self.contested_until, stop].into_iter().flatten().min()
    }

    /// When silence makes it dead.
    pub(crate) fn dead_at(&self, config: &Config) -> Now {
        self.spared_until.unwrap_or_default().max(self.detector.dead_at(config))
    }

    pub(crate) fn next_command(&mut self) -> Command {
        self.command.0 += 1;
        self.command
    }
}

/// A board as its worker last reported it.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) report: BoardReport,
    /// Attempts that occupy it by its worker's word and are not open here.
    pub(crate) strangers: BTreeMap<Token, Holding>,
    /// It refused an attempt; it gets no other before it is heard of again.
    pub(crate) full: bool,
    /// What it has loaded, as far as is known.
    pub(crate) loaded: Option<Digest>,
    /// When its last attempt ended.
    pub(crate) ended_at: Option<Now>,
    /// Mean time of its runs, in µs.
    pub(crate) run: Option<u64>,
}

/// An attempt that occupies a board by its worker's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) task: TaskId,
    pub(crate) state: HeldState,
    /// When it was first seen.
    pub(crate) since: Now,
    /// When it was first told to stop, since its board was last restarted for it.
    pub(crate) told: Option<Now>,
    /// When it was last told to stop.
    pub(crate) cancelled: Option<Now>,
}

impl Board {
    pub(crate) const fn new(report: BoardReport) -> Self {
        let loaded = report.image;
        Self { report, strangers: BTreeMap::new(), full: false, loaded, ended_at: None, run: None }
    }

    /// Whether its worker's word leaves room for an attempt.
    pub(crate) fn vacant(&self) -> bool {
        self.report.idle && self.report.health == BoardHealth::Good && self.strangers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_comes_back_proves_two_machines() {
        let life = Incarnation::from_raw;
        let mut worker = Worker::new(Belief::Alive, Now(0));
        assert_eq!(worker.meet(life(1)), Process::Same);
        assert_eq!(worker.meet(life(1)), Process::Same);
        assert_eq!(worker.meet(life(2)), Process::New);
        assert_eq!(worker.meet(life(1)), Process::Returned);
        assert_eq!(worker.meet(life(2)), Process::Returned);
        assert_eq!(worker.meet(life(3)), Process::New);
    }
}
