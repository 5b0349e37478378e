//! From the shards to the worker: many put requests in, one takes all of them at once.
use crate::session::request::{Busy, Request};
use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// How much may wait for the worker. It takes the whole queue each time, so this is reached only when the core has
/// stopped reading or has been away for long; 16 MiB are some 100,000 small publishes.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a request takes beside its texts and payload, roughly.
const REQUEST_BYTES: usize = 128;

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    bytes: usize,
    closed: bool,
}

/// The queue. The lock is held for one push or one swap, never over an await.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

impl Queue {
    /// Puts a request in; a command is refused when too many bytes wait. Wakes the worker when the queue was empty.
    pub fn push(&self, request: Request) -> Result<(), Busy> {
        let weight = weight(&request);
        let mut waiting = self.lock();
        let bounded = !matches!(
            request,
            Request::Open { .. }
                | Request::Call { .. }
                | Request::Close { .. }
                | Request::Pull { .. }
                | Request::ShowPresence { .. }
                | Request::GiveUp
        );
        if waiting.closed || (bounded && waiting.bytes + weight > QUEUE_BYTES_MAX) {
            return Err(Busy);
        }
        let wake = waiting.requests.is_empty();
        waiting.bytes += weight;
        waiting.requests.push(request);
        drop(waiting);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// No more will come; what is there may still be taken.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits until there may be something, or the queue is closed. Cancel-safe.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Swaps all that waits into `taken`, which must be empty, and says how many bytes that were. None when the queue is
    /// closed and nothing is left.
    pub fn take(&self, taken: &mut Vec<Request>) -> Option<usize> {
        debug_assert!(taken.is_empty());
        let mut waiting = self.lock();
        let bytes = mem::take(&mut waiting.bytes);
        mem::swap(&mut waiting.requests, taken);
        if !waiting.closed {
            return Some(bytes);
        }
        // For the next call, which finds the end.
        self.filled.notify_one();
        (!taken.is_empty()).then_some(bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic is done under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request takes of memory, roughly, in bytes.
pub fn weight(request: &Request) -> usize {
    let id = |id: &Option<Box<str>>| id.as_ref().map_or(0, |id| id.len());
    REQUEST_BYTES
        + match request {
            Request::Join { id: own, room, since, .. } => {
                id(own) + room.len() + since.as_ref().map_or(0, |since| since.epoch.len())
            }
            Request::Leave { id: own, room, .. } | Request::History { id: own, room, .. } => {
                id(own) + room.len()
            }
            Request::Publish { id: own, room, payload, .. } => id(own) + room.len() + payload.len(),
            Request::Presence { id: own, room, meta, .. } => {
                id(own) + room.len() + meta.as_ref().map_or(0, |meta| meta.len())
            }
            Request::ListOnline { room, .. } => room.len(),
            Request::Open { who, .. } | Request::Call { who, .. } => id(&who.user) + id(&who.token),
            Request::Refresh { id: own, who, .. } => id(own) + id(&who.token),
            Request::Close { .. }
            | Request::Pull { .. }
            | Request::Ticket { .. }
            | Request::ShowPresence { .. }
            | Request::GiveUp => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        session::key::SessionKey,
        wire::event::{Kind, Payload},
    };
    use bytes::Bytes;

    fn publish(bytes: usize) -> Request {
        Request::Publish {
            session: SessionKey::new(0, 0, 1),
            id: None,
            room: "r".into(),
            kind: Kind::Text,
            payload: Payload::Json(Bytes::from(vec![b'x'; bytes])),
            fence: None,
        }
    }

    #[tokio::test]
    async fn commands_are_refused_when_full_but_sessions_come_and_go() {
        let queue = Queue::default();
        assert_eq!(queue.push(publish(QUEUE_BYTES_MAX - 1000)), Ok(()));
        assert_eq!(queue.push(publish(1000)), Err(Busy));
        assert_eq!(queue.push(Request::Close { session: SessionKey::new(0, 0, 1), vanished: false }), Ok(()));
        queue.filled().await;
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken).is_some_and(|bytes| bytes > QUEUE_BYTES_MAX - 1000));
        assert_eq!(taken.len(), 2);
        assert_eq!(queue.push(publish(1000)), Ok(()));
    }

    #[tokio::test]
    async fn what_was_put_in_before_the_end_is_still_taken() {
        let queue = Queue::default();
        assert_eq!(queue.push(publish(1)), Ok(()));
        queue.close();
        let mut taken = Vec::new();
        queue.filled().await;
        assert!(queue.take(&mut taken).is_some());
        taken.clear();
        assert_eq!(queue.push(publish(1)), Err(Busy), "nobody would take it");
        queue.filled().await;
        assert_eq!(queue.take(&mut taken), None);
    }
}
