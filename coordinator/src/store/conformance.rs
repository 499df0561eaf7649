//! What every store must do, run on each of them.

use super::{Applied, Embedded, Memory, Store, Transaction};

fn put(key: &str, value: &str) -> Transaction {
    let mut transaction = Transaction::default();
    transaction.put(key.into(), value.into());
    transaction
}

fn get(store: &dyn Store, key: &str) -> Option<String> {
    store.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value).unwrap())
}

fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let rows = store.scan(prefix.as_bytes(), after.map(str::as_bytes), limit).unwrap();
    rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

fn conforms(store: &dyn Store) {
    // A row that was never put is absent, and an empty value is not absence.
    assert_eq!(get(store, "a"), None);
    assert_eq!(store.commit(&[put("a", "")]).unwrap(), [Applied::Yes]);
    assert_eq!(get(store, "a").as_deref(), Some(""));

    // Transactions of one batch see each other in order, and a conflict leaves the others alone.
    let outcomes = store
        .commit(&[
            put("b", "1").when("b".into(), None),
            put("b", "2").when("b".into(), None),
            put("b", "3").when("b".into(), Some("1".into())),
        ])
        .unwrap();
    assert_eq!(outcomes, [Applied::Yes, Applied::Conflict("b".into()), Applied::Yes]);
    assert_eq!(get(store, "b").as_deref(), Some("3"));

    // A failed check undoes every change of its transaction.
    let mut both = put("c", "1");
    both.delete("b".into());
    let outcome = store.commit(&[both.when("a".into(), Some("other".into()))]).unwrap();
    assert_eq!(outcome, [Applied::Conflict("a".into())]);
    assert_eq!((get(store, "b").is_some(), get(store, "c")), (true, None));

    // Changes of one transaction are made in order.
    let mut order = put("d", "1");
    order.delete("d".into());
    order.put("d".into(), "2".into());
    store.commit(&[order]).unwrap();
    assert_eq!(get(store, "d").as_deref(), Some("2"));

    // Scans are ordered by bytes, end at their prefix, resume after a key, and keep their limit.
    store.commit(&[put("p/2", ""), put("p/1", ""), put("p/\u{7f}", ""), put("q", ""), put("p", "")]).unwrap();
    assert_eq!(keys(store, "p/", None, 10), ["p/1", "p/2", "p/\u{7f}"]);
    assert_eq!(keys(store, "p/", Some("p/1"), 1), ["p/2"]);
    assert_eq!(keys(store, "p/", Some("p/\u{7f}"), 10), [""; 0]);
    assert_eq!(keys(store, "p/", Some("a"), 1), ["p/1"]);
    assert_eq!(keys(store, "p/", None, 0), [""; 0]);

    // A snapshot has every row in order, as of its begin, whatever is committed meanwhile.
    let mut seen = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        store.commit(&[put("z", "late"), put("q", "late")])?;
        seen.push((String::from_utf8(key.to_vec()).unwrap(), value.to_vec()));
        Ok(())
    };
    store.snapshot(&mut visit).unwrap();
    let names: Vec<_> = seen.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(names, ["a", "b", "d", "p", "p/1", "p/2", "p/\u{7f}", "q"]);
    assert!(seen.iter().all(|(_, value)| value != b"late"), "{seen:?}");
    assert_eq!(get(store, "q").as_deref(), Some("late"));
}

#[test]
fn the_store_in_memory_conforms() {
    conforms(&Memory::default());
}

#[test]
fn the_store_on_disk_conforms_and_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = Embedded::open(&path).unwrap();
    conforms(&store);
    drop(store);
    assert_eq!(get(&Embedded::open(&path).unwrap(), "d").as_deref(), Some("2"));
}

#[test]
fn a_store_that_is_open_elsewhere_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let _first = Embedded::open(&path).unwrap();
    let error = Embedded::open(&path).unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains(folder.path().to_str().unwrap()), "{error}");
}
