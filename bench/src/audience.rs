//! Clients that come, are told who else is there, and go: one thread with all connections to one server, as the crowd is.
//!
//! Each client's view is made of nothing but its own frames, and each is held against who is really there.
use crate::{
    Failure,
    door::{CONNECTING, Door},
    frames::{self, opcode},
    socket::Socket,
    view::{self, Told, USER, View},
};
use std::{
    net::SocketAddr,
    ops::Sub,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// How long views may take to be right: far beyond any coalescing, well within the time of the whole.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many of those who came first have all their frames read as JSON, too: where rooms are counted, only they see steps.
const FIRST_SAMPLED: usize = 64;
/// Beside them, about so many of all, and about so many of those who stay.
const SAMPLED: usize = 64;

/// When to give up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Somebody has interrupted us.
    pub stop: Arc<AtomicBool>,
    /// It has taken too long.
    pub deadline: Instant,
}

/// Frames of presence that came, and their bytes as they were on the wire.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traffic {
    /// Whole states.
    pub states: u64,
    /// Joins, updates and leaves.
    pub steps: u64,
    /// Counts.
    pub counts: u64,
    /// Bytes of all of these.
    pub bytes: u64,
    /// WebSocket pings, which are none of these.
    pub pings: u64,
}

impl Traffic {
    /// All frames of presence.
    pub fn frames(&self) -> u64 {
        self.states + self.steps + self.counts
    }
}

impl Sub for Traffic {
    type Output = Traffic;

    fn sub(self, before: Traffic) -> Traffic {
        Traffic {
            states: self.states - before.states,
            steps: self.steps - before.steps,
            counts: self.counts - before.counts,
            bytes: self.bytes - before.bytes,
            pings: self.pings - before.pings,
        }
    }
}

/// All clients of one server.
pub struct Audience {
    door: Door,
    /// It has taken too long.
    deadline: Instant,
    clients: Vec<Client>,
    tally: Tally,
}

struct Client {
    /// None when it has gone.
    socket: Option<Socket>,
    seat: Seat,
}

/// What a client has seen.
struct Seat {
    room: usize,
    /// All its frames are read as JSON, too.
    sampled: bool,
    joined: bool,
    /// It has said goodbye, and is told what it may be told.
    leaving: bool,
    view: View,
    right: bool,
    counts: u64,
}

/// What all have seen.
struct Tally {
    rooms: Vec<Room>,
    /// Rooms of more users are counted.
    max: usize,
    joined: usize,
    last_joined: Instant,
    /// How many views are not what they should be.
    wrong: usize,
    /// Since when none is.
    right_since: Option<Instant>,
    traffic: Traffic,
    /// Frames that were also read as JSON.
    sampled: u64,
    error: Option<String>,
}

struct Room {
    name: String,
    /// Who is there when all is done, in order.
    online: Vec<u32>,
}

impl Audience {
    /// Nobody yet.
    pub fn new(address: SocketAddr, max: usize, limits: &Limits) -> Result<Audience, Failure> {
        Ok(Audience {
            door: Door::new(address, &limits.stop)?,
            deadline: limits.deadline,
            clients: Vec::new(),
            tally: Tally {
                rooms: Vec::new(),
                max,
                joined: 0,
                last_joined: Instant::now(),
                wrong: 0,
                right_since: None,
                traffic: Traffic::default(),
                sampled: 0,
                error: None,
            },
        })
    }

    /// So many users more come into new rooms of so many each, spread over this time, but no faster than the server takes
    /// them. How long it takes until all are in.
    pub fn enter(&mut self, users: u32, room_size: u32, over: Duration) -> Result<Duration, Failure> {
        let first = self.clients.len() as u32;
        let end = first + users;
        let first_room = self.tally.rooms.len();
        for start in (first..end).step_by(room_size as usize) {
            let online = (start..end.min(start + room_size)).collect();
            self.tally.rooms.push(Room { name: format!("presence{}", self.tally.rooms.len()), online });
        }
        self.tally.wrong += users as usize;
        self.tally.right_since = None;
        let every = (users as usize / SAMPLED).max(1);
        let start = Instant::now();
        let due = |now: Duration| match over.is_zero() {
            true => users as usize,
            false => (now.div_duration_f64(over) * f64::from(users)).ceil().min(f64::from(users)) as usize,
        };
        let wait = if over.is_zero() { Duration::from_millis(100) } else { Duration::from_millis(1) };
        let mut moved = (self.tally.joined, start);
        while self.tally.joined < end as usize {
            let here = (first as usize + due(start.elapsed())).min(self.tally.joined + CONNECTING);
            while self.clients.len() < here {
                let nth = self.clients.len() - first as usize;
                let sampled = nth < FIRST_SAMPLED || nth.is_multiple_of(every);
                self.connect(first_room + nth / room_size as usize, sampled)?;
            }
            self.pump(wait)?;
            if moved.0 != self.tally.joined {
                moved = (self.tally.joined, Instant::now());
            } else if moved.1.elapsed() > PATIENCE {
                return Err(format!("nobody was let in for {PATIENCE:?}").into());
            }
        }
        Ok(self.tally.last_joined - start)
    }

    fn connect(&mut self, room: usize, sampled: bool) -> Result<(), Failure> {
        let user = self.clients.len();
        let target = format!("/ws/{}?user={USER}{user}", self.tally.rooms[room].name);
        let socket = self.door.connect(user, &target, "")?;
        let seat = Seat {
            room,
            sampled,
            joined: false,
            leaving: false,
            view: View::Nothing,
            right: false,
            counts: 0,
        };
        self.clients.push(Client { socket: Some(socket), seat });
        Ok(())
    }

    /// All but so many, spread over all who are here, say goodbye at once. How long it takes to say it.
    pub fn leave(&mut self, stay: u32) -> Result<Duration, Failure> {
        let all = self.clients.len();
        let stays = |user: usize| (user + 1) * stay as usize / all > user * stay as usize / all;
        for room in &mut self.tally.rooms {
            room.online.retain(|user| stays(*user as usize));
        }
        let start = Instant::now();
        for (_, client) in self.clients.iter_mut().enumerate().filter(|(user, _)| !stays(*user)) {
            client.seat.leaving = true;
            if let Some(socket) = &mut client.socket {
                socket.write(frames::CLOSE, &1000_u16.to_be_bytes());
                socket.flush()?;
            }
        }
        let took = start.elapsed();
        let Tally { rooms, max, wrong, right_since, .. } = &mut self.tally;
        (*wrong, *right_since) = (0, None);
        let every = (stay as usize / SAMPLED).max(1);
        let stayers = self.clients.iter_mut().filter(|client| !client.seat.leaving);
        for (nth, Client { seat, .. }) in stayers.enumerate() {
            seat.sampled |= nth.is_multiple_of(every);
            seat.right = seat.view.is_right(&rooms[seat.room].online, *max);
            *wrong += usize::from(!seat.right);
        }
        Ok(took)
    }

    /// Awaits that every view is right: when the last one became so.
    pub fn right(&mut self) -> Result<Instant, Failure> {
        let patience = Instant::now() + PATIENCE;
        loop {
            if let Some(since) = self.tally.right_since {
                return Ok(since);
            }
            if Instant::now() > patience {
                return Err(format!("after {PATIENCE:?} {}", self.wrong()).into());
            }
            self.pump(Duration::from_millis(100))?;
        }
    }

    /// Who came last, when it was in.
    pub fn last_joined(&self) -> Instant {
        self.tally.last_joined
    }

    /// All that came so far.
    pub fn traffic(&self) -> Traffic {
        self.tally.traffic
    }

    /// The most counts that one client was told so far.
    pub fn most_counts(&self) -> u64 {
        self.clients.iter().map(|client| client.seat.counts).max().unwrap_or(0)
    }

    /// How many clients have all their frames read as JSON, and how many frames that were so far.
    pub fn sampled(&self) -> (usize, u64) {
        (self.clients.iter().filter(|client| client.seat.sampled).count(), self.tally.sampled)
    }

    /// Takes what comes within this time; every view must be right all the while.
    pub fn linger(&mut self, time: Duration) -> Result<(), Failure> {
        let since = self.tally.right_since;
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.pump(left)?;
        }
        if since.is_none() || self.tally.right_since != since {
            return Err(format!("every view was right, and then not: {}", self.wrong()).into());
        }
        Ok(())
    }

    fn wrong(&self) -> String {
        let wrong = self.clients.iter().enumerate();
        let wrong = wrong.filter(|(_, client)| !client.seat.right && !client.seat.leaving);
        let mut text = format!("{} views are wrong", self.tally.wrong);
        for (user, Client { seat, .. }) in wrong.take(3) {
            let (seen, online) = (seat.view.summary(), self.tally.rooms[seat.room].online.len());
            text.push_str(&format!("; {USER}{user} has {seen} where {online} are online"));
        }
        text
    }

    /// Takes what has come, waiting for it as long as told.
    pub fn pump(&mut self, wait: Duration) -> Result<(), Failure> {
        if Instant::now() > self.deadline {
            return Err("it took too long as a whole".into());
        }
        let (clients, tally) = (&mut self.clients, &mut self.tally);
        self.door.turn(Some(wait), |user, ready| {
            let Client { socket: place, seat } = &mut clients[user];
            let Some(socket) = place else { return Ok(()) };
            let alive = ready.serve(socket, |opcode, payload| tally.frame(seat, opcode, payload));
            if let Some(error) = tally.error.take() {
                return Err(format!("{USER}{user}: {error}").into());
            }
            match alive {
                Ok(true) => {}
                Ok(false) | Err(_) if seat.leaving => *place = None,
                Ok(false) => return Err(format!("{USER}{user}: the server ended its connection").into()),
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }
}

impl Tally {
    fn frame(&mut self, seat: &mut Seat, opcode: u8, payload: &[u8]) {
        match opcode {
            opcode::TEXT if view::is_presence(payload) => {
                if let Err(wrong) = self.presence(seat, payload) {
                    let shown = String::from_utf8_lossy(&payload[..payload.len().min(200)]);
                    self.error = Some(format!("{wrong}, by {shown}"));
                }
            }
            opcode::TEXT if payload.starts_with(br#"{"type":"error""#) => {
                self.error = Some(format!("an error: {}", String::from_utf8_lossy(payload)));
            }
            opcode::TEXT if !seat.joined && frames::after(payload, br#""event":"joined""#).is_some() => {
                seat.joined = true;
                self.joined += 1;
                self.last_joined = Instant::now();
            }
            opcode::PING => self.traffic.pings += 1,
            opcode::CLOSE if !seat.leaving => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                self.error = Some(format!("the server closed its connection with {code}"));
            }
            _ => {}
        }
    }

    fn presence(&mut self, seat: &mut Seat, payload: &[u8]) -> Result<(), String> {
        let told = view::read(payload).ok_or("a frame of another shape")?;
        if seat.sampled {
            let strictly = view::read_strictly(payload, &self.rooms[seat.room].name)?;
            if strictly != told {
                return Err(format!("JSON says {strictly:?}, its shape {told:?}"));
            }
            self.sampled += 1;
        }
        self.traffic.bytes += frames::length(payload.len()) as u64;
        match told {
            Told::State(_) => self.traffic.states += 1,
            Told::Join(_) | Told::Update(_) | Told::Leave(_) => self.traffic.steps += 1,
            Told::Count(_) => {
                self.traffic.counts += 1;
                seat.counts += 1;
            }
        }
        if !seat.joined {
            return Err("presence came before joined".to_owned());
        }
        seat.view.take(told)?;
        if seat.leaving {
            return Ok(());
        }
        let right = seat.view.is_right(&self.rooms[seat.room].online, self.max);
        match (std::mem::replace(&mut seat.right, right), right) {
            (true, false) => {
                self.wrong += 1;
                self.right_since = None;
            }
            (false, true) => {
                self.wrong -= 1;
                if self.wrong == 0 {
                    self.right_since = Some(Instant::now());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally {
            rooms: vec![Room { name: "r".into(), online: vec![0, 1] }],
            max: 2,
            joined: 0,
            last_joined: Instant::now(),
            wrong: 2,
            right_since: None,
            traffic: Traffic::default(),
            sampled: 0,
            error: None,
        }
    }

    fn seat() -> Seat {
        let view = View::Nothing;
        Seat { room: 0, sampled: true, joined: false, leaving: false, view, right: false, counts: 0 }
    }

    fn text(tally: &mut Tally, seat: &mut Seat, kind: &str, data: &str) {
        let frame = format!(r#"{{"type":"{kind}","room":"r","data":{data}}}"#);
        tally.frame(seat, opcode::TEXT, frame.as_bytes());
    }

    const STATE: &str =
        r#"{"event":"state","online":[{"user":"u0","meta":{},"sessions":1,"since":1711000000.123}]}"#;
    const JOIN: &str = r#"{"event":"join","user":"u1","meta":{}}"#;
    const LEAVE: &str = r#"{"event":"leave","user":"u1","meta":{}}"#;

    #[test]
    fn all_views_are_right_when_the_last_one_is() {
        let (mut tally, mut one, mut other) = (tally(), seat(), seat());
        for seat in [&mut one, &mut other] {
            assert!(tally.right_since.is_none());
            text(&mut tally, seat, "system", r#"{"event":"joined","seq":0}"#);
            text(&mut tally, seat, "presence", STATE);
            text(&mut tally, seat, "presence", JOIN);
        }
        assert!(tally.right_since.is_some());
        let Traffic { states, steps, counts, bytes, .. } = tally.traffic;
        assert_eq!((states, steps, counts, tally.sampled, tally.joined), (2, 2, 0, 4, 2));
        let frame = |data: &str| (2 + r#"{"type":"presence","room":"r","data":}"#.len() + data.len()) as u64;
        assert_eq!(bytes, 2 * (frame(STATE) + 2 + frame(JOIN)), "a state is longer than 125 bytes");
        text(&mut tally, &mut one, "presence", LEAVE);
        assert!((tally.wrong, tally.right_since) == (1, None));
        assert_eq!(tally.error, None);
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let (mut tally, mut seat) = (tally(), seat());
        text(&mut tally, &mut seat, "presence", STATE);
        assert!(tally.error.take().is_some_and(|error| error.contains("before joined")));
        text(&mut tally, &mut seat, "system", r#"{"event":"joined","seq":0}"#);
        text(&mut tally, &mut seat, "presence", STATE);
        assert_eq!(tally.error, None);
        text(&mut tally, &mut seat, "presence", LEAVE);
        assert!(tally.error.take().is_some_and(|error| error.contains("is not there")));
        text(&mut tally, &mut seat, "presence", r#"{"event":"join","user":"u1"}"#);
        assert!(tally.error.take().is_some_and(|error| error.contains("meta")));
        tally.frame(&mut seat, opcode::CLOSE, &4002u16.to_be_bytes());
        assert!(tally.error.take().is_some_and(|error| error.contains("4002")));
    }
}
