//! A coordinator in this process, a worker that is played, and a client.

mod client;
mod played;
mod service;

use std::{net::SocketAddr, path::Path, time::Duration};

use edgeprof_coordinator::{config::Config, daemon::Daemon};
use tokio::time::timeout;

pub(crate) use client::Client;
pub(crate) use played::Played;

/// Longest time that anything may take.
const LONG: Duration = Duration::from_secs(60);

/// Waits for something, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// A smallest ELF with one loaded segment.
pub(crate) fn elf(code: &[u8]) -> Vec<u8> {
    let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2, 0, 40, 0]);
    for word in [1u32, 0, 52, 0, 0] {
        elf.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    let length = u32::try_from(code.len()).unwrap();
    for word in [1u32, 84, 0, 0x0800_0000, length, length, 5, 4] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// Writes firmware for the kinds that tests use.
pub(crate) fn firmware(folder: &Path) -> std::path::PathBuf {
    let folder = folder.join("firmware");
    std::fs::create_dir_all(&folder).unwrap();
    for kind in ["mps2-an386", "netduinoplus2", "riscv32"] {
        std::fs::write(folder.join(format!("{kind}.elf")), elf(kind.as_bytes())).unwrap();
    }
    folder
}

pub(crate) fn program() -> std::path::PathBuf {
    env!("CARGO_BIN_EXE_edgeprof-coordinator").into()
}

pub(crate) fn config(data: &Path, workers: &[&Played]) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: data.join("data"),
        site: "test".into(),
        workers: workers.iter().map(|worker| worker.address.to_string()).collect(),
        discovery: false,
        firmware: vec![firmware(data)],
        ..Config::default()
    }
}

/// A coordinator in this process and a client of it.
pub(crate) struct Lab {
    pub folder: tempfile::TempDir,
    pub daemon: Daemon,
    pub client: Client,
}

impl Lab {
    pub(crate) async fn start(workers: &[&Played]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), workers);
        let daemon = Daemon::start(&config, program()).await.unwrap();
        let client = Client::to(&format!("http://{}", daemon.address())).await;
        let lab = Self { folder, daemon, client };
        for worker in workers {
            worker.until_greeted().await;
        }
        lab
    }
}
