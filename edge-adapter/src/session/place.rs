//! A session's place in a room: how far in it is, and what it is given there.
use crate::session::key::RoomId;
use crate::wire::event::Position;
use std::sync::Arc;

/// A room that the session is in, or on the way in or out.
#[derive(Debug)]
pub struct Place {
    /// The room's name.
    pub name: Arc<str>,
    /// The room's number on this edge; none that holds while joining.
    pub room: RoomId,
    /// Where the session stands among the members; holds only while live.
    pub index: u32,
    /// While paging: the last position that it was sent.
    pub sent: Option<Box<Position>>,
    /// How far in it is.
    pub stage: Stage,
    /// Its own live events come back to it.
    pub echo: bool,
    /// What it is shown of who is online.
    pub view: View,
    /// A page has been asked for.
    pub pulling: bool,
    /// A join with a replay has been sent and is not answered.
    pub(super) replaying: bool,
    /// By its last command the client wants to be in.
    pub(super) wanted: bool,
    /// Joins that the core has not answered.
    pub(super) joins: u16,
}

/// What a session is shown of who is online in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Nothing: it did not want to.
    Off,
    /// It waits for a state.
    Waiting,
    /// It has a state, and gets what follows.
    Shown,
    /// It has missed something, since too much waited for it: it needs a state again.
    Stale,
}

/// How far in a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has asked.
    Joining,
    /// It is in and gets its replay page by page.
    Paging,
    /// It gets what happens.
    Live,
}

impl Place {
    /// It has asked.
    pub(super) fn joining(name: Arc<str>) -> Self {
        Place {
            name,
            room: RoomId(0),
            index: 0,
            sent: None,
            stage: Stage::Joining,
            echo: true,
            view: View::Off,
            pulling: false,
            replaying: false,
            wanted: true,
            joins: 1,
        }
    }

    /// It is in, and this is the room's number.
    pub(super) fn is(&self, room: RoomId) -> bool {
        self.room == room && self.stage != Stage::Joining
    }
}
