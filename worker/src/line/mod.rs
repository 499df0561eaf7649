//! The line to a board: bytes both ways, and a plain word when it is gone.

#[cfg(test)]
mod tests;

use std::{fmt, io, path::Path, time::Duration};

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
    tokio_serial::new(name, baud).open_native_async().map_err(io::Error::from)
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
