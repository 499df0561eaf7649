//! Tasks under which a worker died: each gets a worker for itself, emptied for it if need be.

use std::collections::BTreeSet;

use edgeprof_common::{BoardHealth, BoardId, Priority, TaskId, WorkerId};

use crate::{
    Effects, Scheduler,
    dispatch::tried,
    placement::Class,
    queue::Spot,
    worker::{Board, Worker},
};

impl Scheduler {
    /// Leases to empty workers, in order; keeps one worker from new work for the first that finds none. Who finds no
    /// worker at all holds up nobody.
    pub(crate) fn place_alone(&mut self, fx: &mut Effects) {
        if !std::mem::take(&mut self.alone_news) {
            return;
        }
        let (mut kept, mut outranked, mut placeless) = (None, false, BTreeSet::new());
        for (class, task, shape) in self.queue.alone().collect::<Vec<_>>() {
            // Where one found no place, the next with the same needs finds none either.
            if placeless.contains(&shape) {
                continue;
            }
            let (able, wanted): (Vec<_>, Vec<_>) =
                self.serving(task).partition(|(_, worker)| !self.wanted_above(worker, class));
            if let Some(board) = self.on_an_empty_worker(task, &able) {
                self.lease(fx, task, &board);
                continue;
            }
            kept = kept.or_else(|| self.emptiest(&able));
            outranked |= !wanted.is_empty();
            placeless.insert(shape);
        }
        self.keep_for_alone(kept);
        // What outranks it is looked at again after each step.
        self.alone_news = outranked;
    }

    fn keep_for_alone(&mut self, worker: Option<WorkerId>) {
        if self.kept_for_alone == worker {
            return;
        }
        let before = std::mem::replace(&mut self.kept_for_alone, worker.clone());
        for worker in [before, worker].into_iter().flatten() {
            self.refresh(&worker);
        }
    }

    /// Workers with a board that gets tasks and can run this one.
    fn serving(&self, task: TaskId) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        let serves = move |(id, board): (&BoardId, &Board)| self.serves(id, board) && self.able(task, board);
        self.workers.iter().filter(move |(_, worker)| worker.usable() && worker.boards.iter().any(serves))
    }

    fn serves(&self, id: &BoardId, board: &Board) -> bool {
        board.report.health == BoardHealth::Good && !self.kept.contains_key(id)
    }

    /// Whether something of a higher class waits for a board of this worker.
    fn wanted_above(&self, worker: &Worker, class: Priority) -> bool {
        let mut serving = worker.boards.iter().filter(|(id, board)| self.serves(id, board));
        serving.any(|(id, _)| {
            let spots = self.boards.site(id).map(|site| [Spot::Class(site.class), Spot::Board(id.clone())]);
            spots.iter().flatten().any(|spot| self.queue.class_at(spot) > Some(class))
        })
    }

    fn on_an_empty_worker(&self, task: TaskId, able: &[(&WorkerId, &Worker)]) -> Option<BoardId> {
        let (tried, image) = (tried(self.tasks.get(&task)?), self.queue.needs(task)?.0.image.digest);
        let empty = able.iter().filter(|(id, worker)| self.occupied(id, worker) == 0);
        let vacant = empty
            .flat_map(|(_, worker)| worker.boards.iter())
            .filter(|(id, board)| board.vacant() && self.serves(id, board) && self.able(task, board));
        let cost = |(id, board): &(&BoardId, &Board)| {
            (tried.contains(*id), board.loaded != Some(image), (*id).clone())
        };
        vacant.min_by_key(cost).map(|(id, _)| id.clone())
    }

    /// The worker on which a task will soonest be alone: the one with least to do. One that is kept already stays so.
    fn emptiest(&self, able: &[(&WorkerId, &Worker)]) -> Option<WorkerId> {
        let busy = able.iter().filter(|(id, worker)| self.occupied(id, worker) > 0);
        let cost = |(id, worker): &&(&WorkerId, &Worker)| {
            (self.kept_for_alone.as_ref() != Some(*id), self.occupied(id, worker))
        };
        busy.min_by_key(cost).map(|(id, _)| (*id).clone())
    }

    fn able(&self, task: TaskId, board: &Board) -> bool {
        let shape = self.queue.needs(task).map(|(shape, _)| shape);
        shape.is_some_and(|shape| shape.able(&board.report.id, &Class::of(&board.report)))
    }

    fn occupied(&self, id: &WorkerId, worker: &Worker) -> usize {
        self.attempts.count_on(id) + usize::from(worker.has_strangers())
    }
}
