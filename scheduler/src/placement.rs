//! Which board a task runs on: one pure function over what is free.

use std::collections::BTreeSet;

use edgeprof_common::BoardId;

use crate::{BoardReport, queue::Shape};

/// Whether a board can run tasks of a shape at all.
pub(crate) fn able(shape: &Shape, board: &BoardReport) -> bool {
    shape.requirement.meets(&board.id, &board.kind, &board.labels)
        && shape.image.model_bytes <= board.model_bytes
        && shape.image.arena_bytes <= board.arena_bytes
}

/// The best of the boards that are able: one that the task has not failed on, then one that has the
/// image loaded, then the lowest id.
pub(crate) fn choose<'a>(
    shape: &Shape,
    tried: &BTreeSet<&BoardId>,
    boards: impl Iterator<Item = &'a BoardReport>,
) -> Option<&'a BoardReport> {
    let cost = |board: &&BoardReport| {
        let loaded = board.image.as_ref() == Some(&shape.image.digest);
        (tried.contains(&board.id), !loaded, board.id.clone())
    };
    boards.filter(|board| able(shape, board)).min_by_key(cost)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use edgeprof_common::{BoardHealth, Digest};

    use super::*;
    use crate::{Image, Requirement};

    fn board(id: &str, kind: &str) -> BoardReport {
        BoardReport {
            id: id.parse().unwrap(),
            kind: kind.into(),
            uid: None,
            labels: BTreeMap::from([("rack".into(), "a".into())]),
            health: BoardHealth::Good,
            reason: None,
            idle: true,
            queue: 0,
            model_bytes: 100,
            arena_bytes: 50,
            image: None,
        }
    }

    fn shape(requirement: Requirement, model_bytes: u64, arena_bytes: u64) -> Shape {
        let image = Image { digest: Digest::of(b"image"), model_bytes, arena_bytes };
        Shape { requirement, image, alone: false }
    }

    fn pick(shape: &Shape, tried: &[&str], boards: &[BoardReport]) -> Option<String> {
        let tried: Vec<BoardId> = tried.iter().map(|id| id.parse().unwrap()).collect();
        choose(shape, &tried.iter().collect(), boards.iter()).map(|board| board.id.to_string())
    }

    #[test]
    fn a_board_must_meet_the_selector_and_hold_model_and_arena_to_the_last_byte() {
        let m4 = board("w/1", "m4");
        assert!(able(&shape(Requirement::kind("m4"), 100, 50), &m4));
        assert!(!able(&shape(Requirement::kind("m4"), 101, 50), &m4));
        assert!(!able(&shape(Requirement::kind("m4"), 100, 51), &m4));
        assert!(!able(&shape(Requirement::kind("m3"), 1, 1), &m4));
        assert!(able(&shape(Requirement::label("rack", "a"), 1, 1), &m4));
        assert!(!able(&shape(Requirement::label("rack", "b"), 1, 1), &m4));
        assert!(able(&shape(Requirement::default(), 1, 1), &m4));
        assert!(!able(&shape(Requirement::board("w/2".parse().unwrap()), 1, 1), &m4));
        let both = Requirement([Requirement::kind("m4").0, Requirement::label("rack", "b").0].concat());
        assert!(!able(&shape(both, 1, 1), &m4));
    }

    #[test]
    fn untried_goes_before_loaded_and_loaded_before_the_lowest_id() {
        let any = shape(Requirement::default(), 1, 1);
        let mut boards = [board("w/3", "m4"), board("w/1", "m4"), board("w/2", "m4")];
        assert_eq!(pick(&any, &[], &boards).as_deref(), Some("w/1"));
        boards[0].image = Some(any.image.digest);
        assert_eq!(pick(&any, &[], &boards).as_deref(), Some("w/3"));
        assert_eq!(pick(&any, &["w/3"], &boards).as_deref(), Some("w/1"));
        assert_eq!(pick(&any, &["w/1", "w/2", "w/3"], &boards).as_deref(), Some("w/3"));
        assert_eq!(pick(&any, &[], &[]), None);
    }
}
