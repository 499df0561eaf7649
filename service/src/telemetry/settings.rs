//! What of telemetry can be configured: the same in both daemons.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::Key;

/// Names the collector where the configuration does not, as OpenTelemetry's own programs do.
pub(super) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The section `telemetry` of a configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where traces, metrics and logs go, over OTLP in gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
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
        Self::default().or_env(std::env::var(ENDPOINT).ok())
    }

    /// The environment's collector, where there is one, wins over the file's.
    pub(super) fn or_env(mut self, endpoint: Option<String>) -> Self {
        if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) {
            self.otlp_endpoint = Some(endpoint);
        }
        self
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
pub const KEYS: [Key; 5] = [
    Key::unset(
        "telemetry.otlp_endpoint",
        "Collector that gets traces, metrics and logs, over OTLP in gRPC; OTEL_EXPORTER_OTLP_ENDPOINT wins over\n\
         it. Without one nothing is sent.",
        "otlp_endpoint = \"http://127.0.0.1:4317\"",
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
        let file = || Settings { otlp_endpoint: Some("http://a:1".into()), ..Settings::default() };
        assert_eq!(file().or_env(Some("http://b:2".into())).otlp_endpoint.as_deref(), Some("http://b:2"));
        for nothing in [None, Some(String::new())] {
            assert_eq!(file().or_env(nothing).otlp_endpoint.as_deref(), Some("http://a:1"));
        }
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
