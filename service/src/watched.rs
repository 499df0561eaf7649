//! A connection that is watched.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Looks at what goes over a connection. An error of its own ends the connection.
pub(crate) trait Watch {
    /// Before a read. What is polled here wakes the reader.
    fn before(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }

    /// What a read has brought.
    fn after(&mut self, read: io::Result<&[u8]>) -> io::Result<()> {
        read.map(drop)
    }

    /// So many bytes of these were written, or none because of an error.
    fn wrote(&mut self, _: &[IoSlice<'_>], _: &io::Result<usize>) {}
}

/// Bytes both ways.
#[derive(Debug)]
pub(crate) struct Watched<T, W> {
    io: T,
    watch: W,
}

impl<T, W> Watched<T, W> {
    pub(crate) const fn new(io: T, watch: W) -> Self {
        Self { io, watch }
    }

    pub(crate) const fn watch(&self) -> &W {
        &self.watch
    }
}

impl<T: AsyncRead + Unpin, W: Watch + Unpin> AsyncRead for Watched<T, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.watch.before(cx)?;
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut this.io).poll_read(cx, buf));
        Poll::Ready(this.watch.after(read.map(|()| buf.filled().get(before..).unwrap_or_default())))
    }
}

impl<T: AsyncWrite + Unpin, W: Watch + Unpin> AsyncWrite for Watched<T, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes));
        self.watch.wrote(&[IoSlice::new(bytes)], &written);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices));
        self.watch.wrote(slices, &written);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
