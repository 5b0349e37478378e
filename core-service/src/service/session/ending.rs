//! What others do to a stream's sessions: rooms that are closed around them, and their own end.
use super::Sessions;
use crate::{
    hub::{Delivery, Error, Gone, Orders, To},
    room::id::RoomName,
};

impl Sessions {
    /// Does what has been ordered since the last time. Before each command, so that none is held against what is no longer so. Which sessions
    /// have ended, and why: they are to be told.
    pub(in crate::service) fn settle(&mut self) -> Vec<(u64, Error)> {
        let Some(due) = self.outbox.orders().map(Orders::take) else { return Vec::new() };
        due.rooms.iter().for_each(|room| self.put_all_out(room));
        let mut ended = Vec::new();
        for (number, error) in due.sessions {
            if self.open.contains_key(&number) {
                // Who is kicked is not to come back; who needs another token may.
                self.close(number, if error == Error::Kicked { Gone::Left } else { Gone::Vanished });
                ended.push((number, error));
            }
        }
        ended
    }

    fn put_all_out(&mut self, room: &RoomName) {
        let put_out = self.open.iter_mut().filter_map(|(number, session)| {
            let was_in = session.rooms.remove(room);
            was_in.then(|| (*number, session.id.clone(), session.grant.user.clone()))
        });
        let out: Vec<_> = put_out.collect();
        for (number, id, user) in out {
            self.leave(room, (&id, &user), Gone::Left);
            self.outbox.push(Delivery::PutOut(To { session: number, ..To::default() }, room.clone()));
        }
    }
}
