//! The calls about who may do what, and who did.

use std::time::Duration;

use edgeprof_common::Role;
use edgeprof_proto::v1::{self, access_client::AccessClient};

use crate::{Client, ClientError, client::Carried, retry::calling};

/// Entries of the log in one answer.
const PAGE: u32 = 1000;

impl Client {
    fn access(&self) -> AccessClient<Carried> {
        AccessClient::new(self.carried())
    }

    /// Who the coordinator takes this client for.
    ///
    /// # Errors
    /// When the coordinator refuses or is lost.
    pub async fn who_am_i(&self) -> Result<v1::WhoAmIResponse, ClientError> {
        let call = || async { self.access().who_am_i(v1::WhoAmIRequest {}).await };
        Ok(calling(self.callee(), self.patience(), self.patience(), call).await?.into_inner())
    }

    /// A new token of `name`, and what opens it: the only time that anybody sees it. Where the connection breaks it
    /// may have been made.
    ///
    /// # Errors
    /// When one of this name is good already, the request is wrong, or the coordinator refuses or is lost.
    pub async fn issue_token(
        &self,
        name: &str,
        role: Role,
        lifetime: Duration,
        only: &[String],
    ) -> Result<v1::IssueTokenResponse, ClientError> {
        let request = v1::IssueTokenRequest {
            name: name.to_owned(),
            role: role.to_string(),
            lifetime_s: lifetime.as_secs(),
            only: only.to_vec(),
        };
        let call = || async { self.access().issue_token(request.clone()).await };
        Ok(calling(self.callee(), Duration::ZERO, Duration::ZERO, call).await?.into_inner())
    }

    /// Every token by name, without what opens it.
    ///
    /// # Errors
    /// When the coordinator refuses or is lost.
    pub async fn tokens(&self) -> Result<Vec<v1::AccessToken>, ClientError> {
        let call = || async { self.access().list_tokens(v1::ListTokensRequest {}).await };
        Ok(calling(self.callee(), self.patience(), self.patience(), call).await?.into_inner().tokens)
    }

    /// Ends a token, and what it has opened.
    ///
    /// # Errors
    /// When there is no such token, or the coordinator refuses or is lost.
    pub async fn revoke_token(&self, name: &str) -> Result<v1::AccessToken, ClientError> {
        let request = v1::RevokeTokenRequest { name: name.to_owned() };
        let call = || async { self.access().revoke_token(request.clone()).await };
        Ok(calling(self.callee(), Duration::ZERO, Duration::ZERO, call).await?.into_inner())
    }

    /// Hands over a list of what the lab's authority has revoked, in its DER encoding.
    ///
    /// # Errors
    /// When it is of another authority or older than the coordinator's, or the coordinator refuses or is lost.
    pub async fn publish_revocations(
        &self,
        list: &[u8],
    ) -> Result<v1::PublishRevocationsResponse, ClientError> {
        let request = v1::PublishRevocationsRequest { list: list.to_vec() };
        let call = || async { self.access().publish_revocations(request.clone()).await };
        Ok(calling(self.callee(), self.patience(), self.patience(), call).await?.into_inner())
    }

    /// The newest entries of the log of who did what, at most so many, the newest first: of one caller, and since a
    /// time in RFC 3339, where these are given.
    ///
    /// # Errors
    /// When the request is wrong, or the coordinator refuses or is lost.
    pub async fn audit(
        &self,
        who: Option<&str>,
        since: Option<&str>,
        limit: usize,
    ) -> Result<Vec<v1::AuditEntry>, ClientError> {
        let mut entries = Vec::new();
        let mut before = 0;
        while entries.len() < limit {
            let left = u32::try_from(limit - entries.len()).unwrap_or(PAGE).min(PAGE);
            let request = v1::ListAuditRequest {
                who: who.unwrap_or_default().to_owned(),
                since: since.unwrap_or_default().to_owned(),
                limit: left,
                before,
            };
            let call = || async { self.access().list_audit(request.clone()).await };
            let answer = calling(self.callee(), self.patience(), self.patience(), call).await?.into_inner();
            entries.extend(answer.entries);
            match answer.next {
                // Whoever sends us round in circles gets no further.
                Some(next) if before == 0 || next < before => before = next,
                _ => break,
            }
        }
        Ok(entries)
    }
}
