//! Long-poll, and requests for what its user says. A client polls on by itself, whatever else it does: who stops polling is gone.
use super::{
    Doors,
    command::{Command, Join},
    envelope::{Envelope, Inbox, Incoming, Place},
    requests,
};
use crate::http;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tokio::{sync::mpsc, task::JoinHandle};

/// How many answers wait to be looked at: more than any test is given.
const ANSWERS: usize = 10_000;

/// How long a poll waits, in seconds: less than a test does.
const TIMEOUT: u32 = 10;

/// The answer to a poll.
struct Answer {
    cursor: String,
    messages: Vec<Incoming>,
}

/// A session, which is none before it is told its rooms.
pub struct LongPoll {
    doors: Doors,
    user: String,
    polls: Option<(JoinHandle<()>, mpsc::Receiver<Answer>)>,
    inbox: Inbox,
    /// That of the last answer that was taken.
    pub cursor: Option<String>,
}

impl LongPoll {
    /// Nothing is asked for yet.
    pub fn new(doors: Doors, user: &str) -> LongPoll {
        LongPoll { doors, user: user.to_owned(), polls: None, inbox: Inbox::new(), cursor: None }
    }

    /// Begins to poll these rooms. A refusal is all of theirs.
    pub async fn join(&mut self, rooms: &[&str], join: &Join) {
        assert!(self.polls.is_none(), "a session's rooms are named when it begins");
        let target = format!("/poll?{}&timeout={TIMEOUT}", requests::query(rooms, &self.user));
        let from = match &join.since {
            Some(Place::Cursor(cursor)) => format!("{target}&cursor={cursor}"),
            Some(Place::Position { .. }) => panic!("a poll brings a cursor"),
            None => target.clone(),
        };
        let first = http::get(self.doors.http, &from, &[]).await;
        if first.status != 200 {
            let errors = rooms.iter().map(|room| requests::problem(&first, None, Some(room)));
            self.inbox.extend(errors.map(Incoming::Envelope));
            return;
        }
        let first = Answer::read(&first.body);
        let (answers, inbox) = mpsc::channel(ANSWERS);
        let polling = tokio::spawn(poll_on(self.doors, target, first.cursor.clone(), answers));
        self.polls = Some((polling, inbox));
        self.take(first);
    }

    /// Does what a command says.
    pub async fn send(&mut self, id: Option<&str>, command: &Command<'_>) {
        let answer = requests::perform(self.doors, &self.user, id, command).await;
        // What is polled meanwhile comes in its own order.
        self.inbox.push_front(Incoming::Envelope(answer));
    }

    /// What comes next: an answer to a request that has been made, or a message.
    pub async fn receive(&mut self) -> Incoming {
        loop {
            if let Some(incoming) = self.inbox.pop_front() {
                return incoming;
            }
            let (_, answers) = self.polls.as_mut().expect("a session that has begun");
            let answer = crate::within("a message", answers.recv()).await.expect("the end is told");
            self.take(answer);
        }
    }

    fn take(&mut self, answer: Answer) {
        if !answer.cursor.is_empty() {
            self.cursor = Some(answer.cursor);
        }
        self.inbox.extend(answer.messages);
    }

    /// Polls no more. What had come and not been looked at.
    pub async fn cut(&mut self) -> Inbox {
        if let Some((polling, mut answers)) = self.polls.take() {
            polling.abort();
            while let Some(answer) = answers.recv().await {
                self.take(answer);
            }
        }
        std::mem::take(&mut self.inbox)
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        if let Some((polling, _)) = &self.polls {
            polling.abort();
        }
    }
}

impl Answer {
    fn read(body: &str) -> Answer {
        let fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{body}: {error}"));
        let messages: Vec<Box<RawValue>> =
            serde_json::from_str(fields["messages"].get()).expect("messages is a list");
        let messages = messages.iter().map(|message| Incoming::Envelope(Envelope::read(message.get())));
        Answer {
            cursor: serde_json::from_str(fields["cursor"].get()).expect("cursor is a string"),
            messages: messages.collect(),
        }
    }
}

/// By the client's rule: each poll brings the cursor of the last answer that arrived.
async fn poll_on(doors: Doors, target: String, mut cursor: String, answers: mpsc::Sender<Answer>) {
    loop {
        let polled = http::ask(doors.http, "GET", &format!("{target}&cursor={cursor}"), &[]).await;
        let answer = match polled {
            Ok(answer) if answer.status == 200 => Answer::read(&answer.body),
            Ok(answer) => Answer::end(format!("{} {}", answer.status, answer.body)),
            Err(_) => Answer::end("nobody answers".to_owned()),
        };
        let ended = answer.cursor.is_empty();
        if !ended {
            cursor.clone_from(&answer.cursor);
        }
        if answers.send(answer).await.is_err() || ended {
            return;
        }
    }
}

impl Answer {
    fn end(how: String) -> Answer {
        Answer { cursor: String::new(), messages: vec![Incoming::End(how)] }
    }
}
