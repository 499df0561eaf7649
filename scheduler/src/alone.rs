//! Tasks under which a worker died: each gets a worker for itself, emptied for it if need be.

use edgeprof_common::{BoardHealth, BoardId, TaskId, WorkerId};

use crate::{
    Effects, Scheduler,
    dispatch::tried,
    placement::Class,
    worker::{Board, Worker},
};

impl Scheduler {
    /// Leases to empty workers, in order; keeps one worker from new work for the first that finds none.
    pub(crate) fn place_alone(&mut self, fx: &mut Effects) {
        while std::mem::take(&mut self.alone_news) {
            let Some((class, task)) = self.queue.first_alone() else { return self.keep_for_alone(None) };
            if self.queue.outranked(task, class) {
                self.alone_news = true;
                return;
            }
            let Some(board) = self.on_an_empty_worker(task) else {
                let worker = self.emptiest(task);
                return self.keep_for_alone(worker);
            };
            self.keep_for_alone(None);
            self.lease(fx, task, &board);
            self.alone_news = true;
        }
    }

    fn keep_for_alone(&mut self, worker: Option<WorkerId>) {
        if self.kept_for_alone == worker {
            return;
        }
        let before = std::mem::replace(&mut self.kept_for_alone, worker.clone());
        for worker in [before, worker].into_iter().flatten() {
            self.refresh(&worker);
        }
        self.alone_news = false;
    }

    fn on_an_empty_worker(&self, task: TaskId) -> Option<BoardId> {
        let (tried, image) = (tried(self.tasks.get(&task)?), self.queue.needs(task)?.0.image.digest);
        let empty =
            self.workers.iter().filter(|(id, worker)| worker.usable() && self.occupied(id, worker) == 0);
        let vacant = empty
            .flat_map(|(_, worker)| worker.boards.iter())
            .filter(|(id, board)| board.vacant() && !self.kept.contains_key(*id) && self.able(task, board));
        let cost = |(id, board): &(&BoardId, &Board)| {
            (tried.contains(*id), board.loaded != Some(image), (*id).clone())
        };
        vacant.min_by_key(cost).map(|(id, _)| id.clone())
    }

    /// The worker on which the task will soonest be alone: of those that have a board for it, the one with least
    /// to do. One that is kept already stays so.
    fn emptiest(&self, task: TaskId) -> Option<WorkerId> {
        let fits = |worker: &Worker| {
            let serves = |(id, board): (&BoardId, &Board)| {
                let good = board.report.health == BoardHealth::Good && !self.kept.contains_key(id);
                good && self.able(task, board)
            };
            worker.usable() && worker.boards.iter().any(serves)
        };
        let busy = self.workers.iter().filter(|(id, worker)| self.occupied(id, worker) > 0 && fits(worker));
        let cost = |(id, worker): &(&WorkerId, &Worker)| {
            (self.kept_for_alone.as_ref() != Some(*id), self.occupied(id, worker))
        };
        busy.min_by_key(cost).map(|(id, _)| id.clone())
    }

    fn able(&self, task: TaskId, board: &Board) -> bool {
        let shape = self.queue.needs(task).map(|(shape, _)| shape);
        shape.is_some_and(|shape| shape.able(&board.report.id, &Class::of(&board.report)))
    }

    fn occupied(&self, id: &WorkerId, worker: &Worker) -> usize {
        self.attempts.count_on(id) + usize::from(worker.has_strangers())
    }
}
