//! Tasks that wait for a board: fair between submitters within a class, in order within a submitter.
//!
//! A task waits in a *lane*: its flow (class and submitter) and its shape (what it needs). The head of each lane is
//! registered at every *spot* where it can run, so that a board with room finds the next task in a few looks,
//! however many wait.

mod ageing;
mod flow;
mod places;
mod shape;
mod spot;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use edgeprof_common::{BoardId, Priority, TaskId, Token};

pub(crate) use self::{
    flow::Charged,
    shape::{Shape, ShapeId},
    spot::Spot,
};
use self::{
    flow::{FlowKey, Flows},
    shape::Shapes,
    spot::{Head, LaneKey, SpotQueue, SpotRank},
};
use crate::{
    Now, TaskRow,
    placement::{Boards, Class, ClassId},
};

/// A task that waits.
#[derive(Clone, Debug)]
struct Wait {
    flow: FlowKey,
    shape: ShapeId,
    head: Head,
    alone: bool,
    since: Now,
}

/// Tasks that wait in one lane, or alone.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) class: Priority,
    pub(crate) spots: &'a BTreeSet<Spot>,
    pub(crate) depth: usize,
    /// Since when its first task waits.
    pub(crate) since: Now,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    shapes: Shapes,
    flows: Flows,
    lanes: BTreeMap<LaneKey, BTreeMap<Head, TaskId>>,
    spots: BTreeMap<Spot, SpotQueue>,
    waits: BTreeMap<TaskId, Wait>,
    /// Since when tasks wait, in each class but the highest.
    ages: BTreeMap<Priority, BTreeSet<(Now, TaskId)>>,
    /// Classes of tasks that waited so long that they moved up.
    aged: BTreeMap<TaskId, Priority>,
    /// Tasks that share a worker with no other.
    alone: BTreeSet<(Reverse<Priority>, Head, TaskId)>,
    /// Where there is something that was not there at the last look.
    news: BTreeSet<Spot>,
}

impl Queue {
    pub(crate) fn new(weights: &BTreeMap<String, u32>) -> Self {
        Self { flows: Flows::new(weights), ..Self::default() }
    }

    /// Adds a task; one that is not prepared does not wait here.
    pub(crate) fn insert(&mut self, row: &TaskRow, boards: &Boards, now: Now) {
        let Some(image) = row.standing.image.clone() else { return };
        let shape = self.shapes.intern(Shape { requirement: row.requirement.clone(), image }, boards);
        let class = self.aged.get(&row.id).copied().unwrap_or(row.priority);
        let flow = self.flows.key(class, &row.submitter);
        let head = Head { lane: Reverse(row.standing.front), seq: row.seq };
        self.wait(row.id, Wait { flow, shape, head, alone: row.standing.alone(), since: now });
    }

    fn wait(&mut self, task: TaskId, wait: Wait) {
        let class = wait.flow.class;
        self.flows.enter(&wait.flow, wait.head.lane.0, wait.head.seq);
        if class.0 < Priority::Critical {
            self.ages.entry(class.0).or_default().insert((wait.since, task));
        }
        if wait.alone {
            self.alone.insert((class, wait.head, task));
            if let Some(kept) = self.shapes.get_mut(wait.shape) {
                kept.alone += 1;
            }
        } else {
            let lane = LaneKey { flow: wait.flow.clone(), shape: wait.shape };
            self.enter_lane(&lane, wait.head, task);
        }
        self.waits.insert(task, wait);
    }

    /// Takes a task out.
    pub(crate) fn remove(&mut self, task: TaskId) {
        if let Some(wait) = self.take(task) {
            self.shapes.tidy(wait.shape);
        }
    }

    fn take(&mut self, task: TaskId) -> Option<Wait> {
        let wait = self.waits.remove(&task)?;
        let class = wait.flow.class;
        if let Some(ages) = self.ages.get_mut(&class.0) {
            ages.remove(&(wait.since, task));
        }
        if wait.alone {
            self.alone.remove(&(class, wait.head, task));
            if let Some(kept) = self.shapes.get_mut(wait.shape) {
                kept.alone -= 1;
            }
        } else {
            let lane = LaneKey { flow: wait.flow.clone(), shape: wait.shape };
            self.leave_lane(&lane, wait.head);
        }
        self.flows.leave(&wait.flow, wait.head.lane.0, wait.head.seq);
        Some(wait)
    }

    /// The task ended: nothing of it is remembered.
    pub(crate) fn forget(&mut self, task: TaskId) {
        self.aged.remove(&task);
    }

    /// Charges a task that waits to its submitter, in µs of board time, and takes it out.
    pub(crate) fn serve(&mut self, task: TaskId, cost: u64) -> Option<Charged> {
        let flow = self.waits.get(&task)?.flow.clone();
        let before = self.flows.rank(&flow)?;
        let charged = self.flows.charge(&flow, cost);
        self.rerank(&flow, before);
        self.remove(task);
        charged
    }

    /// What a lease cost is known now.
    pub(crate) fn correct(&mut self, charged: Charged, actual: u64) {
        let before = self.flows.rank(charged.flow());
        let flow = self.flows.correct(charged, actual);
        if let Some(before) = before {
            self.rerank(&flow, before);
        }
    }

    fn rerank(&mut self, flow: &FlowKey, before: flow::FlowRank) {
        let Some(after) = self.flows.rank(flow).filter(|after| *after != before) else { return };
        for spot in self.flows.get(flow).into_iter().flat_map(|flow| &flow.present) {
            if let Some(queue) = self.spots.get_mut(spot) {
                queue.rerank(flow, before, after);
            }
        }
    }

    fn enter_lane(&mut self, key: &LaneKey, head: Head, task: TaskId) {
        let lane = self.lanes.entry(key.clone()).or_default();
        let before = lane.first_key_value().map(|(head, _)| *head);
        lane.insert(head, task);
        if before.is_some_and(|before| before < head) {
            return;
        }
        let Some(kept) = self.shapes.get_mut(key.shape) else { return };
        kept.lanes.insert(key.flow.clone());
        for spot in kept.spots.clone() {
            if let Some(before) = before {
                self.hide(key, before, &spot);
            }
            self.show(key, head, &spot);
        }
    }

    fn leave_lane(&mut self, key: &LaneKey, head: Head) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let first = lane.first_key_value().is_some_and(|(first, _)| *first == head);
        lane.remove(&head);
        let next = lane.first_key_value().map(|(head, _)| *head);
        if !first {
            return;
        }
        let Some(kept) = self.shapes.get_mut(key.shape) else { return };
        if next.is_none() {
            self.lanes.remove(key);
            kept.lanes.remove(&key.flow);
        }
        for spot in kept.spots.clone() {
            // In this order, so that the flow does not leave the spot for a moment.
            if let Some(next) = next {
                self.show(key, next, &spot);
            }
            self.hide(key, head, &spot);
        }
    }

    /// Registers a lane's head at a spot.
    fn show(&mut self, lane: &LaneKey, head: Head, spot: &Spot) {
        let Some(rank) = self.flows.rank(&lane.flow) else { return };
        if self.spots.entry(spot.clone()).or_default().add(lane, head, rank)
            && let Some(present) = self.flows.present(&lane.flow)
        {
            present.insert(spot.clone());
        }
        self.news.insert(spot.clone());
    }

    fn hide(&mut self, lane: &LaneKey, head: Head, spot: &Spot) {
        let Some(rank) = self.flows.rank(&lane.flow) else { return };
        let Some(queue) = self.spots.get_mut(spot) else { return };
        if queue.drop(lane, head, rank)
            && let Some(present) = self.flows.present(&lane.flow)
        {
            present.remove(spot);
        }
        if queue.is_empty() {
            self.spots.remove(spot);
        }
    }

    /// A board of a spot has room.
    pub(crate) fn room_at(&mut self, spot: Spot) {
        if self.spots.contains_key(&spot) {
            self.news.insert(spot);
        }
    }

    /// The first task of all that can run where something is new and there is room.
    pub(crate) fn next(&mut self, room: impl Fn(&Spot) -> bool) -> Option<TaskId> {
        let mut best: Option<(SpotRank, LaneKey)> = None;
        let spots = &self.spots;
        self.news.retain(|spot| {
            let found = spots.get(spot).and_then(SpotQueue::peek).filter(|_| room(spot));
            let keep = found.is_some();
            if let Some(found) = found
                && best.as_ref().is_none_or(|best| found.0 < best.0)
            {
                best = Some(found);
            }
            keep
        });
        let (_, lane) = best?;
        self.lanes.get(&lane)?.first_key_value().map(|(_, task)| *task)
    }

    /// Tasks that must be alone, the first first, each with its class and its needs.
    pub(crate) fn alone(&self) -> impl Iterator<Item = (Priority, TaskId, ShapeId)> {
        let one = |(class, _, task): &(Reverse<Priority>, Head, TaskId)| {
            Some((class.0, *task, self.waits.get(task)?.shape))
        };
        self.alone.iter().filter_map(one)
    }

    /// The highest class of what waits for a spot and has a lane.
    pub(crate) fn class_at(&self, spot: &Spot) -> Option<Priority> {
        self.spots.get(spot)?.class()
    }

    /// Everything that waits, line by line.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let lanes = self.lanes.values().filter_map(|lane| Some((lane.first_key_value()?.1, lane.len())));
        let alone = self.alone.iter().map(|(_, _, task)| (task, 1));
        lanes.chain(alone).filter_map(|(first, depth)| {
            let wait = self.waits.get(first)?;
            let spots = &self.shapes.get(wait.shape)?.spots;
            Some(Line { class: wait.flow.class.0, spots, depth, since: wait.since })
        })
    }

    /// What a task that waits needs, and where that is.
    pub(crate) fn needs(&self, task: TaskId) -> Option<(&Shape, &BTreeSet<Spot>)> {
        let kept = self.shapes.get(self.waits.get(&task)?.shape)?;
        Some((&*kept.shape, &kept.spots))
    }

    /// How many tasks go before one that waits, likely; `cost` is the usual board time of a task in µs.
    pub(crate) fn ahead(&self, task: TaskId, cost: u64) -> Option<usize> {
        let wait = self.waits.get(&task)?;
        let flow = self.flows.get(&wait.flow)?;
        let own = if wait.head.lane.0 {
            flow.front.before(wait.head.seq)
        } else {
            flow.front.len() + flow.rest.before(wait.head.seq)
        };
        Some(self.flows.above(wait.flow.class) + self.flows.ahead(&wait.flow, own, cost))
    }

    /// An attempt waits behind another: boards of its task's spots may ask for it.
    pub(crate) fn stage(&mut self, task: TaskId, token: Token) -> Option<ShapeId> {
        let shape = self.waits.get(&task)?.shape;
        let kept = self.shapes.get_mut(shape)?;
        kept.staged.insert(token);
        for spot in &kept.spots {
            self.spots.entry(spot.clone()).or_default().stage(token);
        }
        Some(shape)
    }

    pub(crate) fn unstage(&mut self, shape: ShapeId, token: Token) {
        let Some(kept) = self.shapes.get_mut(shape) else { return };
        kept.staged.remove(&token);
        for spot in &kept.spots {
            if let Some(queue) = self.spots.get_mut(spot) {
                queue.unstage(token);
                if queue.is_empty() {
                    self.spots.remove(spot);
                }
            }
        }
        self.shapes.tidy(shape);
    }

    /// Attempts that wait elsewhere and could run at a spot, those that wait longest first.
    pub(crate) fn staged(&self, spot: &Spot) -> impl Iterator<Item = Token> {
        self.spots.get(spot).into_iter().flat_map(SpotQueue::staged)
    }

    /// Boards of a new class are there.
    pub(crate) fn class_came(&mut self, id: ClassId, class: &Class) {
        for shape in self.shapes.fitting(class) {
            self.open_spot(shape, &Spot::Class(id));
        }
    }

    /// The last board of a class is gone.
    pub(crate) fn class_gone(&mut self, id: ClassId) {
        let spot = Spot::Class(id);
        for shape in self.shapes.at(&spot) {
            self.close_spot(shape, &spot);
        }
    }

    /// A board came, changed its class, or is gone.
    pub(crate) fn board_is(&mut self, board: &BoardId, class: Option<&Class>) {
        let spot = Spot::Board(board.clone());
        for (shape, fits) in self.shapes.naming(board, class) {
            let known = self.shapes.get(shape).is_some_and(|kept| kept.spots.contains(&spot));
            match (known, fits) {
                (false, true) => self.open_spot(shape, &spot),
                (true, false) => self.close_spot(shape, &spot),
                _ => {}
            }
        }
    }

    fn open_spot(&mut self, shape: ShapeId, spot: &Spot) {
        let Some(kept) = self.shapes.get_mut(shape) else { return };
        kept.spots.insert(spot.clone());
        let (lanes, staged) = (kept.lanes.clone(), kept.staged.clone());
        for token in staged {
            self.spots.entry(spot.clone()).or_default().stage(token);
        }
        for (lane, head) in self.heads(shape, lanes) {
            self.show(&lane, head, spot);
        }
    }

    fn close_spot(&mut self, shape: ShapeId, spot: &Spot) {
        let Some(kept) = self.shapes.get_mut(shape) else { return };
        kept.spots.remove(spot);
        let (lanes, staged) = (kept.lanes.clone(), kept.staged.clone());
        for (lane, head) in self.heads(shape, lanes) {
            self.hide(&lane, head, spot);
        }
        let Some(queue) = self.spots.get_mut(spot) else { return };
        for token in staged {
            queue.unstage(token);
        }
        if queue.is_empty() {
            self.spots.remove(spot);
        }
    }

    fn heads(&self, shape: ShapeId, flows: BTreeSet<FlowKey>) -> Vec<(LaneKey, Head)> {
        let head = |flow| {
            let lane = LaneKey { flow, shape };
            let (head, _) = self.lanes.get(&lane)?.first_key_value()?;
            Some((lane, *head))
        };
        flows.into_iter().filter_map(head).collect()
    }
}
