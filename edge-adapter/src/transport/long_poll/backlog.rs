//! What a polled session has been told and its client has not shown to have. Pure: bytes of envelopes go in, answers come out.
use crate::wire::cursor::Cursor;
use crate::wire::event::{Code, Position};
use crate::wire::poll_cursor::PollCursor;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the first answer waits for what joining shows, once all rooms are joined.
pub const SHOWING: Duration = Duration::from_millis(500);

/// Why a core lets nobody in.
const REFUSALS: [Code; 2] = [Code::Unauthenticated, Code::PermissionDenied];

/// What waits for the client of one session.
#[derive(Debug)]
pub struct Backlog {
    rooms: Arc<[Arc<str>]>,
    refused: Option<Code>,
    /// The client is told who it is; one that comes back knows.
    shows_welcome: bool,
    user: String,
    /// The beginning of a line.
    partial: BytesMut,
    entries: VecDeque<Entry>,
    /// How many bytes the entries have.
    bytes: usize,
    /// How many there were before these.
    given: u64,
    /// Where the client is, with what it has shown to have.
    positions: BTreeMap<Arc<str>, Position>,
    joining: Joining,
}

/// One envelope.
#[derive(Debug)]
struct Entry {
    text: Bytes,
    moves: Option<Move>,
}

/// Where in which room a client is that has an envelope.
type Move = (Arc<str>, Position);

/// How far the session is with getting into its rooms.
#[derive(Debug)]
struct Joining {
    /// Rooms whose join is not answered, or answered and not shown in full.
    rooms: HashMap<Arc<str>, Entrance>,
    /// Since when all are answered.
    joined_at: Option<Instant>,
}

/// What a room has shown since its join.
#[derive(Debug, Default)]
struct Entrance {
    joined: bool,
    /// How much of the replay is to come.
    replay: u64,
    presence: bool,
}

/// What is looked at of an envelope.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    room: Option<&'a str>,
    seq: Option<u64>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What is looked at of the `data` of those that the server says by itself.
#[derive(Deserialize)]
struct Told {
    event: Option<String>,
    user: Option<String>,
    epoch: Option<String>,
    seq: Option<u64>,
    replayed: Option<u64>,
    code: Option<String>,
}

impl Backlog {
    /// For a session that is about to join these rooms.
    pub fn new(rooms: Arc<[Arc<str>]>, shows_welcome: bool) -> Backlog {
        let joining = rooms.iter().map(|room| (room.clone(), Entrance::default())).collect();
        Backlog {
            rooms,
            refused: None,
            shows_welcome,
            user: String::new(),
            partial: BytesMut::new(),
            entries: VecDeque::new(),
            bytes: 0,
            given: 0,
            positions: BTreeMap::new(),
            joining: Joining { rooms: joining, joined_at: None },
        }
    }

    /// How much waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Why the core does not let the session in, if it does not.
    pub fn refused(&self) -> Option<Code> {
        self.refused
    }

    /// Whether all rooms are joined and have shown what joining shows, or had their time.
    pub fn is_shown(&self) -> bool {
        let late = self.joining.joined_at.is_some_and(|at| at.elapsed() >= SHOWING);
        let shown = |room: &Entrance| room.joined && (late || room.presence && room.replay == 0);
        self.joining.rooms.values().all(shown)
    }

    /// When the rooms have had their time to show what joining shows; none while a join is not answered.
    pub fn shown_by(&self) -> Option<Instant> {
        self.joining.joined_at.map(|at| at + SHOWING)
    }

    /// Forgets what the client has shown to have. False if these are not its messages.
    pub fn trim(&mut self, given: u64) -> bool {
        let count = given.checked_sub(self.given).filter(|count| *count <= self.entries.len() as u64);
        let Some(count) = count else { return false };
        for entry in self.entries.drain(..count as usize) {
            self.bytes -= entry.text.len();
            self.positions.extend(entry.moves);
        }
        self.given = given;
        true
    }

    /// Takes in what has come: envelopes, one a line, the last perhaps not whole.
    pub fn push(&mut self, bytes: BytesMut) {
        self.partial.unsplit(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let mut line = self.partial.split_to(end + 1);
            line.truncate(end);
            self.push_line(&line);
        }
    }

    fn push_line(&mut self, text: &[u8]) {
        // It was written here; what could not be read would be passed on as it is.
        let line = serde_json::from_slice::<Line<'_>>(text).ok();
        let moves = line.as_ref().and_then(|line| self.note(line));
        if !self.shows_welcome && line.is_some_and(|line| line.is_welcome()) {
            return;
        }
        self.bytes += text.len();
        // A copy, since a slice would hold on to all that came with it.
        self.entries.push_back(Entry { text: Bytes::copy_from_slice(text), moves });
    }

    /// Where an envelope moves the client to, and what it says of the session.
    fn note(&mut self, line: &Line<'_>) -> Option<Move> {
        let told = || serde_json::from_str::<Told>(line.data.get()).ok();
        let told = matches!(line.kind, "system" | "error").then(told).flatten();
        let room = line.room.and_then(|room| self.rooms.iter().find(|known| ***known == *room)).cloned();
        let Some(room) = room else {
            match told {
                Some(Told { user: Some(user), .. }) => self.user = user,
                Some(Told { code: Some(code), .. }) if line.id.is_none() && line.room.is_none() => {
                    self.refused = REFUSALS.into_iter().find(|refusal| refusal.name() == code);
                }
                _ => {}
            }
            return None;
        };
        if let Some(seq) = line.seq {
            let epoch = self.epoch(&room)?;
            self.joining.replayed(&room);
            return Some((room, Position { epoch, seq }));
        }
        match (line.kind, told) {
            (
                "system",
                Some(Told { event: Some(event), epoch: Some(epoch), seq: Some(seq), replayed, .. }),
            ) if event == "joined" => {
                let replayed = replayed.unwrap_or(0);
                self.joining.joined(&room, replayed);
                // The replay that follows moves it on.
                Some((room, Position { epoch: epoch.into(), seq: seq.saturating_sub(replayed) }))
            }
            ("error", Some(_)) => {
                self.joining.failed(&room);
                None
            }
            ("presence", _) => {
                self.joining.shown(&room);
                None
            }
            _ => None,
        }
    }

    /// The epoch of what comes for a room now.
    fn epoch(&self, room: &str) -> Option<Arc<str>> {
        let mut moves = self.entries.iter().rev().filter_map(|entry| entry.moves.as_ref());
        let last = moves.find(|(name, _)| **name == *room).map(|(_, position)| position);
        last.or_else(|| self.positions.get(room)).map(|position| position.epoch.clone())
    }

    /// The first `limit` envelopes, and the cursor of a client that has them.
    pub fn answer(&self, session: &str, limit: usize) -> Vec<u8> {
        let count = limit.min(self.entries.len());
        let mut positions = self.positions.clone();
        let mut body = Vec::new();
        for entry in self.entries.iter().take(count) {
            if let Some((room, position)) = &entry.moves {
                positions.insert(room.clone(), position.clone());
            }
            if !body.is_empty() {
                body.push(b',');
            }
            body.extend_from_slice(&entry.text);
        }
        let rooms = Cursor::encode(positions.iter().map(|(room, position)| (&**room, position)));
        let cursor = PollCursor::encode(session, &self.user, self.given + count as u64, &rooms);
        [br#"{"cursor":""#, cursor.as_bytes(), br#"","messages":["#, &body, b"]}"].concat()
    }
}

impl Line<'_> {
    fn is_welcome(&self) -> bool {
        let data = self.data.get();
        self.room.is_none() && self.kind == "system" && data.starts_with(r#"{"event":"welcome""#)
    }
}

impl Joining {
    fn joined(&mut self, room: &str, replayed: u64) {
        let Some(entrance) = self.rooms.get_mut(room) else { return };
        (entrance.joined, entrance.replay) = (true, replayed);
        if self.rooms.values().all(|entrance| entrance.joined) {
            self.joined_at.get_or_insert_with(Instant::now);
        }
    }

    fn replayed(&mut self, room: &str) {
        if let Some(entrance) = self.rooms.get_mut(room) {
            entrance.replay = entrance.replay.saturating_sub(1);
        }
    }

    fn shown(&mut self, room: &str) {
        if let Some(entrance) = self.rooms.get_mut(room) {
            entrance.presence = true;
        }
    }

    fn failed(&mut self, room: &str) {
        self.rooms.remove(room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const WELCOME: &str = r#"{"type":"system","data":{"event":"welcome","session":"s","user":"ann"}}"#;
    const JOINED: &str =
        r#"{"type":"system","room":"a","data":{"event":"joined","epoch":"e","seq":7,"replayed":1}}"#;
    const STATE: &str = r#"{"type":"presence","room":"a","data":{"event":"state","online":[]}}"#;

    fn backlog(shows_welcome: bool) -> Backlog {
        Backlog::new(["a".into()].into(), shows_welcome)
    }

    fn tell(backlog: &mut Backlog, lines: &[&str]) {
        lines.iter().for_each(|line| backlog.push(BytesMut::from(&*format!("{line}\n"))));
    }

    fn answer(backlog: &Backlog, limit: usize) -> (PollCursor, usize) {
        let answer: Value = serde_json::from_slice(&backlog.answer("s", limit)).unwrap();
        let cursor = PollCursor::decode(answer["cursor"].as_str().unwrap()).unwrap();
        (cursor, answer["messages"].as_array().unwrap().len())
    }

    /// The cursor of an answer is where its client is: at first before the replay, then where its last message stands.
    #[test]
    fn an_answer_moves_its_client_as_far_as_it_goes() {
        let mut backlog = backlog(true);
        tell(&mut backlog, &[WELCOME, JOINED]);
        assert!(!backlog.is_shown());
        let text = |seq| format!(r#"{{"type":"text","room":"a","seq":{seq},"data":{{}}}}"#);
        tell(&mut backlog, &[&text(7), STATE]);
        assert!(backlog.is_shown());
        tell(&mut backlog, &[&text(8)]);
        let seen = |limit| {
            let (cursor, count) = answer(&backlog, limit);
            (count, cursor.given, cursor.rooms.position_for("a").map(|position| position.seq))
        };
        assert_eq!([seen(1), seen(2)], [(1, 1, None), (2, 2, Some(6))]);
        assert_eq!([seen(3), seen(4), seen(9)], [(3, 3, Some(7)), (4, 4, Some(7)), (5, 5, Some(8))]);
        assert_eq!(answer(&backlog, 9).0.user, "ann");
    }

    #[test]
    fn what_a_client_has_shown_to_have_is_forgotten_and_no_more() {
        let mut backlog = backlog(true);
        tell(&mut backlog, &[WELCOME, JOINED, STATE]);
        assert!(!backlog.trim(4), "there were not so many");
        assert!(backlog.trim(2) && backlog.trim(2));
        assert!(!backlog.trim(1), "it has shown more");
        let (cursor, count) = answer(&backlog, 9);
        assert_eq!((count, cursor.given, backlog.bytes()), (1, 3, STATE.len()));
        assert_eq!(cursor.rooms.position_for("a").map(|position| position.seq), Some(6));
        assert!(backlog.trim(3) && backlog.is_empty());
    }

    #[test]
    fn who_comes_back_knows_who_it_is_and_lines_may_come_in_pieces() {
        let mut backlog = backlog(false);
        for byte in format!("{WELCOME}\n{JOINED}\n").bytes() {
            backlog.push(BytesMut::from(&[byte][..]));
        }
        let (cursor, count) = answer(&backlog, 9);
        assert_eq!((count, &*cursor.user), (1, "ann"));
    }

    /// A refused room says so and is passed on; that the whole session is refused is not for its client to read as a message.
    #[test]
    fn a_refusal_of_all_names_no_room() {
        let mut backlog = Backlog::new(["a".into(), "b".into()].into(), true);
        let error = |room: &str, code| {
            format!(r#"{{"type":"error"{room},"data":{{"code":"{code}","message":"no"}}}}"#)
        };
        tell(&mut backlog, &[&error(r#","room":"a""#, "permission_denied")]);
        tell(&mut backlog, &[&error("", "resource_exhausted")]);
        assert_eq!(backlog.refused(), None);
        tell(&mut backlog, &[&error("", "unauthenticated")]);
        assert_eq!(backlog.refused(), Some(Code::Unauthenticated));
    }
}
