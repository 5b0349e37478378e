//! A pipe from a shard to HTTP, where no socket can be handed over: bounded, and empty while nothing waits in it.
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// How much waits in a pipe, as in a socket's buffer; what does not fit waits in the session's backlog.
const PIPE_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Inner {
    bytes: BytesMut,
    /// The shard has ended its side.
    ended: bool,
    /// Nobody reads any more.
    closed: bool,
    /// The shard, for when there is room or nobody.
    shard: Option<Waker>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    filled: Notify,
}

/// The end that HTTP reads. When it is dropped, the session's client is gone.
#[derive(Debug)]
pub struct Outlet(Arc<Shared>);

/// The end that a shard has as a socket.
#[derive(Debug)]
pub struct Inlet(Arc<Shared>);

/// What came out of a pipe.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Some bytes.
    Bytes(BytesMut),
    /// None now.
    Nothing,
    /// None ever again.
    End,
}

/// A new pipe.
pub fn pipe() -> (Inlet, Outlet) {
    let shared = Arc::new(Shared::default());
    (Inlet(shared.clone()), Outlet(shared))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change under the lock is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// Takes all there is.
    pub fn take(&self) -> Taken {
        let mut inner = self.0.lock();
        if inner.bytes.is_empty() {
            return if inner.ended { Taken::End } else { Taken::Nothing };
        }
        let bytes = std::mem::take(&mut inner.bytes);
        let shard = inner.shard.take();
        drop(inner);
        if let Some(shard) = shard {
            shard.wake();
        }
        Taken::Bytes(bytes)
    }

    /// Waits until there may be something. For one task at a time.
    pub async fn filled(&self) {
        self.0.filled.notified().await;
    }

    /// Waits for some bytes; none are the end.
    pub async fn next(&self) -> Option<BytesMut> {
        loop {
            match self.take() {
                Taken::Bytes(bytes) => return Some(bytes),
                Taken::End => return None,
                Taken::Nothing => self.filled().await,
            }
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.closed = true;
        inner.bytes = BytesMut::new();
        let shard = inner.shard.take();
        drop(inner);
        if let Some(shard) = shard {
            shard.wake();
        }
    }
}

impl Inlet {
    fn end(&self) {
        self.0.lock().ended = true;
        self.0.filled.notify_one();
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsyncRead for Inlet {
    /// Nothing ever comes this way but the end.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        if inner.closed {
            return Poll::Ready(Ok(()));
        }
        inner.shard = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Inlet {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        if inner.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES.saturating_sub(inner.bytes.len());
        if room == 0 {
            inner.shard = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = room.min(bytes.len());
        inner.bytes.extend_from_slice(&bytes[..taken]);
        drop(inner);
        self.0.filled.notify_one();
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_goes_in_comes_out_as_fast_as_it_is_taken() {
        let (mut inlet, outlet) = pipe();
        let all: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let written = all.clone();
        let writing = tokio::spawn(async move {
            inlet.write_all(&written).await.unwrap();
            inlet.shutdown().await.unwrap();
            // Its other side has not gone.
            assert!(
                tokio::time::timeout(std::time::Duration::from_millis(20), inlet.read_u8()).await.is_err()
            );
            inlet
        });
        let mut seen = Vec::new();
        while let Some(bytes) = outlet.next().await {
            assert!(bytes.len() <= PIPE_BYTES);
            seen.extend_from_slice(&bytes);
        }
        assert!(seen == all);
        let mut inlet = writing.await.unwrap();
        drop(outlet);
        assert_eq!(inlet.read(&mut [0; 1]).await.unwrap(), 0, "there is nobody any more");
        assert!(inlet.write(b"x").await.is_err());
    }
}
