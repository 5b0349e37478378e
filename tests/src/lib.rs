//! What the end-to-end tests are made of: the real binary as a process ([`process`]), a browser's WebSocket
//! ([`client`]), the same by hand for what no library would send ([`raw`]), a browser's `EventSource` ([`sse`]), plain HTTP
//! ([`http`]), a service's gRPC ([`grpc`]), a network that breaks on demand ([`proxy`]), a place where keys are published ([`keys`]), an eye for
//! order ([`observer`]), one for who is there ([`presence`]), and TLS ([`secure`]). [`transports`] has one face for all of them, for what is to hold
//! whatever carries it.
//!
//! A test that waits, waits for an event, and for no longer than [`PATIENCE`]. What goes wrong panics with what was seen:
//! that is what a test is for, so `unwrap` is welcome here.
#![allow(clippy::unwrap_used)]

pub mod client;
pub mod grpc;
pub mod http;
pub mod keys;
pub mod observer;
pub mod presence;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod secure;
pub mod sse;
pub mod token;
pub mod transports;

use std::{future::Future, time::Duration};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep, timeout},
};

/// How long a test waits for what must come. Generous: on a busy machine slow is not wrong.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How many files a test process opens at most: two thousand sockets and what goes with them.
const FILES: u64 = 20_000;

/// Dice that fall alike in every run, so that what went wrong can be looked at again.
pub struct Dice(u64);

impl Dice {
    /// Dice with a history of their own.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number from 0 up to, and without, `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        // Knuth's MMIX; its upper bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

static HEAVY: Mutex<()> = Mutex::const_new(());

/// A test with a thousand sockets holds this, so that such tests take turns while the small ones go on beside them.
pub async fn heavy() -> MutexGuard<'static, ()> {
    let turn = HEAVY.lock().await;
    let limit = rlimit::increase_nofile_limit(FILES).expect("the limit on open files can be read");
    assert!(limit >= 5_000, "only {limit} open files are allowed: raise `ulimit -Hn`");
    turn
}

/// Awaits, and fails naming `what` when it does not come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

/// Asks again and again until there is an answer: for what a server shows but does not announce.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come to pass within {PATIENCE:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
