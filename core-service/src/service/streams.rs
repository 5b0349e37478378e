//! The streams that are open, so that a drain can end them, and the tasks that read them.
use super::status;
use crate::hub::{Delivery, Error, Outbox, outbox::Taken};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tonic::Status;

/// How long a stream has, after it was told, to finish what is under way.
const GRACE: Duration = Duration::from_millis(500);

/// Open streams, by their queues.
#[derive(Default)]
pub(super) struct Streams {
    open: Mutex<Vec<Weak<Outbox>>>,
    draining: AtomicBool,
}

/// What waits in a stream's queue; none at its end, and why where there is a reason.
pub(super) async fn next(outbox: &Outbox) -> Result<Option<Vec<Delivery>>, Status> {
    taken(outbox.take().await)
}

/// The same of what has been taken.
pub(super) fn taken(taken: Taken) -> Result<Option<Vec<Delivery>>, Status> {
    match taken {
        Taken::Batch(batch) => Ok(Some(batch)),
        Taken::Overflowed => Err(status::status(&Error::SlowConsumer)),
        Taken::Ended(None) => Ok(None),
        Taken::Ended(Some(error)) => Err(status::status(&error)),
    }
}

/// The task that reads a stream's requests. It ends with the stream's answers.
pub(super) struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Streams {
    /// Takes a new stream and starts to read it.
    pub(super) fn adopt(
        &self,
        outbox: &Arc<Outbox>,
        reading: impl Future<Output = ()> + Send + 'static,
    ) -> Reader {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == open.capacity() {
            open.retain(|outbox| outbox.strong_count() > 0);
        }
        open.push(Arc::downgrade(outbox));
        // It may have been admitted a moment before the drain took the list.
        if self.draining.load(Ordering::SeqCst) {
            outbox.push(Delivery::Goodbye { grace_ms: 0 });
            outbox.end();
        }
        Reader(tokio::spawn(reading))
    }

    /// Whether a new stream may begin. A drain waits for all streams, so one that began behind it would hold it up.
    pub(super) fn admit(&self) -> Result<(), Error> {
        if self.draining.load(Ordering::SeqCst) { Err(Error::Draining) } else { Ok(()) }
    }

    /// Tells every stream, gives it a moment, ends it.
    pub(super) async fn drain(&self, timeout: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        let grace = GRACE.min(timeout / 2);
        let open: Vec<Arc<Outbox>> = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *open).iter().filter_map(Weak::upgrade).collect()
        };
        if open.is_empty() {
            return;
        }
        open.iter().for_each(|outbox| outbox.push(Delivery::Goodbye { grace_ms: grace.as_millis() as u64 }));
        tokio::time::sleep(grace).await;
        open.iter().for_each(|outbox| outbox.end());
    }
}
