//! Holds certificates and the connections that they stand for, and sees that both are fresh.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use edgeprof_common::Identity;
use edgeprof_identity::{Certificate, RevocationList};
use rustls::pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Own, Untrusted,
    config::{Paths, TlsConfig},
    loaded::Loaded,
    verify::{judge_client, judge_server},
};

/// How often files are looked at, and connections whose certificate has expired are ended.
const PACE: Duration = Duration::from_secs(1);

/// Which side of a connection the other one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It was dialled.
    Server,
    /// It has dialled.
    Client,
}

/// The certificates of this process.
#[derive(Debug)]
pub struct Keeper {
    pub(super) paths: Paths,
    pub(super) own: Own,
    /// Shows its certificate without looking at it: for tests of the other side.
    careless: bool,
    pub(super) files: Mutex<Files>,
    live: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
    /// The list of what is revoked, for who waits for a newer one.
    pub(super) revoked: watch::Sender<Option<Arc<RevocationList>>>,
}

#[derive(Debug)]
pub(super) struct Files {
    pub(super) loaded: Arc<Loaded>,
    pub(super) stamps: Stamps,
    looked: Instant,
}

/// By what a change of a file is seen, in the order of certificate, key, authority, list, list that was handed over.
pub(super) type Stamps = [Option<(u64, u64, SystemTime)>; 5];

#[derive(Debug)]
struct Entry {
    side: Side,
    chain: Vec<CertificateDer<'static>>,
    until: OffsetDateTime,
    end: CancellationToken,
}

impl Entry {
    /// Ends the connection, and says so once.
    fn end(&self, why: &str) {
        if !self.end.is_cancelled() {
            let certificate = self.chain.first().and_then(|first| Certificate::read(first).ok());
            let certificate = certificate.as_ref().map(ToString::to_string);
            tracing::warn!(certificate, why, "a connection is ended");
            self.end.cancel();
        }
    }
}

/// A connection that is known, until dropped.
#[derive(Debug)]
pub(super) struct Live {
    keeper: Arc<Keeper>,
    number: u64,
    /// Fires when its certificate is good no more.
    pub(super) end: CancellationToken,
    /// When its certificate ends, if it is not revoked before.
    pub(super) until: OffsetDateTime,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.keeper.live().remove(&self.number);
    }
}

impl Keeper {
    pub(super) fn new(paths: Paths, own: Own) -> Result<Self, Untrusted> {
        let stamps = stamps(&paths);
        let loaded = Arc::new(Loaded::read(&paths, own)?);
        Ok(Self::holding(paths, own, loaded, stamps))
    }

    fn holding(paths: Paths, own: Own, loaded: Arc<Loaded>, stamps: Stamps) -> Self {
        let revoked = watch::Sender::new(loaded.revoked.clone());
        let files = Files { loaded, stamps, looked: Instant::now() };
        Self {
            paths,
            own,
            careless: false,
            files: files.into(),
            live: Mutex::default(),
            next: AtomicU64::new(0),
            revoked,
        }
    }

    /// Those of a folder as `edgeprof pki issue` writes it.
    ///
    /// # Errors
    /// When one of its files cannot be used.
    pub fn open(dir: &Path, own: Own) -> Result<Self, Untrusted> {
        match TlsConfig::folder(dir).paths()? {
            Some(paths) => Self::new(paths, own),
            None => Err(Untrusted::new("no folder is named", "name one with --tls-dir")),
        }
    }

    /// Whatever the others will say to its certificate.
    #[cfg(test)]
    pub(super) fn unjudged(config: TlsConfig, own: Own) -> Self {
        let paths = config.paths().unwrap().unwrap();
        let (loaded, stamps) = (Loaded::unjudged(&paths, own).unwrap(), stamps(&paths));
        Self { careless: true, ..Self::holding(paths, own, loaded.into(), stamps) }
    }

    /// Whose certificate this process has.
    pub fn identity(&self) -> Option<Identity> {
        self.loaded().mine.as_ref().map(|mine| mine.identity.clone())
    }

    /// What the own certificate says.
    pub fn certificate(&self) -> Option<Certificate> {
        self.loaded().mine.as_ref().map(|mine| mine.certificate.clone())
    }

    /// What this process is.
    pub(super) fn own(&self) -> Own {
        self.own
    }

    /// Whether the own certificate is good at this moment.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check_own(&self) -> Result<(), Untrusted> {
        if self.careless {
            return Ok(());
        }
        self.loaded().check_own(self.own)
    }

    /// The files as they are now. Where new ones cannot be used, the old ones hold, and it is said once.
    pub(super) fn loaded(&self) -> Arc<Loaded> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.looked.elapsed() < PACE {
            return files.loaded.clone();
        }
        files.looked = Instant::now();
        let stamps = stamps(&self.paths);
        if stamps == files.stamps {
            return files.loaded.clone();
        }
        files.stamps = stamps;
        match Loaded::read(&self.paths, self.own) {
            Ok(loaded) => {
                let certificate = loaded.mine.as_ref().map(|mine| mine.certificate.to_string());
                tracing::info!(certificate, "certificates were read again");
                self.renew(files, loaded)
            }
            Err(Untrusted { what, hint }) => {
                tracing::error!(%what, %hint, "changed certificates cannot be used: the earlier ones hold");
                files.loaded.clone()
            }
        }
    }

    /// From now on these hold, for what stands as well.
    pub(super) fn renew(&self, mut files: MutexGuard<'_, Files>, loaded: Loaded) -> Arc<Loaded> {
        let loaded = Arc::new(loaded);
        files.loaded = loaded.clone();
        drop(files);
        self.revoked.send_replace(loaded.revoked.clone());
        self.judge_again(&loaded);
        loaded
    }

    /// Looks after files and connections until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        let mut pace = tokio::time::interval(PACE);
        let mut told = None;
        loop {
            pace.tick().await;
            let loaded = self.loaded();
            let now = OffsetDateTime::now_utc();
            // In whole seconds, as whoever verifies it does.
            let second = now.unix_timestamp();
            for entry in self.live().values().filter(|entry| second > entry.until.unix_timestamp()) {
                entry.end("it has expired");
            }
            // Before peers refuse it.
            if let Some(mine) = &loaded.mine
                && mine.certificate.not_after - now
                    < (mine.certificate.not_after - mine.certificate.not_before) / 6
                && told.as_ref() != Some(&mine.certificate.serial)
            {
                told = Some(mine.certificate.serial.clone());
                let renew = format!("edgeprof pki renew {}", edgeprof_identity::names::path(&mine.identity));
                tracing::warn!(certificate = %mine.certificate, until = %mine.certificate.not_after.date(), %renew,
                    "the own certificate expires soon");
            }
        }
    }

    /// Keeps an eye on a connection.
    pub(super) fn register(
        self: &Arc<Self>,
        side: Side,
        chain: Vec<CertificateDer<'static>>,
        until: OffsetDateTime,
        judged_by: &Arc<Loaded>,
    ) -> Live {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let end = CancellationToken::new();
        self.live().insert(number, Entry { side, chain, until, end: end.clone() });
        // Files that changed during the handshake have judged all but this one.
        let now = self.files.lock().unwrap_or_else(PoisonError::into_inner).loaded.clone();
        if !Arc::ptr_eq(&now, judged_by) {
            self.judge_again(&now);
        }
        Live { keeper: self.clone(), number, end, until }
    }

    /// Ends connections whose certificate is not taken any more.
    fn judge_again(&self, loaded: &Loaded) {
        let now = UnixTime::now();
        for entry in self.live().values() {
            let Some((first, rest)) = entry.chain.split_first() else { continue };
            let judged = match entry.side {
                Side::Client => judge_client(&loaded.trust, first, rest, now),
                Side::Server => judge_server(&loaded.trust, first, rest, now),
            };
            if let Err(judged) = judged {
                entry.end(&judged.why);
            }
        }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn stamps(paths: &Paths) -> Stamps {
    let stamp = |path: &Path| {
        let about = fs::metadata(path).ok()?;
        Some((about.ino(), about.len(), about.modified().ok()?))
    };
    let lists = [&paths.crl, &paths.handed].map(|path| path.as_deref().and_then(stamp));
    [stamp(&paths.cert), stamp(&paths.key), stamp(&paths.ca), lists[0], lists[1]]
}
