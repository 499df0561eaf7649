//! A worker's host: the real hub and gRPC face, and boards that are played.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use edgeprof_boards::catalogue;
use edgeprof_common::Digest;
use edgeprof_scheduler::{Requirement, Term};
use edgeprof_service::shutdown::Tasks;
use edgeprof_worker::{
    blobs::Blobs,
    fence::Fence,
    home::Home,
    hub::{self, Hub},
    outbox::Outbox,
    session::{Face, serve},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    board::{Board, Notes},
    lab::folder,
    net,
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
    /// Once set, it reads nothing more from any connection.
    pub(crate) stuck: Arc<AtomicBool>,
    /// What is noted of its boards.
    pub(crate) notes: Notes,
    story: Story,
    home: TempDir,
}

impl Worker {
    /// A worker that has not started yet.
    pub(crate) fn new(name: &str, boards: usize, takes: Duration, story: Story) -> Self {
        let (stuck, notes) = (Arc::default(), Notes::default());
        Self { name: name.into(), boards, takes, stuck, notes, story, home: folder() }
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
        let mut boards = Vec::new();
        for number in 0..self.boards {
            let id = format!("{worker}/{KIND}-{number}").parse()?;
            let (orders, receiver) = mpsc::channel(8);
            boards.push(hub::Board { id, kind, labels: Default::default(), orders });
            let board = Board {
                id: boards[number].id.clone(),
                takes: self.takes,
                blobs: blobs.clone(),
                events: events.clone(),
                notes: self.notes.clone(),
                story: self.story.clone(),
            };
            tokio::spawn(board.run(receiver));
        }
        let hub = Hub::new(hub::Parts {
            worker,
            site: "net".into(),
            fence: Fence::open(home.path())?,
            outbox: Outbox::open(&home.path().join("outbox"), 1024)?,
            blobs: blobs.clone(),
            boards,
        });
        let tasks = Tasks::new();
        let (inputs, hub_inputs) = mpsc::channel(256);
        tasks.spawn(hub.run(hub_inputs, board_events, tasks.stop_token()));
        let incoming = net::listen(self.stuck.clone()).await?;
        serve(Face::new(inputs, blobs, tasks.clone()), incoming, tasks.stop_token()).await?;
        Ok(())
    }

    /// Any of its boards.
    pub(crate) fn any_board(&self) -> Requirement {
        let boards = (0..self.boards).map(|number| format!("{}/{KIND}-{number}", self.name).parse().unwrap());
        Requirement(vec![Term::Boards(boards.collect())])
    }

    /// Whether a blob is half here.
    pub(crate) fn is_receiving(&self) -> bool {
        self.files("blobs").any(|(name, size)| name.ends_with(".tmp") && size > 0)
    }

    /// The epoch that commands it.
    pub(crate) fn epoch(&self) -> Option<u64> {
        Some(Fence::open(self.home.path()).ok()?.claim()?.epoch.0)
    }

    /// Names of the results that wait for a coordinator.
    pub(crate) fn outbox(&self) -> BTreeSet<String> {
        self.files("outbox").map(|(name, _)| name).filter(|name| name.ends_with(".result")).collect()
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
