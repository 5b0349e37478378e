//! A client of whatever transport: asks and is answered, reads what comes, goes and comes back.
use super::{
    Doors, Transport,
    command::{Command, Data, Join, Range},
    envelope::{Ack, Envelope, Inbox, Incoming, Joined, Page, Place, Refusal},
    wire::Wire,
};
use crate::PATIENCE;
use std::collections::HashMap;
use tokio::time::timeout;

/// How many envelopes that went by are shown when a test fails.
const SHOWN: usize = 12;

/// A client of some transport.
pub struct Session {
    /// What carries it.
    pub transport: Transport,
    /// Its user.
    pub user: String,
    /// Whether presence is heard. Stories about other things are told without it.
    pub presence: bool,
    wire: Wire,
    inbox: Inbox,
    /// By room: the epoch and the last seq that came.
    positions: HashMap<String, (String, u64)>,
    /// The cursor of the last `joined`, and whether nothing has come since.
    cursor: Option<String>,
    /// `welcome` has come.
    welcomed: bool,
    /// It goes on where another connection left off, perhaps in the same session: then nothing says that the room is joined.
    resumed: bool,
    shown: Vec<String>,
}

impl Session {
    /// Connects, and is in no room.
    pub async fn connect(doors: Doors, transport: Transport, user: &str) -> Session {
        Self::connect_with(doors, transport, user, None).await
    }

    async fn connect_with(doors: Doors, transport: Transport, user: &str, cursor: Option<&str>) -> Session {
        Session {
            transport,
            user: user.to_owned(),
            presence: false,
            wire: Wire::open(doors, transport, user, cursor).await,
            inbox: Inbox::new(),
            positions: HashMap::new(),
            cursor: None,
            // The stream was not open before.
            welcomed: transport == Transport::Connect,
            resumed: false,
            shown: Vec::new(),
        }
    }

    /// Connects and is in a room; presence is not heard.
    pub async fn enter(doors: Doors, transport: Transport, user: &str, room: &str) -> Session {
        let mut session = Self::connect(doors, transport, user).await;
        session.must_join(room, &Join::default()).await;
        session
    }

    /// Connects, is in a room, and hears presence.
    pub async fn attend(doors: Doors, transport: Transport, user: &str, room: &str) -> Session {
        let mut session = Self::connect(doors, transport, user).await;
        session.presence = true;
        session.must_join(room, &Join::default()).await;
        session
    }

    /// Connects and goes on in a room from where a client left off.
    pub async fn come_back(
        doors: Doors,
        transport: Transport,
        user: &str,
        room: &str,
        place: &Place,
    ) -> (Session, Joined) {
        let (cursor, join) = match place {
            Place::Cursor(cursor) if !transport.speaks_by_request() => {
                (Some(cursor.as_str()), Join::default())
            }
            place => (None, Join::since(place)),
        };
        let mut session = Self::connect_with(doors, transport, user, cursor).await;
        let joined = session.must_join(room, &join).await;
        (session, joined)
    }

    /// Goes on in a room where a connection broke, without awaiting what a stream says of it.
    pub async fn resume(
        doors: Doors,
        transport: Transport,
        user: &str,
        room: &str,
        place: &Place,
    ) -> Session {
        let mut session = Self::connect(doors, transport, user).await;
        session.resumed = true;
        session.begin(&[room], &Join::since(place)).await;
        session
    }

    /// Joins a room, which must go well.
    pub async fn must_join(&mut self, room: &str, join: &Join) -> Joined {
        self.join(room, join).await.unwrap_or_else(|refusal| panic!("{room}: {refusal:?}"))
    }

    /// Joins a room.
    pub async fn join(&mut self, room: &str, join: &Join) -> Result<Joined, Refusal> {
        self.join_all(&[room], join).await.pop().expect("a room, an answer")
    }

    /// Joins rooms: a stream's all at once, a socket's one after the other.
    pub async fn join_all(&mut self, rooms: &[&str], join: &Join) -> Vec<Result<Joined, Refusal>> {
        let options = join.history > 0 || join.echo.is_some() || join.presence.is_some();
        assert!(!options || !self.transport.speaks_by_request(), "a stream's rooms have no options");
        self.begin(rooms, join).await;
        let mut answers = Vec::new();
        for (n, room) in rooms.iter().enumerate() {
            let id = format!("join {n}");
            let answers_it = |envelope: &Envelope| {
                let about = envelope.room.as_deref() == Some(room);
                about && envelope.tells("joined")
                    || envelope.kind == "error" && (about || envelope.id.as_deref() == Some(&id))
            };
            answers.push(match self.first(answers_it).await {
                Ok(joined) if joined.kind == "system" => Ok(Joined::read(&joined)),
                Ok(error) => Err(Refusal::read(&error)),
                Err(end) => Err(end),
            });
        }
        answers
    }

    async fn begin(&mut self, rooms: &[&str], join: &Join) {
        // Whose poll brings a cursor goes on, and is welcome already.
        self.welcomed |= self.transport == Transport::LongPoll && join.since.is_some();
        self.wire.join(rooms, join).await;
    }

    /// Leaves a room.
    pub async fn leave(&mut self, room: &str) -> Result<(), Refusal> {
        self.ask("leave", &Command::Leave(room)).await.map(|_| ())
    }

    /// Publishes JSON of a kind. Without an id a socket has no answer but to what is wrong: a ping shows that there is none.
    pub async fn publish(
        &mut self,
        room: &str,
        kind: &str,
        id: Option<&str>,
        data: &str,
    ) -> Result<Ack, Refusal> {
        self.publish_data(room, kind, id, Data::Json(data)).await
    }

    /// The same with whatever data.
    pub async fn publish_data(
        &mut self,
        room: &str,
        kind: &str,
        id: Option<&str>,
        data: Data<'_>,
    ) -> Result<Ack, Refusal> {
        let command = Command::Publish(room, kind, data);
        let answer = match id {
            Some(id) => self.ask(id, &command).await?,
            None => {
                self.wire.send(None, &command).await;
                if !self.transport.speaks_by_request() {
                    return self
                        .ask("behind", &Command::Ping)
                        .await
                        .map(|_| Ack { seq: None, duplicate: false });
                }
                self.answer(|envelope| envelope.id.is_none()).await?
            }
        };
        assert_eq!(answer.kind, "ack", "{answer:?}");
        let data = answer.value();
        Ok(Ack { seq: data["seq"].as_u64(), duplicate: data["duplicate"] == true })
    }

    /// Publishes a text `{"n": id}`, which must go well, and gives its seq.
    pub async fn text(&mut self, room: &str, id: &str) -> u64 {
        let ack = self.publish(room, "text", Some(id), &format!(r#"{{"n":"{id}"}}"#)).await;
        match ack {
            Ok(Ack { seq: Some(seq), duplicate: false }) => seq,
            other => panic!("{id} in {room}: {other:?}"),
        }
    }

    /// Sends a signal `{"mark": text}`, which must go well: the others hear it behind all that was before it.
    pub async fn mark(&mut self, room: &str, text: &str) {
        let data = format!(r#"{{"mark":"{text}"}}"#);
        self.publish(room, "signal", Some(text), &data).await.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    }

    /// Shows something of oneself in a room.
    pub async fn set_meta(&mut self, room: &str, meta: &str) -> Result<(), Refusal> {
        self.ask("meta", &Command::Presence(room, meta)).await.map(|_| ())
    }

    /// Reads history.
    pub async fn history(&mut self, room: &str, range: Range) -> Result<Page, Refusal> {
        let answer = self.ask("history", &Command::History(room, range)).await?;
        assert_eq!((answer.kind.as_str(), answer.room.as_deref()), ("history", Some(room)), "{answer:?}");
        Ok(Page::read(&answer.data))
    }

    /// Says what the methods above do not, and gives the answer.
    pub async fn ask(&mut self, id: &str, command: &Command<'_>) -> Result<Envelope, Refusal> {
        self.wire.send(Some(id), command).await;
        // What has no id that can be named is refused without one.
        self.answer(|envelope| {
            envelope.id.as_deref() == Some(id) || envelope.kind == "error" && envelope.id.is_none()
        })
        .await
    }

    async fn answer(&mut self, is_mine: impl Fn(&Envelope) -> bool) -> Result<Envelope, Refusal> {
        let answer = self.first(|envelope| envelope.is_answer() && is_mine(envelope)).await?;
        if answer.kind == "error" { Err(Refusal::read(&answer)) } else { Ok(answer) }
    }

    /// The first that is wanted; what comes before it stays to be read. The end instead is what one was refused with.
    async fn first(&mut self, wanted: impl Fn(&Envelope) -> bool) -> Result<Envelope, Refusal> {
        let found =
            |incoming: &Incoming| matches!(incoming, Incoming::Envelope(envelope) if wanted(envelope));
        if let Some(at) = self.inbox.iter().position(found)
            && let Some(Incoming::Envelope(envelope)) = self.inbox.remove(at)
        {
            return Ok(envelope);
        }
        loop {
            match self.read().await {
                Incoming::Envelope(envelope) if wanted(&envelope) => return Ok(envelope),
                Incoming::End(code) => {
                    self.inbox.push_back(Incoming::End(code.clone()));
                    return Err(Refusal { code, room: None, retry_after_ms: None });
                }
                other => self.inbox.push_back(other),
            }
        }
    }

    /// Whether it has come while an answer was looked for, and was not looked at.
    pub fn has_come(&self, wanted: impl Fn(&Envelope) -> bool) -> bool {
        self.inbox.iter().any(|incoming| matches!(incoming, Incoming::Envelope(envelope) if wanted(envelope)))
    }

    /// What comes next, whatever it is.
    pub async fn incoming(&mut self) -> Incoming {
        match self.inbox.pop_front() {
            Some(incoming) => incoming,
            None => self.read().await,
        }
    }

    /// The next envelope.
    pub async fn next(&mut self) -> Envelope {
        match self.incoming().await {
            Incoming::Envelope(envelope) => envelope,
            Incoming::End(how) => panic!("{how} instead of an envelope\n{}", self.went_by()),
        }
    }

    /// All envelopes up to and with the first that is wanted.
    pub async fn until(&mut self, wanted: impl Fn(&Envelope) -> bool) -> Vec<Envelope> {
        let mut envelopes = Vec::new();
        loop {
            let envelope = self.next().await;
            let found = wanted(&envelope);
            envelopes.push(envelope);
            if found {
                return envelopes;
            }
        }
    }

    /// The first envelope that is wanted; what comes before it is dropped.
    pub async fn find(&mut self, wanted: impl Fn(&Envelope) -> bool) -> Envelope {
        self.until(wanted).await.pop().expect("the envelope that was found")
    }

    /// All up to and with that mark.
    pub async fn until_mark(&mut self, text: &str) -> Vec<Envelope> {
        self.until(|envelope| envelope.kind == "signal" && envelope.field("mark") == text).await
    }

    async fn read(&mut self) -> Incoming {
        loop {
            let Ok(incoming) = timeout(PATIENCE, self.wire.receive()).await else {
                panic!("{}: nothing came within {PATIENCE:?}\n{}", self.user, self.went_by());
            };
            if let Incoming::Envelope(envelope) = &incoming {
                if envelope.tells("welcome") {
                    assert!(!self.welcomed, "it comes once: {envelope:?}");
                    assert_eq!(envelope.field("user"), self.user, "{envelope:?}");
                    self.welcomed = true;
                    continue;
                }
                if envelope.kind == "presence" && !self.presence {
                    continue;
                }
                self.note(envelope);
            }
            self.shown.push(format!("{incoming:?}").chars().take(300).collect());
            return incoming;
        }
    }

    /// Keeps where the client is.
    fn note(&mut self, envelope: &Envelope) {
        let Some(room) = envelope.room.clone() else { return };
        if envelope.tells("joined") {
            assert!(self.welcomed, "welcome comes first: {envelope:?}");
            let joined = Joined::read(envelope);
            self.positions.insert(room, (joined.epoch, joined.seq - joined.replayed));
            self.cursor = Some(envelope.field("cursor")).filter(|cursor| !cursor.is_empty());
            return;
        }
        let Some((_, last)) = self.positions.get_mut(&room) else {
            assert!(self.resumed || envelope.is_answer(), "it comes before joined: {envelope:?}");
            return;
        };
        if let Some(seq) = envelope.seq {
            *last = seq;
            self.cursor = None;
        }
    }

    /// Where it is in a room with all that has come: in every way that its transport can say it now.
    pub fn places(&self, room: &str) -> Vec<Place> {
        let cursor = self.wire.cursor().or(self.cursor.as_ref()).cloned().map(Place::Cursor);
        let (epoch, seq) = self.positions.get(room).cloned().unwrap_or_default();
        let position = (!self.transport.speaks_by_request()).then_some(Place::Position { epoch, seq });
        position.into_iter().chain(cursor).collect()
    }

    /// Goes as one that has done, as far as its transport can say so.
    pub async fn close(self) {
        self.wire.close().await;
    }

    /// Breaks without a word: what had come and not been looked at, and where it is in a room with that.
    pub async fn cut(mut self, room: &str) -> (Vec<Envelope>, Place) {
        let more = self.wire.stop().await;
        self.inbox.extend(more);
        let place = self.places(room).swap_remove(0);
        self.wire.cut().await;
        let rest = self.inbox.into_iter().filter_map(|incoming| match incoming {
            Incoming::Envelope(envelope) if envelope.kind != "presence" || self.presence => Some(envelope),
            _ => None,
        });
        (rest.collect(), place)
    }

    fn went_by(&self) -> String {
        let from = self.shown.len().saturating_sub(SHOWN);
        format!("what {} saw last:\n  {}", self.user, self.shown[from..].join("\n  "))
    }
}
