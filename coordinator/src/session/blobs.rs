//! Blobs to a worker, over a connection of their own.

use std::time::Duration;

use edgeprof_common::Digest;
use edgeprof_proto::{CHUNK, v1};
use edgeprof_service::channel::Dialer;
use tokio::{fs::File, io::AsyncReadExt, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::artifacts::Artifacts;

/// Longest time that one blob may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Pushes a blob.
///
/// # Errors
/// Why it did not get there.
pub(super) async fn push(
    dialer: &Dialer,
    address: &str,
    artifacts: &Artifacts,
    digest: Digest,
) -> Result<u64, String> {
    let size = artifacts.size(&digest).ok_or_else(|| format!("artifact {digest} is not here"))?;
    let mut file = File::open(artifacts.path(&digest)).await.map_err(|error| error.to_string())?;
    let channel = dialer.connect(address, Duration::from_secs(5)).await.map_err(|error| error.to_string())?;
    let mut client = v1::worker_client::WorkerClient::new(channel);
    let (chunks, stream) = mpsc::channel(4);
    let read = async move {
        let mut first = true;
        loop {
            let mut data = Vec::with_capacity(CHUNK);
            let n = (&mut file).take(CHUNK as u64).read_to_end(&mut data).await?;
            if n == 0 && !first {
                return Ok::<(), std::io::Error>(());
            }
            let name = if first { digest.to_string() } else { String::new() };
            let size = if first { size } else { 0 };
            first = false;
            if chunks.send(v1::BlobChunk { digest: name, size, data: data.into() }).await.is_err() {
                return Ok(());
            }
        }
    };
    let send = async { tokio::join!(read, client.put_blob(ReceiverStream::new(stream))) };
    let (read, sent) = tokio::time::timeout(LIMIT, send).await.map_err(|_| "it took too long".to_owned())?;
    read.map_err(|error| error.to_string())?;
    sent.map_err(|status| status.message().to_owned())?;
    Ok(size)
}
