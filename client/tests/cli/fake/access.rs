//! Who may do what, as the played coordinator has it.

use edgeprof_proto::v1::{self, access_server::Access};
use edgeprof_service::status;
use tonic::{Code, Request, Response, Status};

use super::Fake;

/// What opens the one token that is issued here.
pub(crate) const SECRET: &str = "edgeprof_5ec7e7";

fn token(name: &str, role: &str) -> v1::AccessToken {
    v1::AccessToken {
        name: name.into(),
        role: role.into(),
        only: vec!["ListJobs".into()],
        issued_at: "2026-01-01T00:00:00Z".into(),
        issued_by: "ann".into(),
        expires_at: "2026-02-01T00:00:00Z".into(),
        used_at: None,
        expired: false,
    }
}

#[tonic::async_trait]
impl Access for Fake {
    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let shown = request.metadata().get("authorization").map(|value| value.to_str().unwrap());
        let (name, role, via) = match shown {
            None => ("local", "admin", "loopback"),
            Some(text) if text == format!("Bearer {SECRET}") => ("ann", "viewer", "token"),
            Some(_) => return Err(Status::unauthenticated("the token is none of this coordinator's")),
        };
        let (name, role, via) = (name.into(), role.into(), via.into());
        Ok(Response::new(v1::WhoAmIResponse { name, role, via, from: "127.0.0.1:1".into() }))
    }

    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let v1::IssueTokenRequest { name, role, lifetime_s, .. } = request.into_inner();
        if name == "taken" {
            let hint = Some("`edgeprof token revoke taken` ends it");
            return Err(status::with_hint(Code::FailedPrecondition, "there is a token of taken", hint));
        }
        assert_eq!(lifetime_s, 30 * 24 * 3600);
        let about = Some(token(&name, &role));
        Ok(Response::new(v1::IssueTokenResponse { about, secret: SECRET.into() }))
    }

    async fn list_tokens(
        &self,
        _request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        Ok(Response::new(v1::ListTokensResponse { tokens: vec![token("ci", "submitter")] }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::AccessToken>, Status> {
        Ok(Response::new(token(&request.into_inner().name, "viewer")))
    }

    async fn publish_revocations(
        &self,
        _request: Request<v1::PublishRevocationsRequest>,
    ) -> Result<Response<v1::PublishRevocationsResponse>, Status> {
        Err(Status::failed_precondition("this coordinator has no certificates"))
    }

    /// Two in a page, of five.
    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let v1::ListAuditRequest { who, before, limit, .. } = request.into_inner();
        let last = if before == 0 { 5 } else { before - 1 };
        let first = last.saturating_sub(u64::from(limit.min(2))) + 1;
        let entry = |number| v1::AuditEntry {
            number,
            at: format!("2026-01-01T00:00:0{number}Z"),
            who: if who.is_empty() { "ann".into() } else { who.clone() },
            from: "127.0.0.1:1".into(),
            rpc: "CancelJob".into(),
            target: format!("j{number}"),
            outcome: "done".into(),
            ..v1::AuditEntry::default()
        };
        let entries = (first..=last).rev().map(entry).collect();
        Ok(Response::new(v1::ListAuditResponse { entries, next: (first > 1).then_some(first) }))
    }
}
