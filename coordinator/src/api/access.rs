//! What clients may ask about access: `edgeprof.v1.Access`.

use std::time::Duration;

use edgeprof_common::Role;
use edgeprof_proto::v1::{self, access_server};
use edgeprof_service::{status::with_hint, tls::Handed};
use tonic::{Code, Request, Response, Status};

use super::{Api, audit};
use crate::{
    access::{Caller, Secret, audit::entry, policy},
    clock,
    core::{Change, Command},
    store::rows::{AuditRow, Outcome, TokenRow},
};

/// Longest life of a token.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

#[tonic::async_trait]
impl access_server::Access for Api {
    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let Caller { name, role, via, address } = Caller::of(&request)?;
        Ok(Response::new(v1::WhoAmIResponse {
            name,
            role: role.to_string(),
            via: via.to_string(),
            from: address.to_string(),
        }))
    }

    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (secret, row) = make(request.into_inner(), &caller)?;
        let about = shown(row.clone());
        let until = clock::text(row.expires_at);
        let note = entry(&caller, "IssueToken", &row.name, format!("{} until {until}", row.role));
        let tokens = self.access.tokens().clone();
        let (name, issue) = (row.name.clone(), |reply| Change::Issue { row, tokens, reply });
        if !self.ask_as(note, |reply| Command::Access(issue(reply))).await? {
            let hint = format!("`edgeprof token revoke {name}` ends it; or choose another name");
            let what = format!("there is a token of {name} that has not expired");
            return Err(with_hint(Code::FailedPrecondition, what, Some(&hint)));
        }
        Ok(Response::new(v1::IssueTokenResponse { about: Some(about), secret: secret.reveal() }))
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let tokens = self.access.tokens().list().into_iter().map(shown).collect();
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::AccessToken>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        named(&name)?;
        let note = entry(&caller, "RevokeToken", &name, "");
        let (tokens, asked) = (self.access.tokens().clone(), name.clone());
        let revoke = |reply| Command::Access(Change::Revoke { name: asked, tokens, reply });
        let row = self.ask_as(note, revoke).await?;
        let hint = Some("`edgeprof token list` lists the tokens of this coordinator");
        let row =
            row.ok_or_else(|| with_hint(Code::NotFound, format!("there is no token of {name}"), hint))?;
        Ok(Response::new(shown(row)))
    }

    async fn publish_revocations(
        &self,
        request: Request<v1::PublishRevocationsRequest>,
    ) -> Result<Response<v1::PublishRevocationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let Some(keeper) = self.dialer.keeper().cloned() else {
            let hint = Some("nothing of it is encrypted; docs/security.md says how a lab gets certificates");
            return Err(with_hint(Code::FailedPrecondition, "this coordinator has no certificates", hint));
        };
        let list = request.into_inner().list;
        let handed = tokio::task::spawn_blocking(move || keeper.hand_over(&list)).await;
        let handed = handed.map_err(|error| Status::internal(error.to_string()))?;
        let handed = handed.map_err(|why| with_hint(Code::InvalidArgument, why.what, Some(&why.hint)))?;
        let holds = handed.holds();
        let (number, revoked) = (holds.number(), holds.revoked().len());
        if matches!(handed, Handed::Older(_)) {
            let what = format!("this list is older than the coordinator's, which has the number {number}");
            let hint = Some("publish from the folder in which `edgeprof pki revoke` was used last");
            return Err(with_hint(Code::FailedPrecondition, what, hint));
        }
        let known = matches!(handed, Handed::Known(_));
        let note =
            entry(&caller, "PublishRevocations", format!("list {number}"), format!("{revoked} revoked"));
        // Like an upload: the file is durable before it is written down.
        self.access.note(AuditRow { outcome: Outcome::of_change(!known), ..note }, None).await?;
        let revoked = u32::try_from(revoked).unwrap_or(u32::MAX);
        Ok(Response::new(v1::PublishRevocationsResponse { number, revoked, known }))
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let asked = audit::Asked::of(request.into_inner())?;
        // What was refused before this call is in the log by then.
        self.ask(|reply| Command::Jobs(0, reply)).await?;
        self.read(move |store| audit::page(store, &asked)).await.map(Response::new)
    }
}

/// A new token, and what opens it.
fn make(request: v1::IssueTokenRequest, caller: &Caller) -> Result<(Secret, TokenRow), Status> {
    let v1::IssueTokenRequest { name, role, lifetime_s, only } = request;
    named(&name)?;
    let role: Role = role.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    if !(1..=LONGEST.as_secs()).contains(&lifetime_s) {
        let asked = match lifetime_s / 86_400 {
            0 => format!("{lifetime_s} s"),
            days => format!("{days} days"),
        };
        let what = format!("a token lasts 1 s to {} days, not {asked}", LONGEST.as_secs() / 86_400);
        return Err(Status::invalid_argument(what));
    }
    if let Some(unknown) = only.iter().find(|name| !policy::is_name(name)) {
        let known: Vec<_> =
            policy::RPCS.iter().filter(|rpc| rpc.least.is_some()).map(policy::Rpc::name).collect();
        let hint = format!("known here: {}", known.join(", "));
        return Err(with_hint(Code::InvalidArgument, format!("there is no RPC {unknown:?}"), Some(&hint)));
    }
    let (secret, now) = (Secret::random(), clock::now_ms());
    let row = TokenRow {
        name,
        hash: secret.hash(),
        role,
        only,
        issued_at: now,
        issued_by: caller.name.clone(),
        expires_at: now.saturating_add(lifetime_s.saturating_mul(1000)),
        used_at: None,
    };
    Ok((secret, row))
}

/// A name that can be told from others, typed, and be a part of a file's.
fn named(name: &str) -> Result<(), Status> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if name.len() <= super::NAME && first && name.chars().all(good) {
        return Ok(());
    }
    let what = format!(
        "a token's name has 1 to {} letters, digits, dots, dashes, underscores and @, and begins with a letter or digit",
        super::NAME
    );
    Err(Status::invalid_argument(what))
}

fn shown(row: TokenRow) -> v1::AccessToken {
    v1::AccessToken {
        name: row.name,
        role: row.role.to_string(),
        only: row.only,
        issued_at: clock::text(row.issued_at),
        issued_by: row.issued_by,
        expires_at: clock::text(row.expires_at),
        used_at: row.used_at.map(clock::text),
        expired: row.expires_at <= clock::now_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_can_be_typed() {
        for good in ["ann", "ci-1", "ann@desk.lab", "7"] {
            named(good).unwrap();
        }
        for bad in ["", "-x", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(named(bad).is_err(), "{bad:?}");
        }
    }
}
