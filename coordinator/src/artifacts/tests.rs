use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use super::*;

fn artifacts() -> (tempfile::TempDir, Artifacts) {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(folder.path(), u64::MAX).unwrap();
    (folder, artifacts)
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn a_blob_is_kept_under_its_digest() {
    let (_folder, artifacts) = artifacts();
    let digest = artifacts.keep(b"weights").unwrap();
    assert_eq!(artifacts.size(&digest), Some(7));
    assert_eq!(fs::read(artifacts.path(&digest)).unwrap(), b"weights");
    assert_eq!(files(&artifacts.incoming), 0);
}

#[test]
fn what_is_not_what_was_announced_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(folder.path(), 8).unwrap();
    let digest = Digest::of(b"weights");
    let attempt = |size: u64, bytes: &[u8]| {
        let mut upload = artifacts.upload(digest, size)?;
        upload.write(bytes)?;
        upload.finish()
    };
    assert!(matches!(attempt(7, b"weight!"), Err(UploadError::Digest { .. })));
    assert!(matches!(attempt(8, b"weights"), Err(UploadError::Short { .. })));
    assert!(matches!(attempt(6, b"weights"), Err(UploadError::Long { .. })));
    assert_eq!(artifacts.size(&digest), None);
    assert_eq!(files(&artifacts.incoming), 0);
    assert_eq!(files(&artifacts.blobs), 0);
    // Nor is the room gone that each of them had reserved.
    assert_eq!(attempt(7, b"weights").unwrap(), 7);
}

#[test]
fn an_upload_cut_short_by_a_crash_is_gone_after_the_next_start() {
    let (folder, artifacts) = artifacts();
    let mut upload = artifacts.upload(Digest::of(b"x"), 9).unwrap();
    upload.write(b"half").unwrap();
    std::mem::forget(upload);
    assert_eq!(files(&artifacts.incoming), 1);
    let artifacts = Artifacts::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(files(&artifacts.incoming), 0);
}

#[test]
fn the_quota_is_kept_by_what_nobody_needs_and_known_to_the_next_life() {
    let (folder, all) = artifacts();
    let [a, b, c] = [b"aaaa", b"bbbb", b"cccc"].map(|bytes| all.keep(bytes).unwrap());
    // The last use of each, an hour apart; a was made first and used last.
    for (digest, hours) in [(b, 3), (c, 2), (a, 1)] {
        all.touch(&digest, SystemTime::now() - Duration::from_secs(3600 * hours));
    }
    let artifacts = Artifacts::open(folder.path(), 12).unwrap();
    let hold = artifacts.hold([c]);
    let d = artifacts.keep(b"dddd").unwrap();
    let there = |digests: [Digest; 4]| digests.map(|digest| artifacts.size(&digest).is_some());
    assert_eq!(there([a, b, c, d]), [true, false, true, true]);
    let e = artifacts.keep(b"eeee").unwrap();
    assert_eq!(there([a, c, d, e]), [false, true, true, true]);
    // One is held, two were just uploaded.
    let error = artifacts.keep(b"f").unwrap_err();
    assert!(matches!(error, UploadError::Full { size: 1, quota: 12, needed: 12 }), "{error}");
    assert!(error.hint().unwrap().contains("artifact_quota_bytes"));
    drop(hold);
    artifacts.keep(b"f").unwrap();
    assert_eq!(artifacts.size(&c), None);
    // What is used counts from its use on, also after a restart.
    artifacts.hold([d]);
    drop(artifacts);
    let artifacts = Artifacts::open(folder.path(), 9).unwrap();
    artifacts.keep(b"gg").unwrap();
    assert!(artifacts.size(&d).is_some() || artifacts.size(&e).is_some());
}

/// A disk that is full before the quota is: what nobody needs goes, then the upload is refused with a hint,
/// and what is there stays whole.
#[test]
fn a_full_disk_refuses_with_a_hint_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::tmpfs(folder.path(), "1m") else {
        eprintln!("SKIPPED: no file system can be mounted here, so no disk can be filled");
        return;
    };
    let artifacts = Artifacts::open(folder.path(), u64::MAX).unwrap();
    let [old, needed] = [1, 2].map(|fill| artifacts.keep(&vec![fill; 300_000]).unwrap());
    let _hold = artifacts.hold([needed]);
    drop(artifacts.hold([old]));
    let new = artifacts.keep(&vec![3; 500_000]).unwrap();
    assert_eq!([old, needed, new].map(|d| artifacts.size(&d).is_some()), [false, true, true]);
    let error = artifacts.keep(&vec![4; 500_000]).unwrap_err();
    assert!(matches!(&error, UploadError::Io(e) if e.kind() == io::ErrorKind::StorageFull), "{error}");
    assert!(error.hint().unwrap().contains("free space"), "{error}");
    assert_eq!(Digest::of(&fs::read(artifacts.path(&new)).unwrap()), new);
    assert_eq!(files(&artifacts.incoming), 0);
}

/// A file system of its own, for as long as it lives.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        mount.is_ok_and(|out| out.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

const FOLDER: &str = "EDGEPROF_TEST_UPLOADS_INTO";

/// The process that is killed: uploads without end, a line for each step.
#[test]
fn uploads_without_end_where_it_is_told_to() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    // Small, so that blobs are evicted all the time.
    let artifacts = Artifacts::open(Path::new(&folder), 3_000_000).unwrap();
    for n in 0_u32.. {
        let bytes = n.to_le_bytes().repeat(1 + (n as usize * 7_919) % 60_000);
        let mut upload = artifacts.upload(Digest::of(&bytes), bytes.len() as u64).unwrap();
        for piece in bytes.chunks(16_384) {
            upload.write(piece).unwrap();
            println!("\npiece");
        }
        drop(artifacts.hold([Digest::of(&bytes)]));
        upload.finish().unwrap();
        drop(artifacts.hold([Digest::of(&bytes)]));
        println!("\nwhole {}", Digest::of(&bytes));
    }
}

#[test]
fn a_process_killed_while_it_uploads_leaves_whole_blobs_only() {
    let folder = tempfile::tempdir().unwrap();
    for steps in [1, 2, 5, 17, 40, 41, 90, 150, 151, 260] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "artifacts::tests::uploads_without_end_where_it_is_told_to", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said: Vec<String> =
            lines.filter(|l| l.starts_with("piece") || l.starts_with("whole")).take(steps).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(said.len(), steps);
        let artifacts = Artifacts::open(folder.path(), 3_000_000).unwrap();
        assert_eq!(files(&artifacts.incoming), 0);
        let mut total = 0;
        for half in fs::read_dir(&artifacts.blobs).unwrap() {
            for file in fs::read_dir(half.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                total += bytes.len();
                assert_eq!(Some(Digest::of(&bytes).hex().as_str()), path.file_name().unwrap().to_str());
            }
        }
        assert!(total <= 3_000_000, "{total} bytes after {steps} steps");
        assert!(steps < 5 || total > 0, "nothing is left after {steps} steps");
    }
}
