//! The daemon put together: store, loop, sessions, service.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use edgeprof_proto::v1::{self, access_server::AccessServer, profiler_server::ProfilerServer};
use edgeprof_service::{
    channel::Dialer,
    discovery::{Announcement, COORDINATOR_SERVICE},
    shutdown::Tasks,
    supervisor,
    telemetry::{
        metrics::{observe, table},
        rpc::Traced,
    },
    tls::{self, Demand, Door, Own, Refusals, Untrusted},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tonic::transport::Server;
use tower::util::MapResponseLayer;

use crate::{
    access::{Access, GuardLayer, keep},
    api::Api,
    artifacts::{Artifacts, firmware::Folders},
    backup,
    canary::Canary,
    config::Config,
    core::{Command, Core, Failed, Parts, QUEUE, RecoverError},
    discovery::{browse, dial_static},
    preparing::{Children, Limits},
    session::Context,
    store::{Embedded, Store, StoreError, Writer, rows},
};

/// Largest message of a client: a job with the longest prompts.
const MESSAGE: usize = 16 << 20;

/// Requests at once on one connection.
const STREAMS: u32 = 256;

/// How long open requests may take to end after the word to stop.
const LAST_CALL: Duration = Duration::from_secs(5);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is to serve others without certificates, or those that it has cannot be used.
    #[error(transparent)]
    Tls(#[from] Untrusted),
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be taken up.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The system has nothing to give.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// The way out.
    pub fn hint(&self) -> &str {
        match self {
            Self::Tls(why) => &why.hint,
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "another coordinator may be running, `edgeprof doctor` says who listens there; stop it, or \
                     give another address with --listen"
                }
                io::ErrorKind::PermissionDenied => "give a port above 1023 with --listen",
                _ => "give an address of this machine with --listen",
            },
            Self::Data { .. } => "make it writable for this user, or give another folder with --data",
            Self::Store(error) | Self::Recover(RecoverError::Store(error)) => error.hint(),
            Self::Recover(RecoverError::Epoch(_)) => {
                "restore the store from a backup, or give another --data"
            }
            Self::System(_) => "check the limits of this process",
        }
    }
}

/// A running coordinator.
#[derive(Debug)]
pub struct Daemon {
    address: SocketAddr,
    secure: bool,
    refusals: Arc<Refusals>,
    commands: mpsc::Sender<Command>,
    tasks: Tasks,
    core: JoinHandle<Result<(), Failed>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    announcement: Option<Announcement>,
    access: Arc<Access>,
    /// Addresses of configured workers, which never change.
    _fixed: Vec<watch::Sender<Vec<String>>>,
}

impl Daemon {
    /// Starts to serve. `program` is this program, whose `prepare` subcommand reads model files.
    ///
    /// # Errors
    /// When the address, the data directory or the store cannot be used.
    pub async fn start(config: &Config, program: PathBuf) -> Result<Self, StartError> {
        let keeper = tls::secure(&config.tls, config.listen, Own::Coordinator, &config.data)?;
        // The address first: a second coordinator by mistake must not raise the epoch.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let address = listener.local_addr()?;
        let data = |source| StartError::Data { path: config.data.clone(), source };
        fs::create_dir_all(&config.data).map_err(data)?;
        let store: Arc<dyn Store> = Arc::new(Embedded::open(&config.data.join("store.redb"))?);
        let artifacts = Artifacts::open(&config.data, config.artifact_quota_bytes).map_err(data)?;
        let identity = rows::claim(&*store)?;
        let tasks = Tasks::new();
        let stop = tasks.stop_token();
        let (commands, waiting) = mpsc::channel(QUEUE);
        let firmware = Folders::new(&config.firmware, Some(&program));
        let limits = Limits { step: config.prepare_timeout, reference: config.reference_limit };
        let parts = Parts {
            identity,
            writer: Writer::start(store.clone())?,
            store: store.clone(),
            preparer: Arc::new(Children { program: program.clone(), artifacts: artifacts.clone(), limits }),
            artifacts: artifacts.clone(),
            tasks: tasks.clone(),
            commands: commands.clone(),
            canary: Canary::new(&artifacts, firmware.clone())
                .inspect_err(|error| {
                    tracing::warn!(%error, "boards that failed go without a canary run");
                })
                .ok(),
            quotas: config.quotas.clone(),
            scheduler: config.scheduler.resolve(config.max_queued_tasks),
        };
        let core = Core::recover(parts)?;
        let core = tasks.spawn(core.run(waiting, stop.clone()));

        watch_disk(config, &artifacts);
        let access = Access::recover(&*store, config.quotas.clone(), keeper.is_some(), commands.clone())?;
        let access = Arc::new(access);
        tasks.spawn_until_stop(keep(access.clone(), store.clone(), config.audit, commands.clone()));
        let dialer = keeper
            .clone()
            .map_or_else(Dialer::default, |keeper| Dialer::secured(keeper, Demand::Worker(None)));
        let (secure, refusals) = (keeper.is_some(), Arc::new(Refusals::new()));
        let api = Api {
            commands: commands.clone(),
            dialer: dialer.clone(),
            store: store.clone(),
            first_event: identity.life.first_event(),
            artifacts: artifacts.clone(),
            firmware,
            data: config.data.clone(),
            max_artifact_bytes: config.max_artifact_bytes,
            reserve_bytes: config.reserve_bytes,
            access: access.clone(),
            refusals: refusals.clone(),
            stop: stop.clone(),
        };
        let door = Door::new(keeper, false, &config.connections, refusals.clone());
        let server = tasks.spawn(serve(listener, door, api, tasks.clone()));
        let own = commands.clone();

        tasks.spawn(backup::serve(config.data.clone(), store, artifacts.clone(), stop.clone()));
        let context = Context {
            commands: commands.clone(),
            identity,
            site: config.site.as_str().into(),
            data: config.data.as_path().into(),
            dialer,
            jitter: rand::random(),
            artifacts,
            sessions: Arc::new(AtomicU64::new(1)),
            stop,
        };
        let fixed = dial_static(&config.workers, &context, &tasks);
        let mut announcement = None;
        if config.discovery {
            tasks.spawn_until_stop(browse(config.workers.clone(), context, tasks.clone()));
            let id = identity.cluster.to_string();
            match Announcement::start(COORDINATOR_SERVICE, &id, &config.site, address, secure) {
                Ok(announced) => announcement = Some(announced),
                Err(error) => tracing::warn!(%error, "clients must be told this coordinator's address"),
            }
        }
        tasks.spawn_until_stop(supervisor::watch(move || answers(commands.clone())));
        tracing::info!(%address, tls = secure, cluster = %identity.cluster, epoch = identity.life.epoch.0,
            site = %config.site, data = %config.data.display(), "serving");
        Ok(Self {
            address,
            secure,
            refusals,
            commands: own,
            tasks,
            core,
            server,
            announcement,
            access,
            _fixed: fixed,
        })
    }

    /// Where it listens, as clients are told.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
    }

    /// What was refused so far.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who may do what, and what was refused.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The way to the loop, past the service: it tells what the loop itself knows.
    pub fn commands(&self) -> &mpsc::Sender<Command> {
        &self.commands
    }

    /// Waits until the daemon cannot go on by itself.
    ///
    /// # Errors
    /// Why.
    pub async fn failed(&mut self) -> Result<(), Failed> {
        tokio::select! {
            outcome = &mut self.core => outcome.unwrap_or(Ok(())),
            _ = &mut self.server => Ok(()),
        }
    }

    /// Stops, and waits until every task has ended.
    pub async fn stop(self) {
        if let Some(announcement) = self.announcement {
            announcement.withdraw().await;
        }
        self.tasks.stop().await;
    }
}

/// Observes what fills the disk.
fn watch_disk(config: &Config, artifacts: &Artifacts) {
    let (store, data, artifacts) = (config.data.join("store.redb"), config.data.clone(), artifacts.clone());
    observe(&table::STORE_SIZE, move |seen| {
        if let Ok(file) = fs::metadata(&store) {
            seen.is(file.len() as f64, &[]);
        }
    });
    observe(&table::ARTIFACTS_SIZE, move |seen| seen.is(artifacts.bytes() as f64, &[]));
    observe(&table::DISK_FREE, move |seen| {
        if let Some(free) = crate::api::free(&data) {
            seen.is(free as f64, &[]);
        }
    });
    let reserve = config.reserve_bytes as f64;
    observe(&table::DISK_RESERVE, move |seen| seen.is(reserve, &[]));
}

/// Whether the loop goes on.
async fn answers(commands: mpsc::Sender<Command>) -> bool {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Alive(reply)).await.is_ok() && answer.await.is_ok()
}

async fn serve(
    listener: TcpListener,
    door: Door,
    api: Api,
    tasks: Tasks,
) -> Result<(), tonic::transport::Error> {
    let stop = tasks.stop_token();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ProfilerServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the embedded descriptors are descriptors");
    let access = AccessServer::new(api.clone());
    let guard = GuardLayer::new(api.access.clone());
    let profiler =
        ProfilerServer::new(api).max_decoding_message_size(MESSAGE).max_encoding_message_size(4 * MESSAGE);
    let refusals = door.refusals.clone();
    let server = Server::builder()
        .layer(Traced)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(STREAMS)
        .layer(MapResponseLayer::new(move |response| tls::count_messages(&refusals, response)))
        .layer(guard)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(profiler)
        .add_service(access)
        .serve_with_incoming_shutdown(tls::incoming(listener, door, &tasks), stop.clone().cancelled_owned());
    tokio::select! {
        served = server => served,
        () = async { stop.cancelled().await; tokio::time::sleep(LAST_CALL).await } => Ok(()),
    }
}

/// Writes where the daemon listens to a file, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_ready(path: &Path, url: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, format!("{url}\n").as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
