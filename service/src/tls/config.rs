//! What a daemon is told of certificates and connections.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Keeper, Own, Untrusted};
use crate::config::Key;

/// What each key of `[tls]` does.
pub const TLS_KEYS: [Key; 5] = [
    Key::unset(
        "tls.dir",
        "Folder as `edgeprof pki issue` writes it: cert.pem, key.pem, ca.pem, and crl.pem, the list of what is\n\
         revoked. They are read again when they change. Without it, only this host is served.",
        "dir = \"/etc/edgeprof/tls\"",
    ),
    Key::unset("tls.cert", "Certificate, where it is elsewhere.", "cert = \"/etc/edgeprof/tls/cert.pem\""),
    Key::unset(
        "tls.key",
        "Its key, where it is elsewhere; readable for this user only.",
        "key = \"/etc/edgeprof/tls/key.pem\"",
    ),
    Key::unset(
        "tls.ca",
        "Certificate of the lab's authority, where it is elsewhere.",
        "ca = \"/etc/edgeprof/tls/ca.pem\"",
    ),
    Key::unset(
        "tls.crl",
        "List of what is revoked, where it is elsewhere.",
        "crl = \"/etc/edgeprof/tls/crl.pem\"",
    ),
];

/// What each key of `[connections]` does.
pub const CONNECTION_KEYS: [Key; 4] = [
    Key::new("connections.max", "Most connections at once; more are closed and counted."),
    Key::new("connections.per_address", "Most connections at once from one address."),
    Key::new(
        "connections.greeting",
        "Most connections at once that have not completed their handshake, a quarter of it from one address;\n\
         the oldest of those give way to new ones.",
    ),
    Key::new("connections.greeting_time", "How long a connection may take for its handshake."),
];

/// The section `[tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// A folder as `edgeprof pki issue` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// The certificate, instead of `cert.pem` in the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its key, instead of `key.pem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authority's certificate, instead of `ca.pem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The revocation list, instead of `crl.pem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl: Option<PathBuf>,
}

/// The section `[connections]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// Most at once.
    pub max: usize,
    /// Most at once from one address.
    pub per_address: usize,
    /// Most at once that have not completed their handshake.
    pub greeting: usize,
    /// How long a handshake may take.
    #[serde(with = "humantime_serde")]
    pub greeting_time: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self { max: 1024, per_address: 256, greeting: 256, greeting_time: Duration::from_secs(10) }
    }
}

/// Flags about certificates; each wins over its environment variable, and that over the file.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Certificates")]
pub struct TlsFlags {
    /// Folder with cert.pem, key.pem, ca.pem and crl.pem, as `edgeprof pki issue` writes it
    #[arg(long, env = "EDGEPROF_TLS_DIR", value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Certificate, where it is elsewhere
    #[arg(long, env = "EDGEPROF_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, where it is elsewhere
    #[arg(long, env = "EDGEPROF_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Certificate of the lab's authority, where it is elsewhere
    #[arg(long, env = "EDGEPROF_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// List of what is revoked, where it is elsewhere
    #[arg(long, env = "EDGEPROF_TLS_CRL", value_name = "FILE")]
    pub tls_crl: Option<PathBuf>,
    /// Serve this host only, without certificates, which is the default where none are named
    #[arg(long)]
    pub insecure_loopback: bool,
}

impl TlsFlags {
    /// What holds: what was given here, else what the file says.
    pub fn over(&self, file: TlsConfig) -> TlsConfig {
        if self.insecure_loopback {
            return TlsConfig::default();
        }
        let or = |flag: &Option<PathBuf>, file| flag.clone().or(file);
        TlsConfig {
            dir: or(&self.tls_dir, file.dir),
            cert: or(&self.tls_cert, file.cert),
            key: or(&self.tls_key, file.key),
            ca: or(&self.tls_ca, file.ca),
            crl: or(&self.tls_crl, file.crl),
        }
    }
}

/// The files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: PathBuf,
    /// That of a folder need not be there.
    pub(super) crl: Option<PathBuf>,
    pub(super) crl_is_optional: bool,
    /// Where a daemon keeps the list that was handed to it, DER: it may not write to a folder of root's.
    pub(super) handed: Option<PathBuf>,
}

impl TlsConfig {
    /// All from one folder.
    pub fn folder(dir: &Path) -> Self {
        Self { dir: Some(dir.to_owned()), ..Self::default() }
    }

    /// The file of the lab's authority.
    pub fn authority(&self) -> Option<PathBuf> {
        self.ca.clone().or_else(|| Some(self.dir.as_ref()?.join("ca.pem")))
    }

    /// The files, if there are to be any.
    pub(super) fn paths(&self) -> Result<Option<Paths>, Untrusted> {
        if *self == Self::default() {
            return Ok(None);
        }
        let file = |given: &Option<PathBuf>, key: &str| {
            given.clone().or_else(|| Some(self.dir.as_ref()?.join(format!("{key}.pem")))).ok_or_else(|| {
                let hint =
                    format!("give `{key}` too, or `dir`, the folder that `edgeprof pki issue` has written");
                Untrusted::new(format!("of [tls] the key {key} is missing"), hint)
            })
        };
        Ok(Some(Paths {
            cert: file(&self.cert, "cert")?,
            key: file(&self.key, "key")?,
            ca: file(&self.ca, "ca")?,
            crl: file(&self.crl, "crl").ok(),
            crl_is_optional: self.crl.is_none(),
            handed: None,
        }))
    }
}

/// The certificates of a daemon that is to listen at `listen`, and that has its data in the folder `data`; none where
/// it serves this host only.
///
/// # Errors
/// When it has none and is to serve others, or those that it has cannot be used.
pub fn secure(
    config: &TlsConfig,
    listen: SocketAddr,
    own: Own,
    data: &Path,
) -> Result<Option<Arc<Keeper>>, Untrusted> {
    if let Some(paths) = config.paths()? {
        let paths = Paths { handed: Some(data.join("revoked.crl")), ..paths };
        return Keeper::new(paths, own).map(|keeper| Some(Arc::new(keeper)));
    }
    if listen.ip().is_loopback() {
        return Ok(None);
    }
    let issue = match own {
        Own::Worker => "worker NAME",
        Own::Coordinator | Own::Client => "coordinator",
    };
    Err(Untrusted::new(
        format!("not listening on {listen} without certificates: whoever reaches it could command it"),
        format!(
            "make certificates with `edgeprof pki init` and `edgeprof pki issue {issue}`, and name their folder with \
             --tls-dir (docs/security.md); or serve this host only, with --listen 127.0.0.1:{}",
            listen.port()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_certificates_nothing_but_loopback_is_served() {
        let data = Path::new("/nowhere");
        for open in ["0.0.0.0:7450", "192.0.2.1:7450", "[::]:7450"] {
            let error =
                secure(&TlsConfig::default(), open.parse().unwrap(), Own::Coordinator, data).unwrap_err();
            assert!(error.what.contains(open), "{error}");
            assert!(
                error.hint.contains("edgeprof pki issue coordinator")
                    && error.hint.contains("docs/security.md")
            );
        }
        for own in ["127.0.0.1:7450", "127.9.9.9:1", "[::1]:7450"] {
            assert!(
                secure(&TlsConfig::default(), own.parse().unwrap(), Own::Worker, data).unwrap().is_none()
            );
        }
    }

    #[test]
    fn the_insecure_flag_means_no_certificates_and_hence_loopback() {
        let data = Path::new("/nowhere");
        let flags = TlsFlags { insecure_loopback: true, ..TlsFlags::default() };
        let config = flags.over(TlsConfig::folder("/etc/edgeprof/tls".as_ref()));
        assert!(secure(&config, "127.0.0.1:1".parse().unwrap(), Own::Worker, data).unwrap().is_none());
        assert!(secure(&config, "0.0.0.0:1".parse().unwrap(), Own::Worker, data).is_err());
    }

    #[test]
    fn files_are_those_of_the_folder_unless_they_are_named() {
        let flags = TlsFlags { tls_key: Some("/run/key".into()), ..TlsFlags::default() };
        let paths = flags.over(TlsConfig::folder("/tls".as_ref())).paths().unwrap().unwrap();
        assert_eq!((paths.cert, paths.key), ("/tls/cert.pem".into(), "/run/key".into()));
        assert!(paths.crl_is_optional);
        let error = flags.over(TlsConfig::default()).paths().unwrap_err();
        assert!(error.what.contains("cert"), "{error}");
    }
}
