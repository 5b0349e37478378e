//! What others have done to a subscriber's sessions, until the one who keeps them looks: rooms that were closed, sessions that are to end. Bounded by
//! what the subscriber has: each room once, each session once.
use super::Error;
use crate::room::id::RoomName;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// What is to be done.
#[derive(Debug, Default)]
pub struct Due {
    /// Rooms that no session of this subscriber is in any more.
    pub rooms: BTreeSet<RoomName>,
    /// Sessions that are to end, by number, and why.
    pub sessions: BTreeMap<u64, Error>,
}

/// Orders for one subscriber.
#[derive(Debug, Default)]
pub struct Orders {
    due: Mutex<Due>,
    given: Notify,
}

impl Orders {
    /// A room was closed.
    pub fn close_room(&self, room: &RoomName) {
        self.lock().rooms.insert(room.clone());
        self.given.notify_one();
    }

    /// A session is to end. The first reason is the one that it is told.
    pub fn end(&self, session: u64, error: Error) {
        self.lock().sessions.entry(session).or_insert(error);
        self.given.notify_one();
    }

    /// Takes what there is.
    pub fn take(&self) -> Due {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until a session is to end, and leaves that to be taken.
    pub async fn ends(&self, session: u64) {
        loop {
            if self.lock().sessions.contains_key(&session) {
                return;
            }
            self.given().await;
        }
    }

    /// Waits until there may be something.
    pub async fn given(&self) {
        self.given.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
