//! The running coordinator's side: one backup at a time, on a thread of its own.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::{copy::copy, frames::Pieces, socket};
use crate::{artifacts::Artifacts, store::Store};

/// Who takes nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes backups for whoever asks at the socket in `data`, until `stop`. Where no socket can be made, the
/// coordinator works without.
pub async fn serve(data: PathBuf, store: Arc<dyn Store>, artifacts: Artifacts, stop: CancellationToken) {
    let path = socket(&data);
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no backups can be made while this coordinator runs");
            return;
        }
    };
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream.into_std(),
                Err(error) => Err(error),
            },
        };
        let (store, artifacts) = (store.clone(), artifacts.clone());
        let made = tokio::task::spawn_blocking(move || answer(&*store, &artifacts, stream?));
        // One that hangs on a disk does not keep the coordinator.
        let made = tokio::select! {
            () = stop.cancelled() => break,
            made = made => made.unwrap_or_else(|error| Err(io::Error::other(error))),
        };
        match made {
            Ok(()) => tracing::info!("a backup was made"),
            Err(error) => tracing::warn!(%error, "no backup was made"),
        }
    }
    let _ = fs::remove_file(&path);
}

fn listen(path: &std::path::Path) -> io::Result<UnixListener> {
    // The store is locked: whoever listened here is gone.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn answer(store: &dyn Store, artifacts: &Artifacts, stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut pieces = Pieces::new(stream);
    match copy(store, artifacts, &mut pieces) {
        Ok(()) => pieces.end(),
        Err(error) => {
            let reason = error.to_string();
            pieces.fail(&reason)?;
            Err(io::Error::other(reason))
        }
    }
}
