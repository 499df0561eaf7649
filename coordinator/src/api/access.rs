//! What clients may ask about access: `edgeprof.v1.Access`.

use std::time::Duration;

use edgeprof_common::Role;
use edgeprof_proto::v1::{self, access_server};
use edgeprof_service::status::with_hint;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::{Code, Request, Response, Status};

use super::Api;
use crate::{
    access::{Caller, Secret, audit::entry, policy},
    clock,
    core::{Change, Command},
    store::{
        Store, StoreError,
        rows::{self, AuditRow, TokenRow},
    },
};

/// Longest life of a token.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Entries of the log in one answer.
const PAGE: usize = 1000;

/// Rows of the log that are looked at for one answer: whoever asks for somebody rare asks again.
const LOOKED_AT: u64 = 20_000;

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

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let v1::ListAuditRequest { who, since, limit, before } = request.into_inner();
        let since = match since.as_str() {
            "" => 0,
            text => ms(text).ok_or_else(|| {
                Status::invalid_argument(format!("{text:?} is no time; expected one as 2026-01-31T12:00:00Z"))
            })?,
        };
        let limit = if limit == 0 { 100 } else { (limit as usize).min(PAGE) };
        // What was refused before this call is in the log by then.
        self.ask(|reply| Command::Jobs(0, reply)).await?;
        self.read(move |store| page(store, &who, since, limit, before)).await.map(Response::new)
    }
}

/// A new token, and what opens it.
fn make(request: v1::IssueTokenRequest, caller: &Caller) -> Result<(Secret, TokenRow), Status> {
    let v1::IssueTokenRequest { name, role, lifetime_s, only } = request;
    named(&name)?;
    let role: Role = role.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
    if !(1..=LONGEST.as_secs()).contains(&lifetime_s) {
        let what = format!("a token lasts 1 s to {} days, not {lifetime_s} s", LONGEST.as_secs() / 86_400);
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

fn ms(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default())
}

/// Entries of the log from the newest below `before` back.
fn page(
    store: &dyn Store,
    who: &str,
    since: u64,
    limit: usize,
    before: u64,
) -> Result<v1::ListAuditResponse, StoreError> {
    let Some((first, last)) = rows::audit_range(store)? else { return Ok(v1::ListAuditResponse::default()) };
    let mut end = if before == 0 { last.saturating_add(1) } else { before.min(last.saturating_add(1)) };
    let stop = end.saturating_sub(LOOKED_AT).max(first);
    let mut entries = Vec::new();
    while end > stop {
        let begin = end.saturating_sub(PAGE as u64).max(stop);
        let part = rows::audit(store, begin, usize::try_from(end - begin).unwrap_or(PAGE))?;
        for (number, row) in part.into_iter().rev() {
            if row.at < since {
                return Ok(v1::ListAuditResponse { entries, next: None });
            }
            if who.is_empty() || row.who == who {
                entries.push(listed(number, row));
            }
            if entries.len() == limit {
                return Ok(v1::ListAuditResponse { entries, next: (number > first).then_some(number) });
            }
        }
        end = begin;
    }
    Ok(v1::ListAuditResponse { entries, next: (end > first).then_some(end) })
}

fn listed(number: u64, row: AuditRow) -> v1::AuditEntry {
    v1::AuditEntry {
        number,
        at: clock::text(row.at),
        who: row.who,
        role: row.role.map(|role| role.to_string()),
        via: row.via,
        from: row.from,
        rpc: row.rpc,
        target: row.target,
        detail: row.detail,
        outcome: row.outcome.as_str().into(),
        unlisted: row.unlisted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Memory, Transaction,
        rows::{Outcome, encode, key},
    };

    fn log(count: u64) -> Memory {
        let (store, mut transaction) = (Memory::default(), Transaction::default());
        for number in 1..=count {
            let row = AuditRow {
                at: number * 10,
                who: if number % 10 == 0 { "ann" } else { "bob" }.into(),
                role: None,
                via: None,
                from: String::new(),
                rpc: "CancelJob".into(),
                target: String::new(),
                detail: String::new(),
                outcome: Outcome::Done,
                unlisted: 0,
            };
            transaction.put(key::audit(number), encode(&row));
        }
        store.commit(&[transaction]).unwrap();
        store
    }

    fn numbers(page: &v1::ListAuditResponse) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn pages_follow_each_other_back_to_the_first() {
        let store = log(2500);
        let (mut before, mut seen) = (0, Vec::new());
        loop {
            let page = page(&store, "", 0, 400, before).unwrap();
            seen.extend(numbers(&page));
            match page.next {
                Some(next) => before = next,
                None => break,
            }
        }
        assert_eq!(seen, (1..=2500).rev().collect::<Vec<_>>());
    }

    #[test]
    fn one_caller_and_one_time_narrow_it() {
        let store = log(2500);
        let of_ann = page(&store, "ann", 0, 3, 0).unwrap();
        assert_eq!((numbers(&of_ann), of_ann.next), (vec![2500, 2490, 2480], Some(2480)));
        let late = page(&store, "", 24_980, 100, 0).unwrap();
        assert_eq!((numbers(&late), late.next), (vec![2500, 2499, 2498], None));
        assert_eq!(page(&Memory::default(), "", 0, 1, 0).unwrap(), v1::ListAuditResponse::default());
    }

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
