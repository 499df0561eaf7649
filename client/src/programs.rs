//! Programs of this machine: where they lie.

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A program of `PATH`, as the system would find it.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    find(name, None, env::var_os("PATH").as_deref())
}

/// A program of edgeprof: beside this one, else in `PATH`.
pub(crate) fn beside(name: &str) -> Option<PathBuf> {
    find(name, folder().as_deref(), env::var_os("PATH").as_deref())
}

/// The folder of this program.
pub(crate) fn folder() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.to_owned())
}

fn find(name: &str, first: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    let folders = path.map(env::split_paths).into_iter().flatten();
    let mut all = first.map(Path::to_owned).into_iter().chain(folders).map(|folder| folder.join(name));
    all.find(|path| runs(path))
}

fn runs(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_folder_beside_wins_over_the_path_and_what_does_not_run_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str, mode: u32| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("p"), "").unwrap();
            fs::set_permissions(folder.join("p"), fs::Permissions::from_mode(mode)).unwrap();
            folder
        };
        let (text, bin, beside) = (folder("text", 0o644), folder("bin", 0o755), folder("beside", 0o755));
        let path = env::join_paths([&text, &bin]).unwrap();
        assert_eq!(find("p", None, Some(&path)), Some(bin.join("p")));
        assert_eq!(find("p", Some(&beside), Some(&path)), Some(beside.join("p")));
        assert_eq!(find("p", Some(&text), Some(&path)), Some(bin.join("p")));
        assert_eq!(find("q", Some(&beside), None), None);
    }
}
