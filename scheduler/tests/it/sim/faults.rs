//! What goes wrong.

use super::lab::{Ev, Lab};

impl Lab {
    pub(super) fn fault(&mut self) {
        if self.now >= self.plan.faults_until {
            return;
        }
        let wait = self.rng.between(200, 6000);
        self.at(wait, Ev::Fault);
        let index = self.rng.between(0, self.workers.len() as u64 - 1) as usize;
        match self.rng.between(0, 9) {
            0..=2 => {
                if self.coordinator.take().is_some() {
                    self.streams.clear();
                    self.linked.clear();
                    self.workers.iter_mut().for_each(|worker| worker.session = None);
                    let wait = self.rng.between(10, 5000);
                    self.at(wait, Ev::CoordinatorStarts);
                }
            }
            3 if self.workers[index].up => self.crash_worker(index),
            4..=5 => {
                if let Some(session) = self.workers[index].session {
                    self.break_stream(session);
                }
            }
            6 => {
                let cut = self.rng.between(500, 20_000);
                self.workers[index].cut_until = self.now + cut;
                self.at(cut, Ev::CutOver(index));
            }
            7 => {
                let cut = self.rng.between(500, 20_000);
                for index in 0..self.workers.len() {
                    self.workers[index].cut_until = self.now + cut;
                    self.at(cut, Ev::CutOver(index));
                }
            }
            8 => self.workers[index].frozen_until = self.now + self.rng.between(500, 15_000),
            _ => {
                let by = self.rng.between(500, 20_000);
                if let Some(coordinator) = self.coordinator.as_mut()
                    && coordinator.stalled_until <= self.now
                {
                    coordinator.stalled_until = self.now + by;
                    let epoch = coordinator.epoch;
                    self.at(by, Ev::StallOver(epoch, by));
                }
            }
        }
    }

    pub(super) fn crash_worker(&mut self, index: usize) {
        let session = self.workers[index].session;
        self.workers[index].crash();
        if let Some(session) = session {
            self.break_stream(session);
        }
        let wait = self.rng.between(100, 12_000);
        self.at(wait, Ev::WorkerStarts(index));
    }
}
