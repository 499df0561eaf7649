//! What the guard goes by, and what handlers ask of it.

use std::{net::SocketAddr, sync::Arc};

use edgeprof_common::Identity;
use edgeprof_service::peer::Peer;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tonic::Status;

use super::{
    Caller, Quotas, Reason, Refusal, Refusals, Tokens, Via,
    audit::{self, Room},
    policy::{self, Rpc},
    quotas::{Held, Uploads},
    tokens::{Live, bearer},
};
use crate::{
    clock,
    core::{Change, Command},
    store::{
        Store, StoreError,
        rows::{self, AuditRow, Outcome},
    },
};

/// Who may do what on this coordinator.
#[derive(Debug)]
pub struct Access {
    tokens: Arc<Tokens>,
    refusals: Arc<Refusals>,
    quotas: Quotas,
    uploads: Uploads,
    room: Room,
    /// Whether connections are encrypted, and their callers have something to show.
    encrypted: bool,
    commands: mpsc::Sender<Command>,
}

/// A caller that may do what it asks for.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Absent where nobody has to say who they are.
    pub(super) caller: Option<Caller>,
    /// By which token.
    pub(super) token: Option<Arc<Live>>,
}

impl Access {
    /// As the store has it.
    ///
    /// # Errors
    /// When the store fails or a row is damaged.
    pub fn recover(
        store: &dyn Store,
        quotas: Quotas,
        encrypted: bool,
        commands: mpsc::Sender<Command>,
    ) -> Result<Self, StoreError> {
        let refusals = Arc::new(Refusals::default());
        refusals.watch();
        Ok(Self {
            tokens: Arc::new(Tokens::recovered(rows::tokens(store)?)),
            refusals,
            quotas,
            uploads: Uploads::recovered(rows::uploads(store)?),
            room: Room::default(),
            encrypted,
            commands,
        })
    }

    /// Its tokens.
    pub(crate) const fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// What was refused since the start.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Whether whoever is at the other end may call the RPC of this path, with this in `authorization`.
    pub(super) fn admit(
        &self,
        path: &str,
        peer: Option<&Peer>,
        authorization: Option<&[u8]>,
    ) -> Result<Admitted, Refusal> {
        let Some(rpc) = policy::of(path) else {
            let refusal = Refusal::new(
                tonic::Code::Unimplemented,
                Reason::NoSuchRpc,
                "this coordinator has no such RPC",
                "use a client of the coordinator's version",
            );
            return Err(self.refused(peer, None, "", refusal));
        };
        let resolved = match (rpc.least, authorization) {
            (None, _) => return Ok(Admitted { caller: None, token: None }),
            (Some(_), authorization) => self.resolve(peer, authorization),
        };
        let (caller, token) = resolved.map_err(|refusal| self.refused(peer, None, rpc.name(), refusal))?;
        let only = token.as_ref().map_or(&[][..], |token| &token.row.only);
        match may(rpc, &caller, only) {
            Ok(()) => Ok(Admitted { caller: Some(caller), token }),
            Err(refusal) => Err(self.refused(peer, Some(&caller), rpc.name(), refusal)),
        }
    }

    /// Who is at the other end. What was shown counts: a token that opens nothing is not made up for.
    fn resolve(
        &self,
        peer: Option<&Peer>,
        authorization: Option<&[u8]>,
    ) -> Result<(Caller, Option<Arc<Live>>), Refusal> {
        let nobody = |what: &str| {
            Refusal::unauthenticated(
                Reason::NoCredentials,
                what,
                "show a certificate of the lab (`edgeprof pki`), or a token: EDGEPROF_TOKEN or --token-file",
            )
        };
        let Some(peer) = peer else { return Err(nobody("it is not known where the call comes from")) };
        let address = canonical(peer.address);
        if let Some(authorization) = authorization {
            let (caller, live) = self.by_token(address, authorization)?;
            return Ok((caller, Some(live)));
        }
        let caller = match &peer.identity {
            Some(Identity::Client { name, role }) => {
                Caller { name: name.clone(), role: *role, via: Via::Certificate, address }
            }
            Some(daemon @ (Identity::Coordinator | Identity::Worker(_))) => {
                return Err(Refusal::denied(
                    Reason::NotAClient,
                    format!("the certificate of {daemon} is no client's"),
                    "`edgeprof pki issue client NAME --role ROLE` makes one for a client",
                ));
            }
            None if self.encrypted || !address.ip().is_loopback() => {
                return Err(nobody("who calls has shown neither certificate nor token"));
            }
            None => Caller {
                name: Caller::LOCAL.into(),
                role: edgeprof_common::Role::Admin,
                via: Via::Loopback,
                address,
            },
        };
        Ok((caller, None))
    }

    fn by_token(&self, address: SocketAddr, authorization: &[u8]) -> Result<(Caller, Arc<Live>), Refusal> {
        if !self.encrypted && !address.ip().is_loopback() {
            return Err(Refusal::unauthenticated(
                Reason::TokenInTheClear,
                "the token came over the network without TLS",
                "revoke it: everybody on the way could read it",
            ));
        }
        let unknown = || {
            Refusal::unauthenticated(
                Reason::UnknownToken,
                "the token is none of this coordinator's, or was revoked",
                "an admin issues another: `edgeprof token issue NAME --role ROLE`",
            )
        };
        let now = clock::now_ms();
        let live = bearer(authorization).and_then(|secret| self.tokens.find(secret, now));
        let live = live.ok_or_else(unknown)?;
        if live.row.expires_at <= now {
            return Err(Refusal::unauthenticated(
                Reason::ExpiredToken,
                format!("the token of {} expired {}", live.row.name, clock::text(live.row.expires_at)),
                format!(
                    "an admin issues another: `edgeprof token issue {} --role {}`",
                    live.row.name, live.row.role
                ),
            ));
        }
        Ok((Caller { name: live.row.name.clone(), role: live.row.role, via: Via::Token, address }, live))
    }

    /// Counts a refusal and writes it down, as far as there is room.
    fn refused(
        &self,
        peer: Option<&Peer>,
        caller: Option<&Caller>,
        rpc: &'static str,
        refusal: Refusal,
    ) -> Refusal {
        self.refusals.count(refusal.reason());
        let Some(unlisted) = self.room.take(Instant::now()) else { return refusal };
        let row = AuditRow {
            at: clock::now_ms(),
            who: caller.map(|caller| caller.name.clone()).unwrap_or_default(),
            role: caller.map(|caller| caller.role),
            via: caller.map(|caller| caller.via.to_string()),
            from: peer.map(|peer| canonical(peer.address).to_string()).unwrap_or_default(),
            rpc: rpc.into(),
            target: String::new(),
            detail: refusal.message().to_owned(),
            outcome: Outcome::Refused,
            unlisted,
        };
        tracing::warn!(reason = %refusal.reason(), who = row.who, from = row.from, rpc, unlisted,
            "refused: {}", row.detail);
        // A loop that is behind has something better to do.
        let _ = self.commands.try_send(Command::Access(Change::Audit { row, uploads: None, reply: None }));
        refusal
    }

    /// The answer to a caller who got as far as the RPC and may not do what exactly it asks for.
    pub(crate) fn deny(&self, caller: &Caller, rpc: &'static str, refusal: impl Into<Refusal>) -> Status {
        let peer = Peer { address: caller.address, identity: None };
        self.refused(Some(&peer), Some(caller), rpc, refusal.into()).status()
    }

    /// Takes bytes out of what a submitter may upload; nothing where there is no such quota.
    ///
    /// # Errors
    /// When it is beyond the quota.
    pub(crate) fn hold_upload(&self, who: &str, bytes: u64) -> Result<Option<Held>, Refusal> {
        let limit = self.quotas.quota(who).upload_bytes;
        limit.map(|limit| self.uploads.hold(who, bytes, limit, clock::now_ms())).transpose()
    }

    /// Writes down what is changed elsewhere than in the store; durable on return.
    ///
    /// # Errors
    /// When the coordinator stops.
    pub(crate) async fn note(&self, row: AuditRow, held: Option<Held>) -> Result<(), Status> {
        let (reply, written) = oneshot::channel();
        let stopping = || Status::unavailable("the coordinator is stopping");
        let uploads = held.map(Held::keep);
        let change = Change::Audit { row, uploads, reply: Some(reply) };
        self.commands.send(Command::Access(change)).await.map_err(|_| stopping())?;
        written.await.map_err(|_| stopping())
    }

    /// Writes down what a worker is about to be asked; durable on return.
    ///
    /// # Errors
    /// When the coordinator stops.
    pub(crate) async fn note_asked(
        &self,
        caller: &Caller,
        rpc: &'static str,
        target: &str,
    ) -> Result<(), Status> {
        let row = AuditRow { outcome: Outcome::Asked, ..audit::entry(caller, rpc, target, "") };
        self.note(row, None).await
    }
}

/// Role and scope against the table.
fn may(rpc: &Rpc, caller: &Caller, only: &[String]) -> Result<(), Refusal> {
    if let Some(least) = rpc.least
        && caller.role < least
    {
        return Err(Refusal::denied(
            Reason::Role,
            format!("{} needs the role {least}, and {caller} has not", rpc.name()),
            format!("ask somebody with the role {least}, or an admin for it"),
        ));
    }
    if !only.is_empty() && !only.iter().any(|name| name == rpc.name()) {
        return Err(Refusal::denied(
            Reason::Scope,
            format!("the token of {caller} is not for {}", rpc.name()),
            format!("it is for {}; an admin issues one for more", only.join(", ")),
        ));
    }
    Ok(())
}

/// IPv4 as IPv4, however the socket was bound.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
