//! Which coordinator: a flag, the environment, the config file, mDNS, or this machine.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use edgeprof_service::{
    COORDINATOR_PORT,
    channel::Dialer,
    config,
    discovery::{Browser, COORDINATOR_SERVICE, Found, Sighting},
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{Client, ClientError};

/// How long to listen for the first announcement; a live coordinator answers within a second.
const FIRST: Duration = Duration::from_millis(1500);

/// How long to go on listening after it, for a second coordinator.
const SECOND: Duration = Duration::from_millis(500);

/// The client's configuration file, `~/.config/edgeprof/config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the coordinator.
    pub coordinator: Option<String>,
}

/// Where the file is looked for: `$XDG_CONFIG_HOME`, else `$HOME/.config`.
pub fn config_path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let filled = |name| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let folder = filled("XDG_CONFIG_HOME").or_else(|| Some(filled("HOME")?.join(".config")))?;
    Some(folder.join("edgeprof").join("config.toml"))
}

/// Where an address came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Origin {
    Flag,
    Environment,
    Config(PathBuf),
    Mdns { id: String, site: String },
    Default { because: String },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("from --coordinator"),
            Self::Environment => f.write_str("from EDGEPROF_COORDINATOR"),
            Self::Config(path) => write!(f, "from {}", path.display()),
            Self::Mdns { id, .. } => write!(f, "{id}, announced over mDNS"),
            Self::Default { because } => write!(f, "the default, {because}"),
        }
    }
}

/// A coordinator to try: its addresses, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// At least one.
    pub urls: Vec<String>,
    /// Where they came from.
    pub origin: Origin,
}

/// What a person has said about the coordinator.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// `--coordinator`.
    pub flag: Option<String>,
    /// `EDGEPROF_COORDINATOR`.
    pub environment: Option<String>,
    /// The configuration file, if it exists.
    pub config: Option<PathBuf>,
}

/// Decides whom to speak to. `search` is asked only where nothing was said. `secured` says whether there are
/// certificates: an announcement that speaks of none does not talk us out of them.
///
/// # Errors
/// When the configuration file is wrong, or several coordinators announce themselves.
pub async fn resolve(
    said: &Said,
    search: impl Future<Output = Result<Vec<Found>, String>>,
    secured: bool,
) -> Result<Target, ClientError> {
    let one = |url: &str, origin| Ok(Target { urls: vec![url.trim().to_owned()], origin });
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    if let Some(url) = filled(&said.flag) {
        return one(&url, Origin::Flag);
    }
    if let Some(url) = filled(&said.environment) {
        return one(&url, Origin::Environment);
    }
    if let Some(path) = said.config.as_deref().filter(|path| path.exists())
        && let Some(url) = filled(&config::read::<Config>(path)?.coordinator)
    {
        return one(&url, Origin::Config(path.to_owned()));
    }
    let because = match search.await {
        Ok(found) if found.len() > 1 => {
            return Err(ClientError::Ambiguous { found: found.iter().map(describe).collect() });
        }
        Ok(found) => match found.into_iter().next() {
            Some(found) => {
                let urls = urls(&found, secured);
                return Ok(Target { urls, origin: Origin::Mdns { id: found.id, site: found.site } });
            }
            None => "as none is announced over mDNS".to_owned(),
        },
        Err(reason) => format!("as {reason}"),
    };
    one(&format!("{}://127.0.0.1:{COORDINATOR_PORT}", scheme(secured)), Origin::Default { because })
}

const fn scheme(secured: bool) -> &'static str {
    if secured { "https" } else { "http" }
}

fn urls(found: &Found, secured: bool) -> Vec<String> {
    let scheme = scheme(secured || found.tls);
    found.addresses.iter().map(|address| format!("{scheme}://{address}")).collect()
}

fn describe(found: &Found) -> String {
    let site = if found.site.is_empty() { String::new() } else { format!(", site {}", found.site) };
    format!("{} ({}{site})", urls(found, false).first().cloned().unwrap_or_default(), found.id)
}

/// Listens on the network for a moment. Coordinators are told apart by their names.
///
/// # Errors
/// When the machine has no multicast, in words.
pub async fn search() -> Result<Vec<Found>, String> {
    let mut browser = Browser::start(COORDINATOR_SERVICE).map_err(|error| error.to_string())?;
    let mut known: BTreeMap<(String, String), Found> = BTreeMap::new();
    let start = Instant::now();
    let mut until = start + FIRST;
    while let Ok(Some(sighting)) = tokio::time::timeout_at(until, browser.next()).await {
        match sighting {
            Sighting::Up(found) => {
                if known.is_empty() {
                    until = Instant::now() + SECOND;
                }
                known.insert((found.id.clone(), found.site.clone()), found);
            }
            Sighting::Down(id) => known.retain(|(known, _), _| *known != id),
        }
    }
    Ok(known.into_values().collect())
}

/// Connects to the first address of `target` that answers.
///
/// # Errors
/// When none does: all of them with their reasons.
pub async fn connect(target: &Target, dialer: &Dialer) -> Result<Client, ClientError> {
    let (mut all, mut untrusted) = (Vec::new(), None);
    for url in &target.urls {
        match Client::dial(url, dialer).await {
            Ok(client) => return Ok(client),
            // Another address may be that of who is meant.
            Err(error @ ClientError::Untrusted { .. }) => untrusted = Some(error),
            Err(ClientError::Unreachable { tried }) => {
                all.extend(tried.iter().map(|text| format!("{text} ({})", target.origin)));
            }
            Err(error) => return Err(error),
        }
    }
    Err(untrusted.unwrap_or(ClientError::Unreachable { tried: all }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn none() -> Result<Vec<Found>, String> {
        Ok(Vec::new())
    }

    async fn never() -> Result<Vec<Found>, String> {
        panic!("the network must not be asked")
    }

    fn found(id: &str, last: u8) -> Found {
        Found {
            id: id.into(),
            site: "attic".into(),
            addresses: vec![([192, 0, 2, last], 7450).into()],
            tls: false,
        }
    }

    fn config(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[tokio::test]
    async fn the_flag_wins_then_the_environment_then_the_file() {
        let file = config("coordinator = \"http://c:1\"\n");
        let mut said = Said {
            flag: Some("http://a:1".into()),
            environment: Some("http://b:1".into()),
            config: Some(file.path().into()),
        };
        let target = resolve(&said, never(), false).await.unwrap();
        assert_eq!((target.urls[0].as_str(), target.origin), ("http://a:1", Origin::Flag));
        said.flag = None;
        let target = resolve(&said, never(), false).await.unwrap();
        assert_eq!((target.urls[0].as_str(), target.origin), ("http://b:1", Origin::Environment));
        said.environment = Some(String::new());
        let target = resolve(&said, never(), false).await.unwrap();
        assert_eq!(target.urls[0], "http://c:1");
        assert_eq!(target.origin, Origin::Config(file.path().into()));
    }

    #[tokio::test]
    async fn then_the_network_and_at_last_this_machine() {
        let said = Said { config: Some("/nowhere/config.toml".into()), ..Said::default() };
        let target = resolve(&said, async { Ok(vec![found("c1", 7)]) }, false).await.unwrap();
        assert_eq!(target.urls, ["http://192.0.2.7:7450"]);
        assert_eq!(target.origin, Origin::Mdns { id: "c1".into(), site: "attic".into() });
        let target = resolve(&said, none(), false).await.unwrap();
        assert_eq!(target.urls, ["http://127.0.0.1:7450"]);
        let target = resolve(&said, async { Err("mDNS is not available: x".into()) }, false).await.unwrap();
        assert_eq!(target.origin.to_string(), "the default, as mDNS is not available: x");
    }

    #[tokio::test]
    async fn with_certificates_no_announcement_talks_us_out_of_them() {
        let said = Said::default();
        let target = resolve(&said, async { Ok(vec![found("c1", 7)]) }, true).await.unwrap();
        assert_eq!(target.urls, ["https://192.0.2.7:7450"]);
        let target = resolve(&said, none(), true).await.unwrap();
        assert_eq!(target.urls, ["https://127.0.0.1:7450"]);
        let secure = async { Ok(vec![Found { tls: true, ..found("c1", 7) }]) };
        let target = resolve(&said, secure, false).await.unwrap();
        assert_eq!(target.urls, ["https://192.0.2.7:7450"]);
    }

    #[tokio::test]
    async fn two_coordinators_are_an_error_that_lists_both() {
        let both = async { Ok(vec![found("c1", 7), found("c2", 8)]) };
        let error = resolve(&Said::default(), both, false).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("http://192.0.2.7:7450 (c1, site attic)"), "{text}");
        assert!(text.contains("http://192.0.2.8:7450 (c2, site attic)"), "{text}");
        assert!(!error.unreachable() && error.hint().unwrap().contains("--coordinator"));
    }

    #[tokio::test]
    async fn an_unknown_key_of_the_file_is_refused() {
        let file = config("cordinator = \"x\"\n");
        let said = Said { config: Some(file.path().into()), ..Said::default() };
        let error = resolve(&said, never(), false).await.unwrap_err().to_string();
        assert!(error.contains("cordinator") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn the_file_lies_where_xdg_says() {
        let of = |xdg: Option<&str>| {
            let xdg = xdg.map(str::to_owned);
            config_path(move |name| match name {
                "XDG_CONFIG_HOME" => xdg.clone(),
                "HOME" => Some("/home/ada".into()),
                _ => None,
            })
        };
        assert_eq!(of(None), Some("/home/ada/.config/edgeprof/config.toml".into()));
        assert_eq!(of(Some("")), Some("/home/ada/.config/edgeprof/config.toml".into()));
        assert_eq!(of(Some("/x")), Some("/x/edgeprof/config.toml".into()));
    }

    #[tokio::test]
    async fn nobody_there_says_who_was_tried_and_why() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let target = Target { urls: vec![url.clone()], origin: Origin::Flag };
        let error = connect(&target, &Dialer::default()).await.unwrap_err();
        assert!(error.unreachable());
        let text = error.to_string();
        assert!(text.contains(&url) && text.contains("refused") && text.contains("--coordinator"), "{text}");
    }

    async fn refused(address: std::net::SocketAddr) -> String {
        let target = Target { urls: vec![format!("http://{address}")], origin: Origin::Flag };
        let error = connect(&target, &Dialer::default()).await.unwrap_err();
        assert!(error.unreachable(), "{error:?}");
        error.to_string()
    }

    #[tokio::test]
    async fn somebody_else_there_is_no_coordinator() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let web = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 24]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        });
        let text = refused(address).await;
        assert!(text.contains(&address.to_string()) && text.contains("no coordinator ("), "{text}");
        web.join().unwrap();

        let (health, service) = tonic_health::server::health_reporter();
        health.set_service_status("edgeprof.v1.Worker", tonic_health::ServingStatus::Serving).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        let text = refused(address).await;
        assert!(text.contains("such as a worker"), "{text}");
    }
}
