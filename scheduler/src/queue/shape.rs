//! What tasks need, and which boards that means: worked out once for all tasks with the same needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgeprof_common::{BoardId, Token};

use super::{flow::FlowKey, spot::Spot};
use crate::{
    Image, Requirement, Term,
    placement::{Boards, Class},
};

/// What a task needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) requirement: Requirement,
    pub(crate) image: Image,
}

/// A shape, while something waits that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeId(u64);

impl Shape {
    /// The boards that are named, if it names boards.
    fn named(&self) -> Option<BTreeSet<&BoardId>> {
        let mut terms = self.requirement.terms().iter().filter_map(|term| match term {
            Term::Boards(boards) => Some(boards),
            _ => None,
        });
        let first = terms.next()?;
        let rest: Vec<_> = terms.collect();
        Some(first.iter().filter(|board| rest.iter().all(|boards| boards.contains(*board))).collect())
    }

    /// Whether boards of a class can run it, whatever board it names.
    pub(crate) fn fits(&self, class: &Class) -> bool {
        let mut terms = self.requirement.terms().iter();
        terms.all(|term| term.meets(None, &class.kind, &class.labels))
            && self.image.model_bytes <= class.model_bytes
            && self.image.arena_bytes <= class.arena_bytes
    }

    /// Whether one board can run it.
    pub(crate) fn able(&self, board: &BoardId, class: &Class) -> bool {
        self.fits(class) && self.named().is_none_or(|named| named.contains(board))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) shape: Arc<Shape>,
    pub(crate) spots: BTreeSet<Spot>,
    /// Flows that have a lane of it.
    pub(crate) lanes: BTreeSet<FlowKey>,
    /// Attempts of it that wait behind others.
    pub(crate) staged: BTreeSet<Token>,
    /// Tasks of it that wait and have no lane, because they must be alone.
    pub(crate) alone: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shapes {
    ids: BTreeMap<Arc<Shape>, ShapeId>,
    kept: BTreeMap<ShapeId, Kept>,
    named: BTreeMap<BoardId, BTreeSet<ShapeId>>,
    last: u64,
}

impl Shapes {
    /// The number of a shape; a new one is resolved to the boards that are known.
    pub(crate) fn intern(&mut self, shape: Shape, boards: &Boards) -> ShapeId {
        if let Some(id) = self.ids.get(&shape) {
            return *id;
        }
        self.last += 1;
        let (id, shape) = (ShapeId(self.last), Arc::new(shape));
        let spots = match shape.named() {
            Some(named) => {
                for board in &named {
                    self.named.entry((*board).clone()).or_default().insert(id);
                }
                let able = |board: &&&BoardId| boards.class_of(board).is_some_and(|class| shape.fits(class));
                named.iter().filter(able).map(|board| Spot::Board((*board).clone())).collect()
            }
            None => boards
                .classes()
                .filter(|(_, class)| shape.fits(class))
                .map(|(id, _)| Spot::Class(id))
                .collect(),
        };
        let (lanes, staged) = (BTreeSet::new(), BTreeSet::new());
        self.kept.insert(id, Kept { shape: shape.clone(), spots, lanes, staged, alone: 0 });
        self.ids.insert(shape, id);
        id
    }

    pub(crate) fn get(&self, id: ShapeId) -> Option<&Kept> {
        self.kept.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ShapeId) -> Option<&mut Kept> {
        self.kept.get_mut(&id)
    }

    /// Forgets a shape that nothing has any more.
    pub(crate) fn tidy(&mut self, id: ShapeId) {
        let used = |kept: &Kept| !kept.lanes.is_empty() || !kept.staged.is_empty() || kept.alone > 0;
        if self.kept.get(&id).is_none_or(used) {
            return;
        }
        let Some(kept) = self.kept.remove(&id) else { return };
        for board in kept.shape.named().into_iter().flatten() {
            if let Some(ids) = self.named.get_mut(board) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.named.remove(board);
                }
            }
        }
        self.ids.remove(&kept.shape);
    }

    /// Shapes that boards of a class can run and that name none.
    pub(crate) fn fitting(&self, class: &Class) -> Vec<ShapeId> {
        let fits = |kept: &Kept| kept.shape.named().is_none() && kept.shape.fits(class);
        self.kept.iter().filter(|(_, kept)| fits(kept)).map(|(id, _)| *id).collect()
    }

    /// Shapes that are resolved to a spot.
    pub(crate) fn at(&self, spot: &Spot) -> Vec<ShapeId> {
        let at = self.kept.iter().filter(|(_, kept)| kept.spots.contains(spot));
        at.map(|(id, _)| *id).collect()
    }

    /// Shapes that name a board, and whether a board of this class can run them.
    pub(crate) fn naming(&self, board: &BoardId, class: Option<&Class>) -> Vec<(ShapeId, bool)> {
        let named = self.named.get(board).into_iter().flatten();
        let fits = |id: &ShapeId| {
            let kept = self.kept.get(id)?;
            Some((*id, class.is_some_and(|class| kept.shape.fits(class))))
        };
        named.filter_map(fits).collect()
    }
}
