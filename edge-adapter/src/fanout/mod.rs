//! From one event to many sockets: the hot path.
//!
//! Each shard is one task that owns its sockets, their parsers, their sessions and the index of who is in
//! which room. Everybody else hands it [`post::Post`]s; it takes all that have come, groups them by room, and makes one
//! write per socket with all that is pending. No timer: batches grow by themselves with load.
//!
//! No connection has a task: a socket that is ready puts its connection's slot into the shard's inbox, beside
//! the posts, and the shard's task is woken once for all that came while it worked.
mod answer;
mod backlog;
pub mod callers;
pub mod calls;
mod census;
pub mod connection;
mod ending;
mod inbox;
pub mod newcomer;
mod outgoing;
pub mod post;
mod presence;
mod reading;
mod relief;
mod rooms;
mod shard;
pub mod shards;
pub mod shared;
pub mod socket;
mod standing;
#[cfg(test)]
mod tests;
