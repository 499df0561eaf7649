//! What is submitted, and what it does to the board that runs it.

use std::collections::BTreeMap;

use edgeprof_common::{BoardId, Digest, JobId, Priority, TaskId};
use edgeprof_scheduler::{CANARY, Image, NewTask, Requirement};

use super::rng::Rng;

/// What a task does to the board that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Good,
    /// Fails for the model's fault.
    Wrong,
    /// Fails for the lab's fault, now and then.
    Flaky,
    /// Crashes every board.
    Crasher,
    /// Never ends, but obeys a cancel.
    Hangs,
    /// Never ends and hears nothing until its board is restarted.
    Deaf,
    /// Kills its worker's process.
    Deadly,
}

/// A task with what the scheduler does not know of it.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) new: NewTask,
    pub(crate) nature: Nature,
    /// Time on an M4F board, in ms.
    pub(crate) run: u64,
    /// What it needs is found once it is prepared.
    pub(crate) image: Image,
    pub(crate) cluster: usize,
}

/// Everything that is ever submitted.
pub(crate) type Works = BTreeMap<TaskId, Work>;

/// Time of an attempt on a board of this kind, in ms.
pub(crate) fn run_time(works: &Works, task: TaskId, kind: &str) -> u64 {
    let run = works.get(&task).map_or(300, |work| work.run);
    if kind == "m3" { run * 3 } else { run }
}

pub(crate) fn image_of(works: &Works, task: TaskId) -> Digest {
    works.get(&task).map_or_else(|| image(0).digest, |work| work.image.digest)
}

pub(crate) fn image(number: u64) -> Image {
    Image { digest: Digest::of(&number.to_le_bytes()), model_bytes: 10, arena_bytes: 10 }
}

/// One task of a random kind.
pub(crate) fn random(
    rng: &mut Rng,
    (cluster, number, job): (usize, u64, u64),
    only_good: bool,
    boards: &[BoardId],
) -> Work {
    let id = TaskId::from_raw(u128::from(number) + 1000 * (cluster as u128) + 1);
    debug_assert_ne!(id, CANARY);
    let nature = match rng.between(0, 99) {
        _ if only_good => Nature::Good,
        0..4 => Nature::Wrong,
        4..12 => Nature::Flaky,
        12..15 => Nature::Crasher,
        15..18 => Nature::Hangs,
        18..21 => Nature::Deaf,
        21..24 => Nature::Deadly,
        _ => Nature::Good,
    };
    let requirement = match rng.between(0, 3) {
        0 => Requirement::kind("m4"),
        1 => Requirement::board(boards[rng.index(boards.len())].clone()),
        _ => Requirement::default(),
    };
    let image = image(rng.between(1, 3));
    let run = rng.between(10, 4000);
    let new = NewTask {
        id,
        job: JobId::from_raw(job + 100 * cluster as u64),
        priority: if rng.chance(200) { Priority::High } else { Priority::Normal },
        requirement,
        image: rng.chance(500).then(|| image.clone()),
        submitter: ["ada", "bob", "eve"][rng.index(3)].into(),
        work: run,
    };
    Work { new, nature, run, image, cluster }
}
