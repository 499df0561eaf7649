//! Group commit: one writer takes all that waits, commits it at once, and then says so.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use edgeprof_service::telemetry::metrics::{Histogram, table};

use tokio::{
    sync::{mpsc, watch},
    task,
};

use super::{Applied, Change, Store, StoreError, Transaction};

/// Transactions that may wait for the writer.
const QUEUE: usize = 1024;

/// Most transactions of one commit, and most changes in them: nobody waits long for a batch that others fill.
const BATCH: usize = 1024;
const CHANGES: usize = 8192;

/// How far the writer is: transactions are numbered from 1 in the order in which they were handed in.
#[derive(Clone, Debug, Default)]
pub enum Committed {
    /// None yet.
    #[default]
    Nothing,
    /// All up to this one are durable.
    UpTo(u64),
    /// The store failed, or a row was not what its only writer left there. Nothing more is committed.
    Failed(Arc<StoreError>),
}

/// The way to the writer, for the one loop that owns the state.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Transaction>,
    committed: watch::Receiver<Committed>,
    handed: u64,
    runs: Runs,
}

#[derive(Debug)]
enum Runs {
    Thread(thread::JoinHandle<()>),
    Task(task::JoinHandle<()>),
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(store: Arc<dyn Store>) -> std::io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (say, committed) = watch::channel(Committed::Nothing);
        let thread =
            thread::Builder::new().name("store".into()).spawn(move || write(&*store, waiting, &say))?;
        Ok(Self { queue, committed, handed: 0, runs: Runs::Thread(thread) })
    }

    /// Starts a task of this runtime instead, in whose clock each commit takes `latency` before it is
    /// durable: for a store that does not block, where time is simulated.
    pub fn start_task(store: Arc<dyn Store>, latency: Duration) -> Self {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let (say, committed) = watch::channel(Committed::Nothing);
        let task = tokio::spawn(async move {
            let mut log = Log::new(&*store, &say);
            while let Some(first) = waiting.recv().await {
                tokio::time::sleep(latency).await;
                if !log.commit(first, &mut waiting) {
                    return;
                }
            }
            log.told = true;
        });
        Self { queue, committed, handed: 0, runs: Runs::Task(task) }
    }

    /// Hands a transaction in and gives its number; waits while the queue is full. `None` once the
    /// writer has failed.
    pub async fn hand_in(&mut self, transaction: Transaction) -> Option<u64> {
        self.queue.send(transaction).await.ok()?;
        self.handed += 1;
        Some(self.handed)
    }

    /// How far the writer is, and every change of it.
    pub fn committed(&self) -> watch::Receiver<Committed> {
        self.committed.clone()
    }

    /// Commits what waits and ends the writer.
    pub async fn close(self) {
        drop(self.queue);
        let _ = match self.runs {
            Runs::Thread(thread) => task::spawn_blocking(move || thread.join()).await.map(drop),
            Runs::Task(task) => task.await,
        };
    }
}

/// The writer's side. Says so if the writer ends in any way but by being told to.
struct Log<'a> {
    store: &'a dyn Store,
    say: &'a watch::Sender<Committed>,
    done: u64,
    batch: Vec<Transaction>,
    took: Histogram,
    size: Histogram,
    /// The loop knows that this ends.
    told: bool,
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        if !self.told {
            let error = StoreError::Io("the writer has ended".into());
            self.say.send_replace(Committed::Failed(Arc::new(error)));
        }
    }
}

impl<'a> Log<'a> {
    fn new(store: &'a dyn Store, say: &'a watch::Sender<Committed>) -> Self {
        Self {
            store,
            say,
            done: 0,
            batch: Vec::with_capacity(BATCH),
            took: Histogram::new(&table::COMMIT),
            size: Histogram::new(&table::COMMIT_BATCH),
            told: false,
        }
    }

    /// Commits `first` and what waits behind it. False once nothing more can be committed.
    fn commit(&mut self, first: Transaction, waiting: &mut mpsc::Receiver<Transaction>) -> bool {
        let mut changes = first.changes.len();
        self.batch.push(first);
        while self.batch.len() < BATCH && changes < CHANGES {
            match waiting.try_recv() {
                Ok(next) => {
                    changes += next.changes.len();
                    self.batch.push(next);
                }
                Err(_) => break,
            }
        }
        let began = Instant::now();
        let failed = match self.store.commit(&self.batch) {
            Ok(outcomes) => outcomes.into_iter().find_map(|outcome| match outcome {
                Applied::Yes => None,
                Applied::Conflict(key) => Some(StoreError::Row {
                    key: String::from_utf8_lossy(&key).into_owned(),
                    reason: "it was changed by somebody else".into(),
                }),
            }),
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            self.told = true;
            self.say.send_replace(Committed::Failed(Arc::new(error)));
            return false;
        }
        let took = began.elapsed();
        self.done += self.batch.len() as u64;
        // First of all: somebody waits for it.
        self.say.send_replace(Committed::UpTo(self.done));
        self.took.took(took, &[], None);
        self.size.record(self.batch.len() as f64, &[], None);
        log_commit(&self.batch);
        self.batch.clear();
        true
    }
}

/// Says in the log how much was committed at once, and where: that decides how much a disk can take. Sorts of rows are
/// the beginnings of their keys, each with the rows that were put, their bytes, and the rows that were removed.
fn log_commit(batch: &[Transaction]) {
    const LOG: &str = "edgeprof_coordinator::commits";
    if !tracing::enabled!(target: LOG, tracing::Level::DEBUG) {
        return;
    }
    // The last change of a row is the one that is written.
    let changes = batch.iter().flat_map(|transaction| &transaction.changes);
    let last: HashMap<&[u8], &Change> = changes.map(|change| (change.key(), change)).collect();
    let mut sorts = BTreeMap::<&[u8], (usize, usize, usize)>::new();
    for (key, change) in &last {
        let sort = key.split(|byte| *byte == b'/').next().unwrap_or_default();
        let (put, bytes, removed) = sorts.entry(sort).or_default();
        match change {
            Change::Put(..) => (*put, *bytes) = (*put + 1, *bytes + change.bytes()),
            Change::Delete(_) => *removed += 1,
        }
    }
    let (rows, bytes) = (last.len(), last.values().map(|change| change.bytes()).sum::<usize>());
    let sorts = sorts.iter().map(|(sort, (put, bytes, removed))| {
        format!("{}:{put}:{bytes}:{removed}", String::from_utf8_lossy(sort))
    });
    let sorts = sorts.collect::<Vec<_>>().join(" ");
    tracing::debug!(target: LOG, transactions = batch.len(), rows, bytes, sorts, "committed");
}

fn write(store: &dyn Store, mut waiting: mpsc::Receiver<Transaction>, say: &watch::Sender<Committed>) {
    let mut log = Log::new(store, say);
    while let Some(first) = waiting.blocking_recv() {
        if !log.commit(first, &mut waiting) {
            return;
        }
    }
    log.told = true;
}

#[cfg(test)]
mod tests {
    use std::sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::store::Memory;

    #[tokio::test]
    async fn transactions_are_durable_in_the_order_of_their_numbers() {
        let store = Arc::new(Memory::default());
        let mut writer = Writer::start(store.clone()).unwrap();
        let mut last = 0;
        for n in 1..=1000u64 {
            let mut transaction = Transaction::default();
            transaction.put(b"n".to_vec(), n.to_be_bytes().to_vec());
            last = writer.hand_in(transaction).await.unwrap();
        }
        let mut committed = writer.committed();
        committed.wait_for(|c| matches!(c, Committed::UpTo(n) if *n == last)).await.unwrap();
        assert_eq!(store.get(b"n").unwrap(), Some(1000u64.to_be_bytes().to_vec()));
        writer.close().await;
    }

    /// What is not durable yet is not said to be, and a writer that dies takes it along.
    #[tokio::test(start_paused = true)]
    async fn a_task_takes_its_latency_before_anything_is_durable() {
        let store = Arc::new(Memory::default());
        let latency = Duration::from_millis(5);
        let mut writer = Writer::start_task(store.clone(), latency);
        let began = tokio::time::Instant::now();
        let mut transaction = Transaction::default();
        transaction.put(b"n".to_vec(), b"1".to_vec());
        writer.hand_in(transaction).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(store.get(b"n").unwrap(), None);
        let mut committed = writer.committed();
        committed.wait_for(|c| matches!(c, Committed::UpTo(1))).await.unwrap();
        assert!(began.elapsed() >= latency);
        assert_eq!(store.get(b"n").unwrap(), Some(b"1".to_vec()));
        writer.close().await;
    }

    /// Looks at what is said to be durable while it makes something so.
    #[derive(Debug, Default)]
    struct Listens {
        store: Memory,
        said: OnceLock<watch::Receiver<Committed>>,
        commits: AtomicUsize,
        early: AtomicUsize,
    }

    impl Store for Listens {
        fn commit(&self, batch: &[Transaction]) -> Result<Vec<Applied>, StoreError> {
            let said = self.said.wait().borrow().clone();
            let before = self.commits.fetch_add(batch.len(), Ordering::Relaxed);
            if matches!(said, Committed::UpTo(number) if number > before as u64) {
                self.early.fetch_add(1, Ordering::Relaxed);
            }
            self.store.commit(batch)
        }
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            self.store.get(key)
        }
        fn scan(
            &self,
            prefix: &[u8],
            after: Option<&[u8]>,
            limit: usize,
        ) -> Result<Vec<crate::store::Row>, StoreError> {
            self.store.scan(prefix, after, limit)
        }
        fn snapshot(&self, visit: crate::store::Visit<'_>) -> Result<(), StoreError> {
            self.store.snapshot(visit)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_said_to_be_durable_before_its_commit() {
        type Start = fn(Arc<dyn Store>) -> Writer;
        let starts: [Start; 2] =
            [|store| Writer::start(store).unwrap(), |store| Writer::start_task(store, Duration::ZERO)];
        for start in starts {
            let store = Arc::new(Listens::default());
            let mut writer = start(store.clone());
            store.said.set(writer.committed()).unwrap();
            for n in 1..=10u64 {
                let mut transaction = Transaction::default();
                transaction.put(b"n".to_vec(), n.to_be_bytes().to_vec());
                writer.hand_in(transaction).await.unwrap();
                let mut committed = writer.committed();
                committed.wait_for(|c| matches!(c, Committed::UpTo(done) if *done == n)).await.unwrap();
            }
            writer.close().await;
            let [commits, early] = [&store.commits, &store.early].map(|count| count.load(Ordering::Relaxed));
            assert_eq!((commits, early), (10, 0));
        }
    }

    #[derive(Debug)]
    struct Panics;

    impl Store for Panics {
        fn commit(&self, _: &[Transaction]) -> Result<Vec<Applied>, StoreError> {
            panic!("as a library may");
        }
        fn get(&self, _: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(None)
        }
        fn scan(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<crate::store::Row>, StoreError> {
            Ok(Vec::new())
        }
        fn snapshot(&self, _: crate::store::Visit<'_>) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_writer_that_panics_is_a_failed_store() {
        let mut writer = Writer::start(Arc::new(Panics)).unwrap();
        writer.hand_in(Transaction::default()).await.unwrap();
        let mut committed = writer.committed();
        committed.wait_for(|c| matches!(c, Committed::Failed(_))).await.unwrap();
    }

    #[tokio::test]
    async fn a_broken_expectation_stops_the_writer() {
        let mut writer = Writer::start(Arc::new(Memory::default())).unwrap();
        writer.hand_in(Transaction::default().when(b"x".to_vec(), Some(b"1".to_vec()))).await.unwrap();
        let mut committed = writer.committed();
        let state = committed.wait_for(|c| matches!(c, Committed::Failed(_))).await.unwrap().clone();
        assert!(matches!(state, Committed::Failed(error) if error.to_string().contains("row x")));
    }
}
