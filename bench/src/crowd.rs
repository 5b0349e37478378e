//! The load: one thread with all connections to one server. It shares the machine with what it measures, so it does as
//! little as it can: no task per connection, one read for all that has come, a few bytes of each message looked at.
//!
//! It checks every delivery all the same: each connection must see every message of its room once, in order.
use crate::{
    Failure,
    door::{CONNECTING, Door},
    frames::{self, opcode},
    socket::Socket,
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// How long anything may take that should take no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// All connections to one server.
pub struct Crowd {
    door: Door,
    /// The publisher is the first.
    connections: Vec<Connection>,
    tally: Tally,
}

struct Connection {
    socket: Socket,
    track: Track,
}

/// What a connection has seen.
struct Track {
    /// Its room; none for the publisher.
    room: Option<usize>,
    /// The next seq that it must see.
    expected: u64,
    ready: bool,
}

/// What all have seen.
#[derive(Default)]
struct Tally {
    rooms: Vec<Room>,
    ready: usize,
    deliveries: u64,
    /// Seconds from a message's sending to each of its deliveries, where they are wanted.
    latencies: Option<Vec<f64>>,
    /// Seconds from a message's sending to the last of its deliveries.
    rounds: Vec<f64>,
    cursor: String,
    error: Option<String>,
}

struct Room {
    name: String,
    members: u32,
    /// The last seq that was published.
    published: u64,
    /// The last seq that all members have.
    complete: u64,
    /// Those in between: when they were sent, and how many have them.
    under_way: VecDeque<(Instant, u32)>,
}

impl Crowd {
    /// A crowd of nobody, and a publisher.
    pub fn new(address: SocketAddr, stop: &Arc<AtomicBool>) -> Result<Crowd, Failure> {
        let door = Door::new(address, stop)?;
        let mut crowd = Crowd { door, connections: Vec::new(), tally: Tally::default() };
        crowd.connect("/ws?user=load", None)?;
        crowd.until(|tally| tally.ready == 1)?;
        Ok(crowd)
    }

    /// Adds a room with so many members, and awaits that all are in it.
    pub fn gather(&mut self, name: &str, members: u32) -> Result<(), Failure> {
        let room = self.tally.rooms.len();
        let under_way = VecDeque::new();
        self.tally.rooms.push(Room { name: name.to_owned(), members, published: 0, complete: 0, under_way });
        self.enter(room, "", members)
    }

    fn enter(&mut self, room: usize, query: &str, members: u32) -> Result<(), Failure> {
        let (before, mut made) = (self.tally.ready, 0);
        while self.tally.ready < before + members as usize {
            while made < members && (made as usize) < self.tally.ready - before + CONNECTING {
                let target = format!("/ws/{}{query}", self.tally.rooms[room].name);
                self.connect(&target, Some(room))?;
                made += 1;
            }
            let so_far = self.tally.ready;
            self.until(|tally| tally.ready > so_far)?;
        }
        Ok(())
    }

    fn connect(&mut self, target: &str, room: Option<usize>) -> Result<(), Failure> {
        let socket = self.door.connect(self.connections.len(), target, "")?;
        let expected = room.map_or(0, |room| self.tally.rooms[room].complete + 1);
        self.connections.push(Connection { socket, track: Track { room, expected, ready: false } });
        Ok(())
    }

    /// Drops all members of the only room and has them come back from where they were before its first message.
    /// With a cursor they are sent what they missed; else they take up from now.
    pub fn storm(&mut self, cursor: Option<&str>) -> Result<Duration, Failure> {
        let members = self.tally.rooms[0].members;
        self.connections.truncate(1);
        self.tally.ready = 1;
        let query = cursor.map(|cursor| format!("?since={cursor}")).unwrap_or_default();
        let start = Instant::now();
        let missed = if cursor.is_some() { self.tally.rooms[0].published } else { 0 };
        if cursor.is_some() {
            // All of it is to be seen again.
            let room = &mut self.tally.rooms[0];
            room.under_way = (0..room.published).map(|_| (start, 0)).collect();
            room.complete = 0;
        }
        self.enter(0, &query, members)?;
        let seen = self.tally.rooms[0].published;
        self.until(|tally| missed == 0 || tally.rooms[0].complete == seen)?;
        Ok(start.elapsed())
    }

    /// The cursor of whoever joined last.
    pub fn cursor(&self) -> &str {
        &self.tally.cursor
    }

    /// Publishes one message; it goes out with the next pump.
    pub fn publish(&mut self, room: usize, data: &str) {
        let room = &mut self.tally.rooms[room];
        let text = format!(r#"{{"type":"text","room":"{}","data":{data}}}"#, room.name);
        self.connections[0].socket.write(frames::TEXT, text.as_bytes());
        room.published += 1;
        room.under_way.push_back((Instant::now(), 0));
    }

    /// How many messages of a room are under way.
    pub fn under_way(&self, room: usize) -> usize {
        self.tally.rooms[room].under_way.len()
    }

    /// How many rooms there are.
    pub fn rooms(&self) -> usize {
        self.tally.rooms.len()
    }

    /// How many deliveries there have been.
    pub fn deliveries(&self) -> u64 {
        self.tally.deliveries
    }

    /// From now on each delivery's latency is kept.
    pub fn keep_latencies(&mut self) {
        self.tally.latencies = Some(Vec::new());
    }

    /// Takes what was kept: seconds to each delivery, and to the last delivery of each message.
    pub fn take_times(&mut self) -> (Vec<f64>, Vec<f64>) {
        let latencies = self.tally.latencies.as_mut().map(std::mem::take).unwrap_or_default();
        (latencies, std::mem::take(&mut self.tally.rounds))
    }

    /// Awaits that everybody has everything.
    pub fn settle(&mut self) -> Result<(), Failure> {
        self.until(|tally| tally.rooms.iter().all(|room| room.under_way.is_empty()))
    }

    fn until(&mut self, mut done: impl FnMut(&Tally) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.tally) {
            self.pump(Some(Duration::from_millis(100)))?;
            if Instant::now() > deadline {
                return Err(
                    format!("nothing came for {PATIENCE:?}: a message or a connection was lost").into()
                );
            }
        }
        Ok(())
    }

    /// Sends what is to be sent and takes what has come, waiting for it as long as told.
    pub fn pump(&mut self, wait: Option<Duration>) -> Result<(), Failure> {
        self.connections[0].socket.flush()?;
        let (connections, tally) = (&mut self.connections, &mut self.tally);
        self.door.turn(wait, |nth, ready| {
            // An event may be older than the storm that dropped its connection.
            let Some(Connection { socket, track }) = connections.get_mut(nth) else { return Ok(()) };
            let now = Instant::now();
            let alive = ready.serve(socket, |opcode, payload| tally.frame(track, now, opcode, payload))?;
            if track.room.is_none() && !track.ready && socket.is_open() {
                track.ready = true;
                tally.ready += 1;
            }
            // Its last words may say why.
            match tally.error.take() {
                Some(error) => Err(error.into()),
                None if alive => Ok(()),
                None => Err("a connection was ended by the server".into()),
            }
        })
    }
}

impl Tally {
    fn frame(&mut self, track: &mut Track, now: Instant, opcode: u8, payload: &[u8]) {
        match opcode {
            opcode::TEXT => match (frames::seq(payload), track.room) {
                (Some(seq), Some(room)) => self.delivered(track, room, now, seq),
                _ => self.other(track, payload),
            },
            opcode::CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.error = Some(format!("the server closed a connection with {code}"));
            }
            _ => {}
        }
    }

    fn delivered(&mut self, track: &mut Track, room: usize, now: Instant, seq: u64) {
        let expected = track.expected;
        if seq != expected {
            self.error =
                Some(format!("seq {seq} came where {expected} should: lost, doubled or out of order"));
            return;
        }
        track.expected += 1;
        self.deliveries += 1;
        let room = &mut self.rooms[room];
        // A message that nobody sent is out of order, too.
        let place = (seq - room.complete - 1) as usize;
        let Some((sent, seen)) = room.under_way.get_mut(place) else {
            self.error = Some(format!("seq {seq} came before it was sent"));
            return;
        };
        *seen += 1;
        if let Some(latencies) = &mut self.latencies {
            latencies.push((now - *sent).as_secs_f64());
        }
        while let Some((sent, seen)) = room.under_way.front()
            && *seen == room.members
        {
            self.rounds.push((now - *sent).as_secs_f64());
            room.under_way.pop_front();
            room.complete += 1;
        }
    }

    fn other(&mut self, track: &mut Track, payload: &[u8]) {
        if payload.starts_with(br#"{"type":"error""#) {
            self.error = Some(format!("an error: {}", String::from_utf8_lossy(payload)));
        }
        if track.ready || frames::after(payload, br#""event":"joined""#).is_none() {
            return;
        }
        track.ready = true;
        self.ready += 1;
        if let Some(cursor) = frames::after(payload, br#""cursor":""#) {
            let cursor = cursor.split(|byte| *byte == b'"').next().unwrap_or_default();
            self.cursor = String::from_utf8_lossy(cursor).into_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(members: u32, published: u64) -> Tally {
        let under_way = (0..published).map(|_| (Instant::now(), 0)).collect();
        let room = Room { name: "r".into(), members, published, complete: 0, under_way };
        Tally { rooms: vec![room], ..Tally::default() }
    }

    fn member() -> Track {
        Track { room: Some(0), expected: 1, ready: true }
    }

    fn text(seq: u64) -> Vec<u8> {
        format!(r#"{{"type":"text","room":"r","seq":{seq},"data":{{}}}}"#).into_bytes()
    }

    #[test]
    fn a_message_is_complete_when_all_have_it() {
        let (mut tally, mut one, mut other) = (tally(2, 2), member(), member());
        for (track, seq, complete) in [(0, 1, 0), (0, 2, 0), (1, 1, 1), (1, 2, 2)] {
            let track = if track == 0 { &mut one } else { &mut other };
            tally.frame(track, Instant::now(), opcode::TEXT, &text(seq));
            assert_eq!((tally.error.as_deref(), tally.rooms[0].complete), (None, complete));
        }
        assert_eq!((tally.deliveries, tally.rounds.len()), (4, 2));
    }

    #[test]
    fn what_is_wrong_is_seen() {
        for seqs in [vec![2], vec![1, 1], vec![1, 3], vec![1, 2, 3, 4]] {
            let (mut tally, mut track) = (tally(1, 3), member());
            for seq in &seqs {
                tally.frame(&mut track, Instant::now(), opcode::TEXT, &text(*seq));
            }
            assert!(tally.error.is_some(), "{seqs:?}");
        }
        let mut tally = tally(1, 0);
        tally.frame(&mut member(), Instant::now(), opcode::CLOSE, &4002u16.to_be_bytes());
        assert!(tally.error.is_some_and(|error| error.contains("4002")));
    }

    #[test]
    fn whoever_is_told_joined_is_ready() {
        let (mut tally, mut track) = (tally(1, 0), Track { ready: false, ..member() });
        let welcome = br#"{"type":"system","data":{"event":"welcome"}}"#;
        tally.frame(&mut track, Instant::now(), opcode::TEXT, welcome);
        assert!(!track.ready);
        let joined = br#"{"type":"system","room":"r","data":{"event":"joined","cursor":"Abc-1","seq":0}}"#;
        tally.frame(&mut track, Instant::now(), opcode::TEXT, joined);
        assert!((track.ready, tally.ready, tally.cursor.as_str()) == (true, 1, "Abc-1"));
    }
}
