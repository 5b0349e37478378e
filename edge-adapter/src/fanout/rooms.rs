//! Who of a shard's connections is in which room.
use crate::session::key::RoomId;
use crate::wire::event::Position;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// No link: the end of a chain, or none at all.
pub const NONE: u32 = u32::MAX;

/// A room, as far as this shard has live members in it.
#[derive(Debug)]
pub struct Room {
    /// Up to where all members have been given their events.
    pub position: Position,
    /// The last sequenced event that is pending, or 0.
    pub pending: u64,
    /// The members' slots, in no order.
    pub members: Vec<u32>,
    /// The first and the last of its pending events in [`crate::fanout::outgoing::Outgoing`].
    pub first: u32,
    /// See `first`.
    pub last: u32,
}

/// A shard's rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: HashMap<RoomId, Room, BuildHasherDefault<NumberHasher>>,
}

impl Rooms {
    /// A room with members.
    pub fn get(&self, id: RoomId) -> Option<&Room> {
        self.rooms.get(&id)
    }

    /// A room with members.
    pub fn get_mut(&mut self, id: RoomId) -> Option<&mut Room> {
        self.rooms.get_mut(&id)
    }

    /// Adds a member; its index. No events may be pending in the room.
    pub fn add(&mut self, id: RoomId, slot: u32, position: Position) -> u32 {
        let room = self.rooms.entry(id).or_insert_with(|| Room {
            position: position.clone(),
            pending: 0,
            members: Vec::new(),
            first: NONE,
            last: NONE,
        });
        debug_assert!(room.first == NONE, "a change of members cuts the run");
        room.position = position;
        room.members.push(slot);
        (room.members.len() - 1) as u32
    }

    /// Takes the member at `index` out; the slot that has this index now, if another one does.
    pub fn remove(&mut self, id: RoomId, index: u32) -> Option<u32> {
        let room = self.rooms.get_mut(&id)?;
        let index = index as usize;
        if index < room.members.len() {
            room.members.swap_remove(index);
        }
        let moved = room.members.get(index).copied();
        if room.members.is_empty() {
            self.rooms.remove(&id);
        } else if room.members.capacity() > 8 && room.members.len() < room.members.capacity() / 4 {
            room.members.shrink_to(room.members.len() * 2);
        }
        moved
    }
}

/// Spreads small numbers that nobody outside chooses: one multiplication.
#[derive(Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_moves_is_named() {
        let (id, at) = (RoomId(9), Position { epoch: "e".into(), seq: 1 });
        let mut rooms = Rooms::default();
        let indexes: Vec<u32> = [4, 5, 6].map(|slot| rooms.add(id, slot, at.clone())).into();
        assert_eq!(indexes, [0, 1, 2]);
        assert_eq!(rooms.remove(id, 0), Some(6));
        assert_eq!(rooms.get(id).unwrap().members, [6, 5]);
        assert_eq!(rooms.remove(id, 1), None);
        assert_eq!(rooms.remove(id, 0), None);
        assert!(rooms.get(id).is_none(), "an empty room is forgotten");
        assert_eq!(rooms.remove(id, 0), None);
    }
}
