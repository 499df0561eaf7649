//! TLS to what is none of the lab's daemons: an authority and a name, as everywhere else.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use edgeprof_identity::files;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;

use super::{
    Untrusted,
    dial::tcp,
    loaded::{ALPN, VERSIONS},
};
use crate::channel::{Connecting, Io, Transport};

/// Connections to a server whose certificate has this name and is of this authority.
#[derive(Clone, Debug)]
pub struct Named {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    ca: PathBuf,
}

impl Named {
    /// By the authorities in the file `ca`; with a certificate and its key, if the server asks for one. The files are
    /// read now.
    ///
    /// # Errors
    /// When one of the files cannot be used, or the name cannot be that of a server.
    pub fn new(ca: &Path, name: &str, own: Option<(&Path, &Path)>) -> Result<Self, Untrusted> {
        let host = name.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            Untrusted::new(
                format!("{host:?} cannot be the name in a certificate"),
                "give a DNS name or an IP address",
            )
        })?;
        let mut roots = RootCertStore::empty();
        for der in files::certificates(ca)? {
            let unusable =
                |error| files::FileError::new(ca, error, "give a file with certificates of authorities");
            roots.add(der).map_err(unusable)?;
        }
        let unusable = |what: rustls::Error| Untrusted::new(what.to_string(), "give other files");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(VERSIONS)
            .map_err(unusable)?
            .with_root_certificates(roots);
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let files::Credentials { chain, key, .. } = files::credentials(cert, key)?;
                config.with_client_auth_cert(chain, key).map_err(|error| {
                    files::FileError::new(cert, error, "give a certificate and the key that it was made for")
                })?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), name, ca: ca.to_owned() })
    }

    fn wrong(&self, error: &io::Error) -> io::Error {
        let tls = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        let (ca, name) = (self.ca.display(), self.name.to_str());
        let why = match tls {
            Some(rustls::Error::InvalidCertificate(cause)) => {
                format!("its certificate is not one of {name} by an authority in {ca}: {cause}")
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                format!("it does not take the certificate of this process: {alert:?}")
            }
            Some(rustls::Error::InvalidMessage(_)) => "it speaks no TLS".to_owned(),
            _ => format!("TLS with it failed: {error}"),
        };
        io::Error::new(error.kind(), why)
    }
}

impl Transport for Named {
    fn connect(&self, to: &Uri) -> Connecting {
        let (this, to) = (self.clone(), to.clone());
        Box::pin(async move {
            let tcp = tcp(&to).await?;
            let connecting = TlsConnector::from(this.config.clone()).connect(this.name.clone(), tcp);
            let tls = connecting.await.map_err(|error| this.wrong(&error))?;
            Ok(Box::new(tls) as Box<dyn Io>)
        })
    }
}
