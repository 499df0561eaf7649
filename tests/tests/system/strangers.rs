//! Strangers in numbers, and messages that are none: the service goes on, its memory is bounded, and each refusal is
//! counted.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use edgeprof_client::Client;
use edgeprof_proto::v1::{self, profiler_client::ProfilerClient};
use edgeprof_service::channel::{Dialer, connect};
use edgeprof_tests::{Lab, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpSocket;

const MANY: u16 = 10_000;

/// What the coordinator may take beyond what it has at rest, in KiB: a thousand connections of 32 KiB each, and what an
/// allocator keeps.
const MORE: u64 = 64 << 10;

/// Resident memory in KiB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// The last number that the coordinator's log tells of this reason.
fn counted(lab: &Lab, reason: &str) -> u64 {
    let log = lab.coordinator.as_ref().unwrap().log();
    let told = log.lines().rfind(|line| line.contains("refused since the start")).unwrap_or_default();
    let number = told.split([' ', '"', '=']).skip_while(|word| *word != reason).nth(1);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Descriptors for this process: one a connection.
fn descriptors(wanted: u64) -> bool {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < wanted {
        eprintln!("SKIPPED: {MANY} connections need {wanted} descriptors, and this process may have {hard}");
        return false;
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).unwrap();
    true
}

/// A connection from one of forty addresses of this host, so that no bound on one address is all that helps.
async fn from(number: u16, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, 1 + (number % 40) as u8), 0)))?;
    socket.connect(to).await
}

#[test]
fn ten_thousand_connections_that_say_nothing_keep_nobody_out() {
    if !descriptors(u64::from(MANY) + 500) {
        return;
    }
    let mut lab = Lab::new();
    lab.secure();
    lab.start(&[]);
    let coordinator = lab.coordinator.as_ref().unwrap();
    let (id, address) = (coordinator.id(), coordinator.address().parse().unwrap());
    lab.json(&["jobs"]);
    let before = resident(id);
    let mut most = before;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut held = Vec::new();
    for number in 0..MANY {
        held.push(runtime.block_on(from(number, address)).unwrap());
        if number % 2 == 0 {
            // The beginning of a handshake, one byte of it.
            let _ = held.last().unwrap().try_write(&[0x16]);
        }
        if number % 1000 == 999 {
            lab.json(&["jobs"]);
            most = most.max(resident(id));
        }
    }
    lab.json(&["jobs"]);
    eventually("all are counted", || {
        let counts =
            ["full", "address_full", "displaced", "slow", "handshake"].map(|reason| counted(&lab, reason));
        (counts.iter().sum::<u64>() >= u64::from(MANY)).then_some(())
    });
    most = most.max(resident(id));
    println!("resident: {before} KiB at rest, {most} KiB at most with {MANY} connections");
    assert!(most < before + MORE, "{before} KiB became {most} KiB");
    drop(held);
    lab.json(&["jobs"]);
}

/// Bytes that are no HTTP/2, or only its beginning; frames that are none; messages that are too large, or none.
#[test]
fn malformed_and_oversized_messages_are_refused_and_counted() {
    let lab = Lab::with_addresses(&[]);
    let coordinator = lab.coordinator.as_ref().unwrap();
    let (id, url) = (coordinator.id(), coordinator.url().to_owned());
    let before = resident(id);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame = [&preface[..], &[0xff; 4096]].concat();
    let noise: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0], &[0; 64], &frame];
    for bytes in noise {
        let mut stream = TcpStream::connect(coordinator.address()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // It is closed, not kept.
        let _ = stream.read_to_end(&mut Vec::new()).map_err(|error| {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it is kept");
        });
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let channel = connect(&url, Duration::from_secs(10)).await.unwrap();
        let mut client = ProfilerClient::new(channel);
        for _ in 0..20 {
            let request = v1::SubmitJobRequest { submitter: "x".repeat(24 << 20), ..Default::default() };
            let refused = client.submit_job(request).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused:?}");
        }
    });
    eventually("all are counted", || {
        (counted(&lab, "protocol") >= 3 && counted(&lab, "oversized") >= 20).then_some(())
    });
    let after = resident(id);
    println!("resident: {before} KiB before, {after} KiB after 20 messages of 24 MiB");
    assert!(after < before + MORE, "{before} KiB became {after} KiB");
    lab.json(&["jobs"]);
}

/// Each opens a watch and reads none of it.
#[test]
fn clients_that_never_read_what_they_asked_for_hold_up_nobody() {
    let lab = Lab::with_addresses(&[&["mps2-an386"]]);
    let coordinator = lab.coordinator.as_ref().unwrap();
    let (process, url) = (coordinator.id(), coordinator.url().to_owned());
    let model = crate::model();
    let id = lab.submit(&crate::job(&model, &["mps2-an386"], "200"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let before = resident(process);
    let held = runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..100 {
            let channel = Dialer::default().connect(&url, Duration::from_secs(10)).await.unwrap();
            let request = v1::WatchJobRequest { job_id: id.clone(), after: 0 };
            held.push(ProfilerClient::new(channel).watch_job(request).await.unwrap());
        }
        held
    });
    lab.wait_for_job(&id, "succeeded", |job| job["state"] == "succeeded");
    let runs = runtime.block_on(async { Client::connect(&url).await.unwrap().results(&id).await.unwrap() });
    assert_eq!(runs.len(), 1);
    let after = resident(process);
    println!("resident: {before} KiB before, {after} KiB with {} watches that nobody reads", held.len());
    assert!(after < before + MORE, "{before} KiB became {after} KiB");
}
