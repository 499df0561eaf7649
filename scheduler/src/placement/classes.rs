//! Boards by class: what is alike for every task that names no board is looked at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgeprof_common::{BoardId, Digest, WorkerId};
use slab::Slab;

use crate::{BoardReport, Now, queue::Spot, table::Table};

/// What is alike of boards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) kind: String,
    pub(crate) labels: Arc<BTreeMap<String, String>>,
    pub(crate) model_bytes: u64,
    pub(crate) arena_bytes: u64,
}

impl Class {
    pub(crate) fn of(report: &BoardReport) -> Self {
        let BoardReport { kind, labels, model_bytes, arena_bytes, .. } = report;
        Self {
            kind: kind.clone(),
            labels: labels.clone(),
            model_bytes: *model_bytes,
            arena_bytes: *arena_bytes,
        }
    }

    /// Whether a report is of a board of this class, without a copy of it.
    fn is(&self, report: &BoardReport) -> bool {
        self.kind == report.kind
            && self.labels == report.labels
            && self.model_bytes == report.model_bytes
            && self.arena_bytes == report.arena_bytes
    }
}

/// Number of a class, while a board of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassId(u64);

/// A board's place in the list of those that are known, in the order in which they came; one that goes leaves its place
/// to one that comes. Thousands of boards are sorted by it, whose names lie all over the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(usize);

/// What a board could take now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Room {
    /// Nothing.
    #[default]
    None,
    /// An attempt, at once.
    Idle,
    /// An attempt behind those that it has.
    Behind {
        /// When it is likely to have done those; it may be past.
        free: Option<Now>,
        /// How many they are.
        attempts: usize,
        /// They are as many as it wants: one more only if that is better than an idle board.
        spare: bool,
    },
}

impl Room {
    /// Whether the next task that waits may have it.
    pub(crate) const fn wanted(self) -> bool {
        matches!(self, Self::Idle | Self::Behind { spare: false, .. })
    }
}

/// How a board is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) room: Room,
    /// Where it comes among boards of its class with room behind others, by the policy.
    pub(crate) key: u64,
    /// What it will have loaded when its next attempt begins.
    pub(crate) image: Option<Digest>,
    /// It gets tasks, now or when it is done with what it has.
    pub(crate) serving: bool,
    /// How many attempts it has.
    pub(crate) attempts: usize,
}

/// One board.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) board: BoardId,
    pub(crate) place: Place,
    pub(crate) worker: WorkerId,
    pub(crate) class: ClassId,
    pub(crate) state: State,
}

/// The boards of one class.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) class: Arc<Class>,
    members: usize,
    /// How many get tasks, and how many attempts those have.
    serving: (usize, usize),
    pub(crate) idle: BTreeSet<Place>,
    pub(crate) loaded: BTreeMap<Digest, BTreeSet<Place>>,
    /// With room behind others, in the order that the policy wants.
    pub(crate) behind: BTreeSet<(u64, Place)>,
    /// The same of those with spare room only.
    pub(crate) spare: BTreeSet<(u64, Place)>,
}

/// What became of a class when a board came or went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) came: Option<ClassId>,
    pub(crate) gone: Option<ClassId>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Boards {
    ids: BTreeMap<Arc<Class>, ClassId>,
    pools: BTreeMap<ClassId, Pool>,
    places: Table<BoardId, Place>,
    sites: Slab<Site>,
    last: u64,
}

impl Boards {
    pub(crate) fn site(&self, board: &BoardId) -> Option<&Site> {
        self.at(*self.places.get(board)?)
    }

    /// The board at a place.
    pub(crate) fn at(&self, place: Place) -> Option<&Site> {
        self.sites.get(place.0)
    }

    pub(crate) fn pool(&self, class: ClassId) -> Option<&Pool> {
        self.pools.get(&class)
    }

    pub(crate) fn class_of(&self, board: &BoardId) -> Option<&Class> {
        self.pools.get(&self.site(board)?.class).map(|pool| &*pool.class)
    }

    pub(crate) fn classes(&self) -> impl Iterator<Item = (ClassId, &Class)> {
        self.pools.iter().map(|(id, pool)| (*id, &*pool.class))
    }

    /// Whether there is room for one more attempt at a spot.
    pub(crate) fn room_at(&self, spot: &Spot) -> bool {
        match spot {
            Spot::Class(class) => {
                self.pools.get(class).is_some_and(|pool| !pool.idle.is_empty() || !pool.behind.is_empty())
            }
            Spot::Board(board) => self.site(board).is_some_and(|site| site.state.room.wanted()),
        }
    }

    /// How many boards of a spot get tasks, and how many attempts those have.
    pub(crate) fn serving_at(&self, spot: &Spot) -> (usize, usize) {
        match spot {
            Spot::Class(class) => self.pools.get(class).map_or((0, 0), |pool| pool.serving),
            Spot::Board(board) => self.site(board).map_or((0, 0), |site| site.state.serves()),
        }
    }

    /// Takes in what a board is. None if that is known.
    pub(crate) fn put(&mut self, worker: &WorkerId, report: &BoardReport) -> Option<Moved> {
        if self.class_of(&report.id).is_some_and(|class| class.is(report)) {
            return None;
        }
        let mut moved = Moved { gone: self.remove(&report.id).gone, came: None };
        let class = Arc::new(Class::of(report));
        let id = self.ids.get(&class).copied().unwrap_or_else(|| {
            self.last += 1;
            let id = ClassId(self.last);
            self.ids.insert(class.clone(), id);
            self.pools.insert(id, Pool::new(class));
            moved.came = Some(id);
            id
        });
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.members += 1;
        }
        let free = self.sites.vacant_entry();
        let (board, place) = (report.id.clone(), Place(free.key()));
        self.places.insert(board.clone(), place);
        free.insert(Site { board, place, worker: worker.clone(), class: id, state: State::default() });
        Some(moved)
    }

    pub(crate) fn remove(&mut self, board: &BoardId) -> Moved {
        self.set(board, State::default());
        let mut moved = Moved::default();
        let Some(place) = self.places.swap_remove(board) else { return moved };
        let Some(site) = self.sites.try_remove(place.0) else { return moved };
        let Some(pool) = self.pools.get_mut(&site.class) else { return moved };
        pool.members -= 1;
        if pool.members == 0 {
            self.ids.remove(&pool.class);
            self.pools.remove(&site.class);
            moved.gone = Some(site.class);
        }
        moved
    }

    /// Sets how a board is. True if it could take less before.
    pub(crate) fn set(&mut self, board: &BoardId, state: State) -> bool {
        let Some(&place) = self.places.get(board) else { return false };
        let Some(site) = self.sites.get_mut(place.0) else { return false };
        let Some(pool) = self.pools.get_mut(&site.class) else { return false };
        let before = std::mem::replace(&mut site.state, state);
        if before == state {
            return false;
        }
        match before.room {
            Room::None => {}
            Room::Idle => pool.unlist(place, before.image),
            Room::Behind { spare, .. } => {
                pool.line(spare).remove(&(before.key, place));
            }
        }
        match state.room {
            Room::None => {}
            Room::Idle => pool.list(place, state.image),
            Room::Behind { spare, .. } => {
                pool.line(spare).insert((state.key, place));
            }
        }
        let ((boards, attempts), (off, out), (on, more)) = (pool.serving, before.serves(), state.serves());
        pool.serving = (boards + on - off, attempts + more - out);
        let room = state.room;
        room.wanted() && !before.room.wanted() || room == Room::Idle && before.room != Room::Idle
    }
}

impl State {
    /// What it counts for among those that get tasks.
    const fn serves(&self) -> (usize, usize) {
        if self.serving { (1, self.attempts) } else { (0, 0) }
    }
}

impl Pool {
    const fn new(class: Arc<Class>) -> Self {
        Self {
            class,
            members: 0,
            serving: (0, 0),
            idle: BTreeSet::new(),
            loaded: BTreeMap::new(),
            behind: BTreeSet::new(),
            spare: BTreeSet::new(),
        }
    }

    const fn line(&mut self, spare: bool) -> &mut BTreeSet<(u64, Place)> {
        if spare { &mut self.spare } else { &mut self.behind }
    }

    fn list(&mut self, place: Place, image: Option<Digest>) {
        self.idle.insert(place);
        if let Some(image) = image {
            self.loaded.entry(image).or_default().insert(place);
        }
    }

    fn unlist(&mut self, place: Place, image: Option<Digest>) {
        self.idle.remove(&place);
        let Some(image) = image else { return };
        if let Some(places) = self.loaded.get_mut(&image) {
            places.remove(&place);
            if places.is_empty() {
                self.loaded.remove(&image);
            }
        }
    }
}
