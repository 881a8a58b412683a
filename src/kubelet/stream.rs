//! A connection of the kubelet, as h2 can read it.
//!
//! The kubelet dials the bare path of a socket, and gRPC for Go then sends that path, percent-encoded, as `:authority`.
//! h2 takes no `%` there and answers PROTOCOL_ERROR before any service hears of the call, so what comes in passes through
//! a [`Rewriter`]. What goes out is left alone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::frames::Rewriter;

/// Bytes read at a time. Calls on this socket are a few hundred long.
const CHUNK: usize = 4096;

/// A stream with another `:authority` in each request that is read from it.
#[derive(Debug)]
pub(super) struct Rewritten<S> {
    inner: S,
    rewriter: Rewriter,
    /// What is ready to be read, from `read` on.
    ready: Vec<u8>,
    read: usize,
}

impl<S> Rewritten<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, rewriter: Rewriter::default(), ready: Vec::new(), read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewritten<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.read == this.ready.len() {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.read = 0;
            let fed = this.rewriter.feed(chunk.filled(), &mut this.ready);
            fed.map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        }
        let ready = &this.ready[this.read..];
        let taken = ready.len().min(buffer.remaining());
        buffer.put_slice(&ready[..taken]);
        this.read += taken;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewritten<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S> Connected for Rewritten<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests;
