//! Wires the rooms together, and takes them down in order.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use edgeprof_common::{IdError, Identity, WorkerId};
use edgeprof_service::{
    discovery::{Announcement, WORKER_SERVICE},
    shutdown::Tasks,
    supervisor,
    tls::{self, Door, Own, Refusals, Untrusted},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    blobs::Blobs,
    board::{
        actor::{Actor, Inbox},
        device::{Device, Source},
        emulated::Emulation,
        guard::guard,
        noop::Noop,
        process::Spawner,
        queue::Queue,
        stage::Stager,
        usage::Usage,
    },
    config::{Behind, Settings},
    disk,
    fence::{Fence, FenceError},
    home::{Home, HomeError},
    hub::{self, Hub, Input},
    outbox::Outbox,
    session::{Face, serve},
    trust::Trust,
};

/// How long open calls may take to end when the worker stops.
const GRACE: Duration = Duration::from_secs(3);

/// Questions that wait for a board.
const ORDERS: usize = 8;

/// Frames that came, and events of all boards, that wait for the hub.
const INPUTS: usize = 1024;
const EVENTS: usize = 1024;

/// Why the worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is to serve others without certificates, or those that it has cannot be used.
    #[error("{}; {}", .0, .0.hint)]
    Tls(#[from] Untrusted),
    /// The certificate is another worker's.
    #[error(
        "this worker is named {name}, and its certificate is that of {certified}: leave the name out, or give it a \
         certificate of its own with `edgeprof pki issue worker {name}`"
    )]
    Name {
        /// As configured.
        name: WorkerId,
        /// As in the certificate.
        certified: WorkerId,
    },
    /// The data folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The fence.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// A file of the data folder.
    #[error("cannot read {}: {source}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The address.
    #[error("cannot listen on {address}: {source}; {}", elsewhere(source.kind()))]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The ready file.
    #[error("cannot write ready file {}: {source}", path.display())]
    Ready {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No thread for the emulators.
    #[error("cannot start the emulators' thread: {0}")]
    Thread(io::Error),
}

fn elsewhere(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "another worker may be running, `edgeprof doctor` says who listens there: stop it, or give another \
             address with --listen"
        }
        io::ErrorKind::PermissionDenied => "give a port above 1023 with --listen",
        _ => "give an address of this machine with --listen",
    }
}

fn why(error: Option<impl std::fmt::Display>) -> String {
    error.map(|error| format!(": {error}")).unwrap_or_default()
}

/// A running worker.
#[derive(Debug)]
pub struct Daemon {
    /// Where it serves.
    pub address: SocketAddr,
    /// Its name.
    pub worker: WorkerId,
    tasks: Tasks,
    inputs: mpsc::Sender<Input>,
    hub: JoinHandle<()>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    announcement: Option<Announcement>,
    ready_file: Option<PathBuf>,
    _home: Home,
}

/// Starts a worker. It serves when this returns.
///
/// # Errors
/// What keeps it from serving.
pub async fn start(settings: Settings) -> Result<Daemon, StartError> {
    let Settings { config, boards, ready_file } = settings;
    let keeper = tls::secure(&config.tls, config.listen, Own::Worker, &config.data)?;
    let home = Home::open(&config.data)?;
    let named = name(config.name.as_ref(), keeper.as_deref())?;
    let worker = home.worker_id(named.as_ref())?;
    let fence = Fence::open(home.path())?;
    let (outbox, blobs) = (home.path().join("outbox"), home.path().join("blobs"));
    let limits = &config.limits;
    let blobs = Blobs::open(&blobs, limits.blob_bytes, limits.cache_bytes)
        .map_err(|source| StartError::Data { path: blobs, source })?;
    let outbox =
        Outbox::open(&outbox, limits.outbox).map_err(|source| StartError::Data { path: outbox, source })?;
    let listen = |source| StartError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;

    let tasks = Tasks::new();
    let spawner = Spawner::start().map_err(StartError::Thread)?;
    let (events, board_events) = mpsc::channel(EVENTS);
    let trust = Trust::new();
    let mut known = Vec::new();
    for board in boards {
        let id = board.id(&worker);
        let (orders, receiver) = mpsc::channel(ORDERS);
        let (queue, reset) = (Queue::new(), Arc::new(Notify::new()));
        let inbox = Inbox {
            queue: queue.clone(),
            orders: receiver,
            reset: Arc::clone(&reset),
            trusted: trust.watch(),
        };
        let actor = |source, inbox| {
            let device = Device::new(board.kind, source, limits.boot_timeout);
            let stager = Stager::new(id.clone(), blobs.clone(), limits.clone(), events.clone());
            Actor::new(device, stager, inbox)
        };
        let stop = tasks.stop_token();
        let task = match board.behind {
            Behind::Emulator(transport) => {
                let source = Source::Emulated(Emulation { transport, spawner: spawner.clone() });
                tasks.spawn(actor(source, inbox).run(stop))
            }
            Behind::Port(port) => tasks.spawn(actor(Source::Attached(port), inbox).run(stop)),
            Behind::Nothing(run) => {
                let usage = Usage::new(&id, &board.kind.name);
                let noop = Noop { id: id.clone(), run, inbox, events: events.clone(), usage };
                tasks.spawn(noop.run(stop))
            }
        };
        tasks.spawn(guard(id.clone(), task, events.clone()));
        known.push(hub::Board { id, kind: board.kind, labels: board.labels, queue, orders, reset });
    }
    drop(events);
    let count = known.len();
    let hub = Hub::new(hub::Parts {
        worker: worker.clone(),
        site: config.site.clone(),
        limits: limits.clone(),
        fence,
        trust,
        outbox,
        blobs: blobs.clone(),
        boards: known,
    });
    let (inputs, hub_inputs) = mpsc::channel(INPUTS);
    let hub = tasks.spawn(hub.run(hub_inputs, board_events, tasks.stop_token()));

    let (secure, refusals) = (keeper.is_some(), Arc::new(Refusals::new()));
    let face = Face::new(inputs.clone(), blobs, tasks.clone(), refusals.clone());
    let face = face.with_certificates(keeper.clone());
    let door = Door::new(keeper, true, &config.connections, refusals);
    let server = tasks.spawn(serve(face, tls::incoming(listener, door, &tasks), tasks.stop_token()));

    let announcement = if config.announce {
        Announcement::start(WORKER_SERVICE, worker.as_str(), &config.site, address, secure)
            .inspect_err(
                |error| warn!(%error, "this worker is not announced; name its address to the coordinator"),
            )
            .ok()
    } else {
        None
    };
    if let Some(path) = &ready_file {
        let scheme = if secure { "https" } else { "http" };
        disk::write_durably(path, format!("{scheme}://{address}\n").as_bytes())
            .map_err(|source| StartError::Ready { path: path.clone(), source })?;
    }
    let alive = inputs.clone();
    tasks.spawn_until_stop(supervisor::watch(move || answers(alive.clone())));
    info!(%worker, %address, tls = secure, site = config.site, boards = count, "worker is serving");
    Ok(Daemon { address, worker, tasks, inputs, hub, server, announcement, ready_file, _home: home })
}

/// A worker that has a certificate goes by the name in it: its coordinator takes no other.
fn name(configured: Option<&WorkerId>, keeper: Option<&tls::Keeper>) -> Result<Option<WorkerId>, StartError> {
    let Some(Identity::Worker(certified)) = keeper.and_then(tls::Keeper::identity) else {
        return Ok(configured.cloned());
    };
    // The rule for names in certificates is the stricter one.
    let certified: WorkerId = certified
        .parse()
        .map_err(|error: IdError| Untrusted::new(error.to_string(), "issue another certificate"))?;
    match configured {
        Some(name) if *name != certified => Err(StartError::Name { name: name.clone(), certified }),
        _ => Ok(Some(certified)),
    }
}

/// Whether the hub goes on.
async fn answers(inputs: mpsc::Sender<Input>) -> bool {
    let (reply, answer) = oneshot::channel();
    inputs.send(Input::Alive(reply)).await.is_ok() && answer.await.is_ok()
}

impl Daemon {
    /// Waits until it cannot go on by itself, which is an error of the program, and says what ended.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            hub = &mut self.hub => format!("the worker's loop has ended{}", why(hub.err())),
            server = &mut self.server => match server {
                Ok(served) => format!("the server has ended{}", why(served.err())),
                Err(error) => format!("the server has ended: {error}"),
            },
        }
    }

    /// Takes no new work, gives back what waits, lets running attempts finish within the configured grace, and
    /// returns when their results are acknowledged or cannot be. Dropped before its end, it goes on.
    pub async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.inputs.send(Input::Drain(done)).await.is_ok() {
            // A hub that ends meanwhile has nothing to wait for.
            let _ = drained.await;
        }
    }

    /// Stops it: no emulator, no task and no ready file is left.
    pub async fn stop(self) {
        let Self { tasks, server, announcement, ready_file, .. } = self;
        if let Some(path) = ready_file {
            let _ = disk::remove(&path);
        }
        if let Some(announcement) = announcement {
            let _ = timeout(GRACE, announcement.withdraw()).await;
        }
        tasks.stop_token().cancel();
        let abort = server.abort_handle();
        // It may have been waited for already: then it must not be again.
        if !server.is_finished() && timeout(GRACE, server).await.is_err() {
            abort.abort();
        }
        tasks.stop().await;
    }
}
