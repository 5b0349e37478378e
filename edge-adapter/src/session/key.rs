//! How an edge names its sessions inside: where they live, with a generation, so that a late message for a
//! session that has gone is recognised.
use std::fmt;

/// A room's number on this edge, given by the link while any session is in it or about to be. It is given
/// to another room only after every session has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoomId(pub u32);

/// The name of a session on this edge: 8 bits shard, 24 bits slot, 32 bits generation. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(u64);

impl SessionKey {
    /// The most sessions of one shard.
    pub const SLOTS: usize = 1 << 24;

    /// Names the session in `slot` of `shard`; `generation` counts the sessions that had the slot, from 1.
    pub fn new(shard: usize, slot: usize, generation: u32) -> Self {
        debug_assert!(shard < 256 && slot < Self::SLOTS && generation > 0);
        Self((shard as u64) << 56 | (slot as u64) << 32 | u64::from(generation))
    }

    /// The shard that it lives in.
    pub fn shard(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// Its place there.
    pub fn slot(self) -> usize {
        (self.0 >> 32) as usize & (Self::SLOTS - 1)
    }

    /// Which of the sessions that had this place.
    pub fn generation(self) -> u32 {
        self.0 as u32
    }

    /// Its number on the link.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The session of that number on the link.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.shard(), self.slot(), self.generation())
    }
}
