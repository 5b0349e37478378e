//! Where everything that concerns a shard waits for its next turn: posts, new connections, and the slots of sockets that
//! became ready.
//!
//! Posts are bounded in bytes: past the bound the link does not read from the core until a turn has taken them. Connections
//! are bounded by how many the edge takes, slots by the connections.
use crate::fanout::newcomer::NewSession;
use crate::fanout::post::Post;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How much room a list keeps after a burst, in entries; more goes back to the allocator.
const KEEP: usize = 1024;
/// How many bytes of posts may wait. A turn of a full shard lasts some milliseconds, in which a link brings a few megabytes.
const POSTS_BYTES: usize = 8 << 20;

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
    /// What the posts in it hold, in bytes.
    bytes: usize,
    /// The shard's task, while it sleeps.
    task: Option<Waker>,
    /// The link's task, while it waits for room.
    link: Option<Waker>,
}

impl Inbox {
    /// Takes all of `posts`, in order.
    pub fn post(&self, posts: &mut Vec<Post>) {
        if !posts.is_empty() {
            let bytes: usize = posts.iter().map(Post::weight).sum();
            self.add(|waiting| {
                waiting.bytes += bytes;
                waiting.batch.posts.append(posts);
            });
        }
    }

    /// Whether more posts should come; pending until a turn has taken those that wait, if they are too many.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.bytes < POSTS_BYTES {
            return Poll::Ready(());
        }
        waiting.link = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes a connection.
    pub fn adopt(&self, newcomer: NewSession) {
        self.add(|waiting| waiting.batch.newcomers.push(newcomer));
    }

    /// The socket in `slot` is ready.
    pub fn ready(&self, slot: u32) {
        self.add(|waiting| waiting.batch.ready.push(slot));
    }

    /// Every session is to end.
    pub fn drain(&self) {
        self.add(|waiting| waiting.batch.drain = true);
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
        waiting.bytes = 0;
        let link = waiting.link.take();
        drop(waiting);
        if let Some(link) = link {
            link.wake();
        }
        Poll::Ready(())
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.lock().batch.is_empty()
    }

    /// The task sleeps only if nothing waits, so whoever finds it asleep is the first, and the only one to wake it.
    fn add(&self, add: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        add(&mut waiting);
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
    use crate::session::key::{RoomId, SessionKey};
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
    fn the_link_waits_for_room_and_is_woken_when_a_turn_has_made_it() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let (inbox, mut batch) = (Inbox::default(), Batch::default());
        let left = || Post::Left { session: SessionKey::new(0, 0, 1), room: RoomId(1), asked: None };
        let fit = POSTS_BYTES.div_ceil(left().weight());
        inbox.post(&mut (0..fit - 1).map(|_| left()).collect());
        assert!(inbox.poll_room(&mut cx).is_ready());
        inbox.post(&mut vec![left()]);
        assert!(inbox.poll_room(&mut cx).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        assert!(inbox.poll_take(&mut cx, &mut batch).is_ready());
        assert_eq!((wakes.0.load(Ordering::Relaxed), batch.posts.len()), (1, fit));
        assert!(inbox.poll_room(&mut cx).is_ready());
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
