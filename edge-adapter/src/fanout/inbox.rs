//! Where everything that concerns a shard waits for its next turn: posts, new connections, and the slots of sockets that
//! became ready.
//!
//! It holds what comes during one turn and no more, since a turn takes all of it and never waits for a socket. So its
//! bound is the link's: what a core can send, and how many connections the edge takes.
use crate::fanout::connection::NewSession;
use crate::fanout::post::Post;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How much room a list keeps after a burst, in entries; more goes back to the allocator.
const KEEP: usize = 1024;

/// What has come for a shard.
#[derive(Debug, Default)]
pub struct Batch {
    /// The core's answers and the rooms' events, in order.
    pub posts: Vec<Post>,
    /// Connections that the transport gave away.
    pub newcomers: Vec<NewSession>,
    /// Slots whose sockets became ready; some may be empty by now.
    pub ready: Vec<u32>,
    /// The edge goes away.
    pub drain: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.posts.is_empty() && self.newcomers.is_empty() && self.ready.is_empty() && !self.drain
    }

    /// Lets go of what a burst left behind; the lists must be empty.
    pub fn shrink(&mut self) {
        self.posts.shrink_to(KEEP);
        self.newcomers = Vec::new();
        self.ready.shrink_to(KEEP);
    }
}

/// A shard's inbox.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    /// The shard's task, while it sleeps.
    task: Option<Waker>,
}

impl Inbox {
    /// Takes all of `posts`, in order.
    pub fn post(&self, posts: &mut Vec<Post>) {
        if !posts.is_empty() {
            self.add(|batch| batch.posts.append(posts));
        }
    }

    /// Takes a connection.
    pub fn adopt(&self, newcomer: NewSession) {
        self.add(|batch| batch.newcomers.push(newcomer));
    }

    /// The socket in `slot` is ready.
    pub fn ready(&self, slot: u32) {
        self.add(|batch| batch.ready.push(slot));
    }

    /// Every session is to end.
    pub fn drain(&self) {
        self.add(|batch| batch.drain = true);
    }

    /// Swaps all that waits for `batch`, which must be empty; pending if nothing waits.
    pub fn poll_take(&self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.batch.is_empty() {
            match &mut waiting.task {
                Some(task) => task.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        std::mem::swap(&mut waiting.batch, batch);
        Poll::Ready(())
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.lock().batch.is_empty()
    }

    /// The task sleeps only if nothing waits, so whoever finds it asleep is the first, and the only one to wake it.
    fn add(&self, add: impl FnOnce(&mut Batch)) {
        let mut waiting = self.lock();
        add(&mut waiting.batch);
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Nothing is half done while the lock is held, so a panic elsewhere leaves it sound.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeping_task_is_woken_once_for_all_that_comes() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let (inbox, mut batch) = (Inbox::default(), Batch::default());
        assert!(inbox.poll_take(&mut cx, &mut batch).is_pending());
        inbox.post(&mut Vec::new());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0, "nothing is no reason to wake");
        inbox.ready(7);
        inbox.ready(8);
        inbox.drain();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(inbox.poll_take(&mut cx, &mut batch).is_ready());
        assert_eq!((&batch.ready[..], batch.drain), (&[7, 8][..], true));
        assert!(inbox.is_empty());
    }
}
