//! Who is in the lab, and what clients ask of it.

use edgeprof_common::{BoardId, TaskId};
use edgeprof_scheduler::{Event, Requirement};

use super::{Ev, Lab, store::Store, work, worker::Worker};

/// Number of the first task that comes late, and of its job: behind all others.
const LATE: u64 = 200;
const LATE_JOB: u64 = 50;

impl Lab {
    /// Labs with their stores, coordinators, workers and jobs.
    pub(super) fn prepare(&mut self) {
        let clusters = self.rng.between(1, self.plan.clusters as u64) as usize;
        for cluster in 0..clusters {
            for n in 0..self.rng.between(self.plan.workers, 5) {
                let name = format!("w{cluster}{n}");
                let rng = &mut self.rng;
                let boards = ["m4", "m3", "m4"].map(|kind| (kind, rng.between(0, 3) as u32));
                let boards = &boards[..rng.between(1, 3) as usize];
                self.workers.push(Worker::new((cluster, &name), boards, !self.plan.only_good, rng));
            }
        }
        self.power_on(clusters);
        for cluster in 0..clusters {
            self.jobs(cluster);
        }
    }

    /// Every coordinator and worker starts.
    pub(super) fn power_on(&mut self, clusters: usize) {
        for index in 0..self.workers.len() {
            let incarnation = self.workers[index].incarnation;
            self.at(10, Ev::BeatBack(index, incarnation));
        }
        for cluster in 0..clusters {
            self.stores.push(Store::default());
            self.official.push(cluster);
            self.serving.push(None);
            self.start_life(cluster, cluster);
        }
        self.at(500, Ev::Fault);
        if let Some(at) = self.plan.late() {
            self.at(at, Ev::LateJobs);
        }
        self.at(1000, Ev::Sample);
    }

    fn jobs(&mut self, cluster: usize) {
        let mine = self.workers.iter().filter(|worker| worker.cluster == cluster);
        let boards: Vec<BoardId> = mine.flat_map(|w| w.boards.iter().map(|board| board.id.clone())).collect();
        let mut number = 0;
        for job in 1..=self.rng.between(1, 4) {
            let mut ids = Vec::new();
            for _ in 0..self.rng.between(1, 10) {
                let work = work::random(&mut self.rng, (cluster, number, job), self.plan.only_good, &boards);
                number += 1;
                ids.push(work.new.id);
                if self.rng.chance(60) && !self.plan.only_good {
                    let at = self.rng.between(1, 50_000);
                    self.at(at, Ev::Cancel(work.new.id));
                }
                self.works.insert(work.new.id, work);
            }
            let at = self.rng.between(0, 40_000);
            self.at(at, Ev::Submit(ids));
        }
    }

    /// When faults are over and what they broke is mended, new work comes: for each board that is left, and for any.
    /// By then most of the old has ended, and a board that nobody thinks of any more would not be missed.
    pub(super) fn late_jobs(&mut self) {
        for cluster in 0..self.official.len() {
            let left = self.workers.iter().filter(|worker| worker.cluster == cluster && !worker.gone);
            let boards: Vec<BoardId> =
                left.flat_map(|worker| worker.boards.iter().map(|board| board.id.clone())).collect();
            let mut ids = Vec::new();
            for (number, board) in (LATE..).zip(&boards) {
                for (number, requirement) in
                    [(number, Requirement::board(board.clone())), (number + LATE / 2, Requirement::default())]
                {
                    let mut work = work::random(&mut self.rng, (cluster, number, LATE_JOB), true, &boards);
                    work.new.requirement = requirement;
                    ids.push(work.new.id);
                    self.works.insert(work.new.id, work);
                }
            }
            if !ids.is_empty() {
                self.submit(ids);
            }
        }
    }

    /// A client submits until it is told that its tasks are accepted.
    pub(super) fn submit(&mut self, ids: Vec<TaskId>) {
        let cluster = self.works[&ids[0]].cluster;
        let id = self.serving[cluster].filter(|id| self.lives[id.0].up);
        if ids.iter().all(|task| self.checks.accepted.contains(task)) {
            return;
        }
        if let Some(id) = id {
            let tasks: Vec<_> = ids.iter().map(|task| self.works[task].new.clone()).collect();
            self.log.line(self.now, || format!("a client submits {ids:?} to {id}"));
            for task in &ids {
                self.usage.submitted.entry(*task).or_insert(self.now);
            }
            for task in tasks.iter().filter(|task| task.image.is_none()) {
                let wait = self.rng.between(1, 3000);
                self.at(wait, Ev::Ready(id, task.id));
            }
            self.step(id, Event::Submitted { tasks: tasks.clone() });
            let life = &mut self.lives[id.0];
            let submitted = life.submitted(&tasks);
            life.pending.submitted.extend(submitted);
            self.after_step(id);
        }
        self.at(2000, Ev::Submit(ids));
    }

    /// A person cancels a task's job, and again until a coordinator is there.
    pub(super) fn cancel(&mut self, task: TaskId) {
        match self.serving[self.works[&task].cluster].filter(|id| self.lives[id.0].up) {
            Some(id) => {
                self.log.line(self.now, || format!("a client cancels the job of {task} at {id}"));
                let job = self.works[&task].new.job;
                let of_it = self.works.values().filter(|work| work.new.job == job).map(|work| work.new.id);
                self.checks.cancelled.extend(of_it);
                self.step(id, Event::CancelJob { job });
            }
            None => self.at(1000, Ev::Cancel(task)),
        }
    }
}
