//! The folders that daemons write to: may they, and is there room.

use std::path::{Path, PathBuf};

use edgeprof_report::number;

use super::check::Check;
use crate::local::free;

/// Below this a lab runs, and not for long.
const COMFORT: u64 = 1 << 30;

/// A folder, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    /// `data of the coordinator`.
    pub(crate) purpose: &'static str,
    pub(crate) path: PathBuf,
    /// Who writes there refuses work below this many free bytes.
    pub(crate) reserve: u64,
    /// How to name another, such as `--data DIR` to a program.
    pub(crate) instead: &'static str,
    pub(crate) state: State,
}

/// How a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It, or the folder that it would be made in, takes files.
    Writable { free: Option<u64> },
    /// It does not.
    Closed(String),
}

/// Looks at a folder, or at the nearest one above that exists.
pub(crate) fn probe(path: &Path) -> State {
    let Some(there) = path.ancestors().find(|folder| folder.exists()) else {
        return State::Closed("no folder above it exists".into());
    };
    // It has no name, so that nothing is left of it.
    match tempfile::tempfile_in(there) {
        Ok(_) => State::Writable { free: free(there) },
        Err(error) => State::Closed(format!("{} cannot be written by this user: {error}", there.display())),
    }
}

/// A folder that another user's daemon has is that daemon's: a warning, since --data names another.
pub(crate) fn judge(folder: &Folder) -> Check {
    let Folder { purpose, path, reserve, instead, state } = folder;
    let place = path.display();
    match state {
        State::Closed(why) => {
            let remedy = format!("sudo install -d -o \"$USER\" {place}, or {instead}");
            Check::warning(*purpose, format!("{place}: {why}"), remedy)
        }
        State::Writable { free: None } => Check::ok(*purpose, place.to_string()),
        State::Writable { free: Some(free) } => {
            let found = format!("{place}, {} free", number::bytes(*free));
            let remedy = format!("make room there, or {instead}");
            if free < reserve {
                let found = format!("{found}, less than the {} that must stay free", number::bytes(*reserve));
                return Check::problem(*purpose, found, remedy);
            }
            if *free < COMFORT { Check::warning(*purpose, found, remedy) } else { Check::ok(*purpose, found) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    fn folder(state: State) -> Check {
        judge(&Folder {
            purpose: "data of the coordinator",
            path: "/data".into(),
            reserve: 64 << 20,
            instead: "edgeprof-coordinator --data DIR",
            state,
        })
    }

    #[test]
    fn room_below_the_reserve_is_a_problem_and_little_room_a_warning() {
        let free = |bytes| folder(State::Writable { free: Some(bytes) });
        assert_eq!(free(10 << 30).status, Status::Ok);
        assert_eq!(free(100 << 20).status, Status::Warning);
        let full = free(1 << 20);
        assert!(full.status == Status::Problem && full.found.contains("64.0 MiB"), "{full:?}");
        assert_eq!(folder(State::Writable { free: None }).status, Status::Ok);
    }

    #[test]
    fn a_closed_folder_has_two_ways_out() {
        let check = folder(State::Closed("permission denied".into()));
        assert_eq!(check.status, Status::Warning);
        let remedy = check.remedy.unwrap();
        assert!(remedy.contains("install -d") && remedy.contains("--data DIR"), "{remedy}");
    }

    #[test]
    fn a_folder_that_does_not_exist_is_judged_by_the_one_above() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(probe(&root.path().join("a/b")), State::Writable { free: Some(_) }));
        assert!(!root.path().join("a").exists(), "a look makes nothing");
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(probe(&file), State::Closed(_)));
    }
}
