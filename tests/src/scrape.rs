//! What a daemon tells whoever asks it over HTTP, as Prometheus does.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::Daemon;

/// The body of an answer, if it is a good one.
pub fn get(address: &str, path: &str, accept: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

impl Daemon {
    /// Where it serves metrics, by its log.
    ///
    /// # Panics
    /// When it does not.
    pub fn metrics(&self) -> String {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains("metrics are served")).expect("it says so");
        let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
        address.expect("with the address").to_owned()
    }

    /// The present value of one of its metrics, summed over whatever labels it has beside these.
    pub fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        let text = get(&self.metrics(), "/metrics", "application/openmetrics-text").unwrap_or_default();
        let lines = text
            .lines()
            .filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).sum()
    }
}
