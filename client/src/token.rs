//! What the client shows of itself with each call.

use std::{fmt, fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::Uri,
};

use crate::ClientError;

/// Longest file that is read as a token.
const LONGEST: u64 = 4096;

/// A bearer token. It is never shown again.
#[derive(Clone)]
pub struct Token {
    header: MetadataValue<Ascii>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token as somebody has it, such as from the environment; `origin` says where from.
    ///
    /// # Errors
    /// When that is no token.
    pub fn new(text: &str, origin: &str) -> Result<Self, ClientError> {
        let text = text.trim();
        let printable = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        let header = format!("Bearer {text}").parse::<MetadataValue<Ascii>>().ok().filter(|_| printable);
        let mut header = header.ok_or_else(|| ClientError::Token {
            message: format!("what stands in {origin} is no token"),
            hint: "a token is one word: `edgeprof token issue NAME --role ROLE` makes one".into(),
        })?;
        // Nor do libraries below show it in their logs.
        header.set_sensitive(true);
        Ok(Self { header })
    }

    /// A token in a file that nobody else can read.
    ///
    /// # Errors
    /// When the file cannot be read, others can read it, or it holds no token.
    pub fn read(path: &Path) -> Result<Self, ClientError> {
        let unreadable = |source| ClientError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if about.is_file() && about.mode() & 0o077 != 0 {
            return Err(ClientError::Token {
                message: format!("others may read the token in {}", path.display()),
                hint: format!("chmod 600 {}; if anybody could, revoke it and issue another", path.display()),
            });
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).map_err(unreadable)?;
        Self::new(&text, &path.display().to_string())
    }
}

/// Whether what goes to this address can be read on the way.
pub(crate) fn in_the_clear(address: &str) -> bool {
    let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let Ok(uri) = url.parse::<Uri>() else { return true };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let own =
        host.parse::<std::net::IpAddr>().map_or(host == "localhost", |ip| ip.to_canonical().is_loopback());
    uri.scheme_str() != Some("https") && !own
}

/// Puts into each call what it carries beside its message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) token: Option<Token>,
}

impl Interceptor for Outgoing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.header.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_token_is_one_word_and_not_shown() {
        let token = Token::new(" edgeprof_ab12\n", "x").unwrap();
        assert_eq!(token.header.to_str().unwrap(), "Bearer edgeprof_ab12");
        assert_eq!(format!("{token:?} {:?}", token.header), "Token(…) Sensitive");
        for bad in ["", " ", "a b", "a\u{7}b", "é"] {
            let error = Token::new(bad, "EDGEPROF_TOKEN").unwrap_err().to_string();
            assert_eq!(error, "what stands in EDGEPROF_TOKEN is no token");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "edgeprof_ab12\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let token = Token::read(file.path());
            assert_eq!(token.is_ok(), good, "{mode:o}: {token:?}");
            if let Err(error) = token {
                assert!(error.hint().unwrap().contains("chmod 600"), "{error:?}");
            }
        }
        assert!(matches!(Token::read("/nowhere".as_ref()), Err(ClientError::File { .. })));
    }

    #[test]
    fn plain_tcp_is_in_the_clear_unless_it_stays_on_this_machine() {
        for own in
            ["http://127.0.0.1:7450", "127.0.0.9:1", "http://[::1]:1", "http://localhost:1", "https://lab:1"]
        {
            assert!(!in_the_clear(own), "{own}");
        }
        for far in
            ["http://lab:7450", "10.0.0.1:7450", "http://127.0.0.1.example:1", "http://[::2]:1", "not one"]
        {
            assert!(in_the_clear(far), "{far}");
        }
    }
}
