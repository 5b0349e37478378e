//! Requests over HTTP, each a session of its own that asks one thing and goes: it has no socket and is in no room.
//!
//! To the link all calls together are one more shard, behind the others. What is posted to it does not wait for a turn: it is the
//! answer that one call's task sleeps for. Whoever stops waiting, because the client has gone or time is up, drops the call, and with
//! it the session.
use crate::fanout::callers::Callers;
use crate::fanout::post::{CallAnswer, Post};
use crate::metrics::EdgeMetrics;
use crate::session::key::SessionKey;
use crate::session::request::{Busy, Credentials, Request, Upstream};
use crate::wire::command::Token;
use crate::wire::event::{Code, Failure, Position};
use crate::wire::presence::Online;
use slab::Slab;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::timeout;

use super::shared::SharedEvent;

/// How many calls may be under way. A core answers within a millisecond, so this many mean that it does not; each holds some
/// kilobytes, mostly of its HTTP connection.
const CALLS_MAX: usize = 10_000;
/// How many bytes of answers may wait to be taken, as in a shard's inbox: past it the link reads no more.
const ANSWERS_BYTES: usize = 8 << 20;
/// How long an answer is waited for: longer than the link gives requests while there is no core, so that its word comes first.
const DEADLINE: Duration = Duration::from_secs(15);
/// When to come back to an edge that has as many calls as it may, or whose core does not keep up.
const FULL_RETRY_MS: u64 = 1000;

/// What a call is answered.
#[derive(Debug)]
pub enum Answer {
    /// A publish succeeded.
    Published {
        /// Where the event stands; none for ephemeral kinds.
        position: Option<Position>,
        /// It had been published before.
        duplicate: bool,
    },
    /// It is done; there is nothing more to say.
    Done,
    /// A page of history.
    History {
        /// The room's position.
        position: Position,
        /// The events.
        events: Vec<Arc<SharedEvent>>,
        /// There are more in that direction.
        more: bool,
    },
    /// Who is online.
    Online {
        /// The first of them.
        online: Vec<Online>,
        /// How many there are.
        count: u64,
    },
    /// A ticket.
    Ticket {
        /// The ticket.
        ticket: Token,
        /// Until when it may be shown, in microseconds since 1970.
        expires_us: u64,
    },
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Nothing was asked: the edge has too much to do. Try again after so many milliseconds.
    Busy(u64),
    /// It was refused, or its outcome is unknown.
    Failed(Failure),
}

/// What the link posts to: the calls that wait. Clones are the same.
#[derive(Debug, Clone)]
pub struct Desk {
    shard: usize,
    waiting: Arc<Mutex<Waiting>>,
    /// Who asks, and how often.
    pub callers: Arc<Callers>,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: Slab<Waiter>,
    /// How many calls there have been.
    generation: u32,
    /// What the answers hold that nobody has taken yet, in bytes.
    bytes: usize,
    /// The link's task, while it waits for room.
    link: Option<Waker>,
}

#[derive(Debug)]
struct Waiter {
    key: SessionKey,
    /// Its token's digest, where nobody knows yet whose it is.
    token: Option<Box<str>>,
    task: Option<Waker>,
    answer: Option<Result<Answer, Failure>>,
    bytes: usize,
}

impl Desk {
    /// A desk that the link knows under this number.
    pub fn new(shard: usize, callers: Callers) -> Desk {
        Desk { shard, waiting: Arc::default(), callers: Arc::new(callers) }
    }

    /// Gives each call its answer. The first one counts.
    pub fn post(&self, posts: &mut Vec<Post>) {
        let (mut tasks, mut learned) = (Vec::new(), Vec::new());
        let mut waiting = self.lock();
        let Waiting { calls, bytes, .. } = &mut *waiting;
        for post in posts.drain(..) {
            let weight = post.weight();
            if let Post::Opened { session, user, .. } = &post {
                let waiter = calls.get_mut(session.slot()).filter(|waiter| waiter.key == *session);
                learned
                    .extend(waiter.and_then(|waiter| waiter.token.take()).map(|token| (token, user.clone())));
            }
            let Some((session, answer)) = answer(post) else { continue };
            let waiter = calls.get_mut(session.slot()).filter(|waiter| waiter.key == session);
            let Some(waiter) = waiter.filter(|waiter| waiter.answer.is_none()) else { continue };
            (waiter.answer, waiter.bytes) = (Some(answer), weight);
            *bytes += weight;
            tasks.extend(waiter.task.take());
        }
        drop(waiting);
        learned.into_iter().for_each(|(token, user)| self.callers.learn(token, &user));
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Whether more answers should come.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        if waiting.bytes < ANSWERS_BYTES {
            return Poll::Ready(());
        }
        waiting.link = Some(cx.waker().clone());
        Poll::Pending
    }

    /// A place for one more call.
    fn enter(&self, token: Option<Box<str>>) -> Option<SessionKey> {
        let mut waiting = self.lock();
        if waiting.calls.len() >= CALLS_MAX {
            return None;
        }
        waiting.generation = waiting.generation.wrapping_add(1).max(1);
        let generation = waiting.generation;
        let entry = waiting.calls.vacant_entry();
        let key = SessionKey::new(self.shard, entry.key(), generation);
        entry.insert(Waiter { key, token, task: None, answer: None, bytes: 0 });
        Some(key)
    }

    fn poll(&self, call: SessionKey, cx: &mut Context<'_>) -> Poll<Result<Answer, Failure>> {
        let mut waiting = self.lock();
        // A call is in the list for as long as it is polled.
        let Some(waiter) = waiting.calls.get_mut(call.slot()) else { return Poll::Pending };
        let Some(answer) = waiter.answer.take() else {
            waiter.task = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let bytes = mem::take(&mut waiter.bytes);
        waiting.release(bytes);
        Poll::Ready(answer)
    }

    fn leave(&self, call: SessionKey) {
        let mut waiting = self.lock();
        if let Some(waiter) = waiting.calls.try_remove(call.slot()) {
            waiting.release(waiter.bytes);
        }
        let left = waiting.calls.len();
        if waiting.calls.capacity() > 4 * left + 64 {
            waiting.calls.shrink_to_fit();
        }
    }

    /// Nothing is half done while the lock is held, so a panic elsewhere leaves it sound.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if self.bytes < ANSWERS_BYTES
            && let Some(link) = self.link.take()
        {
            // The link's task only notes that it is to look again.
            link.wake();
        }
    }
}

/// Whose answer a post is, and what it says. None for what a call has not asked for.
fn answer(post: Post) -> Option<(SessionKey, Result<Answer, Failure>)> {
    Some(match post {
        Post::Ack { session, position, duplicate, .. } => {
            (session, Ok(Answer::Published { position, duplicate }))
        }
        Post::Called { session, answer } => match answer {
            CallAnswer::Published { position } => {
                (session, Ok(Answer::Published { position, duplicate: false }))
            }
            CallAnswer::Ticket { ticket, expires_us } => (session, Ok(Answer::Ticket { ticket, expires_us })),
            CallAnswer::Online { online, count } => (session, Ok(Answer::Online { online, count })),
        },
        Post::Done { session, .. } => (session, Ok(Answer::Done)),
        Post::History { session, position, events, more, .. } => {
            (session, Ok(Answer::History { position, events, more }))
        }
        Post::Failed { session, failure, .. }
        | Post::HistoryFailed { session, failure, .. }
        | Post::Refused { session, failure } => (session, Err(failure)),
        _ => return None,
    })
}

/// The door for requests.
pub struct Calls {
    desk: Desk,
    upstream: Arc<dyn Upstream>,
    metrics: EdgeMetrics,
    deadline: Duration,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl Calls {
    /// A door to what is behind `upstream`, whose answers come to the desk.
    pub fn new(desk: Desk, upstream: Arc<dyn Upstream>, metrics: EdgeMetrics) -> Calls {
        Calls { desk, upstream, metrics, deadline: DEADLINE }
    }

    /// Counts one request of whoever asks; else says when to try again, in milliseconds.
    pub fn charge(&self, who: Option<&str>) -> Result<(), u64> {
        self.desk.callers.charge(who)
    }

    /// Asks one thing of the core in somebody's name, who was charged under another, and waits for the answer. Dropped, it is as if the client had
    /// gone.
    pub async fn ask(
        &self,
        who: Credentials,
        charged: Option<&str>,
        request: impl FnOnce(SessionKey) -> Request,
    ) -> Result<Answer, CallError> {
        let call = Call::open(self, who, charged).ok_or(CallError::Busy(FULL_RETRY_MS))?;
        self.upstream.send(request(call.key)).map_err(|Busy| CallError::Busy(FULL_RETRY_MS))?;
        let answered = timeout(self.deadline, poll_fn(|cx| self.desk.poll(call.key, cx))).await;
        let late = || Failure::new(Code::Unavailable, "the core has not answered in time: outcome unknown");
        answered.unwrap_or_else(|_| Err(late())).map_err(|failure| {
            self.metrics.command_error(failure.code);
            CallError::Failed(failure)
        })
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.desk.lock().calls.len()
    }
}

/// One call; its session ends with it.
struct Call<'a> {
    calls: &'a Calls,
    key: SessionKey,
}

impl<'a> Call<'a> {
    fn open(calls: &'a Calls, who: Credentials, charged: Option<&str>) -> Option<Call<'a>> {
        let token = charged.filter(|charged| calls.desk.callers.is_new(charged)).map(Into::into);
        let key = calls.desk.enter(token)?;
        calls.metrics.calls.inc();
        // Nobody is told it and nobody comes back to it, so it need not be hard to guess.
        let id = format!("call-{:032x}", fastrand::u128(..)).into();
        // Never refused but at the end, when what follows is refused too.
        let _ = calls.upstream.send(Request::Call { session: key, id, who });
        Some(Call { calls, key })
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.desk.leave(self.key);
        self.calls.metrics.calls.dec();
        // It is in no room, so nobody waits for its return.
        let _ = self.calls.upstream.send(Request::Close { session: self.key, vanished: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::fanout::post::Posts;
    use crate::fanout::shards::Shards;
    use crate::fanout::tests::config;
    use futures_util::FutureExt;
    use prometheus_client::registry::Registry;

    /// Writes down what is asked; full when told so.
    #[derive(Default)]
    struct Core(Mutex<(Vec<Request>, bool)>);

    impl Core {
        fn asked(&self) -> Vec<Request> {
            mem::take(&mut self.0.lock().unwrap().0)
        }
    }

    impl Upstream for Core {
        fn send(&self, request: Request) -> Result<(), Busy> {
            let mut core = self.0.lock().unwrap();
            if core.1 && matches!(request, Request::History { .. }) {
                return Err(Busy);
            }
            core.0.push(request);
            Ok(())
        }
    }

    fn start(config: &Config) -> (Shards, Arc<Core>, Calls) {
        let metrics = EdgeMetrics::register(&mut Registry::default());
        let shards = Shards::new(Arc::new(config.clone()), metrics.clone());
        let core = Arc::new(Core::default());
        let calls = Calls::new(shards.desk().clone(), core.clone(), metrics);
        (shards, core, calls)
    }

    fn history(session: SessionKey) -> Request {
        Request::History { session, id: None, room: "r".into(), after: None, before: None, limit: 9 }
    }

    fn page(session: SessionKey) -> Post {
        let position = Position { epoch: "e".into(), seq: 1 };
        Post::History { session, id: None, name: "r".into(), position, events: Vec::new(), more: false }
    }

    fn session_of(requests: &[Request]) -> SessionKey {
        match requests {
            [Request::Call { session, .. }, Request::History { session: same, .. }] if session == same => {
                *session
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_call_opens_asks_and_closes() {
        let (shards, core, calls) = start(&config());
        let desk = shards.shards() - 1;
        let mut ask = Box::pin(calls.ask(Credentials::named("ann"), None, history));
        assert!(ask.as_mut().now_or_never().is_none());
        let session = session_of(&core.asked());
        assert_eq!((session.shard(), calls.count()), (desk, 1));
        let late = SessionKey::new(desk, session.slot(), session.generation() + 1);
        shards.post(
            desk,
            &mut vec![Post::Opened { session, user: "ann".into(), expires_us: None }, page(late)],
        );
        assert!(ask.as_mut().now_or_never().is_none(), "that was no answer, or another's");
        shards.post(desk, &mut vec![page(session), page(session)]);
        assert!(matches!(ask.await, Ok(Answer::History { .. })));
        assert_eq!(core.asked(), [Request::Close { session, vanished: false }]);
        assert_eq!((calls.count(), calls.desk.lock().bytes), (0, 0));
    }

    #[tokio::test]
    async fn whoever_goes_takes_its_session_along() {
        let (shards, core, calls) = start(&config());
        let mut ask = Box::pin(calls.ask(Credentials::default(), None, history));
        assert!(ask.as_mut().now_or_never().is_none());
        let session = session_of(&core.asked());
        shards.post(session.shard(), &mut vec![page(session)]);
        drop(ask);
        assert_eq!(core.asked(), [Request::Close { session, vanished: false }]);
        assert_eq!((calls.count(), calls.desk.lock().bytes), (0, 0), "an answer that nobody took is let go");
    }

    #[tokio::test]
    async fn a_core_that_does_not_answer_is_not_waited_for_for_ever() {
        let (_shards, core, mut calls) = start(&config());
        calls.deadline = Duration::from_millis(1);
        let Err(CallError::Failed(failure)) = calls.ask(Credentials::default(), None, history).await else {
            panic!("no answer came")
        };
        assert_eq!(failure.code, Code::Unavailable);
        assert_eq!((core.asked().len(), calls.count()), (3, 0));
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_and_nothing_stays_behind() {
        let (_shards, core, calls) = start(&config());
        core.0.lock().unwrap().1 = true;
        assert_eq!(
            calls.ask(Credentials::default(), None, history).await.unwrap_err(),
            CallError::Busy(FULL_RETRY_MS)
        );
        assert!(matches!(core.asked()[..], [Request::Call { .. }, Request::Close { .. }]));
        let all: Vec<Call<'_>> =
            (0..CALLS_MAX).map(|_| Call::open(&calls, Credentials::default(), None).unwrap()).collect();
        assert_eq!(
            calls.ask(Credentials::default(), None, history).await.unwrap_err(),
            CallError::Busy(FULL_RETRY_MS)
        );
        assert!(calls.desk.lock().calls.capacity() >= CALLS_MAX);
        drop(all);
        assert_eq!(calls.count(), 0);
        assert!(calls.desk.lock().calls.capacity() <= 64, "{}", calls.desk.lock().calls.capacity());
    }

    #[tokio::test]
    async fn answers_that_nobody_takes_hold_the_link_back() {
        let (shards, core, calls) = start(&config());
        let mut asks: Vec<_> =
            (0..9).map(|_| Box::pin(calls.ask(Credentials::default(), None, history))).collect();
        asks.iter_mut().for_each(|ask| assert!(ask.as_mut().now_or_never().is_none()));
        let sessions: Vec<SessionKey> = core.asked().chunks(2).map(session_of).collect();
        let online = |session| {
            let one = Online { user: "u".into(), meta: "x".repeat(1 << 20).into(), sessions: 1, since_us: 0 };
            Post::Called { session, answer: CallAnswer::Online { online: vec![one], count: 1 } }
        };
        let mut posts: Vec<Post> = sessions.iter().copied().map(online).collect();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(shards.poll_room(&mut cx).is_ready());
        shards.post(shards.shards() - 1, &mut posts);
        assert!(shards.poll_room(&mut cx).is_pending());
        assert!(asks.pop().unwrap().await.is_ok());
        drop(asks.pop());
        assert!(shards.poll_room(&mut cx).is_ready());
    }
}
