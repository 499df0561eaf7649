use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use super::{upload::write_all, *};

fn put(blobs: &Blobs, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let mut upload = blobs.receive(digest, bytes.len() as u64).unwrap();
    bytes.chunks(2).for_each(|piece| upload.push(piece).unwrap());
    upload.finish().unwrap();
    digest
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn only_what_is_named_right_and_whole_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), 100, 1_000).unwrap();
    let digest = Digest::of(b"abcd");
    let mut upload = blobs.receive(digest, 4).unwrap();
    upload.push(b"abcX").unwrap();
    assert!(matches!(upload.finish(), Err(BlobError::Mismatch { .. })));
    let mut upload = blobs.receive(digest, 4).unwrap();
    upload.push(b"abc").unwrap();
    assert!(matches!(upload.finish(), Err(BlobError::Mismatch { .. })));
    let mut upload = blobs.receive(digest, 4).unwrap();
    assert!(matches!(upload.push(b"abcde"), Err(BlobError::TooLong { .. })));
    drop(upload);
    assert!(matches!(blobs.receive(digest, 101), Err(BlobError::TooLarge { .. })));
    assert_eq!(files(folder.path()), 0);
    put(&blobs, b"abcd");
    let again = Blobs::open(folder.path(), 100, 1_000).unwrap();
    assert_eq!(fs::read(again.pin(&digest).unwrap().path()).unwrap(), b"abcd");
}

#[test]
fn an_upload_that_cannot_be_kept_at_its_end_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), 100, 1_000).unwrap();
    let digest = Digest::of(b"abcd");
    // No file takes the place of a folder.
    let place = folder.path().join(digest.hex());
    fs::create_dir(&place).unwrap();
    let mut upload = blobs.receive(digest, 4).unwrap();
    upload.push(b"abcd").unwrap();
    assert!(matches!(upload.finish(), Err(BlobError::Io { .. })));
    assert!(!blobs.has(&digest) && blobs.failure(&digest).is_some());
    fs::remove_dir(place).unwrap();
    assert_eq!(files(folder.path()), 0, "what was uploaded is gone");
}

/// A disk with so much room.
struct Disk(Arc<Mutex<usize>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.0.lock().unwrap();
        let n = bytes.len().min(*room);
        *room -= n;
        if n == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(n) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_costs_blobs_that_nobody_uses_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), 100, 1_000).unwrap();
    let [used, unused] = [b"aaaa", b"bbbb"].map(|bytes| put(&blobs, bytes));
    let _pin = blobs.pin(&used).unwrap();
    let room = Arc::new(Mutex::new(3));
    let evict = || {
        let evicted = blobs.evict();
        *room.lock().unwrap() += if evicted { 4 } else { 0 };
        evicted
    };
    write_all(&mut Disk(room.clone()), b"1234567", evict).unwrap();
    assert!(blobs.has(&used) && !blobs.has(&unused));
    let error = write_all(&mut Disk(room.clone()), b"8", evict).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn why_a_blob_did_not_get_here_is_known_until_it_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), 4, 1_000).unwrap();
    let digest = Digest::of(b"abcde");
    assert!(blobs.receive(digest, 5).is_err());
    assert!(blobs.failure(&digest).unwrap().contains("the limit is 4"));
    fs::remove_dir_all(folder.path()).unwrap();
    assert!(blobs.receive(digest, 4).is_err());
    assert!(blobs.failure(&digest).unwrap().contains("No such file"));
    fs::create_dir(folder.path()).unwrap();
    let _upload = blobs.receive(digest, 4).unwrap();
    assert_eq!(blobs.failure(&digest), None);
}

#[test]
fn the_least_recently_used_goes_first_and_a_pinned_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), 100, 10).unwrap();
    let [a, b, c] = [b"aaaa", b"bbbb", b"cccc"].map(|bytes| {
        let digest = put(&blobs, bytes);
        if bytes == b"bbbb" {
            drop(blobs.pin(&Digest::of(b"aaaa")));
        }
        digest
    });
    assert!(blobs.has(&a) && !blobs.has(&b) && blobs.has(&c));
    let pin = blobs.pin(&a).unwrap();
    put(&blobs, b"dddd");
    put(&blobs, b"eeee");
    assert!(blobs.has(&a) && pin.path().exists());
    drop(pin);
    put(&blobs, b"ffff");
    put(&blobs, b"gggg");
    assert!(!blobs.has(&a));
    // Across a restart the order holds: the one of the two that was used last stays.
    drop(blobs.pin(&Digest::of(b"ffff")));
    let blobs = Blobs::open(folder.path(), 100, 10).unwrap();
    put(&blobs, b"hhhh");
    assert!(blobs.has(&Digest::of(b"ffff")) && !blobs.has(&Digest::of(b"gggg")));
}

#[test]
fn what_is_in_use_or_on_its_way_leaves_less_room_and_the_refusal_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path(), 100, 10).unwrap();
    let a = put(&blobs, b"aaaa");
    let pin = blobs.pin(&a).unwrap();
    let coming = blobs.receive(Digest::of(b"bbbb"), 4).unwrap();
    let error = blobs.receive(Digest::of(b"ccc"), 3).unwrap_err();
    assert!(matches!(error, BlobError::Full { size: 3, quota: 10, needed: 8, .. }), "{error}");
    assert!(blobs.failure(&Digest::of(b"ccc")).unwrap().contains("cache_bytes"));
    drop((pin, coming));
    put(&blobs, b"cccccccccc");
    assert!(!blobs.has(&a));
}

const FOLDER: &str = "EDGEPROF_TEST_BLOBS_INTO";

/// The process that is killed: receives blobs without end, a line for each step.
#[test]
fn blobs_without_end_where_it_is_told_to() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let blobs = Blobs::open(Path::new(&folder), 1 << 20, 2_000_000).unwrap();
    for n in 0_u32.. {
        let bytes = n.to_le_bytes().repeat(1 + (n as usize * 7_919) % 60_000);
        let mut upload = blobs.receive(Digest::of(&bytes), bytes.len() as u64).unwrap();
        for piece in bytes.chunks(16_384) {
            upload.push(piece).unwrap();
            println!("\npiece");
        }
        upload.finish().unwrap();
        println!("\nwhole");
    }
}

#[test]
fn a_process_killed_while_blobs_come_leaves_whole_ones_only() {
    let folder = tempfile::tempdir().unwrap();
    for steps in [1, 2, 5, 17, 40, 41, 90, 150, 151, 260] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "blobs::tests::blobs_without_end_where_it_is_told_to", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = lines.filter(|line| line == "piece" || line == "whole").take(steps).count();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(said, steps);
        let blobs = Blobs::open(folder.path(), 1 << 20, 2_000_000).unwrap();
        let known = blobs.shared.index().blobs.len();
        assert_eq!(files(folder.path()), known, "no upload is left");
        let mut total = 0;
        for file in fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            total += bytes.len();
            assert_eq!(Some(Digest::of(&bytes).hex().as_str()), path.file_name().unwrap().to_str());
        }
        assert!(total <= 2_000_000, "{total} bytes after {steps} steps");
    }
}
