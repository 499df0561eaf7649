//! What `-b` names: a set of boards.

use std::collections::BTreeSet;

use edgeprof_boards::{NOOP, catalogue};
use edgeprof_scheduler::Requirement;

use super::{Present, Refusal};

/// A set of boards, on any one of which a task may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The selector, or the part of `all` or `--each` that this is.
    pub selector: String,
    /// The same as conditions.
    pub requirement: Requirement,
    /// Kinds of the boards in it.
    pub kinds: BTreeSet<String>,
}

impl Target {
    fn board(board: &Present) -> Self {
        Self {
            selector: board.id.to_string(),
            requirement: Requirement::board(board.id.clone()),
            kinds: BTreeSet::from([board.kind.clone()]),
        }
    }

    fn kind(kind: &str) -> Self {
        Self {
            selector: kind.to_owned(),
            requirement: Requirement::kind(kind),
            kinds: BTreeSet::from([kind.to_owned()]),
        }
    }
}

/// Resolves one selector against the boards that are there. With `each` every board is a target of its
/// own; with `wait` a set may be empty.
///
/// # Errors
/// When it names nothing that is known, or nothing that is there.
pub fn resolve(selector: &str, each: bool, wait: bool, there: &[Present]) -> Result<Vec<Target>, Refusal> {
    let (target, members) = one(selector, wait, there)?;
    if each {
        return Ok(members.into_iter().map(Target::board).collect());
    }
    Ok(match target {
        Some(target) => vec![target],
        None => kinds(&members).iter().map(|kind| Target::kind(kind)).collect(),
    })
}

/// The target, or none for `all`; and its members.
fn one<'a>(
    selector: &str,
    wait: bool,
    there: &'a [Present],
) -> Result<(Option<Target>, Vec<&'a Present>), Refusal> {
    if selector == "all" {
        if there.iter().all(|board| board.kind == NOOP) {
            let hint = "start a worker with boards; `edgeprof workers` shows who is there";
            return Err(Refusal::precondition("no board is there", hint));
        }
        // Whoever asks for all wants figures.
        let real = |board: &&Present| board.kind != NOOP;
        return Ok((None, there.iter().filter(real).collect()));
    }
    if let Some((key, value)) = selector.split_once('=') {
        let members: Vec<_> =
            there.iter().filter(|board| board.labels.get(key).is_some_and(|v| v == value)).collect();
        let kinds = match (members.is_empty(), wait) {
            (false, _) => kinds(&members),
            (true, true) => catalogue().kinds().iter().map(|kind| kind.name.clone()).collect(),
            (true, false) => return Err(absent(&format!("no board has the label {selector}"), there)),
        };
        let requirement = Requirement::label(key, value);
        return Ok((Some(Target { selector: selector.into(), requirement, kinds }), members));
    }
    let of_kind: Vec<_> = there.iter().filter(|board| board.kind == selector).collect();
    if !of_kind.is_empty() || catalogue().get(selector).is_some() {
        if of_kind.is_empty() && !wait {
            return Err(absent(&format!("no board of kind {selector} is there"), there));
        }
        return Ok((Some(Target::kind(selector)), of_kind));
    }
    let name = |board: &Present| board.id.as_str().rsplit_once('/').is_some_and(|(_, name)| name == selector);
    let named: Vec<_> = there.iter().filter(|board| board.id.as_str() == selector || name(board)).collect();
    match named.as_slice() {
        [board] => Ok((Some(Target::board(board)), named)),
        [] => Err(unknown(selector, there)),
        several => {
            let ids: Vec<_> = several.iter().map(|board| board.id.as_str()).collect();
            let message = format!("board {selector} is on several workers: {}", ids.join(", "));
            Err(Refusal::invalid(message, "give the whole id"))
        }
    }
}

fn kinds(boards: &[&Present]) -> BTreeSet<String> {
    boards.iter().map(|board| board.kind.clone()).collect()
}

fn listed(there: &[Present]) -> String {
    if there.is_empty() {
        return "no board is there now".into();
    }
    let boards: Vec<_> = there.iter().take(20).map(|b| format!("{} ({})", b.id, b.kind)).collect();
    let more = if there.len() > 20 { ", …" } else { "" };
    format!("there now: {}{more}", boards.join(", "))
}

fn absent(what: &str, there: &[Present]) -> Refusal {
    Refusal::precondition(
        format!("{what}; {}", listed(there)),
        "start a worker with such a board, or wait for one with --wait-for-board",
    )
}

fn unknown(selector: &str, there: &[Present]) -> Refusal {
    let names: Vec<_> = catalogue().kinds().iter().map(|kind| kind.name.as_str()).collect();
    let meant = catalogue().suggest(selector).map(|name| format!(", did you mean {name}?"));
    Refusal::invalid(
        format!("unknown board or kind {selector:?}{}", meant.unwrap_or_default()),
        format!("kinds: {}; {}", names.join(", "), listed(there)),
    )
}
