//! Who is online, on its way to sessions. A step goes to those who have a state; whoever has too much waiting misses it, and is
//! shown a state when it has caught up: presence is never just dropped.
use crate::fanout::shard::Shard;
use crate::fanout::shared::SharedPresence;
use crate::session::key::{RoomId, SessionKey};
use crate::session::place::View;
use crate::wire::dialect::DIALECTS;
use crate::wire::presence::Told;

impl Shard {
    /// Something is told to all in a room who are shown its presence.
    pub(super) fn presence(&mut self, room: RoomId, shared: &SharedPresence) {
        // It stands behind what is pending in the room, for those who read both.
        self.out.cut(&mut self.connections, &mut self.rooms, room);
        let Some(members) = self.rooms.get(room).map(|room| &room.members) else { return };
        let whole = !matches!(shared.told, Told::Steps(_));
        let much = self.config.session_queue_bytes / 2;
        let mut frames = [None; DIALECTS];
        for &slot in members {
            let Some(connection) = self.connections.get_mut(slot as usize) else { continue };
            let slow = connection.backlog_bytes() > much;
            let Some(place) = connection.session.place_mut(room) else { continue };
            match place.view {
                View::Off | View::Stale => continue,
                View::Waiting if !whole => continue,
                View::Waiting | View::Shown if slow => {
                    place.view = View::Stale;
                    self.out.tally.presence_conflated += 1;
                    continue;
                }
                View::Waiting | View::Shown => place.view = View::Shown,
            }
            let dialect = connection.dialect;
            let frame = &mut frames[dialect.index()];
            let frame = *frame.get_or_insert_with(|| self.out.shared(shared.bytes(dialect).clone()));
            self.out.link_shared(connection, slot, frame);
        }
    }

    /// A session is shown who is online.
    pub(super) fn show_presence(&mut self, session: SessionKey, room: RoomId, shared: &SharedPresence) {
        let Some(slot) = self.open(session) else { return };
        let much = self.config.session_queue_bytes / 2;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let slow = connection.backlog_bytes() > much;
        let place = connection.session.place_mut(room).filter(|place| place.view != View::Off);
        let Some(place) = place else { return };
        if slow {
            place.view = View::Stale;
            return;
        }
        place.view = View::Shown;
        let bytes = shared.bytes(connection.dialect).clone();
        self.out.cut(&mut self.connections, &mut self.rooms, room);
        self.out.own(&mut self.connections, slot, bytes);
    }
}
