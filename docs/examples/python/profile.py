"""Runs a model on boards of a lab, and prints what came out as JSON lines.

    profile.py HOST:PORT MODEL [BOARD...]

A board is an id, a kind, KEY=VALUE or `all`. With EDGEPROF_TLS_DIR, a folder with ca.pem, the channel is TLS; where
cert.pem and key.pem are beside it, they say who calls. With EDGEPROF_TOKEN the calls carry that token.
"""

import hashlib
import json
import os
import pathlib
import sys
import uuid

import grpc
from google.protobuf.json_format import MessageToDict

# Made from proto/ by grpc_tools.protoc, see docs/api.md.
from edgeprof.v1 import job_pb2, profiler_pb2, profiler_pb2_grpc

CHUNK = 64 * 1024

# Every certificate of a coordinator has this name, whatever its host is called.
COORDINATOR = "coordinator.edgeprof.internal"


def connect(address):
    folder = os.environ.get("EDGEPROF_TLS_DIR")
    if not folder:
        return grpc.insecure_channel(address)
    file = lambda name: pathlib.Path(folder, name)
    # Whoever has a token needs no certificate.
    own = [file(name).read_bytes() for name in ("key.pem", "cert.pem") if file(name).exists()]
    credentials = grpc.ssl_channel_credentials(file("ca.pem").read_bytes(), *own)
    return grpc.secure_channel(address, credentials, [("grpc.ssl_target_name_override", COORDINATOR)])


def metadata():
    token = os.environ.get("EDGEPROF_TOKEN")
    return [("authorization", f"Bearer {token}")] if token else []


def upload(profiler, data):
    """Uploads what the coordinator lacks, and gives its name: the digest."""
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    missing = profiler.MissingArtifacts(
        profiler_pb2.MissingArtifactsRequest(digests=[digest]), metadata=metadata()
    )
    if digest in missing.digests:

        def chunks():
            # The first message names it; every message carries bytes.
            yield profiler_pb2.ArtifactChunk(digest=digest, size=len(data), data=data[:CHUNK])
            for at in range(CHUNK, len(data), CHUNK):
                yield profiler_pb2.ArtifactChunk(data=data[at : at + CHUNK])

        profiler.PutArtifact(chunks(), metadata=metadata())
    return digest


def main(address, model, *boards):
    profiler = profiler_pb2_grpc.ProfilerStub(connect(address))
    path = pathlib.Path(model)
    digest = upload(profiler, path.read_bytes())
    spec = job_pb2.JobSpec(
        models=[job_pb2.ModelRef(name=path.name, digest=digest)],
        boards=list(boards) or ["all"],
        prompts=["In the beginning"],
        n_gen=[8],
        quants=["q8_0"],
        kvs=["i8"],
        labels={"by": "profile.py"},
    )
    # The same key again answers with the job that it made: a call whose answer was lost is safe to repeat.
    request = profiler_pb2.SubmitJobRequest(spec=spec, idempotency_key=str(uuid.uuid4()))
    job = profiler.SubmitJob(request, metadata=metadata()).job
    # The stream ends with the job. After a broken connection, ask again with after=SEQUENCE of the last update.
    for update in profiler.WatchJob(profiler_pb2.WatchJobRequest(job_id=job.job_id), metadata=metadata()):
        job = update.job
        print(f"{job.tasks_done} of {job.tasks_total} done", file=sys.stderr)
    for run in profiler.GetResults(profiler_pb2.GetResultsRequest(id=job.job_id), metadata=metadata()):
        print(json.dumps(MessageToDict(run, preserving_proto_field_name=True)))
    return 0 if job.state == "succeeded" else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except grpc.RpcError as error:
        # The message names the thing; this trailer, where there is one, the way out.
        trailer = error.trailing_metadata() or ()
        hints = [value.decode() for key, value in trailer if key == "edgeprof-hint-bin"]
        sys.exit("\n".join([f"{error.code().name}: {error.details()}", *hints]))
