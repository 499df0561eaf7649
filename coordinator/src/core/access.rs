//! Tokens, and the log of who did what: a change and its entry are in one commit.

use std::{collections::BTreeMap, sync::Arc};

use edgeprof_common::Digest;
use tokio::sync::oneshot;

use super::{Command, Core, commit::Out};
use crate::{
    access::{OverQuota, Tokens},
    clock,
    store::{
        Store, StoreError,
        rows::{self, AuditRow, Outcome, TokenRow, UploadsRow, key},
    },
};

/// A change of who may do what, and what else is written down about that.
#[derive(Debug)]
pub enum Change {
    /// A token; refused while one of its name is good.
    Issue {
        /// The token.
        row: TokenRow,
        /// Where it is known from the commit on.
        tokens: Arc<Tokens>,
        /// Whether it is.
        reply: oneshot::Sender<bool>,
    },
    /// The end of a token.
    Revoke {
        /// Its name.
        name: String,
        /// Where it is known until the commit.
        tokens: Arc<Tokens>,
        /// The token as it was, if there was one.
        reply: oneshot::Sender<Option<TokenRow>>,
    },
    /// A token was used.
    Used(TokenRow),
    /// Something that is no change of the store, or none at all.
    Audit {
        /// The entry.
        row: AuditRow,
        /// What its submitter has uploaded now.
        uploads: Option<(String, UploadsRow)>,
        /// Told when it is durable.
        reply: Option<oneshot::Sender<()>>,
    },
    /// Entries of the log that are not kept any longer.
    Prune {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// Told when they are gone.
        reply: oneshot::Sender<()>,
    },
}

/// What the loop knows of it.
#[derive(Debug)]
pub(super) struct State {
    /// Number of the log's last entry.
    last: u64,
    tokens: BTreeMap<String, TokenRow>,
    /// What became of the command at hand; absent where whoever gave it finds out, and writes it down.
    outcome: Option<Outcome>,
}

impl State {
    pub(super) fn recover(store: &dyn Store) -> Result<Self, StoreError> {
        let tokens = rows::tokens(store)?.into_iter().map(|row| (row.name.clone(), row)).collect();
        Ok(Self { last: rows::audit_range(store)?.map_or(0, |(_, last)| last), tokens, outcome: None })
    }
}

impl Core {
    /// Does what somebody asked for, and writes down who.
    pub(super) fn audited(&mut self, row: AuditRow, command: Command) {
        self.access.outcome = Some(Outcome::Refused);
        self.handle(command);
        if let Some(outcome) = self.access.outcome.take() {
            self.put_audit(&AuditRow { outcome, ..row });
        }
    }

    /// Says whether the command at hand did what it was for.
    pub(super) fn did(&mut self, it: bool) {
        self.became(Some(if it { Outcome::Done } else { Outcome::Refused }));
    }

    /// Says what became of the command at hand, if it is known here.
    pub(super) fn became(&mut self, outcome: Option<Outcome>) {
        self.access.outcome = outcome;
    }

    fn put_audit(&mut self, row: &AuditRow) {
        self.access.last += 1;
        self.transaction.put(key::audit(self.access.last), rows::encode(row));
    }

    pub(super) fn change_access(&mut self, change: Change) {
        match change {
            Change::Issue { row, tokens, reply } => {
                let known = self.access.tokens.get(&row.name);
                let free = known.is_none_or(|known| known.expires_at <= clock::now_ms());
                self.did(free);
                if !free {
                    return self.reply(reply, false);
                }
                self.transaction.put(key::bearer(&row.name), rows::encode(&row));
                self.access.tokens.insert(row.name.clone(), row.clone());
                self.outs.push(Out::Tell(Box::new(move || {
                    tokens.put(row);
                    let _ = reply.send(true);
                })));
            }
            Change::Revoke { name, tokens, reply } => {
                let row = self.access.tokens.remove(&name);
                self.did(row.is_some());
                if row.is_some() {
                    self.transaction.delete(key::bearer(&name));
                }
                self.outs.push(Out::Tell(Box::new(move || {
                    if row.is_some() {
                        tokens.remove(&name);
                    }
                    let _ = reply.send(row);
                })));
            }
            Change::Used(row) => {
                // It may have been revoked meanwhile, and another may have its name.
                let same = |known: &TokenRow| -> Digest { known.hash };
                if self.access.tokens.get(&row.name).map(same) == Some(row.hash) {
                    self.transaction.put(key::bearer(&row.name), rows::encode(&row));
                }
            }
            Change::Audit { row, uploads, reply } => {
                self.put_audit(&row);
                if let Some((who, row)) = uploads {
                    self.transaction.put(key::uploads(&who), rows::encode(&row));
                }
                if let Some(reply) = reply {
                    self.reply(reply, ());
                }
            }
            Change::Prune { first, last, reply } => {
                (first..=last).for_each(|number| self.transaction.delete(key::audit(number)));
                self.reply(reply, ());
            }
        }
    }

    /// Whether a submitter may have so many more tasks in one more job.
    pub(super) fn within_quota(&self, submitter: &str, new: usize) -> Result<(), OverQuota> {
        let quota = self.parts.quotas.quota(submitter);
        if quota.jobs.is_none() && quota.tasks.is_none() {
            return Ok(());
        }
        let (mut jobs, mut tasks) = (0, 0);
        for (id, job) in &self.jobs {
            let Some(state) = self.scheduler.job(*id).filter(|_| job.row.submitter == submitter) else {
                continue;
            };
            let open = state.tasks.saturating_sub(state.ended) as u64;
            jobs += u64::from(open > 0);
            tasks += open;
        }
        quota.admits(submitter, jobs, tasks, new as u64)
    }
}
