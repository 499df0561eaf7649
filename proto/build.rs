//! Compiles the protos with protox: no protoc on the machine is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

/// Messages that are records as well: their JSON form is a contract, so they (de)serialize by name.
const RECORDS: [&str; 15] = [
    "Run",
    "Error",
    "RunBoard",
    "Environment",
    "Runtime",
    "RunFirmware",
    "RunModel",
    "Workload",
    "Sample",
    "Timing",
    "Range",
    "Estimate",
    "Memory",
    "Summary",
    "ModelRef",
];

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["access", "board", "job", "run", "profiler", "worker"]
        .map(|name| format!("edgeprof/v1/{name}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    // `compile_fds` ignores `file_descriptor_set_path`, and reflection needs the set.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("edgeprof.v1.bin"), descriptors.encode_to_vec())?;

    let mut builder = tonic_prost_build::configure()
        .codec_path("crate::SmallBuffers")
        // Two that say the same are the same bytes.
        .btree_map(".edgeprof.v1.BoardReport.labels")
        // Frames are moved and queued by the thousand: the long ones are not to make all of them long.
        .boxed(".edgeprof.v1.FromWorker.frame.hello")
        .boxed(".edgeprof.v1.FromWorker.frame.board")
        .boxed(".edgeprof.v1.FromWorker.frame.result")
        .boxed(".edgeprof.v1.ToWorker.frame.hello")
        .boxed(".edgeprof.v1.ToWorker.frame.start")
        .bytes(".edgeprof.v1.ArtifactChunk.data")
        .bytes(".edgeprof.v1.BlobChunk.data")
        // What carries a secret is written by hand: without it.
        .skip_debug([".edgeprof.v1.IssueTokenResponse"]);
    for message in RECORDS.into_iter().chain([
        "JobSpec",
        "Job",
        "Task",
        "Progress",
        "BoardStatus",
        "WorkerStatus",
        "Check",
        "AttemptLog",
        "TaskEvent",
        "ResetBoardResponse",
        "WhoAmIResponse",
        "PublishRevocationsResponse",
        "AccessToken",
        "AuditEntry",
    ]) {
        builder = builder.type_attribute(
            format!(".edgeprof.v1.{message}"),
            "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default, deny_unknown_fields)]",
        );
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
