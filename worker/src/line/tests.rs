//! One conformance suite, run on the fake and on the real lines.

use std::{future::Future, os::fd::AsRawFd, path::PathBuf};

use nix::pty::openpty;
use tokio::{
    fs::File,
    io::{DuplexStream, duplex},
    net::UnixStream,
};

use super::*;

/// A line and what stands for the board's end of it.
trait Rig {
    type Far: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn open() -> (Box<dyn Line>, Self::Far);
}

struct Fake;
impl Rig for Fake {
    type Far = DuplexStream;
    fn open() -> (Box<dyn Line>, DuplexStream) {
        let (near, far) = duplex(64);
        (Box::new(near), far)
    }
}

struct Socket;
impl Rig for Socket {
    type Far = UnixStream;
    fn open() -> (Box<dyn Line>, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Box::new(near), far)
    }
}

struct Pty;
impl Rig for Pty {
    type Far = tokio::io::Join<File, File>;
    fn open() -> (Box<dyn Line>, Self::Far) {
        let pty = openpty(None, None).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", pty.slave.as_raw_fd()));
        let near = serial(&std::fs::read_link(path).unwrap(), 115_200).unwrap();
        let master = std::fs::File::from(pty.master);
        let far = tokio::io::join(File::from_std(master.try_clone().unwrap()), File::from_std(master));
        (Box::new(near), far)
    }
}

async fn conforms<R: Rig>() {
    carries_every_byte_both_ways::<R>().await;
    a_waiting_read_can_be_abandoned::<R>().await;
    a_vanished_end_is_an_error_and_not_silence::<R>().await;
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

async fn carries_every_byte_both_ways<R: Rig>() {
    let (mut line, mut far) = R::open();
    // Longer than any buffer, every value of a byte in it: nothing may be translated or held back.
    let all: Vec<u8> = (0..30_000_u32).map(|i| (i % 256) as u8).collect();
    let copy = all.clone();
    let echo = tokio::spawn(async move {
        let mut got = vec![0; copy.len()];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(got, copy);
        far.write_all(&got).await.unwrap();
        far.flush().await.unwrap();
        far
    });
    soon(send(line.as_mut(), &all)).await.unwrap();
    let (mut got, mut buffer) = (Vec::new(), [0; 999]);
    while got.len() < all.len() {
        let n = soon(receive(line.as_mut(), &mut buffer)).await.unwrap();
        got.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(got, all);
    soon(echo).await.unwrap();
}

async fn a_waiting_read_can_be_abandoned<R: Rig>() {
    let (mut line, mut far) = R::open();
    let mut buffer = [0; 8];
    assert!(timeout(Duration::from_millis(20), receive(line.as_mut(), &mut buffer)).await.is_err());
    far.write_all(b"ab").await.unwrap();
    far.flush().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 2 {
        let n = soon(receive(line.as_mut(), &mut buffer)).await.unwrap();
        got.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(got, b"ab");
}

async fn a_vanished_end_is_an_error_and_not_silence<R: Rig>() {
    let (mut line, far) = R::open();
    drop(far);
    for _ in 0..3 {
        let outcome = soon(receive(line.as_mut(), &mut [0; 8])).await;
        assert!(matches!(outcome, Err(LineError::Gone(_))), "{outcome:?}");
    }
}

#[tokio::test]
async fn the_fake_line_conforms() {
    conforms::<Fake>().await;
}

#[tokio::test]
async fn a_unix_socket_conforms() {
    conforms::<Socket>().await;
}

#[tokio::test]
async fn a_pseudo_terminal_conforms() {
    conforms::<Pty>().await;
}
