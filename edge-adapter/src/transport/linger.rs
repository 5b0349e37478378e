//! A socket whose end does not destroy what was said last: closed over unread bytes it would be reset, and an answer such as 431, given in
//! the middle of a request, be lost with it. So the rest is read away for a moment, within bounds.
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long the rest is read.
const LINGER: Duration = Duration::from_secs(1);
/// How much of it, in bytes: far more than a head may have.
const UNREAD: usize = 4 << 20;

/// A stream that lingers.
#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    /// A whole request has been read: nothing is under way then, unless it is there already.
    asked: Arc<AtomicBool>,
    end: Option<End>,
}

#[derive(Debug)]
struct End {
    until: Pin<Box<Sleep>>,
    /// How many bytes more are read.
    left: usize,
    /// Something was unread.
    unread: bool,
}

impl<S> Lingering<S> {
    /// Lingers where no whole request has been read, as `asked` says, or bytes lie unread.
    pub fn new(stream: S, asked: Arc<AtomicBool>) -> Self {
        Self { stream, asked, end: None }
    }

    /// The bare stream.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, asked, end } = &mut *self;
        let end = match end {
            Some(end) => end,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
                end.insert(End { until: Box::pin(sleep(LINGER)), left: UNREAD, unread: false })
            }
        };
        loop {
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    end.unread = true;
                    let Some(left) = end.left.checked_sub(buffer.filled().len()) else { break };
                    end.left = left;
                }
                // Their end, or a reset: there is nobody to tell.
                Poll::Ready(_) => break,
                Poll::Pending if asked.load(Ordering::Relaxed) && !end.unread => break,
                Poll::Pending => return end.until.as_mut().poll(cx).map(|()| Ok(())),
            }
        }
        Poll::Ready(Ok(()))
    }
}
