//! A coordinator around the scheduler: group commit to a store that keeps only what was committed.

use std::collections::BTreeMap;

use edgeprof_common::{BoardId, Epoch, TaskId, Token};
use edgeprof_scheduler::{
    Config, Effects, Event, LeaseRef, NewTask, Now, Recovered, Scheduler, TaskRow, Verdict, Write,
};

/// What survives.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) epoch: u64,
    pub(crate) tasks: BTreeMap<TaskId, TaskRow>,
    pub(crate) tokens: BTreeMap<BoardId, Token>,
    pub(crate) runs: BTreeMap<TaskId, Verdict>,
    pub(crate) aside: Vec<LeaseRef>,
}

impl Store {
    /// Commits one batch, and checks that no promise is broken by it.
    pub(crate) fn commit(&mut self, writes: Vec<Write>) {
        let mut ended = Vec::new();
        for write in writes {
            match write {
                Write::PutTask(row) => {
                    if let Some(before) = self.tasks.get(&row.id).filter(|row| row.state().is_terminal()) {
                        assert_eq!(before.phase, row.phase, "{} left its end", row.id);
                    }
                    assert!(row.attempt.0 >= row.past.len() as u32, "{row:?}");
                    self.tasks.insert(row.id, *row);
                }
                Write::PutLastToken { board, token } => {
                    let before = self.tokens.insert(board, token);
                    assert!(before < Some(token), "token {token} after {before:?}");
                }
                Write::RecordRun { task, verdict, .. } => {
                    let before = self.runs.insert(task, verdict);
                    assert!(before.is_none(), "{task} recorded twice");
                    ended.push(task);
                }
                Write::SetAside { lease, .. } => self.aside.push(lease),
                Write::PutBoard(_) | Write::PutDrained { .. } | Write::PutEstimate(_) => {}
            }
        }
        for task in ended {
            assert!(self.tasks[&task].state().is_terminal(), "{task} has a run and goes on");
        }
        let leases = self.tasks.values().filter_map(TaskRow::lease);
        let mut boards: Vec<_> = leases.map(|lease| &lease.board).collect();
        let all = boards.len();
        boards.sort();
        boards.dedup();
        assert_eq!(boards.len(), all, "two leases on a board");
    }
}

pub(crate) struct Coordinator {
    pub(crate) epoch: Epoch,
    pub(crate) scheduler: Scheduler,
    /// Effects that are not committed yet.
    pub(crate) pending: Effects,
    /// Submissions to acknowledge after the next commit.
    pub(crate) unanswered: Vec<TaskId>,
    pub(crate) commit_due: bool,
    pub(crate) stalled_until: u64,
}

impl Coordinator {
    /// A process starts.
    pub(crate) fn start(store: &mut Store, now: u64, config: Config) -> Self {
        store.epoch += 1;
        let recovered = Recovered {
            tasks: store.tasks.values().cloned().collect(),
            tokens: store.tokens.clone(),
            ..Recovered::default()
        };
        let epoch = Epoch(store.epoch);
        Self {
            epoch,
            scheduler: Scheduler::new(Now(now), config, epoch, recovered).unwrap(),
            pending: Effects::default(),
            unanswered: Vec::new(),
            commit_due: false,
            stalled_until: 0,
        }
    }

    pub(crate) fn step(&mut self, now: u64, event: Event) {
        let effects = self.scheduler.step(Now(now), event);
        self.pending.append(effects);
    }

    pub(crate) fn submit(&mut self, now: u64, tasks: Vec<NewTask>) {
        self.unanswered.extend(tasks.iter().map(|task| task.id));
        self.step(now, Event::Submitted { tasks });
    }
}
