//! Sessions of a link whose token names a key that is not known yet: what they say waits while the key is looked for, and nobody else does.
use super::caller::now;
use crate::auth::{Gate, key_sets::Search, token::BadToken};
use hearth_proto::v1::{
    EdgeFrame, OpenSession, RefreshSession, edge_frame::Frame, open_session::Credentials,
};
use prost::Message;
use std::collections::HashMap;
use std::time::Instant;
use tokio::time::timeout_at;

/// How many frames of a session wait. A request sends two, a socket one: whoever sends more does not wait for its answer either.
const FRAMES_MAX: usize = 8;
/// How many bytes wait on a link, so that requests with large bodies do not fill the memory.
const BYTES_MAX: usize = 4 << 20;

/// Those of one link.
#[derive(Default)]
pub(super) struct Held {
    sessions: HashMap<u64, Waiting>,
    bytes: usize,
}

struct Waiting {
    search: Search,
    /// The first is the one with the token.
    frames: Vec<EdgeFrame>,
    /// There was no room for more.
    is_over: bool,
}

/// What is to be done with a frame.
pub(super) enum Turn {
    /// To act upon it.
    Act(EdgeFrame),
    /// Its token is none, or cannot be judged.
    Refuse(EdgeFrame, BadToken),
}

impl Held {
    /// Whether a frame is none that has to wait, as nearly all are.
    pub(super) fn lets_pass(&self, frame: &EdgeFrame) -> bool {
        self.sessions.is_empty() && token(frame).is_none()
    }

    /// A frame has come: what is to be done now, in order.
    pub(super) fn take_in(&mut self, gate: &Gate, frame: EdgeFrame) -> Vec<Turn> {
        if let Some(waiting) = self.sessions.get_mut(&frame.session) {
            if matches!(frame.frame, Some(Frame::Close(_))) {
                self.forget(frame.session);
                return vec![Turn::Act(frame)];
            }
            let bytes = frame.encoded_len();
            waiting.is_over = waiting.frames.len() >= FRAMES_MAX || self.bytes + bytes > BYTES_MAX;
            waiting.frames.push(frame);
            self.bytes += bytes;
            return self.due(gate);
        }
        if !token(&frame).is_some_and(|token| is_strange(gate, token)) {
            return vec![Turn::Act(frame)];
        }
        match gate.auth().search(Instant::now()) {
            Ok(search) => {
                self.bytes += frame.encoded_len();
                let waiting = Waiting { search, frames: vec![frame], is_over: false };
                self.sessions.insert(waiting.frames[0].session, waiting);
                Vec::new()
            }
            Err(verdict) => vec![Turn::Refuse(frame, verdict)],
        }
    }

    /// Waits until one of them may be due; for ever, if there are none.
    pub(super) async fn news(&mut self) {
        let until = self.sessions.values().map(|waiting| waiting.search.until()).min();
        // News are the same for all.
        match (self.sessions.values_mut().next(), until) {
            (Some(waiting), Some(until)) => {
                // Late or not, all are looked at again.
                let _ = timeout_at(until.into(), waiting.search.news()).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Those whose key has been found, and those who wait no longer.
    pub(super) fn due(&mut self, gate: &Gate) -> Vec<Turn> {
        let (now, mut turns) = (Instant::now(), Vec::new());
        let due: Vec<(u64, Option<BadToken>)> = self
            .sessions
            .iter()
            .filter_map(|(session, waiting)| {
                let is_strange = token(waiting.frames.first()?).is_some_and(|token| is_strange(gate, token));
                let verdict =
                    || waiting.search.verdict(now).or(waiting.is_over.then_some(BadToken::KeysAway));
                if is_strange {
                    verdict().map(|verdict| (*session, Some(verdict)))
                } else {
                    Some((*session, None))
                }
            })
            .collect();
        for (session, verdict) in due {
            let mut frames = self.forget(session).into_iter();
            turns.extend(frames.next().map(|first| match verdict {
                Some(verdict) => Turn::Refuse(first, verdict),
                None => Turn::Act(first),
            }));
            turns.extend(frames.map(Turn::Act));
        }
        turns
    }

    fn forget(&mut self, session: u64) -> Vec<EdgeFrame> {
        let frames = self.sessions.remove(&session).map(|waiting| waiting.frames).unwrap_or_default();
        self.bytes -= frames.iter().map(Message::encoded_len).sum::<usize>();
        frames
    }
}

/// The token that a frame brings.
fn token(frame: &EdgeFrame) -> Option<&str> {
    match &frame.frame {
        Some(Frame::Open(OpenSession { credentials: Some(Credentials::Reopened(_)), .. })) => None,
        Some(Frame::Open(OpenSession { token, .. }) | Frame::Refresh(RefreshSession { token })) => {
            Some(token)
        }
        _ => None,
    }
}

/// Whether the key of a token is none that is known. Whose name is known is not: that is cheap to see, and how most are.
fn is_strange(gate: &Gate, token: &str) -> bool {
    !gate.names_known_key(token) && gate.admit(token, now()) == Err(BadToken::UnknownKey)
}
