//! Firmware images: where each kind's is found.

use std::path::PathBuf;

use edgeprof_boards::Catalogue;
use edgeprof_service::firmware::{SYSTEM, find};

use super::check::Check;

/// Which kinds have an image, and where it was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    pub(crate) folders: Vec<PathBuf>,
    /// Kind, and its image.
    pub(crate) kinds: Vec<(String, Option<PathBuf>)>,
}

/// Looks for every kind's image.
pub(crate) fn probe(catalogue: &Catalogue, folders: Vec<PathBuf>) -> Images {
    let kinds =
        catalogue.kinds().iter().map(|kind| (kind.name.clone(), find(&folders, &kind.name))).collect();
    Images { folders, kinds }
}

/// The coordinator hands firmware out: without any, no board can run. `served` says that one answers, which has its own.
pub(crate) fn judge(images: &Images, served: bool) -> Vec<Check> {
    const NAME: &str = "firmware images";
    const BUILD: &str = "sudo apt install ./edgeprof-coordinator_*.deb, or in a clone: \
                         cargo xtask firmware && sudo install -D -m 644 -t";
    let remedy = format!("{BUILD} {SYSTEM} target/firmware/*.elf");
    let missing: Vec<_> = images.kinds.iter().filter(|(_, path)| path.is_none()).map(|(k, _)| &**k).collect();
    let mut folders: Vec<_> = images.kinds.iter().filter_map(|(_, path)| path.as_ref()?.parent()).collect();
    folders.sort();
    folders.dedup();
    let list = |folders: &[&std::path::Path]| {
        folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    if folders.is_empty() {
        let looked: Vec<_> = images.folders.iter().map(PathBuf::as_path).collect();
        let found = format!("none in {}", list(&looked));
        let judged = if served { Check::warning } else { Check::problem };
        return vec![judged(NAME, found, remedy)];
    }
    let there = format!(
        "{} of {} kinds in {}",
        images.kinds.len() - missing.len(),
        images.kinds.len(),
        list(&folders)
    );
    if missing.is_empty() {
        return vec![Check::ok(NAME, there)];
    }
    vec![Check::warning(NAME, format!("{there}; none for {}", missing.join(", ")), remedy)]
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    fn images(paths: &[Option<&str>], served: bool) -> Check {
        let kinds = paths.iter().zip(["a", "b"]).map(|(path, kind)| (kind.into(), path.map(PathBuf::from)));
        judge(&Images { folders: vec!["/one".into(), "/two".into()], kinds: kinds.collect() }, served)
            .remove(0)
    }

    #[test]
    fn a_kind_without_firmware_is_named_and_none_at_all_is_a_problem_unless_a_lab_is_there() {
        let all = images(&[Some("/one/a.elf"), Some("/one/b.elf")], false);
        assert_eq!((all.status, all.found.as_str()), (Status::Ok, "2 of 2 kinds in /one"));
        let some = images(&[Some("/two/a.elf"), None], false);
        assert_eq!((some.status, some.found.as_str()), (Status::Warning, "1 of 2 kinds in /two; none for b"));
        let none = images(&[None, None], false);
        assert_eq!((none.status, none.found.as_str()), (Status::Problem, "none in /one, /two"));
        assert_eq!(images(&[None, None], true).status, Status::Warning);
        assert!(none.remedy.unwrap().contains("cargo xtask firmware"));
    }
}
