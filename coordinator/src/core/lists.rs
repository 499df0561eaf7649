//! Workers and boards, as clients see them.

use std::{collections::BTreeSet, sync::Arc};

use edgeprof_common::{BoardId, WorkerHealth, WorkerId};
use edgeprof_proto::v1;
use edgeprof_scheduler::{BoardView, Mark, WorkerView};

use super::{Core, sessions::Target};
use crate::{
    shown::{clip, millis},
    submit::Present,
};

impl Core {
    /// Boards of workers that live. One that restarts is there: it takes work in a moment. The list is made anew when
    /// something became of a worker or a board.
    pub(super) fn present(&mut self) -> Arc<[Present]> {
        if let Some(known) = &self.present {
            return known.clone();
        }
        let dead = self.scheduler.workers().filter(|worker| worker.health == WorkerHealth::Dead);
        let dead: BTreeSet<_> = dead.map(|worker| worker.id).collect();
        let present: Arc<[Present]> = self
            .scheduler
            .boards()
            .filter(|board| !dead.contains(board.worker))
            .map(|board| Present {
                id: board.report.id.clone(),
                kind: board.report.kind.clone(),
                labels: board.report.labels.clone(),
            })
            .collect();
        self.present = Some(present.clone());
        present
    }

    pub(super) fn board_list(&self) -> Vec<v1::BoardStatus> {
        self.scheduler.boards().map(|board| self.board_status(&board)).collect()
    }

    fn board_status(&self, board: &BoardView<'_>) -> v1::BoardStatus {
        let id = &board.report.id;
        let task = board.occupant.map(|occupant| occupant.task);
        let def = task.and_then(|task| self.defs.get(&task));
        let job = def.map(|def| def.job.to_string());
        let kept = set_aside(board);
        let reserved = kept.mark == Some("reserved");
        v1::BoardStatus {
            id: id.to_string(),
            kind: board.report.kind.clone(),
            worker: board.worker.to_string(),
            health: board.health.to_string(),
            labels: (*board.report.labels).clone().into_iter().collect(),
            task_id: job.is_some().then_some(task).flatten().map(|task| task.to_string()),
            job_id: job,
            firmware_version: self.boards.get(id).and_then(|known| known.firmware_version.clone()),
            reason: kept
                .reason
                .or_else(|| board.report.reason.clone())
                .or_else(|| self.out_of_service(board)),
            mark: kept.mark.map(str::to_owned),
            marked_by: kept.by,
            reserved_ms: reserved.then(|| millis(self.reserved_for(id))),
            scenario: def.map(|def| def.scenario.clone()),
            waiting: clip(board.waiting),
            busy_ms: board.busy_for.map(millis),
        }
    }

    /// Why a board that is good gets no tasks for its worker's sake.
    fn out_of_service(&self, board: &BoardView<'_>) -> Option<String> {
        let worker = board.worker;
        if self.drained.contains(worker) {
            return Some(format!(
                "{worker} is drained; `edgeprof drain {worker} --undo` takes it back into service"
            ));
        }
        None
    }

    /// Where the worker of a board listens.
    pub(super) fn address_of(&self, board: &BoardId) -> Option<String> {
        let board = self.scheduler.boards().find(|known| known.report.id == *board)?;
        Some(self.workers.get(board.worker)?.address.clone())
    }

    pub(super) fn worker_list(&self) -> Vec<v1::WorkerStatus> {
        let mut list: Vec<_> = self.scheduler.workers().map(|view| self.worker_status(&view)).collect();
        let known: BTreeSet<String> = list.iter().map(|status| status.id.clone()).collect();
        let unknown = |target: &&Target| target.worker.as_ref().is_none_or(|id| !known.contains(id.as_str()));
        for target in self.targets.values().filter(unknown) {
            list.push(v1::WorkerStatus {
                id: target.worker.as_ref().map(ToString::to_string).unwrap_or_default(),
                address: target.address.clone(),
                health: "dead".into(),
                epoch: self.parts.identity.life.epoch.0,
                found_by: target.found_by.into(),
                reason: target.reason.clone(),
                draining: target.worker.as_ref().is_some_and(|id| self.drained.contains(id)),
                ..v1::WorkerStatus::default()
            });
        }
        // One that is drained has to be there to be taken back.
        for id in &self.drained {
            if !list.iter().any(|status| status.id == id.as_str()) {
                list.push(self.unfound(id, true));
            }
        }
        list
    }

    /// A worker that was not heard in this life.
    pub(super) fn unfound(&self, id: &WorkerId, draining: bool) -> v1::WorkerStatus {
        v1::WorkerStatus {
            id: id.to_string(),
            health: "dead".into(),
            epoch: self.parts.identity.life.epoch.0,
            reason: Some("it was not found since this coordinator started".into()),
            draining,
            ..v1::WorkerStatus::default()
        }
    }

    fn worker_status(&self, view: &WorkerView<'_>) -> v1::WorkerStatus {
        let known = self.workers.get(view.id);
        let contested = view.contested.then(|| "two machines claim this worker id".to_owned());
        let refused = || {
            let mut targets = self.targets.values().filter(|_| view.session.is_none());
            targets.find(|target| target.worker.as_ref() == Some(view.id))?.reason.clone()
        };
        v1::WorkerStatus {
            id: view.id.to_string(),
            address: known.map(|worker| worker.address.clone()).unwrap_or_default(),
            health: view.health.to_string(),
            boards: clip(view.boards),
            epoch: self.parts.identity.life.epoch.0,
            last_heard_ms: view.silent_for.map(millis),
            version: known.map(|worker| worker.version.clone()).unwrap_or_default(),
            found_by: known.map(|worker| worker.found_by.to_owned()).unwrap_or_default(),
            reason: contested.or_else(refused),
            draining: view.draining,
            attempts: clip(view.attempts),
        }
    }
}

/// Why a board gets no tasks, where that is not its own doing.
#[derive(Default)]
struct SetAside {
    mark: Option<&'static str>,
    by: Option<String>,
    reason: Option<String>,
}

fn set_aside(board: &BoardView<'_>) -> SetAside {
    let Some(kept) = board.kept else { return SetAside::default() };
    match (&kept.mark, &kept.suspicion) {
        (Some(Mark::Quarantined { by, reason }), _) => SetAside {
            mark: Some("quarantined"),
            by: Some(by.clone()),
            reason: Some(reason.clone()).filter(|reason| !reason.is_empty()),
        },
        (Some(Mark::Reserved { by, .. }), _) => {
            SetAside { mark: Some("reserved"), by: Some(by.clone()), reason: None }
        }
        (None, Some(suspicion)) => {
            SetAside { mark: Some("suspected"), by: None, reason: Some(suspicion.reason.clone()) }
        }
        (None, None) => SetAside::default(),
    }
}
