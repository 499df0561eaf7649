//! Who is refused is counted, and whoever scrapes or collects sees it, of both daemons.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use edgeprof_proto::v1::{self, profiler_client::ProfilerClient, worker_client::WorkerClient};
use edgeprof_service::channel::{Channel, connect};
use edgeprof_tests::{Collector, Daemon, Lab, eventually};
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;

/// More than any daemon takes in one message.
const TOO_MUCH: usize = 24 << 20;

/// Sends bytes, and waits until they were answered with the end of the connection.
fn noise(daemon: &Daemon, bytes: &[u8]) {
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).map_err(|error| {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it is kept");
    });
}

/// What is no HTTP/2 from the first byte, and what is none after a good beginning.
fn noises(daemon: &Daemon) {
    noise(daemon, b"GET / HTTP/1.1\r\n\r\n");
    noise(daemon, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0xff; 4096][..]].concat());
}

/// Calls a method with a message whose first field is a number.
async fn call(channel: Channel, path: &'static str) -> Code {
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let request = Request::new(v1::ListJobsRequest { limit: 1 });
    let codec = ProstCodec::<v1::ListJobsRequest, v1::Job>::default();
    client.unary(request, path.parse().unwrap(), codec).await.unwrap_err().code()
}

async fn of_the_coordinator(url: &str) {
    let channel = connect(url, Duration::from_secs(10)).await.unwrap();
    assert_eq!(call(channel.clone(), "/edgeprof.v1.Profiler/Nonsense").await, Code::Unimplemented);
    assert_eq!(call(channel.clone(), "/edgeprof.v1.Profiler/GetJob").await, Code::Internal);
    let request = v1::SubmitJobRequest { submitter: "x".repeat(TOO_MUCH), ..Default::default() };
    let refused = ProfilerClient::new(channel).submit_job(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
}

async fn of_the_worker(url: &str) {
    let channel = connect(url, Duration::from_secs(10)).await.unwrap();
    let chunk = v1::BlobChunk { data: vec![0; TOO_MUCH].into(), ..Default::default() };
    let refused =
        WorkerClient::new(channel.clone()).put_blob(futures::stream::iter([chunk])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    assert_eq!(call(channel, "/edgeprof.v1.Worker/ResetBoard").await, Code::Internal);
}

#[test]
fn each_refusal_is_counted_once_and_seen_by_who_scrapes_and_by_who_collects() {
    let collector = Collector::start(None);
    let mut lab = Lab::new();
    lab.fixed = true;
    let telemetry = format!(
        "[telemetry]\notlp_endpoint = \"http://{}\"\nmetrics_listen = \"127.0.0.1:0\"\ninterval = \"1s\"\n",
        collector.address()
    );
    lab.configure_coordinator(&telemetry);
    lab.add_worker_with("host-1", &telemetry);
    lab.start_coordinator();
    let (coordinator, worker) = (lab.coordinator.as_ref().unwrap(), &lab.workers[0]);

    noises(coordinator);
    noises(worker);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(of_the_coordinator(coordinator.url()));
    runtime.block_on(of_the_worker(worker.url()));
    let refused =
        lab.client_command().env("EDGEPROF_TOKEN", "edgeprof_nonsense").arg("jobs").output().unwrap();
    assert!(!refused.status.success(), "{refused:?}");

    let refusals = [("protocol", 2.0), ("malformed", 1.0), ("oversized", 1.0), ("no_certificate", 0.0)];
    let calls = [("unknown_token", 1.0), ("no_such_rpc", 1.0), ("role", 0.0)];
    let expected = [
        (coordinator, "edgeprof-coordinator", "edgeprof.refusals", &refusals[..]),
        (worker, "edgeprof-worker", "edgeprof.refusals", &refusals[..]),
        (coordinator, "edgeprof-coordinator", "edgeprof.calls.refused", &calls[..]),
    ];
    for (daemon, service, name, counts) in expected {
        for (reason, count) in counts {
            let scraped = format!("{}_total", name.replace('.', "_"));
            eventually(&format!("{reason} of {service} is scraped as {count}"), || {
                let label = format!("reason=\"{reason}\"");
                (daemon.counted(&scraped, &[&label]) == *count).then_some(())
            });
            eventually(&format!("{reason} of {service} is collected as {count}"), || {
                let found = collector.last(service, name, &[&format!("reason={reason}")])?;
                (found == *count).then_some(())
            });
        }
    }
}
