//! Tasks that wait for a board, by what they need and in the order in which they go.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgeprof_common::{Priority, TaskId};

use crate::{Image, Requirement, TaskRow};

/// What tasks need, so that those with the same needs are looked at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) requirement: Requirement,
    pub(crate) image: Image,
    /// Shares a worker with no other task, because a worker died under it.
    pub(crate) alone: bool,
}

impl Shape {
    /// The shape of a prepared task.
    pub(crate) fn of(row: &TaskRow) -> Option<Self> {
        let image = row.image.clone()?;
        Some(Self { requirement: row.requirement.clone(), image, alone: row.deaths > 0 })
    }
}

/// Place in the queue: class, then those that lost an attempt, then order of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    class: Reverse<Priority>,
    lane: Reverse<bool>,
    seq: u64,
    pub(crate) task: TaskId,
}

impl Rank {
    pub(crate) const fn of(row: &TaskRow) -> Self {
        Self { class: Reverse(row.priority), lane: Reverse(row.front), seq: row.seq, task: row.id }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    shapes: BTreeMap<Arc<Shape>, BTreeSet<Rank>>,
}

impl Queue {
    /// Adds a task; one that is not prepared does not wait here.
    pub(crate) fn insert(&mut self, row: &TaskRow) -> bool {
        let Some(shape) = Shape::of(row) else { return false };
        self.shapes.entry(Arc::new(shape)).or_default().insert(Rank::of(row))
    }

    /// Takes a task out. Its row must be as it was when it was added.
    pub(crate) fn remove(&mut self, row: &TaskRow) {
        let Some(shape) = Shape::of(row) else { return };
        let Some(ranks) = self.shapes.get_mut(&shape) else { return };
        ranks.remove(&Rank::of(row));
        if ranks.is_empty() {
            self.shapes.remove(&shape);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shapes.is_empty()
    }

    /// The first of every shape, in the order in which they go.
    pub(crate) fn heads(&self) -> BTreeMap<Rank, Arc<Shape>> {
        let head = |(shape, ranks): (&Arc<Shape>, &BTreeSet<Rank>)| Some((*ranks.first()?, shape.clone()));
        self.shapes.iter().filter_map(head).collect()
    }

    /// The first of one shape.
    pub(crate) fn head(&self, shape: &Shape) -> Option<Rank> {
        self.shapes.get(shape)?.first().copied()
    }

    /// How many go before it.
    pub(crate) fn ahead(&self, rank: Rank) -> usize {
        self.shapes.values().map(|ranks| ranks.range(..rank).count()).sum()
    }
}
