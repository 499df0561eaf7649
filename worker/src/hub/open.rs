//! A coordinator greets.

use std::collections::{BTreeMap, VecDeque};

use edgeprof_common::{BoardId, Epoch, Token};
use edgeprof_proto::{
    SESSION,
    session::Version,
    v1::{self, from_worker::Frame as From},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use super::{Hub, OUTBOUND, Opened, Session};
use crate::{
    fence::{self, Claim, Greeting, Refusal},
    spec,
};

impl Hub {
    pub(super) fn open(&mut self, hello: &v1::CoordinatorHello, command: u64) -> Result<Opened, Status> {
        let malformed = |what: &str| Status::invalid_argument(format!("malformed {what} in hello"));
        let claim = Claim {
            cluster: hello.cluster_id.parse().map_err(|_| malformed("cluster id"))?,
            epoch: Epoch(hello.epoch),
            nonce: hello.nonce.parse().map_err(|_| malformed("nonce"))?,
        };
        let protocol = Version { major: hello.protocol, minor: hello.protocol_minor };
        let greeting = Greeting { protocol, site: hello.site.clone(), claim };
        let meant = hello.worker_id.as_ref().filter(|meant| *meant != self.worker.as_str());
        let admitted = match meant {
            Some(meant) => Err(Refusal::Worker { own: self.worker.clone(), offered: meant.clone() }),
            None => fence::admit(self.fence.claim(), &self.site, &greeting),
        };
        let claim = admitted.map_err(|refusal| {
            warn!(%refusal, "a coordinator was turned away");
            refusal.status(self.fence.claim())
        })?;
        self.fence.keep(claim).map_err(|error| Status::internal(error.to_string()))?;
        self.end_session(Status::aborted("a newer hello took over this worker"));
        self.trust.heard();
        for member in self.boards.values_mut() {
            member.slot.raise(Token { epoch: claim.epoch, counter: 0 });
            member.said = None;
        }
        for (board, lease) in &hello.issued {
            let member = board.parse::<BoardId>().ok().and_then(|id| self.boards.get_mut(&id));
            if let Some(member) = member {
                member.slot.raise(spec::token(lease));
            }
        }
        self.last_command = command;
        self.sessions += 1;
        let (frames, receiver) = mpsc::channel(OUTBOUND);
        let stop = CancellationToken::new();
        self.session = Some(Session {
            number: self.sessions,
            epoch: claim.epoch,
            frames,
            stop: stop.clone(),
            due: self.outbox.iter().map(|(key, _)| *key).collect::<VecDeque<_>>(),
            sent: BTreeMap::new(),
            wished: Instant::now(),
        });
        info!(cluster = %claim.cluster, epoch = claim.epoch.0, "a coordinator has opened a session");
        let hello = v1::WorkerHello {
            protocol: SESSION.major,
            protocol_minor: SESSION.minor,
            worker_id: self.worker.to_string(),
            incarnation: self.incarnation.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            site: self.site.clone(),
            boards: self.reports(),
            held: self.held(),
            draining: self.drain.is_some(),
        };
        self.send(From::Hello(Box::new(hello)));
        self.deliver();
        self.wish();
        Ok(Opened { number: self.sessions, frames: receiver, stop })
    }
}
