//! A worker's host: the real hub and gRPC face, and boards that are played.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use edgeprof_boards::catalogue;
use edgeprof_common::{BoardId, Digest};
use edgeprof_scheduler::{Requirement, Term};
use edgeprof_service::shutdown::Tasks;
use edgeprof_worker::{
    blobs::Blobs,
    board::{actor::Inbox, queue::Queue, stage::Stager},
    config::Limits,
    fence::Fence,
    home::Home,
    hub::{self, Hub},
    outbox::{
        Key, Outbox,
        log::{Record, decode},
    },
    session::{Face, serve},
    trust::Trust,
};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};

use super::{
    board::{Board, Notes},
    lab::{Shape, folder},
    net::{self, Reading},
    story::Story,
};

/// The kind of every board.
pub(crate) const KIND: &str = "riscv32";

/// Bytes of the largest blob, and of the cache.
const BLOB: u64 = 1 << 24;
const CACHE: u64 = 1 << 30;

/// The host, and what outlives its crashes.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its name, which is the host's too.
    pub(crate) name: String,
    /// How many boards it has.
    pub(crate) boards: usize,
    /// How long a run takes.
    pub(crate) takes: Duration,
    /// Attempts that a board takes behind the one in work.
    pub(crate) queue: u32,
    /// How it reads from its connections.
    pub(crate) reading: Arc<Reading>,
    /// What is noted of its boards.
    pub(crate) notes: Notes,
    story: Story,
    home: TempDir,
    /// What was last read of the outbox, and the files' names and sizes then.
    outbox: Mutex<(BTreeMap<String, u64>, BTreeSet<Key>)>,
}

impl Worker {
    /// A worker that has not started yet.
    pub(crate) fn new(name: &str, boards: usize, shape: &Shape, story: Story) -> Self {
        let (reading, notes) = (Arc::default(), Notes::default());
        Self {
            name: name.into(),
            boards,
            takes: shape.takes,
            queue: shape.queue,
            reading,
            notes,
            story,
            home: folder(),
            outbox: Mutex::default(),
        }
    }

    /// Puts blobs into its cache, before it starts.
    pub(crate) fn cache(&self, blobs: &[&[u8]]) {
        let home = Home::open(self.home.path()).unwrap();
        let cache = Blobs::open(&home.path().join("blobs"), BLOB, CACHE).unwrap();
        for bytes in blobs {
            let mut upload = cache.receive(Digest::of(bytes), bytes.len() as u64).unwrap();
            upload.push(bytes).unwrap();
            upload.finish().unwrap();
        }
    }

    /// Runs until the host crashes.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        self.story.tell(format_args!("{} starts", self.name));
        let home = Home::open(self.home.path())?;
        let worker = home.worker_id(Some(&self.name.parse()?))?;
        let blobs = Blobs::open(&home.path().join("blobs"), BLOB, CACHE)?;
        let kind = catalogue().get(KIND).expect("the kind is in the catalogue");
        let (events, board_events) = mpsc::channel(256);
        let (trust, limits) = (Trust::new(), Limits { queue: self.queue, ..Limits::default() });
        let mut boards = Vec::new();
        for number in 0..self.boards {
            let id = format!("{worker}/{KIND}-{number}").parse()?;
            let (orders, receiver) = mpsc::channel(8);
            let (queue, reset) = (Queue::new(), Arc::new(Notify::new()));
            let inbox = Inbox {
                queue: queue.clone(),
                orders: receiver,
                reset: reset.clone(),
                trusted: trust.watch(),
            };
            let board = Board {
                start: Duration::from_millis(1 + number as u64 % 8),
                takes: self.takes,
                stager: Stager::new(BoardId::clone(&id), blobs.clone(), limits.clone(), events.clone()),
                inbox,
                notes: self.notes.clone(),
                story: self.story.clone(),
            };
            tokio::spawn(board.run());
            boards.push(hub::Board { id, kind, labels: Default::default(), queue, orders, reset });
        }
        let hub = Hub::new(hub::Parts {
            worker,
            site: "net".into(),
            limits,
            fence: Fence::open(home.path())?,
            trust,
            outbox: Outbox::open(&home.path().join("outbox"), 1024)?,
            blobs: blobs.clone(),
            boards,
        });
        let tasks = Tasks::new();
        let (inputs, hub_inputs) = mpsc::channel(256);
        tasks.spawn(hub.run(hub_inputs, board_events, tasks.stop_token()));
        let incoming = net::listen(self.reading.clone()).await?;
        serve(Face::new(inputs, blobs, tasks.clone(), Arc::default()), incoming, tasks.stop_token()).await?;
        Ok(())
    }

    /// Any of its boards.
    pub(crate) fn any_board(&self) -> Requirement {
        let boards = (0..self.boards).map(|number| format!("{}/{KIND}-{number}", self.name).parse().unwrap());
        Requirement::all([Term::Boards(boards.collect())])
    }

    /// Whether a blob is half here.
    pub(crate) fn is_receiving(&self) -> bool {
        self.files("blobs").any(|(name, size)| name.ends_with(".tmp") && size > 0)
    }

    /// The epoch that commands it.
    pub(crate) fn epoch(&self) -> Option<u64> {
        Some(Fence::open(self.home.path()).ok()?.claim()?.epoch.0)
    }

    /// The results that wait for a coordinator, as its files have them.
    pub(crate) fn outbox(&self) -> BTreeSet<Key> {
        let files: BTreeMap<_, _> = self.files("outbox").collect();
        let mut outbox = self.outbox.lock().unwrap();
        if outbox.0 != files {
            let mut waiting = BTreeSet::new();
            for name in files.keys() {
                let bytes = fs::read(self.home.path().join("outbox").join(name)).unwrap();
                for record in decode(&bytes).0 {
                    match record {
                        Record::Put(key, _) => waiting.insert(key),
                        Record::Gone(key) => waiting.remove(&key),
                    };
                }
            }
            *outbox = (files, waiting);
        }
        outbox.1.clone()
    }

    /// Names and sizes of the files in one of its folders.
    fn files(&self, folder: &str) -> impl Iterator<Item = (String, u64)> {
        let files = fs::read_dir(self.home.path().join(folder)).into_iter().flatten();
        files.filter_map(|file| {
            let file = file.ok()?;
            Some((file.file_name().into_string().ok()?, file.metadata().ok()?.len()))
        })
    }
}
