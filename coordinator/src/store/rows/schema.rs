//! The version of the rows: a store of an older one is brought up when it is opened, one of a newer is refused.

use super::{encode, read};
use crate::store::{Store, StoreError, Transaction};

/// Version of the rows.
pub const SCHEMA: u32 = 3;

/// The oldest that a release had; schema 1 was never in one.
const OLDEST: u32 = 2;

/// Changes rows of one version into those of the next. They are committed together with the new version, so that
/// a crash leaves the one or the other.
type Migration = fn(&dyn Store, &mut Transaction) -> Result<(), StoreError>;

/// The first brings `OLDEST` up by one, and so on: a new schema is a number above and a function here.
const MIGRATIONS: [Migration; (SCHEMA - OLDEST) as usize] = [tasks_say_less];

/// Tasks of schema 2 are read as they are; a program of that time could not read those of schema 3.
#[expect(clippy::unnecessary_wraps, reason = "it is a migration")]
fn tasks_say_less(_: &dyn Store, _: &mut Transaction) -> Result<(), StoreError> {
    Ok(())
}

const SCHEMA_KEY: &[u8] = b"meta/schema";
const WRITER_KEY: &[u8] = b"meta/writer";

/// Marks a new store as one of this schema, and brings an old one up to it. A store that is several versions behind
/// is durable at each between them; `transaction` says which version of edgeprof has it now.
///
/// # Errors
/// When the store fails, or has a schema that is not known here.
pub(super) fn bring_up(store: &dyn Store, transaction: &mut Transaction) -> Result<(), StoreError> {
    if !migrate(store, OLDEST, &MIGRATIONS)? {
        transaction.put(SCHEMA_KEY.into(), encode(&SCHEMA));
    }
    transaction.put(WRITER_KEY.into(), encode(&env!("CARGO_PKG_VERSION")));
    Ok(())
}

/// Whether this program can take the store over. Nothing is changed.
///
/// # Errors
/// When the store fails, or has a schema that is not known here.
pub fn known(store: &dyn Store) -> Result<(), StoreError> {
    version(store, OLDEST, SCHEMA).map(drop)
}

/// The schema of a store; none of a new one.
fn version(store: &dyn Store, oldest: u32, latest: u32) -> Result<Option<u32>, StoreError> {
    let Some(value) = store.get(SCHEMA_KEY)? else { return Ok(None) };
    let found = String::from_utf8_lossy(&value).into_owned();
    match found.parse() {
        Ok(version) if version > latest => {
            // Whatever a later version keeps there, it is no reason to say less.
            let writer = read(store, WRITER_KEY).unwrap_or_default();
            Err(StoreError::Newer { found: version, expected: latest, writer })
        }
        Ok(version) if version >= oldest => Ok(Some(version)),
        _ => Err(StoreError::Older { found, oldest }),
    }
}

/// Whether there was anything to bring up.
fn migrate(store: &dyn Store, oldest: u32, migrations: &[Migration]) -> Result<bool, StoreError> {
    let latest = (oldest..).nth(migrations.len()).unwrap_or(oldest);
    let Some(found) = version(store, oldest, latest)? else { return Ok(false) };
    for (from, migration) in (oldest..).zip(migrations).filter(|(from, _)| *from >= found) {
        let mut transaction = Transaction::default();
        migration(store, &mut transaction)?;
        transaction.put(SCHEMA_KEY.into(), encode(&(from + 1)));
        super::claim::commit(store, transaction.when(SCHEMA_KEY.into(), Some(encode(&from))))?;
        tracing::info!(from, to = from + 1, "the store was brought up to a newer schema");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edgeprof_scheduler::Phase;

    use super::*;
    use crate::store::{
        Memory,
        rows::{StoredTask, TaskToStore, claim, decode},
    };

    fn of(schema: &str) -> Memory {
        let store = Memory::default();
        let mut transaction = Transaction::default();
        transaction.put(SCHEMA_KEY.into(), schema.into());
        store.commit(&[transaction]).unwrap();
        store
    }

    fn renames(store: &dyn Store, transaction: &mut Transaction) -> Result<(), StoreError> {
        for (key, value) in store.scan(b"old/", None, 10)? {
            transaction.put([b"new/", &key[4..]].concat(), value);
            transaction.delete(key);
        }
        Ok(())
    }

    fn doubles(store: &dyn Store, transaction: &mut Transaction) -> Result<(), StoreError> {
        for (key, value) in store.scan(b"new/", None, 10)? {
            transaction.put(key, [value.clone(), value].concat());
        }
        Ok(())
    }

    fn fails(_: &dyn Store, transaction: &mut Transaction) -> Result<(), StoreError> {
        transaction.put(b"half".to_vec(), b"done".to_vec());
        Err(StoreError::Io("the disk is gone".into()))
    }

    #[test]
    fn an_old_store_goes_through_every_version_once() {
        let store = of("7");
        let mut transaction = Transaction::default();
        transaction.put(b"old/a".to_vec(), b"x".to_vec());
        store.commit(&[transaction]).unwrap();
        let migrations: [Migration; 3] = [fails, renames, doubles];
        // The first of them, from 6, is behind it.
        assert!(migrate(&store, 6, &migrations).unwrap());
        assert!(migrate(&store, 6, &migrations).unwrap());
        let rows = store.scan(b"", None, 10).unwrap();
        let (new, schema) = ((b"new/a".to_vec(), b"xx".to_vec()), (SCHEMA_KEY.to_vec(), b"9".to_vec()));
        assert_eq!(rows, [schema, new]);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let store = of("6");
        assert!(migrate(&store, 6, &[fails]).is_err());
        assert_eq!(store.scan(b"", None, 10).unwrap(), [(SCHEMA_KEY.to_vec(), b"6".to_vec())]);
    }

    #[test]
    fn a_store_of_a_later_version_is_refused_with_that_version_and_the_way_out() {
        let store = of("99");
        let mut transaction = Transaction::default();
        transaction.put(WRITER_KEY.into(), encode(&"4.2.0"));
        store.commit(&[transaction]).unwrap();
        let before = store.scan(b"", None, 10).unwrap();
        let error = claim(&store).unwrap_err();
        let said = format!("{error}; {}", error.hint());
        for word in ["schema 99", "4.2.0", env!("CARGO_PKG_VERSION"), "backup"] {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
        assert_eq!(store.scan(b"", None, 10).unwrap(), before, "nothing was changed");
    }

    #[test]
    fn a_store_that_no_release_has_made_is_refused() {
        for schema in ["1", "", "two"] {
            let error = claim(&of(schema)).unwrap_err();
            assert!(matches!(&error, StoreError::Older { oldest: OLDEST, .. }), "{error}");
        }
    }

    #[test]
    fn a_new_store_says_its_schema_and_who_has_it() {
        let store = Memory::default();
        claim(&store).unwrap();
        assert_eq!(store.get(SCHEMA_KEY).unwrap(), Some(encode(&SCHEMA)));
        assert_eq!(read::<String>(&store, WRITER_KEY).unwrap().unwrap(), env!("CARGO_PKG_VERSION"));
    }

    /// What a coordinator of schema 2 wrote of a task that it had leased once and that then waited to be tried again.
    const TASK_OF_SCHEMA_2: &str = r#"{"row":{"id":"t01m8j4vh6c7xv7bs86stjs2001","job":"j128vqn665pq65",
        "priority":"normal","seq":1,"front":false,"requirement":[{"kinds":["noop"]}],
        "image":{"digest":"sha256:61c121dee56e65ea422902fdabeee8043a43ce7481a71c6f1bb19a7437add829",
        "model_bytes":300384,"arena_bytes":6160},"submitter":"bench","work":6,
        "phase":{"backoff":{"wait":{"secs":1,"nanos":0}}},"attempt":1,"failures":1,"spent":1,"deaths":0,
        "shared_deaths":0,"cleared":[],"past":[{"attempt":1,"token":{"epoch":1,"counter":2},
        "board":"host-2/noop.1","closed":"failed"}],"error":null},
        "story":[{"at":1795905406294,"what":"prepared"}]}"#;

    #[test]
    fn a_task_of_schema_2_stands_where_it_stood() {
        let store = of("2");
        let at = b"task/t01m8j4vh6c7xv7bs86stjs2001".to_vec();
        let mut transaction = Transaction::default();
        transaction.put(at.clone(), TASK_OF_SCHEMA_2.into());
        store.commit(&[transaction]).unwrap();
        claim(&store).unwrap();
        assert_eq!(store.get(SCHEMA_KEY).unwrap(), Some(encode(&SCHEMA)));
        let StoredTask { standing, started_at, story } = read(&store, &at).unwrap().unwrap();
        let said = (standing.attempt.0, standing.failures, standing.spent, standing.past.len());
        assert_eq!((said, started_at, story.len()), ((1, 1, 1, 1), None, 1));
        assert_eq!(standing.phase, Phase::Backoff { wait: Duration::from_secs(1) });
        assert_eq!(standing.image.as_ref().map(|image| image.model_bytes), Some(300_384));
        // It is written again without what its job and its definition say.
        let written = encode(&TaskToStore { standing: &standing, started_at, story: &story });
        assert_eq!(decode::<StoredTask>(&at, &written).unwrap().standing, standing);
        let written = String::from_utf8(written).unwrap();
        for left_out in ["requirement", "submitter", "priority", "deaths", "cleared"] {
            assert!(!written.contains(left_out), "{written}");
        }
    }
}
