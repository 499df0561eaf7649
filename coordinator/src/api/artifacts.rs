//! Artifacts in.

use edgeprof_common::Digest;
use edgeprof_proto::v1;
use edgeprof_service::status::exhausted;
use tonic::{Code, Status, Streaming};

use super::{Api, FULL};
use crate::{
    access::{Caller, audit::entry},
    artifacts::{Artifacts, UploadError},
};

/// Digests in one question.
const QUESTION: usize = 10_000;

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("{error}")))
}

/// Those that are not here.
pub(super) fn missing(artifacts: &Artifacts, digests: &[String]) -> Result<Vec<String>, Status> {
    if digests.len() > QUESTION {
        return Err(Status::invalid_argument(format!("more than {QUESTION} digests in one question")));
    }
    let mut missing = Vec::new();
    for text in digests {
        // What is here must still be when the job comes.
        if !artifacts.spare(&digest(text)?) {
            missing.push(text.clone());
        }
    }
    Ok(missing)
}

/// Takes one artifact; durable on return.
pub(super) async fn put(
    api: &Api,
    caller: &Caller,
    mut chunks: Streaming<v1::ArtifactChunk>,
) -> Result<u64, Status> {
    let first = chunks.message().await?.ok_or_else(|| Status::invalid_argument("no chunk came"))?;
    let (digest, size) = (digest(&first.digest)?, first.size);
    if size > api.max_artifact_bytes {
        let limit = api.max_artifact_bytes;
        return Err(edgeprof_service::status::with_hint(
            Code::InvalidArgument,
            format!("the artifact has {size} bytes, at most {limit} are taken"),
            Some("raise max_artifact_bytes in the coordinator's configuration"),
        ));
    }
    if api.artifacts.spare(&digest) {
        return Ok(size);
    }
    let held = api.access.hold_upload(&caller.name, size);
    let held = held.map_err(|refusal| api.access.deny(caller, "PutArtifact", refusal))?;
    while let Err(message) = api.room(size) {
        if !api.artifacts.evict() {
            return Err(exhausted(message, FULL));
        }
    }
    let mut upload = api.artifacts.upload(digest, size).map_err(status)?;
    upload.write(&first.data).map_err(status)?;
    while let Some(chunk) = chunks.message().await? {
        // Into the page cache; what takes long is the sync at the end.
        upload.write(&chunk.data).map_err(status)?;
    }
    let finished = tokio::task::spawn_blocking(move || upload.finish()).await;
    let size = finished.map_err(|error| Status::internal(error.to_string()))?.map_err(status)?;
    tracing::info!(%digest, size, "artifact");
    api.access.note(entry(caller, "PutArtifact", digest, format!("{size} bytes")), held).await?;
    Ok(size)
}

fn status(error: UploadError) -> Status {
    let code = match &error {
        UploadError::Full { .. } => Code::ResourceExhausted,
        UploadError::Io(source) if source.kind() == std::io::ErrorKind::StorageFull => {
            Code::ResourceExhausted
        }
        UploadError::Io(_) => Code::Internal,
        _ => Code::InvalidArgument,
    };
    edgeprof_service::status::with_hint(code, error.to_string(), error.hint())
}
