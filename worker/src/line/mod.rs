//! The line to a board: bytes both ways, and a plain word when it is gone.

#[cfg(test)]
mod tests;

use std::{fmt, fs, io, os::fd::AsRawFd, path::Path, time::Duration};

use nix::unistd::{AccessFlags, access};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_serial::SerialPortBuilderExt;

/// How long a board may refuse to take bytes. One that computes still empties its receive buffer
/// between tokens.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// A line: a unix socket, a serial device or pseudo terminal, or a pipe in memory.
pub trait Line: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug {}

impl Line for tokio::net::UnixStream {}
impl Line for tokio_serial::SerialStream {}
impl Line for tokio::io::DuplexStream {}

/// Why a line does not carry.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The other end is gone, for good.
    #[error("the line is gone: {0}")]
    Gone(String),
    /// The other end takes nothing.
    #[error("the board took no bytes for {} s", WRITE_TIMEOUT.as_secs())]
    Stuck,
}

/// Opens a serial device or pseudo terminal.
///
/// # Errors
/// When it is not there or in use.
pub fn serial(path: &Path, baud: u32) -> io::Result<tokio_serial::SerialStream> {
    let name = path.to_str().ok_or_else(|| io::Error::other("a device name that is not UTF-8"))?;
    // The library's own error of a missing or forbidden device has lost what the system said.
    fs::metadata(path)?;
    access(path, AccessFlags::R_OK | AccessFlags::W_OK)?;
    let line = tokio_serial::new(name, baud).open_native_async().map_err(io::Error::from)?;
    lock(&line)?;
    Ok(line)
}

/// Keeps others off the device who ask likewise: the system's own lock does not hold against root.
fn lock(line: &tokio_serial::SerialStream) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `line` is, and is borrowed for this call.
    let outcome = unsafe { nix::libc::flock(line.as_raw_fd(), nix::libc::LOCK_EX | nix::libc::LOCK_NB) };
    if outcome == 0 { Ok(()) } else { Err(io::ErrorKind::ResourceBusy.into()) }
}

/// Which process has a device open, as far as this user may see: `minicom (process 4711)`.
pub fn holder(path: &Path) -> Option<String> {
    let device = fs::canonicalize(path).ok()?;
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) =
            entry.file_name().to_str().filter(|pid| pid.parse::<u32>().is_ok()).map(str::to_owned)
        else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        if files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| to == device)) && pid != own {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// Waits for bytes; at least one. Cancel safe.
///
/// # Errors
/// [`LineError::Gone`]: a vanished line reads nothing at once and for ever, or fails.
pub async fn receive(line: &mut dyn Line, into: &mut [u8]) -> Result<usize, LineError> {
    match line.read(into).await {
        Ok(0) => Err(LineError::Gone("end of file".into())),
        Ok(n) => Ok(n),
        Err(error) => Err(LineError::Gone(error.to_string())),
    }
}

/// Sends all bytes.
///
/// # Errors
/// When the line is gone, or the other end takes nothing for a minute.
pub async fn send(line: &mut dyn Line, bytes: &[u8]) -> Result<(), LineError> {
    let all = async {
        line.write_all(bytes).await?;
        line.flush().await
    };
    match timeout(WRITE_TIMEOUT, all).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(LineError::Gone(error.to_string())),
        Err(_) => Err(LineError::Stuck),
    }
}
