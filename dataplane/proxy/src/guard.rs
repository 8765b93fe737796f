//! Stands between a caller's connection and the parser: an HTTP/1 request that can be read in two ways never arrives, and
//! one whose head takes too long ends the connection.
//!
//! It only looks on. What is ambiguous is cut off, and in its place stands what no parser takes, so that the caller is
//! answered 400 and the connection ends.

use crate::framing::Framing;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A connection that is looked at.
pub(crate) struct Guard<S> {
    stream: S,
    framing: Framing,
    /// What is left to say in the place of what was cut off; nothing follows it.
    instead: Option<&'static [u8]>,
    /// How long a head may take from its first byte.
    limit: Duration,
    /// When the head must have ended, if it has begun.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Not acceptable wherever a head may be cut, and the end of it.
const INSTEAD: &[u8] = b"\0\r\n\r\n";

// === impl Guard ===

impl<S> Guard<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, framing: Framing::new(), instead: None, limit, deadline: None }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.framing.is_in_head() {
            self.deadline = None;
            return Poll::Pending;
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a request's head took too long")))
    }
}

fn say(instead: &mut &'static [u8], buf: &mut ReadBuf<'_>) {
    let (now, later) = instead.split_at(instead.len().min(buf.remaining()));
    buf.put_slice(now);
    *instead = later;
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(instead) = &mut this.instead {
            say(instead, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if !this.framing.is_open() => {}
            Poll::Pending => return this.poll_deadline(cx),
            ready @ Poll::Ready(_) => return ready,
        }
        if !this.framing.is_in_head() {
            this.deadline = None;
        }
        if let Err(clear) = this.framing.follow(&buf.filled()[before..]) {
            buf.set_filled(before + clear);
            say(this.instead.insert(INSTEAD), buf);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
