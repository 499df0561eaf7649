//! One session, from the greeting to its end.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use edgeprof_common::{Digest, WorkerId};
use edgeprof_proto::{
    SESSION,
    session::Version,
    v1::{self, from_worker::Frame as From, to_worker::Frame as To},
};
use edgeprof_scheduler::SessionId;
use edgeprof_service::{
    channel::{Channel, Dialer},
    tls::Demand,
};
use futures::{FutureExt, Stream, StreamExt, stream};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    Commands, Context, FoundBy, Greeting, SessionEvent, Target, Up, blobs, outgoing::outgoing, refusal,
    revocations,
};
use crate::core::Command;

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A silent line is used at least this often.
const BEAT: Duration = Duration::from_secs(1);

/// Frames of a worker that are handed over at once: as many as have come, up to these.
const TOGETHER: usize = 64;

/// Blobs pushed to one worker at a time.
const PUSHES: usize = 2;

/// How a session ended.
pub(super) enum End {
    /// The stream broke or was closed.
    Lost(String),
    /// The worker does not want this coordinator.
    Refused(String),
    /// The worker has seen a newer life of this coordinator.
    Superseded(String),
}

pub(super) async fn serve(
    target: &mut Target,
    context: &Context,
    dialer: &Dialer,
    address: &str,
    channel: Channel,
    greeting: Greeting,
) -> End {
    let (outgoing, commands) = outgoing();
    let last = greeting.last_command;
    let sought = target.worker.clone().filter(|_| target.found_by == FoundBy::Mdns);
    let hello = hello(context, greeting, sought.as_ref());
    let first = v1::ToWorker { command: last, frame: Some(To::Hello(Box::new(hello))) };
    let mut client = v1::worker_client::WorkerClient::new(channel)
        .max_decoding_message_size(16 << 20)
        .max_encoding_message_size(16 << 20);
    let refused = |status: &Status| match dialer.refusal() {
        Some(why) => End::Refused(format!("{why}; {}", why.hint)),
        None => refusal::read(status, &context.identity, &context.data),
    };
    let beside = client.clone();
    let opened = timeout(PATIENCE, client.session(to_worker(first, commands))).await;
    let mut incoming = match opened {
        Err(_) => return End::Lost("the worker does not answer the greeting".into()),
        Ok(Err(status)) => return refused(&status),
        Ok(Ok(response)) => response.into_inner(),
    };
    let hello = match timeout(PATIENCE, incoming.message()).await {
        Err(_) => return End::Lost("the worker does not answer the greeting".into()),
        Ok(Err(status)) => return refused(&status),
        Ok(Ok(Some(v1::FromWorker { frame: Some(From::Hello(hello)), .. }))) => hello,
        Ok(Ok(_)) => return End::Refused("the worker's first frame is not a greeting".into()),
    };
    let agreed = match SESSION.agree(Version { major: hello.protocol, minor: hello.protocol_minor }) {
        Ok(agreed) => agreed,
        Err(mismatch) => return End::Refused(mismatch.to_string()),
    };
    if *hello.site != *context.site {
        return End::Refused(format!("it belongs to site {:?}, this is {:?}", hello.site, context.site));
    }
    if let Some(sought) = sought.filter(|sought| sought.as_str() != hello.worker_id) {
        return End::Refused(format!("worker {} is at the address of {sought}", hello.worker_id));
    }
    if let Some(Demand::Worker(Some(name))) = dialer.demand().filter(|_| dialer.is_secured())
        && name != hello.worker_id
    {
        let said = &hello.worker_id;
        return End::Refused(format!(
            "who has the certificate of worker {name} says that it is worker {said}"
        ));
    }
    target.worker = match hello.worker_id.parse() {
        Ok(worker) => Some(worker),
        Err(error) => return End::Refused(format!("it has no name: {error}")),
    };

    tracing::debug!(worker = hello.worker_id, %agreed, version = hello.version, "a session is open");
    let session = SessionId(context.sessions.fetch_add(1, Ordering::Relaxed));
    let stop = CancellationToken::new();
    let up = Up {
        session,
        key: target.key.clone(),
        found_by: target.found_by,
        address: address.to_owned(),
        hello,
        outgoing,
        stop: stop.clone(),
    };
    if context.commands.send(Command::Session(SessionEvent::Up(Box::new(up)))).await.is_err() {
        return End::Lost("the coordinator stops".into());
    }
    let keeper = dialer.keeper().map(AsRef::as_ref);
    let name = target.worker.as_ref().map(WorkerId::as_str).unwrap_or_default();
    let reason = tokio::select! {
        biased;
        () = stop.cancelled() => "the session was closed".to_owned(),
        never = revocations::hand_over(beside, keeper, name) => match never {},
        reason = read(session, incoming, context, dialer, address) => reason,
    };
    let _ = context.commands.send(Command::Session(SessionEvent::Lost(session))).await;
    End::Lost(reason)
}

/// What goes to the worker: the greeting, then commands, and a beat where there is none for a while.
fn to_worker(first: v1::ToWorker, commands: Commands) -> impl Stream<Item = v1::ToWorker> {
    let last = first.command;
    let rest = stream::unfold((commands, last), async |(mut commands, last)| {
        let frame = match timeout(BEAT, commands.next()).await {
            Ok(frame) => frame?,
            Err(_) => v1::ToWorker { command: last, frame: Some(To::Beat(v1::Beat {})) },
        };
        let last = frame.command;
        Some((frame, (commands, last)))
    });
    stream::iter([first]).chain(rest)
}

fn hello(context: &Context, greeting: Greeting, sought: Option<&WorkerId>) -> v1::CoordinatorHello {
    let identity = context.identity;
    v1::CoordinatorHello {
        protocol: SESSION.major,
        protocol_minor: SESSION.minor,
        site: context.site.to_string(),
        cluster_id: identity.cluster.to_string(),
        epoch: identity.life.epoch.0,
        nonce: identity.life.nonce.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        issued: greeting
            .issued
            .into_iter()
            .map(|(board, token)| (board.to_string(), super::frames::lease(token)))
            .collect(),
        worker_id: sought.map(ToString::to_string),
    }
}

/// Reads frames until the stream ends. Blobs that the worker asks for are pushed meanwhile.
async fn read(
    session: SessionId,
    mut incoming: Streaming<v1::FromWorker>,
    context: &Context,
    dialer: &Dialer,
    address: &str,
) -> String {
    let mut pushes: JoinSet<(Digest, Result<u64, String>)> = JoinSet::new();
    let mut under_way = HashSet::new();
    let mut wanted = Vec::new();
    loop {
        while pushes.len() < PUSHES {
            let Some(digest) = wanted.pop() else { break };
            let (dialer, address) = (dialer.clone(), address.to_owned());
            let artifacts = context.artifacts.clone();
            pushes.spawn(async move { (digest, blobs::push(&dialer, &address, &artifacts, digest).await) });
        }
        let read = tokio::select! {
            biased;
            Some(Ok((digest, outcome))) = pushes.join_next() => {
                under_way.remove(&digest);
                match outcome {
                    Ok(size) => tracing::debug!(%digest, size, %address, "blob pushed"),
                    Err(reason) => tracing::warn!(%digest, %address, %reason, "a blob did not reach the worker"),
                }
                continue;
            }
            read = incoming.next() => read,
        };
        let (mut frames, mut next) = (Vec::new(), Some(read));
        let mut end = None;
        while let Some(read) = next {
            match read {
                Some(Ok(frame)) => frames.push(frame),
                Some(Err(status)) => end = Some(format!("the stream broke: {}", status.message())),
                None => end = Some("the worker ended the session".to_owned()),
            }
            let more = end.is_none() && frames.len() < TOGETHER;
            // What has come already; `ready_chunks` would make room for all of them, however few come.
            next = more.then(|| incoming.next().now_or_never()).flatten();
        }
        for frame in &frames {
            let Some(From::NeedBlob(need)) = &frame.frame else { continue };
            for digest in need.digests.iter().filter_map(|digest| digest.parse().ok()) {
                if under_way.insert(digest) {
                    wanted.insert(0, digest);
                }
            }
        }
        if !frames.is_empty() {
            let event = SessionEvent::Frames { session, frames, read_at: Instant::now() };
            if context.commands.send(Command::Session(event)).await.is_err() {
                return "the coordinator stops".to_owned();
            }
        }
        if let Some(reason) = end {
            return reason;
        }
    }
}
