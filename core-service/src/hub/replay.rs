//! Joining, and the seam between what is read from history and what is live.
//!
//! History is read first, without holding anything. Then, in one turn of the room, the tail that came meanwhile is appended, `joined` is put
//! into the subscriber's queue, and the subscriber is a member: everything later is live. A replay that is too large for one page says so,
//! and the next pages are pulled as the reader has room; the one that reaches the top is the seam.
use super::{Delivery, Error, Hub, Outbox, To, delivery::Place, rooms::Member};
use crate::{
    engine::{EngineError, HistoryRead},
    room::{
        feed::Feed,
        history::Range,
        id::RoomName,
        position::Position,
        seam::{Read, Start, Turn, splice},
    },
};
use std::sync::Arc;

/// How often a turn is tried anew when the tail did not reach back to what was read. Then the page is given as it is, not live, and the reader
/// pulls on.
const TRIES: usize = 4;

/// A join.
pub struct JoinRequest {
    /// The stream that joins.
    pub outbox: Arc<Outbox>,
    /// Whose command it is.
    pub to: To,
    /// The room.
    pub room: RoomName,
    /// Where the session left off.
    pub since: Option<Position>,
    /// Without `since`: how many of the newest events to replay.
    pub history: usize,
    /// The number of the telling of presence that knows of the session; none if it may not see who is online there.
    pub presence: Option<u64>,
}

impl Hub {
    /// Puts a session into a room: `joined` is in its queue when this returns.
    pub async fn join(&self, request: JoinRequest) -> Result<(), Error> {
        let JoinRequest { outbox, to, room, since, history, presence } = request;
        let start = since.map_or(Start::Newest(history), Start::Since);
        let _entered = self.enter(&room).await?;
        self.take_turn(&room, start, |members, turn| {
            self.metrics.joined(turn.recovered);
            outbox.push(Delivery::Joined(to.clone(), place(&room, &turn, presence), turn.page));
            add(members, &outbox, 1);
        })
        .await
    }

    /// Puts `sessions` sessions of a stream into a room at once, as after a new attach: one replay for all of them.
    pub async fn resume(
        &self,
        outbox: &Arc<Outbox>,
        to: To,
        room: &RoomName,
        since: Option<Position>,
        sessions: u64,
    ) -> Result<(), Error> {
        let start = since.map_or(Start::Newest(0), Start::Since);
        let _entered = self.enter(room).await?;
        self.take_turn(room, start, |members, turn| {
            self.metrics.joined(turn.recovered);
            outbox.push(Delivery::Resumed(to.clone(), place(room, &turn, Some(0)), turn.page));
            if sessions > 0 {
                add(members, outbox, sessions);
            }
        })
        .await
    }

    /// The next page of a replay. Where history no longer has it, the session is told that its place is lost.
    pub async fn pull(
        &self,
        outbox: &Arc<Outbox>,
        to: To,
        room: &RoomName,
        after: Position,
    ) -> Result<(), Error> {
        let _entered = self.enter(room).await?;
        self.take_turn(room, Start::Since(after), |_, turn| {
            if turn.recovered == Some(true) {
                outbox.push(Delivery::Page(to.clone(), room.clone(), turn.page));
            } else {
                self.metrics.joined(turn.recovered);
                let to = To { request: 0, id: None, ..to.clone() };
                outbox.push(Delivery::Joined(to, place(room, &turn, Some(0)), turn.page));
            }
        })
        .await
    }

    /// Reads, takes the room's turn, and gives what is to be written to `write`, which may change who is in the room.
    async fn take_turn(
        &self,
        room: &RoomName,
        start: Start,
        mut write: impl FnMut(&mut Vec<Member>, Turn),
    ) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let read = self.read_from(room, &start).await?;
            {
                let mut shard = self.rooms.turn(room);
                let Some(here) = shard.get_mut(room) else { return Err(Error::NotJoined) };
                let Some(feed) = here.feed.as_ref() else { return Err(Error::NotJoined) };
                let read = read.as_ref().map(|(after, HistoryRead { position, floor, events, more })| Read {
                    after: *after,
                    position,
                    floor: *floor,
                    events,
                    more: *more,
                });
                if let Some(turn) = splice(feed, &start, read, tries >= TRIES) {
                    write(&mut here.members, turn);
                    return Ok(());
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// What is read, and after which seq.
    async fn read_from(&self, room: &RoomName, start: &Start) -> Result<Option<(u64, HistoryRead)>, Error> {
        let Some(top) = self.rooms.position(room) else { return Err(Error::NotJoined) };
        let Some(after) = start.reads_after(&top) else { return Ok(None) };
        let range = Range { after: Some(after), before: None, limit: usize::MAX, max_bytes: self.page_bytes };
        self.read(room, range).await.map(|read| Some((after, read)))
    }

    /// Keeps the room from going while a join is under way, and makes sure that it is fed.
    async fn enter<'a>(&'a self, room: &'a RoomName) -> Result<Entered<'a>, EngineError> {
        self.rooms.enter(room);
        let entered = Entered { hub: self, room };
        if self.rooms.position(room).is_none() {
            let position = self.engine.open(room).await?;
            let mut shard = self.rooms.turn(room);
            match shard.get_mut(room) {
                Some(here) if here.feed.is_none() => {
                    let behind = here.early > position.seq;
                    here.feed = Some(Feed::new(position));
                    if behind {
                        self.rooms.note_hole(here);
                    }
                }
                // Another join was faster; each open is undone by one close.
                _ => {
                    drop(shard);
                    self.engine.close(room);
                }
            }
        }
        Ok(entered)
    }

    /// Reads what a feed has missed, until it is whole.
    pub(super) async fn fill(&self, room: &RoomName) {
        while let Some(position) = self.rooms.position(room) {
            let range = Range {
                after: Some(position.seq),
                limit: usize::MAX,
                before: None,
                max_bytes: self.page_bytes,
            };
            match self.engine.read(room, range).await {
                Ok(read) => {
                    if self.rooms.filled(room, &read.position, read.floor, read.events) {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::warn!(?room, %error, "a feed has a hole and history cannot be read; trying again");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn place(room: &RoomName, turn: &Turn, presence: Option<u64>) -> Place {
    let (position, recovered, replayed) = (turn.position.clone(), turn.recovered, turn.replayed);
    Place { room: room.clone(), position, recovered, replayed, presence }
}

fn add(members: &mut Vec<Member>, outbox: &Arc<Outbox>, sessions: u64) {
    match members.iter_mut().find(|member| Arc::ptr_eq(&member.outbox, outbox)) {
        Some(member) => member.sessions += sessions,
        None => members.push(Member { outbox: outbox.clone(), sessions }),
    }
}

/// A join under way; it ends with this, however it ends.
struct Entered<'a> {
    hub: &'a Hub,
    room: &'a RoomName,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if self.hub.rooms.entered(self.room) {
            self.hub.engine.close(self.room);
        }
    }
}
