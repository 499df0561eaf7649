//! The policies: which of the boards with room a task gets.

use std::{collections::BTreeSet, ops::Bound};

use edgeprof_common::{BoardId, Digest};

use super::{
    classes::{Boards, Class, Place, Pool, Room, Site},
    estimate::{Estimates, Expected},
};
use crate::{Config, Now, Policy, queue::Spot};

/// How many of a class's boards with room behind others are compared.
const COMPARED: usize = 4;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) image: Digest,
    pub(crate) work: u64,
    /// Boards that it failed on or was lost on: these come last.
    pub(crate) tried: BTreeSet<&'a BoardId>,
    pub(crate) spots: &'a BTreeSet<Spot>,
}

/// What a choice is made from.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    pub(crate) boards: &'a Boards,
    pub(crate) estimates: &'a Estimates,
    pub(crate) config: &'a Config,
    pub(crate) now: Now,
    /// The board that was chosen last, for the policy that takes each in turn.
    pub(crate) last: Option<Place>,
}

/// Where a task could go, the best first: not tried, then what the policy says, image loaded, first in the list.
type Cost = (bool, Option<u64>, bool, Place);

/// The best so far.
struct Best(Option<Cost>);

impl Best {
    fn of(&mut self, found: Option<Cost>) {
        if let Some(found) = found
            && self.0.is_none_or(|best| found < best)
        {
            self.0 = Some(found);
        }
    }
}

impl Chooser<'_> {
    /// The best board with room, if there is one.
    pub(crate) fn choose(&self, task: &Candidate<'_>) -> Option<BoardId> {
        self.best(task).and_then(|place| self.boards.at(place)).map(|site| site.board.clone())
    }

    fn best(&self, task: &Candidate<'_>) -> Option<Place> {
        let (mut idle, mut behind, mut spare) = (Best(None), Best(None), Best(None));
        for spot in task.spots {
            match spot {
                Spot::Class(class) => {
                    let Some(pool) = self.boards.pool(*class) else { continue };
                    let run = self.expects(&pool.class, task);
                    idle.of(self.idle_in(pool, task).and_then(|place| self.cost(place, run, task)));
                    for place in self.some_of(&pool.behind, task) {
                        behind.of(self.cost(place, run, task));
                    }
                    for place in self.some_of(&pool.spare, task) {
                        spare.of(self.cost(place, run, task));
                    }
                }
                Spot::Board(board) => {
                    let Some(site) = self.boards.site(board) else { continue };
                    let Some(pool) = self.boards.pool(site.class) else { continue };
                    let cost = || self.cost(site.place, self.expects(&pool.class, task), task);
                    match site.state.room {
                        Room::None => {}
                        Room::Idle => idle.of(cost()),
                        Room::Behind { spare: false, .. } => behind.of(cost()),
                        Room::Behind { spare: true, .. } => spare.of(cost()),
                    }
                }
            }
        }
        let Some(idle) = idle.0 else { return behind.0.map(|(.., place)| place) };
        spare.of(behind.0);
        // What is not known is tried: an idle board without history is never passed over.
        let sooner = |busy: &Cost| {
            self.config.policy == Policy::LeastCompletion
                && idle.1.is_some_and(|idle| busy.1.is_some_and(|busy| busy < idle))
                && busy.0 <= idle.0
                && self.soon(busy.3)
        };
        let (.., place) = spare.0.filter(sooner).unwrap_or(idle);
        Some(place)
    }

    /// When a task would have ended on a board, in µs from now; none where its run time is not known.
    pub(crate) fn completion(&self, image: &Digest, work: u64, board: &BoardId) -> Option<u64> {
        let site = self.boards.site(board)?;
        let expected = self.estimates.expected(image, &self.boards.pool(site.class)?.class.kind, work);
        self.ends(site, image, expected)
    }

    fn ends(&self, site: &Site, image: &Digest, expected: Option<Expected>) -> Option<u64> {
        let Expected { run, load } = expected?;
        let load = if site.state.image == Some(*image) { 0 } else { load };
        Some(self.wait(site)?.saturating_add(load).saturating_add(run))
    }

    /// What a task is expected to take on boards of a class, which is alike for all of them.
    fn expects(&self, class: &Class, task: &Candidate<'_>) -> Option<Expected> {
        self.estimates.expected(&task.image, &class.kind, task.work)
    }

    /// How long a board is likely to be busy, in µs.
    fn wait(&self, site: &Site) -> Option<u64> {
        match site.state.room {
            Room::None => None,
            Room::Idle => Some(0),
            Room::Behind { free, .. } => free.map(|free| expected(free, self.now)),
        }
    }

    fn soon(&self, place: Place) -> bool {
        let wait = self.boards.at(place).and_then(|site| self.wait(site));
        wait.is_some_and(|wait| u128::from(wait) <= self.config.wait_for_better.as_micros())
    }

    fn cost(&self, place: Place, expected: Option<Expected>, task: &Candidate<'_>) -> Option<Cost> {
        let site = self.boards.at(place)?;
        let policy = match self.config.policy {
            Policy::LeastCompletion => self.ends(site, &task.image, expected),
            Policy::LeastLoaded => Some(match site.state.room {
                Room::Behind { attempts, .. } => attempts as u64,
                Room::None | Room::Idle => 0,
            }),
            Policy::RoundRobin => Some(u64::from(self.last.is_some_and(|last| place <= last))),
        };
        let unloaded = self.config.policy != Policy::RoundRobin && site.state.image != Some(task.image);
        Some((!self.is_fresh(place, task), policy, unloaded, place))
    }

    /// Whether a task was not tried there.
    fn is_fresh(&self, place: Place, task: &Candidate<'_>) -> bool {
        task.tried.is_empty() || self.boards.at(place).is_none_or(|site| !task.tried.contains(&site.board))
    }

    /// The best idle board of a class: all of them end a task at the same time but for loading.
    fn idle_in(&self, pool: &Pool, task: &Candidate<'_>) -> Option<Place> {
        let fresh = |place: &&Place| self.is_fresh(**place, task);
        if self.config.policy == Policy::RoundRobin {
            let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
            let later = pool.idle.range((after, Bound::Unbounded)).find(fresh);
            return later.or_else(|| pool.idle.iter().find(fresh)).or_else(|| pool.idle.first()).copied();
        }
        let loaded = pool.loaded.get(&task.image).and_then(|places| places.iter().find(fresh));
        loaded.or_else(|| pool.idle.iter().find(fresh)).or_else(|| pool.idle.first()).copied()
    }

    /// Some of a class's boards with room behind others, the likely best among them.
    fn some_of(&self, lines: &BTreeSet<(u64, Place)>, task: &Candidate<'_>) -> Vec<Place> {
        let fresh = |(_, place): &&(u64, Place)| self.is_fresh(*place, task);
        let turn = self.last.filter(|_| self.config.policy == Policy::RoundRobin);
        let after = turn.map_or(Bound::Unbounded, |last| Bound::Excluded((0, last)));
        let later = lines.range((after, Bound::Unbounded)).filter(fresh).take(COMPARED);
        let mut some: Vec<_> = later.map(|(_, place)| *place).collect();
        if some.is_empty() {
            some.extend(lines.iter().find(fresh).or_else(|| lines.first()).map(|(_, place)| *place));
        }
        some
    }
}

/// How long something that was to end at `free` is likely to go on, in µs: what is late is as late again.
pub(crate) const fn expected(free: Now, now: Now) -> u64 {
    free.0.abs_diff(now.0).saturating_mul(1000)
}

/// Where a board with room behind others comes among its like.
pub(crate) fn order(policy: Policy, room: Room) -> u64 {
    match (policy, room) {
        (Policy::LeastCompletion, Room::Behind { free, .. }) => free.map_or(u64::MAX, |free| free.0),
        (Policy::LeastLoaded, Room::Behind { attempts, .. }) => attempts as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edgeprof_common::WorkerId;

    use super::{
        super::{classes::State, estimate::Seen},
        *,
    };
    use crate::BoardReport;

    /// Two fast boards and a slow one, all idle; a run takes 1 s on `m4` and 3 s on `m3`.
    struct Bench {
        boards: Boards,
        estimates: Estimates,
        config: Config,
        spots: BTreeSet<Spot>,
        last: Option<BoardId>,
    }

    fn image() -> Digest {
        Digest::of(b"image")
    }

    fn id(name: &str) -> BoardId {
        name.parse().unwrap()
    }

    impl Bench {
        fn new(policy: Policy) -> Self {
            let mut boards = Boards::default();
            let worker: WorkerId = "w".parse().unwrap();
            let mut spots = BTreeSet::new();
            for (name, kind) in [("w/0", "m3"), ("w/1", "m4"), ("w/2", "m4")] {
                boards.put(&worker, &report(name, kind));
                boards.set(&id(name), State { room: Room::Idle, ..State::default() });
                spots.insert(Spot::Class(boards.site(&id(name)).unwrap().class));
            }
            let mut estimates = Estimates::default();
            for (kind, run) in [("m4", 1_000_000), ("m3", 3_000_000)] {
                estimates.learn(&Seen { image: image(), kind, work: 1, run, load: Some(100_000) });
            }
            let config = Config { policy, ..Config::default() };
            Self { boards, estimates, config, spots, last: None }
        }

        fn busy(&mut self, board: &str, free: Option<u64>, attempts: usize) {
            let room = Room::Behind { free: free.map(Now), attempts, spare: attempts > 9 };
            let key = order(self.config.policy, room);
            self.boards.set(&id(board), State { room, key, image: Some(image()), ..State::default() });
        }

        fn idle(&mut self, board: &str, image: Option<Digest>) {
            self.boards.set(&id(board), State { room: Room::Idle, image, ..State::default() });
        }

        fn choose(&self, tried: &[&str]) -> Option<String> {
            let tried: Vec<BoardId> = tried.iter().map(|name| id(name)).collect();
            let task =
                Candidate { image: image(), work: 1, tried: tried.iter().collect(), spots: &self.spots };
            let (boards, estimates, config) = (&self.boards, &self.estimates, &self.config);
            let last = self.last.as_ref().and_then(|last| boards.site(last)).map(|site| site.place);
            let chooser = Chooser { boards, estimates, config, now: Now(0), last };
            chooser.choose(&task).map(|board| board.to_string())
        }
    }

    fn report(name: &str, kind: &str) -> BoardReport {
        BoardReport {
            id: id(name),
            kind: kind.into(),
            uid: None,
            labels: Arc::default(),
            health: edgeprof_common::BoardHealth::Good,
            reason: None,
            idle: true,
            queue: 1,
            model_bytes: 1,
            arena_bytes: 1,
            image: None,
        }
    }

    #[test]
    fn the_fastest_idle_board_goes_first_then_the_loaded_then_the_lowest_and_tried_ones_last() {
        let mut bench = Bench::new(Policy::LeastCompletion);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/1"));
        bench.idle("w/2", Some(image()));
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/2"));
        assert_eq!(bench.choose(&["w/2"]).as_deref(), Some("w/1"));
        assert_eq!(bench.choose(&["w/1", "w/2"]).as_deref(), Some("w/0"));
        assert!(bench.choose(&["w/0", "w/1", "w/2"]).is_some());
    }

    #[test]
    fn a_busy_board_is_waited_for_only_if_the_task_ends_sooner_there_within_five_seconds() {
        let mut bench = Bench::new(Policy::LeastCompletion);
        bench.busy("w/1", Some(500), 1);
        bench.busy("w/2", Some(1900), 1);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/1"), "1.5 s there, 3.1 s on the idle one");
        bench.busy("w/1", Some(2200), 1);
        bench.busy("w/2", Some(2300), 1);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/0"), "3.2 s there");
        bench.busy("w/1", None, 1);
        bench.busy("w/2", None, 1);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/0"), "nobody knows when");
        bench.busy("w/1", Some(500), 1);
        bench.config.wait_for_better = std::time::Duration::from_millis(400);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/0"), "too long to wait");
    }

    #[test]
    fn a_line_that_is_long_enough_is_joined_only_instead_of_an_idle_board() {
        let mut bench = Bench::new(Policy::LeastCompletion);
        bench.busy("w/1", Some(500), 10);
        bench.busy("w/2", Some(1900), 10);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/1"));
        bench.busy("w/0", Some(9000), 1);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/0"));
    }

    #[test]
    fn an_idle_board_without_history_always_wins() {
        let mut bench = Bench::new(Policy::LeastCompletion);
        bench.estimates = Estimates::default();
        bench.busy("w/1", Some(1), 1);
        bench.busy("w/2", Some(1), 1);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/0"));
    }

    #[test]
    fn without_an_idle_board_the_line_that_ends_first_is_joined() {
        let mut bench = Bench::new(Policy::LeastCompletion);
        for (board, free) in [("w/0", 100), ("w/1", 1500), ("w/2", 1400)] {
            bench.busy(board, Some(free), 1);
        }
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/2"));
        assert_eq!(bench.choose(&["w/2"]).as_deref(), Some("w/1"));
    }

    #[test]
    fn least_loaded_counts_attempts_and_nothing_else() {
        let mut bench = Bench::new(Policy::LeastLoaded);
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/0"));
        for (board, attempts) in [("w/0", 3), ("w/1", 2), ("w/2", 1)] {
            bench.busy(board, Some(1), attempts);
        }
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/2"));
    }

    #[test]
    fn round_robin_takes_each_in_turn() {
        let mut bench = Bench::new(Policy::RoundRobin);
        let mut turns = Vec::new();
        for _ in 0..4 {
            let board = bench.choose(&[]).unwrap();
            bench.last = Some(id(&board));
            turns.push(board);
        }
        assert_eq!(turns, ["w/0", "w/1", "w/2", "w/0"]);
        for board in ["w/0", "w/1", "w/2"] {
            bench.busy(board, None, 1);
        }
        assert_eq!(bench.choose(&[]).as_deref(), Some("w/1"));
    }
}
