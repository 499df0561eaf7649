//! Where firmware images lie: `<kind>.elf` in the first folder that has it.

use std::path::{Path, PathBuf};

/// The system's folder, where an installed edgeprof has its images.
pub const SYSTEM: &str = "/usr/share/edgeprof/firmware";

/// The folders in the order in which they are searched: `configured`, then beside the coordinator's program,
/// then the system's.
pub fn folders(configured: &[PathBuf], program: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = configured.to_vec();
    if let Some(bin) = program.and_then(Path::parent) {
        folders.push(bin.parent().unwrap_or(bin).join("firmware"));
    }
    folders.push(SYSTEM.into());
    folders
}

/// The image of a board kind.
pub fn find(folders: &[PathBuf], kind: &str) -> Option<PathBuf> {
    let name = format!("{kind}.elf");
    folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_configured_comes_first_and_the_system_last() {
        let folders = folders(&["/a".into()], Some(Path::new("/opt/edgeprof/bin/edgeprof-coordinator")));
        assert_eq!(folders, ["/a", "/opt/edgeprof/firmware", SYSTEM].map(PathBuf::from));
    }

    #[test]
    fn the_first_folder_that_has_it_wins() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        for folder in [&a, &b] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("riscv32.elf"), "x").unwrap();
        }
        fs::create_dir(b.join("riscv64.elf")).unwrap();
        let folders = [root.path().join("none"), b.clone(), a];
        assert_eq!(find(&folders, "riscv32"), Some(b.join("riscv32.elf")));
        assert_eq!(find(&folders, "riscv64"), None, "a folder is no image");
    }
}
