//! Server-sent events, and requests for what its user says.
use super::{
    Doors,
    command::{Command, Join},
    envelope::{Envelope, Inbox, Incoming, Place},
    requests,
};
use crate::sse;

/// A stream, which is none before it is told its rooms.
pub struct EventStream {
    doors: Doors,
    user: String,
    stream: Option<sse::Stream>,
    answers: Inbox,
    /// What the last event that had an `id` left behind.
    pub cursor: Option<String>,
}

impl EventStream {
    /// Nothing is asked for yet.
    pub fn new(doors: Doors, user: &str) -> EventStream {
        EventStream { doors, user: user.to_owned(), stream: None, answers: Inbox::new(), cursor: None }
    }

    /// Begins the stream of these rooms. A refusal is all of theirs.
    pub async fn join(&mut self, rooms: &[&str], join: &Join) {
        assert!(self.stream.is_none(), "a stream's rooms are named when it begins");
        let target = format!("/events?{}", requests::query(rooms, &self.user));
        let stream = match &join.since {
            Some(Place::Cursor(cursor)) => sse::Stream::resume(self.doors.http, &target, cursor).await,
            Some(Place::Position { .. }) => panic!("a stream brings a cursor"),
            None => sse::Stream::open(self.doors.http, &target).await,
        };
        if stream.status == 200 {
            self.stream = Some(stream);
            return;
        }
        let retry_after = stream.header("retry-after").map(str::to_owned);
        let problem = stream.problem().await;
        for room in rooms {
            let error = requests::error(&problem, retry_after.as_deref(), None, Some(room));
            self.answers.push_back(Incoming::Envelope(error));
        }
    }

    /// Does what a command says.
    pub async fn send(&mut self, id: Option<&str>, command: &Command<'_>) {
        let answer = requests::perform(self.doors, &self.user, id, command).await;
        self.answers.push_back(Incoming::Envelope(answer));
    }

    /// What comes next: an answer to a request that has been made, or an event.
    pub async fn receive(&mut self) -> Incoming {
        if let Some(answer) = self.answers.pop_front() {
            return answer;
        }
        let stream = self.stream.as_mut().expect("a stream that has begun");
        let Some(event) = stream.next().await else { return Incoming::End("the end".to_owned()) };
        let envelope = Envelope::read(&event.text);
        let name = if envelope.kind == "text" { "message" } else { envelope.kind.as_str() };
        assert_eq!(event.name, name, "{envelope:?}");
        self.cursor = event.id.or(self.cursor.take());
        Incoming::Envelope(envelope)
    }

    /// Ends the stream.
    pub fn cut(self) {
        if let Some(stream) = self.stream {
            stream.cut();
        }
    }
}
