//! Who is online in a room, as browsers are told.
use std::sync::Arc;

/// A user who is online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Online {
    /// Who.
    pub user: Arc<str>,
    /// A JSON object on one line, as a core passed it.
    pub meta: Arc<str>,
    /// How many sessions it has in the room.
    pub sessions: u32,
    /// Since when, in microseconds since 1970.
    pub since_us: u64,
}

/// What a user takes beside name and meta, as JSON.
const USER: usize = 96;

impl Online {
    /// About how many bytes of memory it holds, encoded or about to be.
    pub fn weight(&self) -> usize {
        USER + self.user.len() + self.meta.len()
    }
}

/// What has happened to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It is online.
    Join,
    /// Its meta is another.
    Update,
    /// It is online no longer.
    Leave,
}

impl Happened {
    /// Its name as an envelope's `event`.
    pub fn name(self) -> &'static str {
        match self {
            Happened::Join => "join",
            Happened::Update => "update",
            Happened::Leave => "leave",
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What has happened …
    pub happened: Happened,
    /// … to whom …
    pub user: Arc<str>,
    /// … and the meta that it shows, or showed.
    pub meta: Arc<str>,
}

/// What is told of a room's presence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// All who are online.
    State(Vec<Online>),
    /// What has happened since; not empty.
    Steps(Vec<Step>),
    /// How many are online: too many to be named.
    Count(u64),
}

impl Told {
    /// About how many bytes of memory it holds, encoded or about to be.
    pub fn weight(&self) -> usize {
        match self {
            Told::State(all) => all.iter().map(Online::weight).sum(),
            Told::Steps(steps) => steps.iter().map(|step| USER + step.user.len() + step.meta.len()).sum(),
            Told::Count(_) => 0,
        }
    }
}
