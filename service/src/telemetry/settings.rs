//! What of telemetry can be configured: the same in both daemons.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{config::Key, tls::TlsConfig};

/// What of the environment wins over the configuration, as OpenTelemetry's own programs have it.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const CA: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CERT: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

/// OpenTelemetry has no such variable.
const NAME: &str = "EDGEPROF_OTLP_NAME";

/// The section `telemetry` of a configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where traces, metrics and logs go, over OTLP in gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Authorities that may have signed the collector's certificate, where it is reached over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_ca: Option<PathBuf>,
    /// The name in that certificate, where it is not the host of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_name: Option<String>,
    /// A certificate for a collector that asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_cert: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_key: Option<PathBuf>,
    /// Where Prometheus finds metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// Traces that are kept of those that begin here.
    pub sample_ratio: Ratio,
    /// Between two deliveries of metrics to the collector.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Spans, and log lines, that may wait for the collector; what comes beyond is dropped and counted.
    pub queue: Places,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_ca: None,
            otlp_name: None,
            otlp_cert: None,
            otlp_key: None,
            metrics_listen: None,
            sample_ratio: Ratio(1.0),
            interval: Duration::from_secs(10),
            queue: Places(8192),
        }
    }
}

impl Settings {
    /// Those of the environment alone, for programs without a configuration file.
    pub fn from_env() -> Self {
        Self::default().or_env(|name| std::env::var(name).ok())
    }

    /// The environment's, where there is something, wins over the file's.
    pub(super) fn or_env(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name| variable(name).filter(|text| !text.is_empty());
        let file = |name, or: Option<PathBuf>| given(name).map(PathBuf::from).or(or);
        self.otlp_endpoint = given(ENDPOINT).or(self.otlp_endpoint);
        self.otlp_ca = file(CA, self.otlp_ca);
        self.otlp_cert = file(CERT, self.otlp_cert);
        self.otlp_key = file(KEY, self.otlp_key);
        self.otlp_name = given(NAME).or(self.otlp_name);
        self
    }

    /// Trusts a collector by the lab's own authority, unless another one is named.
    #[must_use]
    pub fn within(&self, lab: &TlsConfig) -> Self {
        Self { otlp_ca: self.otlp_ca.clone().or_else(|| lab.authority()), ..self.clone() }
    }
}

/// A share, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(f64);

impl TryFrom<f64> for Ratio {
    type Error = String;

    fn try_from(ratio: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&ratio) {
            return Ok(Self(ratio));
        }
        Err(format!("a ratio is 0 to 1, not {ratio}"))
    }
}

impl From<Ratio> for f64 {
    fn from(Ratio(ratio): Ratio) -> Self {
        ratio
    }
}

/// Places of a queue, whose memory is taken at the start: 1 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Places(u32);

impl Places {
    pub(super) const fn count(self) -> usize {
        self.0 as usize
    }
}

impl TryFrom<u64> for Places {
    type Error = String;

    fn try_from(places: u64) -> Result<Self, String> {
        match u32::try_from(places) {
            Ok(few @ 1..=1_000_000) => Ok(Self(few)),
            _ => Err(format!("a queue has 1 to 1000000 places, not {places}")),
        }
    }
}

impl From<Places> for u64 {
    fn from(Places(places): Places) -> Self {
        places.into()
    }
}

/// Their keys, in the order in which they are printed.
pub const KEYS: [Key; 9] = [
    Key::unset(
        "telemetry.otlp_endpoint",
        "Collector that gets traces, metrics and logs, over OTLP in gRPC; OTEL_EXPORTER_OTLP_ENDPOINT wins over\n\
         it. Without one nothing is sent.",
        "otlp_endpoint = \"http://127.0.0.1:4317\"",
    ),
    Key::unset(
        "telemetry.otlp_ca",
        "PEM file of the authorities by which a collector at https:// is trusted; without it, the lab's own.\n\
         OTEL_EXPORTER_OTLP_CERTIFICATE wins over it. Files of certificates are read once, at the start.",
        "otlp_ca = \"/etc/ssl/certs/ca-certificates.crt\"",
    ),
    Key::unset(
        "telemetry.otlp_name",
        "Name in the collector's certificate, where it is not the host of the address.",
        "otlp_name = \"collector.worker.edgeprof.internal\"",
    ),
    Key::unset(
        "telemetry.otlp_cert",
        "Certificate for a collector that asks for one; OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE wins over it.",
        "otlp_cert = \"/etc/edgeprof/otlp/cert.pem\"",
    ),
    Key::unset(
        "telemetry.otlp_key",
        "Its key, readable for this user only; OTEL_EXPORTER_OTLP_CLIENT_KEY wins over it.",
        "otlp_key = \"/etc/edgeprof/otlp/key.pem\"",
    ),
    Key::unset(
        "telemetry.metrics_listen",
        "Address at which Prometheus finds /metrics, as IP:PORT. It asks for no password.",
        "metrics_listen = \"127.0.0.1:9464\"",
    ),
    Key::new(
        "telemetry.sample_ratio",
        "Share of the traces that are kept, 0 to 1, of those that begin here: whoever began one decides.",
    ),
    Key::new("telemetry.interval", "Time between two deliveries of metrics to the collector."),
    Key::new(
        "telemetry.queue",
        "Spans, and log lines, that may wait for the collector. What comes beyond is dropped and counted.\n\
         1 to 1000000.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_collector_over_the_file() {
        let file = || Settings {
            otlp_endpoint: Some("http://a:1".into()),
            otlp_ca: Some("/a".into()),
            ..Settings::default()
        };
        let variable = |name: &str| match name {
            ENDPOINT => Some("http://b:2".to_owned()),
            CA => Some("/b".to_owned()),
            _ => None,
        };
        let Settings { otlp_endpoint, otlp_ca, otlp_cert, .. } = file().or_env(variable);
        assert_eq!((otlp_endpoint.as_deref(), otlp_ca), (Some("http://b:2"), Some("/b".into())));
        assert_eq!(otlp_cert, None);
        for nothing in [None, Some(String::new())] {
            assert_eq!(file().or_env(|_| nothing.clone()), file());
        }
    }

    #[test]
    fn a_collector_is_trusted_by_the_labs_authority_unless_another_one_is_named() {
        let lab = TlsConfig::folder("/tls".as_ref());
        let of = |own: Option<&str>, lab: &TlsConfig| {
            Settings { otlp_ca: own.map(Into::into), ..Settings::default() }.within(lab).otlp_ca
        };
        assert_eq!(of(None, &lab), Some("/tls/ca.pem".into()));
        assert_eq!(of(Some("/own"), &lab), Some("/own".into()));
        assert_eq!(of(None, &TlsConfig { ca: Some("/ca".into()), ..lab.clone() }), Some("/ca".into()));
        assert_eq!(of(None, &TlsConfig::default()), None);
    }

    #[test]
    fn a_share_is_between_nothing_and_all() {
        assert!(toml::from_str::<Settings>("sample_ratio = 0.25").is_ok());
        for wrong in ["-0.1", "1.01", "nan"] {
            let error = toml::from_str::<Settings>(&format!("sample_ratio = {wrong}")).unwrap_err();
            assert!(error.message().contains("a ratio is 0 to 1"), "{error}");
        }
        for wrong in ["0", "1000001", "9223372036854775807"] {
            let error = toml::from_str::<Settings>(&format!("queue = {wrong}")).unwrap_err();
            assert!(error.message().contains("1 to 1000000 places"), "{error}");
        }
    }
}
