//! Bearer tokens: what opens, and what is known of it.

use std::{
    collections::HashMap,
    fmt,
    fmt::Write,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use edgeprof_common::Digest;
use tokio_util::sync::CancellationToken;

use crate::store::rows::TokenRow;

/// What every token begins with, so that who finds one knows what it is.
const PREFIX: &str = "edgeprof_";

/// How far the stored time of a token's last use may be behind.
const STALE: u64 = 60_000;

/// What opens. It is shown once, and only its hash is kept.
pub struct Secret(String);

impl Secret {
    /// 256 random bits.
    #[must_use]
    pub fn random() -> Self {
        let mut text = PREFIX.to_owned();
        for byte in rand::random::<[u8; 32]>() {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// As it is stored.
    #[must_use]
    pub fn hash(&self) -> Digest {
        hash(&self.0)
    }

    /// For the one who asked for it.
    #[must_use]
    pub fn reveal(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secret in an `authorization` header: `Bearer SECRET`.
#[must_use]
pub fn bearer(header: &[u8]) -> Option<&str> {
    let (scheme, secret) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

fn hash(secret: &str) -> Digest {
    Digest::of(secret.as_bytes())
}

/// A token that was issued and not revoked.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) row: TokenRow,
    /// When it was used last, in ms since 1970; 0 is never.
    used: AtomicU64,
    /// What its row says of that.
    stored: AtomicU64,
    /// Ends what it has opened.
    pub(super) over: CancellationToken,
}

impl Live {
    fn new(row: TokenRow) -> Self {
        let used = row.used_at.unwrap_or_default();
        Self { row, used: used.into(), stored: used.into(), over: CancellationToken::new() }
    }

    /// Its row, with its last use.
    fn present(&self) -> TokenRow {
        let used = self.used.load(Ordering::Relaxed);
        TokenRow { used_at: (used > 0).then_some(used), ..self.row.clone() }
    }
}

/// Every token, as committed.
#[derive(Debug, Default)]
pub struct Tokens {
    by_hash: RwLock<HashMap<Digest, Arc<Live>>>,
}

impl Tokens {
    pub(super) fn recovered(rows: Vec<TokenRow>) -> Self {
        let live = rows.into_iter().map(|row| (row.hash, Arc::new(Live::new(row))));
        Self { by_hash: RwLock::new(live.collect()) }
    }

    /// Takes in a token that was committed; one of the same name is over.
    pub(crate) fn put(&self, row: TokenRow) {
        self.remove(&row.name);
        let mut all = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(row.hash, Arc::new(Live::new(row)));
    }

    /// Ends the token of a name, and what it has opened.
    pub(crate) fn remove(&self, name: &str) {
        let mut all = self.by_hash.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, live| {
            let stays = live.row.name != name;
            if !stays {
                live.over.cancel();
            }
            stays
        });
    }

    /// The token that a secret opens, used now. By the hash: how long it takes says nothing of a secret.
    pub(super) fn find(&self, secret: &str, now: u64) -> Option<Arc<Live>> {
        let all = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let live = all.get(&hash(secret))?.clone();
        live.used.fetch_max(now, Ordering::Relaxed);
        Some(live)
    }

    /// Every token by name.
    pub(crate) fn list(&self) -> Vec<TokenRow> {
        let all = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows: Vec<_> = all.values().map(|live| live.present()).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// Rows whose last use is to be stored.
    pub(super) fn stale(&self) -> Vec<TokenRow> {
        let all = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for live in all.values() {
            let (used, stored) = (live.used.load(Ordering::Relaxed), live.stored.load(Ordering::Relaxed));
            if used > stored && (stored == 0 || used - stored >= STALE) {
                live.stored.store(used, Ordering::Relaxed);
                rows.push(live.present());
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use edgeprof_common::Role;

    use super::*;

    fn row(name: &str, secret: &Secret) -> TokenRow {
        TokenRow {
            name: name.into(),
            hash: secret.hash(),
            role: Role::Viewer,
            only: Vec::new(),
            issued_at: 1,
            issued_by: "ann".into(),
            expires_at: u64::MAX,
            used_at: None,
        }
    }

    #[test]
    fn a_secret_is_long_random_and_not_shown_by_accident() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(format!("{one:?}"), "Secret(…)");
        let text = one.reveal();
        assert_eq!(text.strip_prefix(PREFIX).map(str::len), Some(64), "{text}");
    }

    #[test]
    fn a_token_opens_until_it_is_revoked_and_takes_along_what_it_opened() {
        let (tokens, secret) = (Tokens::default(), Secret::random());
        let text = secret.0.clone();
        assert!(tokens.find(&text, 5).is_none());
        tokens.put(row("ci", &secret));
        let live = tokens.find(&text, 5).unwrap();
        assert!(tokens.find(&text[..text.len() - 1], 5).is_none() && !live.over.is_cancelled());
        // Another of the same name.
        let second = Secret::random();
        tokens.put(row("ci", &second));
        assert!(live.over.is_cancelled() && tokens.find(&text, 6).is_none());
        assert_eq!(tokens.list().len(), 1);
        tokens.remove("ci");
        assert!(tokens.find(&second.0, 7).is_none() && tokens.list().is_empty());
    }

    #[test]
    fn the_last_use_is_stored_at_once_and_then_by_the_minute() {
        let (tokens, secret) = (Tokens::default(), Secret::random());
        tokens.put(row("ci", &secret));
        assert!(tokens.stale().is_empty(), "it was never used");
        tokens.find(&secret.0, 1000);
        assert_eq!(tokens.stale()[0].used_at, Some(1000));
        tokens.find(&secret.0, 2000);
        assert!(tokens.stale().is_empty());
        assert_eq!(tokens.list()[0].used_at, Some(2000));
        tokens.find(&secret.0, 1000 + STALE);
        assert_eq!(tokens.stale()[0].used_at, Some(1000 + STALE));
    }
}
