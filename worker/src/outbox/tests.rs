use std::fs;

use tokio::time::advance;

use super::*;

fn result(task: u128, counter: u64) -> v1::Result {
    v1::Result {
        lease: Some(v1::Lease { epoch: 3, counter }),
        task_id: TaskId::from_raw(task).to_string(),
        board: "w/b".into(),
        outcome: Some(v1::result::Outcome::Cancelled(v1::Cancelled {})),
        transcript: Vec::new(),
    }
}

fn keys(outbox: &Outbox) -> Vec<Key> {
    outbox.iter().map(|(key, _)| *key).collect()
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "log"));
    found.sort();
    found
}

/// What a SIGKILL leaves is what a reopened outbox reads: nothing is flushed on drop.
#[test]
fn results_outlive_the_process_until_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    outbox.put(result(1, 1));
    outbox.put(result(1, 2));
    outbox.put(result(2, 3));
    let first = keys(&outbox);
    std::mem::forget(outbox);
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    assert_eq!(keys(&outbox), first);
    assert_eq!(outbox.get(&first[2]), Some(&result(2, 3)));
    assert!(outbox.remove(&first[0]) && !outbox.remove(&first[0]));
    std::mem::forget(outbox);
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    assert_eq!(keys(&outbox), first[1..]);
    first[1..].iter().for_each(|key| assert!(outbox.remove(key)));
    std::mem::forget(outbox);
    assert_eq!(keys(&Outbox::open(folder.path(), 10).unwrap()), []);
    assert_eq!(segments(folder.path()).len(), 0, "nothing is waited for");
}

#[test]
fn a_torn_tail_is_set_aside_and_never_sent() {
    for cut in 1..30 {
        let folder = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(folder.path(), 10).unwrap();
        outbox.put(result(1, 1));
        outbox.put(result(2, 2));
        let file = segments(folder.path()).remove(0);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
        let mut outbox = Outbox::open(folder.path(), 10).unwrap();
        assert_eq!(outbox.iter().map(|(_, result)| result.clone()).collect::<Vec<_>>(), [result(1, 1)]);
        assert!(file.with_extension("damaged").exists());
        // What comes after lies behind nothing that is torn.
        outbox.put(result(3, 3));
        assert_eq!(Outbox::open(folder.path(), 10).unwrap().iter().count(), 2);
    }
}

#[test]
fn damage_in_the_middle_costs_what_is_behind_it_and_gives_nothing_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    (1..=3).for_each(|n| outbox.put(result(n.into(), n)));
    let file = segments(folder.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        let (records, whole) = log::decode(&damaged);
        assert!(records.len() < 3 && whole <= at, "{at}");
    }
    assert_eq!(log::decode(&bytes).0.len(), 3);
}

#[test]
fn a_full_or_unwritable_outbox_gives_no_room_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path(), 2).unwrap();
    outbox.put(result(1, 1));
    assert!(outbox.has_room());
    outbox.put(result(2, 2));
    assert!(!outbox.has_room());
    fs::remove_dir_all(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    outbox.put(result(3, 3));
    assert!(!outbox.has_room());
    assert_eq!(outbox.iter().count(), 1);
    outbox.retry();
    assert!(!outbox.has_room());
    fs::create_dir(folder.path()).unwrap();
    outbox.retry();
    assert!(outbox.has_room());
    assert_eq!(Outbox::open(folder.path(), 10).unwrap().iter().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_not_acknowledged_soon_waits_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    assert_eq!(outbox.sync_due(), None);
    outbox.put(result(1, 1));
    assert_eq!(outbox.sync_due(), Some(Instant::now() + UNSYNCED));
    advance(Duration::from_millis(60)).await;
    outbox.put(result(2, 2));
    let first = keys(&outbox)[0];
    outbox.remove(&first);
    assert_eq!(outbox.sync_due(), Some(Instant::now() + UNSYNCED), "of the second");
    outbox.sync();
    assert_eq!(outbox.sync_due(), None);
    assert!(outbox.has_room());
}

#[test]
fn old_segments_go_and_what_is_waited_for_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    let large = |n: u64| v1::Result { transcript: vec![7; 1 << 20], ..result(n.into(), n) };
    for n in 1..=40 {
        outbox.put(large(n));
        let key = keys(&outbox)[0];
        outbox.remove(&key);
    }
    assert!(segments(folder.path()).len() <= 2, "{:?}", segments(folder.path()));
    outbox.put(large(99));
    for n in 1..=40 {
        outbox.put(result(n.into(), n));
        let key = key(&result(n.into(), n)).unwrap();
        outbox.remove(&key);
    }
    let outbox = Outbox::open(folder.path(), 10).unwrap();
    assert_eq!(outbox.iter().map(|(_, result)| result.clone()).collect::<Vec<_>>(), [large(99)]);
}

#[test]
fn one_result_that_is_waited_for_does_not_keep_all_later_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    outbox.put(result(99, 99));
    for n in 1..=60 {
        let large = v1::Result { transcript: vec![7; 1 << 20], ..result(n.into(), n) };
        let key = key(&large).unwrap();
        outbox.put(large);
        outbox.remove(&key);
        outbox.retry();
    }
    assert!(segments(folder.path()).len() <= 6, "{:?}", segments(folder.path()));
    let outbox = Outbox::open(folder.path(), 10).unwrap();
    assert_eq!(outbox.iter().map(|(_, result)| result.clone()).collect::<Vec<_>>(), [result(99, 99)]);
}

/// Results that a failed sync may have cost are written anew, whatever the sync was for.
#[test]
fn a_sync_that_fails_while_old_segments_are_emptied_makes_nothing_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = Outbox::open(folder.path(), 10).unwrap();
    // Each fills a segment.
    let large = |n: u64| v1::Result { transcript: vec![7; 5 << 20], ..result(n.into(), n) };
    (1..=5).for_each(|n| outbox.put(large(n)));
    assert_eq!(segments(folder.path()).len(), 5);
    fs::remove_dir_all(folder.path()).unwrap();
    outbox.retry();
    assert!(!outbox.has_room(), "nothing of it is on the disk");
    fs::create_dir(folder.path()).unwrap();
    outbox.retry();
    assert!(outbox.sync() && outbox.has_room());
    std::mem::forget(outbox);
    assert_eq!(Outbox::open(folder.path(), 10).unwrap().iter().count(), 5);
}
