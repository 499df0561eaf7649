use std::{io::Write as _, sync::Arc};

use edgeprof_common::Digest;
use tokio_util::sync::CancellationToken;

use super::{
    frames::{End, Pieces, collect},
    *,
};
use crate::{
    artifacts::Artifacts,
    store::{Embedded, Store, Transaction, rows},
};

fn put(store: &dyn Store, key: &str, value: &[u8]) {
    let mut transaction = Transaction::default();
    transaction.put(key.into(), value.to_vec());
    store.commit(&[transaction]).unwrap();
}

/// A coordinator's data, served as it would.
struct Served {
    data: tempfile::TempDir,
    store: Arc<Embedded>,
    artifacts: Artifacts,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Arc::new(Embedded::open(&data.path().join(STORE)).unwrap());
        rows::claim(&*store).unwrap();
        let artifacts = Artifacts::open(data.path(), 1 << 20).unwrap();
        let stop = CancellationToken::new();
        let task =
            tokio::spawn(serve(data.path().to_owned(), store.clone(), artifacts.clone(), stop.clone()));
        while !socket(data.path()).exists() {
            tokio::task::yield_now().await;
        }
        Self { data, store, artifacts, stop, task }
    }

    async fn take(&self, file: &Path) -> Result<u64, Error> {
        let (data, file) = (self.data.path().to_owned(), file.to_owned());
        tokio::task::spawn_blocking(move || take(&data, &file)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_a_backup_under_load_is_in_it_and_it_is_of_one_moment() {
    let served = Served::start().await;
    let needed = served.artifacts.keep(b"the model of an unfinished job").unwrap();
    let done = served.artifacts.keep(b"the model of a job that is done").unwrap();
    let _hold = served.artifacts.hold([needed]);
    for n in 0..500 {
        put(&*served.store, &format!("run/{n:06}"), b"acknowledged");
    }
    // Two rows that are always the same, changed all the time.
    let (writing, store) = (CancellationToken::new(), served.store.clone());
    let written = writing.clone();
    let writer = std::thread::spawn(move || {
        let mut n = 0_u64;
        while !written.is_cancelled() || n == 0 {
            n += 1;
            let mut both = Transaction::default();
            both.put(b"a/pair".to_vec(), n.to_be_bytes().to_vec());
            both.put(b"z/pair".to_vec(), n.to_be_bytes().to_vec());
            both.put(format!("run/{n:06}-late").into_bytes(), b"late".to_vec());
            store.commit(&[both]).unwrap();
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.tar");
    served.take(&file).await.unwrap();
    writing.cancel();
    writer.join().unwrap();

    let data = folder.path().join("data");
    let restored = restore(&file, &data).unwrap();
    assert_eq!(restored.artifacts, 1);
    let store = Embedded::open(&data.join(STORE)).unwrap();
    for n in 0..500 {
        assert_eq!(store.get(format!("run/{n:06}").as_bytes()).unwrap().unwrap(), b"acknowledged");
    }
    assert_eq!(store.get(b"a/pair").unwrap(), store.get(b"z/pair").unwrap());
    let artifacts = Artifacts::open(&data, 1 << 20).unwrap();
    assert!(artifacts.size(&needed).is_some() && artifacts.size(&done).is_none());
    // The next life is of the same cluster, and above the one that made the backup.
    let (cluster, epoch) = rows::owner(&*served.store).unwrap().unwrap();
    assert_eq!((restored.cluster, restored.epoch), (cluster, epoch));
    let next = rows::claim(&store).unwrap();
    assert!(next.cluster == cluster && next.life.epoch > epoch);

    served.stop.cancel();
    served.task.await.unwrap();
    let error = take(served.data.path(), &folder.path().join("late.tar")).unwrap_err();
    assert!(matches!(&error, Error::NotRunning { .. }), "{error}");
}

/// The store's file has holes wherever redb has room to spare.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_files_with_holes_is_taken_back() {
    const SIZE: usize = 256 << 10;
    let served = Served::start().await;
    let needed = served.artifacts.keep(&vec![0; SIZE]).unwrap();
    let _hold = served.artifacts.hold([needed]);
    let hollow = std::fs::File::create(served.artifacts.path(&needed)).unwrap();
    hollow.set_len(SIZE as u64).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("backup.tar"), folder.path().join("data"));
    served.take(&file).await.unwrap();
    assert_eq!(restore(&file, &data).unwrap().artifacts, 1);
    let artifacts = Artifacts::open(&data, 1 << 20).unwrap();
    assert_eq!(std::fs::read(artifacts.path(&needed)).unwrap(), vec![0; SIZE]);
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_file_nor_a_data_folder_is_overwritten() {
    let served = Served::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.tar");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(served.take(&file).await, Err(Error::Exists(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    let backup = folder.path().join("other.tar");
    served.take(&backup).await.unwrap();
    let error = restore(&backup, served.data.path()).unwrap_err();
    assert!(matches!(&error, Error::NotEmpty(path) if path == served.data.path()), "{error}");
    served.stop.cancel();
    served.task.await.unwrap();
}

/// An archive with these entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // As a hostile archive would: the library refuses to write such paths.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn what_is_no_backup_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    drop(Embedded::open(&path).unwrap());
    let unclaimed = std::fs::read(&path).unwrap();
    let hex = Digest::of(b"bytes").hex();
    let (right, wrong) = (format!("blobs/{}/{hex}", &hex[..2]), format!("blobs/00/{hex}"));
    for (name, bytes, word) in [
        ("nothing", Vec::new(), "no store"),
        ("text", b"text ".repeat(200), ""),
        ("upwards", archive(&[("../store.redb", b"x")]), "what is ../store.redb"),
        ("absolute", archive(&[("/etc/passwd", b"x")]), "etc/passwd"),
        ("other bytes", archive(&[(&right, b"other")]), "digest"),
        ("another folder", archive(&[(&wrong, b"bytes")]), "what is blobs/00"),
        ("twice", archive(&[(STORE, &unclaimed), (STORE, &unclaimed)]), "what is store.redb"),
        ("no store's", archive(&[(STORE, b"text")]), ""),
        ("nobody's", archive(&[(STORE, &unclaimed)]), "no cluster"),
    ] {
        let (file, data) = (folder.path().join("file"), folder.path().join("data"));
        std::fs::write(&file, bytes).unwrap();
        let error = restore(&file, &data).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0, "{name} left something");
    }
}

#[test]
fn a_stream_that_breaks_off_is_not_whole() {
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let mut sent = Vec::new();
    let mut pieces = Pieces::new(&mut sent);
    pieces.write_all(&bytes).unwrap();
    pieces.end().unwrap();
    let mut out = Vec::new();
    assert_eq!(collect(&*sent, &mut out).unwrap(), End::Whole(bytes.len() as u64));
    assert_eq!(out, bytes);
    for cut in [0, 3, 4, 1000, sent.len() - 1] {
        assert!(collect(&sent[..cut], &mut Vec::new()).is_err(), "{cut}");
    }
    let mut failed = Vec::new();
    let mut pieces = Pieces::new(&mut failed);
    pieces.write_all(b"half").unwrap();
    pieces.fail("the disk is gone").unwrap();
    assert_eq!(collect(&*failed, &mut Vec::new()).unwrap(), End::Failed("the disk is gone".into()));
}
