//! Long answers, of which a client must not pile up many by not reading them: over HTTP/2 one connection can ask for dozens at once.
//! So a connection gets some of them at a time, and each is handed over in portions: when the last one has gone, it is nearly sent.
use crate::transport::connections::Permit;
use bytes::Bytes;
use http::Extensions;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// How many bytes are handed over at once.
const PORTION: usize = 16 * 1024;

/// One of a connection's turns to be answered at length.
pub type Turn = OwnedSemaphorePermit;

/// Waits for a turn. None where there is no connection to have one.
pub async fn turn(extensions: &Extensions) -> Option<Turn> {
    let turns = extensions.get::<Arc<Permit>>()?.turns.clone();
    // Fails only if it were closed, which nobody does.
    turns.acquire_owned().await.ok()
}

/// A long answer's body.
#[derive(Debug)]
pub struct Portions {
    rest: Bytes,
    /// Given back when all has been handed over, or nobody wants it.
    _turn: Option<Turn>,
}

impl Portions {
    /// A body that takes its turn along.
    pub fn new(body: impl Into<Bytes>, turn: Option<Turn>) -> Portions {
        Portions { rest: body.into(), _turn: turn }
    }
}

impl Body for Portions {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let portion = self.rest.len().min(PORTION);
        let portion = (portion > 0).then(|| self.rest.split_to(portion));
        Poll::Ready(portion.map(|portion| Ok(Frame::data(portion))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
