//! What waits for one group of like boards, or for one board by name.

use std::collections::{BTreeMap, BTreeSet};

use std::cmp::Reverse;

use edgeprof_common::{BoardId, Priority, Token};

use super::{
    flow::{FlowKey, FlowRank},
    shape::ShapeId,
};
use crate::placement::ClassId;

/// Where tasks of a shape can run: any board of a class, or a board that they name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    /// Any board of this class.
    Class(ClassId),
    /// This board.
    Board(BoardId),
}

/// Place within a flow: those that lost an attempt, then the order of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Head {
    pub(crate) lane: Reverse<bool>,
    pub(crate) seq: u64,
}

/// Tasks of one flow with one shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub(crate) flow: FlowKey,
    pub(crate) shape: ShapeId,
}

/// Place among all that wait for a spot.
pub(crate) type SpotRank = (FlowRank, Head);

/// The heads of all lanes that can run at one spot, by flow.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpotQueue {
    order: BTreeSet<(FlowRank, FlowKey)>,
    flows: BTreeMap<FlowKey, BTreeSet<(Head, ShapeId)>>,
    /// Attempts that wait behind others and could run here; the last leased, which waits longest, first.
    staged: BTreeSet<Reverse<Token>>,
}

impl SpotQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.staged.is_empty()
    }

    /// What goes first.
    pub(crate) fn peek(&self) -> Option<(SpotRank, LaneKey)> {
        let (rank, flow) = self.order.first()?;
        let (head, shape) = self.flows.get(flow)?.first()?;
        Some(((*rank, *head), LaneKey { flow: flow.clone(), shape: *shape }))
    }

    /// The class of what goes first.
    pub(crate) fn class(&self) -> Option<Priority> {
        self.order.first().map(|(_, flow)| flow.class.0)
    }

    /// A lane's head comes in. True if it is its flow's first here.
    pub(crate) fn add(&mut self, lane: &LaneKey, head: Head, rank: FlowRank) -> bool {
        let heads = self.flows.entry(lane.flow.clone()).or_default();
        let first = heads.is_empty();
        heads.insert((head, lane.shape));
        if first {
            self.order.insert((rank, lane.flow.clone()));
        }
        first
    }

    /// A lane's head goes. True if it was its flow's last here.
    pub(crate) fn drop(&mut self, lane: &LaneKey, head: Head, rank: FlowRank) -> bool {
        let Some(heads) = self.flows.get_mut(&lane.flow) else { return false };
        heads.remove(&(head, lane.shape));
        let last = heads.is_empty();
        if last {
            self.flows.remove(&lane.flow);
            self.order.remove(&(rank, lane.flow.clone()));
        }
        last
    }

    /// A flow's start tag moved.
    pub(crate) fn rerank(&mut self, flow: &FlowKey, before: FlowRank, after: FlowRank) {
        if self.order.remove(&(before, flow.clone())) {
            self.order.insert((after, flow.clone()));
        }
    }

    pub(crate) fn stage(&mut self, token: Token) {
        self.staged.insert(Reverse(token));
    }

    pub(crate) fn unstage(&mut self, token: Token) {
        self.staged.remove(&Reverse(token));
    }

    pub(crate) fn staged(&self) -> impl Iterator<Item = Token> {
        self.staged.iter().map(|token| token.0)
    }
}
