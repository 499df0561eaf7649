//! Who may do what, over the real server: roles, tokens, owners, quotas, and the log of who did what.

use std::collections::BTreeSet;

use edgeprof_common::Role;
use edgeprof_coordinator::{
    access::{Quota, Quotas, Reason, policy},
    config::Config,
    daemon::Daemon,
};
use edgeprof_proto::v1::{self, access_client::AccessClient, profiler_client::ProfilerClient};
use edgeprof_service::status::{hint, retry_after};
use prost::Message;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::support::{Client, Played, config, program, soon};

/// A coordinator without workers, and a channel to it.
struct Desk {
    folder: tempfile::TempDir,
    quotas: Quotas,
    daemon: Daemon,
    channel: Channel,
}

impl Desk {
    async fn open(quotas: Quotas) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (daemon, channel) = start(&folder, &quotas, &[]).await;
        Self { folder, quotas, daemon, channel }
    }

    async fn reopen(self) -> Self {
        let Self { folder, quotas, daemon, .. } = self;
        daemon.stop().await;
        let (daemon, channel) = start(&folder, &quotas, &[]).await;
        Self { folder, quotas, daemon, channel }
    }

    /// A token, issued by whoever is on this machine.
    async fn token(&self, name: &str, role: Role) -> String {
        self.limited(name, role, 3600, &[]).await.unwrap()
    }

    async fn limited(
        &self,
        name: &str,
        role: Role,
        lifetime_s: u64,
        only: &[&str],
    ) -> Result<String, Status> {
        let only = only.iter().map(ToString::to_string).collect();
        let request = v1::IssueTokenRequest { name: name.into(), role: role.to_string(), lifetime_s, only };
        Ok(self.access().issue_token(request).await?.into_inner().secret)
    }

    fn access(&self) -> AccessClient<Channel> {
        AccessClient::new(self.channel.clone())
    }

    fn profiler(&self) -> ProfilerClient<Channel> {
        ProfilerClient::new(self.channel.clone())
    }

    async fn audit(&self, who: &str) -> Vec<v1::AuditEntry> {
        let request = v1::ListAuditRequest { who: who.into(), ..Default::default() };
        self.access().list_audit(request).await.unwrap().into_inner().entries
    }

    /// A job that waits for a board that nobody has.
    async fn spec(&self) -> v1::JobSpec {
        let mut spec = Client(self.profiler()).spec(&["riscv32"]).await;
        spec.wait_for_board_ms = Some(3_600_000);
        spec
    }

    async fn submit(&self, token: &str, spec: &v1::JobSpec, key: &str, by: &str) -> Result<v1::Job, Status> {
        let request = v1::SubmitJobRequest {
            spec: Some(spec.clone()),
            idempotency_key: key.into(),
            submitter: by.into(),
        };
        Ok(self.profiler().submit_job(carrying(token, request)).await?.into_inner().job.unwrap())
    }

    async fn cancel(&self, token: &str, job: &v1::Job) -> Result<v1::Job, Status> {
        let request = v1::CancelJobRequest { job_id: job.job_id.clone() };
        Ok(self.profiler().cancel_job(carrying(token, request)).await?.into_inner())
    }
}

async fn start(folder: &tempfile::TempDir, quotas: &Quotas, workers: &[&Played]) -> (Daemon, Channel) {
    let config = Config { quotas: quotas.clone(), ..config(folder.path(), workers) };
    let daemon = Daemon::start(&config, program()).await.unwrap();
    let url = format!("http://{}", daemon.address());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    (daemon, channel)
}

/// A request with a token; without one where that is empty.
fn carrying<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// Calls any RPC with an empty message.
async fn call(channel: &Channel, path: &str, token: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = path.parse().unwrap();
    let codec = ProstCodec::<(), ()>::default();
    soon("an answer", client.server_streaming(carrying(token, ()), path, codec)).await.map(drop)
}

/// Every RPC of every service that descriptors tell of.
fn paths(descriptors: &[u8]) -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(descriptors).unwrap();
    let mut paths = BTreeSet::new();
    for file in set.file {
        for service in &file.service {
            let methods = service.method.iter();
            paths.extend(methods.map(|m| format!("/{}.{}/{}", file.package(), service.name(), m.name())));
        }
    }
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_is_for_its_role_and_those_above() {
    let all = [
        v1::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let all: BTreeSet<_> = all.iter().flat_map(|set| paths(set)).collect();
    // The worker's own service is not the coordinator's.
    let (served, not): (Vec<_>, Vec<_>) =
        all.iter().partition(|path| !path.starts_with("/edgeprof.v1.Worker/"));
    let rows: BTreeSet<_> = policy::RPCS.iter().map(|rpc| rpc.path.to_owned()).collect();
    assert_eq!(served.iter().map(|path| path.to_string()).collect::<BTreeSet<_>>(), rows);
    assert!(!not.is_empty());

    let desk = Desk::open(Quotas::default()).await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push((*role, desk.token(role.as_str(), *role).await));
    }
    let mut refused = 0;
    for path in &served {
        let least = policy::of(path).unwrap().least;
        for (role, token) in &tokens {
            let code = call(&desk.channel, path, token).await.err();
            if let Some(least) = least.filter(|least| role < least) {
                let status = code.unwrap_or_else(|| panic!("{path} answers a {role}"));
                assert_eq!(status.code(), Code::PermissionDenied, "{path} for a {role}: {status:?}");
                let said = status.message();
                assert!(said.contains(&format!("the role {least}")), "{said}");
                assert!(said.contains(&format!("{role} ({role}, by token)")), "{said}");
                assert!(hint(&status).unwrap().contains(least.as_str()), "{status:?}");
                refused += 1;
            } else {
                let code = code.map(|status| status.code());
                let no = [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented, Code::Internal];
                assert!(code.is_none_or(|code| !no.contains(&code)), "{path} for a {role}: {code:?}");
            }
        }
        // What opens nothing is not made up for by where it comes from.
        let code = call(&desk.channel, path, "edgeprof_0").await.err().map(|status| status.code());
        assert_eq!(code == Some(Code::Unauthenticated), least.is_some(), "{path}: {code:?}");
        // Who shows nothing on loopback is its admin.
        let code = call(&desk.channel, path, "").await.err().map(|status| status.code());
        assert!(!matches!(code, Some(Code::PermissionDenied | Code::Unauthenticated)), "{path}: {code:?}");
    }
    for path in &not {
        let code = call(&desk.channel, path, &tokens[3].1).await.unwrap_err().code();
        assert_eq!(code, Code::Unimplemented, "{path}");
    }
    let refusals = desk.daemon.access().refusals();
    assert_eq!(refusals.of(Reason::Role), refused);
    assert_eq!(refusals.of(Reason::NoSuchRpc), not.len() as u64);
    desk.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_its_submitters_and_an_operator_may_act_for_them() {
    let desk = Desk::open(Quotas::default()).await;
    let ann = desk.token("ann", Role::Submitter).await;
    let bob = desk.token("bob", Role::Submitter).await;
    let chief = desk.token("chief", Role::Operator).await;
    let spec = desk.spec().await;
    let job = desk.submit(&ann, &spec, "k", "").await.unwrap();
    assert_eq!(job.submitter, "ann", "the name is the token's");
    let status = desk.submit(&bob, &spec, "", "ann").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert_eq!(status.message(), "bob (submitter, by token) cannot act as ann");
    let status = desk.cancel(&bob, &job).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(
        status.message().contains("is ann's") && hint(&status).unwrap().contains("operator"),
        "{status:?}"
    );

    // A key is its submitter's: nobody learns of another's job by it.
    assert_eq!(desk.submit(&ann, &spec, "k", "").await.unwrap().job_id, job.job_id);
    let bobs = desk.submit(&bob, &spec, "k", "").await.unwrap();
    assert_ne!(bobs.job_id, job.job_id);
    let fors = desk.submit(&chief, &spec, "k", "ann").await.unwrap();
    assert_eq!(fors.job_id, job.job_id, "in ann's name it is ann's key");

    assert_eq!(desk.cancel(&ann, &job).await.unwrap().state, "cancelled");
    assert_eq!(desk.cancel(&chief, &bobs).await.unwrap().state, "cancelled");
    assert_eq!(desk.daemon.access().refusals().of(Reason::Owner), 2);
    desk.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_a_restart_and_takes_along_what_it_opened() {
    let desk = Desk::open(Quotas::default()).await;
    let ann = desk.token("ann", Role::Submitter).await;
    let status = desk.limited("ann", Role::Admin, 3600, &[]).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    for (name, lifetime, only) in
        [("", 60, ""), ("a b", 60, ""), ("x", 0, ""), ("x", u64::MAX, ""), ("x", 60, "Sing")]
    {
        let only: Vec<_> = Some(only).filter(|only| !only.is_empty()).into_iter().collect();
        let status = desk.limited(name, Role::Viewer, lifetime, &only).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?} {lifetime} {only:?}");
    }
    let desk = desk.reopen().await;
    let spec = desk.spec().await;
    let job = desk.submit(&ann, &spec, "", "").await.unwrap();
    let watch = v1::WatchJobRequest { job_id: job.job_id.clone(), after: 0 };
    let mut watch = desk.profiler().watch_job(carrying(&ann, watch)).await.unwrap().into_inner();
    assert!(soon("the job", watch.message()).await.unwrap().is_some());

    let list = desk.access().list_tokens(v1::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    assert_eq!((list.len(), list[0].name.as_str(), list[0].issued_by.as_str()), (1, "ann", "local"));
    assert!(list[0].used_at.is_some() && !list[0].expired, "{list:?}");
    let revoke = || v1::RevokeTokenRequest { name: "ann".into() };
    desk.access().revoke_token(revoke()).await.unwrap();
    let end = loop {
        match soon("the end of the watch", watch.message()).await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    let status = end.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the token was revoked"));
    assert_eq!(desk.cancel(&ann, &job).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(desk.access().revoke_token(revoke()).await.unwrap_err().code(), Code::NotFound);
    // The name is free again, and what was the first one's is the second one's.
    let second = desk.token("ann", Role::Submitter).await;
    assert!(desk.cancel(&second, &job).await.is_ok());
    let desk = desk.reopen().await;
    assert_eq!(desk.cancel(&ann, &job).await.unwrap_err().code(), Code::Unauthenticated);
    desk.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_ends_what_it_opened() {
    let desk = Desk::open(Quotas::default()).await;
    let spec = desk.spec().await;
    let job = desk.submit("", &spec, "", "").await.unwrap();
    let brief = desk.limited("brief", Role::Viewer, 1, &["WatchJob"]).await.unwrap();
    let watch = || v1::WatchJobRequest { job_id: job.job_id.clone(), after: 0 };
    // It may have expired already, where this machine is busy.
    if let Ok(stream) = desk.profiler().watch_job(carrying(&brief, watch())).await {
        let mut stream = stream.into_inner();
        let status = loop {
            match soon("the end of the watch", stream.message()).await {
                Ok(Some(_)) => {}
                end => break end.unwrap_err(),
            }
        };
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the token has expired"));
    }
    let status = desk.profiler().watch_job(carrying(&brief, watch())).await.unwrap_err();
    assert!(status.message().starts_with("the token of brief expired 20"), "{status:?}");
    desk.token("brief", Role::Viewer).await;
    desk.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitter_gets_no_more_than_the_quota_and_others_what_is_theirs() {
    let nightly = Quota { tasks: Some(100), ..Quota::default() };
    let quotas = Quotas {
        jobs: Some(3),
        tasks: Some(4),
        upload_bytes: Some(100),
        of: [("nightly".to_owned(), nightly)].into(),
    };
    let desk = Desk::open(quotas).await;
    let (ann, bob) = (desk.token("ann", Role::Submitter).await, desk.token("bob", Role::Submitter).await);
    let nightly = desk.token("nightly", Role::Submitter).await;
    // A file of "local", which has a quota as well: 100 bytes are too few for a model.
    let put = |token: &str, bytes: &[u8]| {
        let digest = edgeprof_common::Digest::of(bytes).to_string();
        let chunk = v1::ArtifactChunk { digest, size: bytes.len() as u64, data: bytes.to_vec().into() };
        let request = carrying(token, tokio_stream::iter([chunk]));
        let mut profiler = desk.profiler();
        async move { profiler.put_artifact(request).await.map(drop) }
    };
    put(&ann, &[1; 60]).await.unwrap();
    put(&ann, &[1; 60]).await.expect("what is there already costs nothing");
    let status = put(&ann, &[2; 60]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(retry_after(&status).unwrap() > std::time::Duration::from_secs(23 * 3600), "{status:?}");
    put(&bob, &[2; 60]).await.unwrap();
    assert_eq!(put(&bob, &[3; 101]).await.unwrap_err().code(), Code::InvalidArgument);

    let desk = desk.reopen().await;
    let mut profiler = desk.profiler();
    let again = v1::ArtifactChunk {
        digest: edgeprof_common::Digest::of(&[4; 60]).to_string(),
        size: 60,
        data: vec![4; 60].into(),
    };
    let status = profiler.put_artifact(carrying(&ann, tokio_stream::iter([again]))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "over a restart: {status:?}");

    // Without a quota of uploads the model comes in.
    let desk = Desk { quotas: Quotas { upload_bytes: None, ..desk.quotas.clone() }, ..desk }.reopen().await;
    let mut spec = desk.spec().await;
    desk.submit(&ann, &spec, "", "").await.unwrap();
    spec.prompts = vec!["a".into(), "b".into(), "ab".into()];
    let job = desk.submit(&ann, &spec, "", "").await.unwrap();
    let status = desk.submit(&ann, &spec, "", "").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().starts_with("ann has 4 tasks that have not ended"), "{status:?}");
    assert!(retry_after(&status).is_some());
    desk.submit(&bob, &spec, "", "").await.unwrap();
    desk.submit(&nightly, &spec, "", "").await.unwrap();
    desk.submit(&nightly, &spec, "", "").await.unwrap();
    desk.cancel(&ann, &job).await.unwrap();
    desk.submit(&ann, &spec, "", "").await.expect("there is room again");
    spec.prompts.extend(["ba".into(), "bb".into()]);
    let status = desk.submit(&ann, &spec, "", "").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "it never fits: {status:?}");
    let entries = desk.audit("ann").await;
    assert!(
        entries.iter().any(|e| e.outcome == "refused" && e.detail.contains("quota of 4")),
        "{entries:#?}"
    );
    desk.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_in_the_log_and_stays_there() {
    let desk = Desk::open(Quotas::default()).await;
    let (ann, chief) = (desk.token("ann", Role::Submitter).await, desk.token("chief", Role::Operator).await);
    let spec = desk.spec().await;
    let job = desk.submit(&ann, &spec, "", "").await.unwrap();
    let fors = desk.submit(&chief, &spec, "", "ann").await.unwrap();
    desk.cancel(&chief, &job).await.unwrap();
    desk.cancel(&ann, &job).await.unwrap();
    let unknown = v1::Job { job_id: "j0000000000001".into(), ..job.clone() };
    desk.cancel(&ann, &unknown).await.unwrap_err();
    desk.cancel(&chief, &unknown).await.unwrap_err();
    let drain = v1::DrainWorkerRequest { worker: "ghost".into(), undo: false };
    desk.profiler().drain_worker(carrying(&chief, drain.clone())).await.unwrap_err();
    desk.profiler().drain_worker(carrying(&ann, drain)).await.unwrap_err();
    let told = |entries: &[v1::AuditEntry]| -> Vec<String> {
        let line =
            |e: &v1::AuditEntry| format!("{} {} {} {} {}", e.who, e.rpc, e.target, e.outcome, e.detail);
        entries.iter().rev().map(line).collect()
    };
    let entries = desk.audit("").await;
    let lines = told(&entries);
    let drained = "DrainWorker needs the role operator, and ann (submitter, by token) has not";
    let expected = [
        format!("ann SubmitJob {} done 1 task", job.job_id),
        format!("chief SubmitJob {} done 1 task, as ann", fors.job_id),
        format!("chief CancelJob {} done ", job.job_id),
        format!("ann CancelJob {} unchanged ", job.job_id),
        "chief CancelJob j0000000000001 refused ".to_owned(),
        "chief DrainWorker ghost refused ".to_owned(),
        format!("ann DrainWorker  refused {drained}"),
    ];
    for line in &expected {
        assert!(lines.contains(line), "{line:?} is not in {lines:#?}");
    }
    let issued =
        |who: &str| lines.iter().any(|line| line.starts_with(&format!("local IssueToken {who} done ")));
    assert!(issued("ann") && issued("chief"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("local PutArtifact sha256:")), "{lines:#?}");
    assert!(entries.iter().all(|e| e.from.starts_with("127.0.0.1:") && e.at.ends_with('Z')), "{entries:#?}");
    let numbers: Vec<_> = entries.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).rev().collect::<Vec<_>>());

    let desk = desk.reopen().await;
    assert_eq!(desk.audit("").await, entries);
    assert!(desk.audit("chief").await.iter().all(|entry| entry.who == "chief"));
    desk.cancel(&chief, &fors).await.unwrap();
    let later = desk.audit("").await;
    assert_eq!((later[0].number, &later[1..]), (entries[0].number + 1, &entries[..]), "it goes on");
    let since = v1::ListAuditRequest { since: later[0].at.clone(), ..Default::default() };
    let page = desk.access().list_audit(since).await.unwrap().into_inner().entries;
    assert_eq!(page, later[..1]);
    let since = v1::ListAuditRequest { since: "yesterday".into(), ..Default::default() };
    assert_eq!(desk.access().list_audit(since).await.unwrap_err().code(), Code::InvalidArgument);
    desk.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_certificates_none_is_revoked() {
    let desk = Desk::open(Quotas::default()).await;
    let list = v1::PublishRevocationsRequest { list: vec![0x30, 0] };
    let status = desk.access().publish_revocations(list).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert!(status.message().contains("no certificates") && hint(&status).is_some(), "{status:?}");
    desk.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_is_reserved_in_ones_own_name_and_its_line_is_theirs() {
    const BOARD: &str = "w/riscv32-0";
    let worker = Played::start("w", &["riscv32"]).await;
    let folder = tempfile::tempdir().unwrap();
    let (daemon, channel) = start(&folder, &Quotas::default(), &[&worker]).await;
    let desk = Desk { folder, quotas: Quotas::default(), daemon, channel };
    Client(desk.profiler()).until_boards().await;
    let (ann, bob) = (desk.token("ann", Role::Operator).await, desk.token("bob", Role::Operator).await);
    let reserve = |by: &str| v1::MarkBoardRequest {
        board: BOARD.into(),
        mark: Some(v1::mark_board_request::Mark::Reserve(v1::Reserve { seconds: 600 })),
        by: by.into(),
    };
    let status = desk.profiler().mark_board(carrying(&bob, reserve("ann"))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let board = desk.profiler().mark_board(carrying(&ann, reserve(""))).await.unwrap().into_inner();
    assert_eq!(board.marked_by.as_deref(), Some("ann"));
    let open = || tokio_stream::iter([v1::ConsoleInput { board: BOARD.into(), data: Vec::new() }]);
    let status = desk.profiler().console(carrying(&bob, open())).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains("reserved by ann"), "{status:?}");
    // What is played has no line to open, but is asked; and that was written down before.
    let opened = desk.profiler().console(carrying(&ann, open())).await.err().map(|status| status.code());
    assert!(!matches!(opened, Some(Code::PermissionDenied | Code::Unauthenticated)), "{opened:?}");
    let entries = desk.audit("ann").await;
    assert_eq!((entries[0].rpc.as_str(), entries[0].outcome.as_str()), ("Console", "asked"), "{entries:#?}");
    desk.daemon.stop().await;
}
