//! Once faults are over, nothing idles that somebody waits for.

use std::collections::{BTreeMap, BTreeSet};

use edgeprof_common::{BoardId, TaskId, TaskState, WorkerId};
use edgeprof_scheduler::TaskRow;

use super::{
    super::{
        board::Board,
        life::Life,
        log::{Violation, violation},
        worker::Worker,
    },
    Checks, Said,
};

/// Seconds for which a board may be idle though a task waits that it could run.
const IDLE_SECONDS: u32 = 12;

/// Seconds for which a task may wait for a worker to itself. What has to end there first may hang, board by board and
/// attempt by attempt, until its deadline has passed and a cancel is not answered; then the board proves itself.
const ALONE_SECONDS: u32 = 600;

/// For how many seconds, one after the other.
#[derive(Default)]
pub(super) struct Idle {
    /// A board is idle though work waits.
    boards: BTreeMap<BoardId, u32>,
    /// A task waits to be alone on a worker that is there.
    alone: BTreeMap<TaskId, u32>,
}

/// A board that could run something at once, and what waits for it.
struct Vacancy<'a> {
    board: &'a BoardId,
    worker: &'a WorkerId,
    waits: Option<TaskId>,
    /// It may be kept from others until its worker is empty.
    may_be_kept: bool,
}

fn able(row: &TaskRow, board: &Board) -> bool {
    row.requirement.meets(&board.id, board.kind, &BTreeMap::new())
}

impl Checks {
    /// A second after the last look.
    pub(crate) fn sample(&mut self, life: &Life, workers: &[Worker]) -> Result<(), Violation> {
        let said = self.said.entry(life.id).or_default();
        let tasks =
            life.scheduler.jobs().flat_map(|(job, _)| life.scheduler.tasks_of(job)).map(|task| task.row);
        let queued = tasks.filter(|row| row.state() == TaskState::Queued && row.standing.image.is_some());
        let (alone, others): (Vec<_>, Vec<_>) = queued.partition(|row| row.standing.alone());
        let vacancies = vacancies(life, workers, said, &alone, &others);
        self.idle.boards(&vacancies)?;
        let reached = |row: &&&TaskRow| {
            let there =
                workers.iter().enumerate().filter(|(index, worker)| reached(life, *index, worker, said));
            there.flat_map(|(_, worker)| &worker.boards).any(|board| open(board, said) && able(row, board))
        };
        self.idle.alone(alone.iter().filter(reached).map(|row| row.id).collect())
    }
}

fn reached(life: &Life, index: usize, worker: &Worker, said: &Said) -> bool {
    worker.up
        && worker.stopping.is_none()
        && life.linked.contains_key(&index)
        && !said.drained.contains(&worker.id)
}

fn open(board: &Board, said: &Said) -> bool {
    let kept = said.boards.get(&board.id);
    kept.is_none_or(|row| row.mark.is_none() && row.suspicion.is_none())
}

fn vacancies<'a>(
    life: &Life,
    workers: &'a [Worker],
    said: &Said,
    alone: &[&TaskRow],
    others: &[&TaskRow],
) -> Vec<Vacancy<'a>> {
    // A task that must be alone has its worker until that shows that it has ended.
    let must = |id: TaskId| life.scheduler.task(id).is_some_and(|task| task.row.standing.alone());
    let occupied = life.scheduler.boards().filter(|board| board.occupant.is_some_and(|one| must(one.task)));
    let taken: BTreeSet<WorkerId> = occupied.map(|board| board.worker.clone()).collect();
    let mut found = Vec::new();
    for (index, worker) in workers.iter().enumerate() {
        if !reached(life, index, worker, said) || taken.contains(&worker.id) {
            continue;
        }
        let empty = worker.boards.iter().all(Board::vacant);
        let mut here = worker.boards.iter().filter(|board| open(board, said));
        let may_be_kept = !empty && here.any(|board| alone.iter().any(|row| able(row, board)));
        for board in worker.boards.iter().filter(|board| open(board, said) && board.vacant()) {
            let rows = others.iter().chain(alone.iter().filter(|_| empty));
            let waits = rows.filter(|row| able(row, board)).map(|row| row.id).next();
            found.push(Vacancy { board: &board.id, worker: &worker.id, waits, may_be_kept });
        }
    }
    found
}

impl Idle {
    fn boards(&mut self, vacancies: &[Vacancy<'_>]) -> Result<(), Violation> {
        let kept = vacancies.iter().filter(|vacancy| vacancy.may_be_kept && vacancy.waits.is_some());
        // One worker at a time is kept for a task that must be alone.
        let kept: BTreeSet<&WorkerId> = kept.map(|vacancy| vacancy.worker).collect();
        let mut before = std::mem::take(&mut self.boards);
        for Vacancy { board, worker, waits, may_be_kept } in vacancies {
            let Some(task) = waits.filter(|_| !(*may_be_kept && kept.len() == 1)) else { continue };
            let seconds = before.remove(*board).unwrap_or(0) + 1;
            self.boards.insert((*board).clone(), seconds);
            if seconds >= IDLE_SECONDS {
                let what = format!("{board} idles for {seconds} s while {task} waits");
                return Err(violation(what, board).and(worker));
            }
        }
        Ok(())
    }

    fn alone(&mut self, waiting: BTreeSet<TaskId>) -> Result<(), Violation> {
        self.alone.retain(|task, _| waiting.contains(task));
        for task in waiting {
            let seconds = self.alone.entry(task).or_default();
            *seconds += 1;
            if *seconds >= ALONE_SECONDS {
                let what = format!("{task} waits for {seconds} s to be alone on a worker");
                return Err(violation(what, &task));
            }
        }
        Ok(())
    }
}
