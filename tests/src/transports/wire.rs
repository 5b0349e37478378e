//! What carries a session: the same few motions, whatever they are over each transport.
use super::{
    Doors, Transport,
    command::{Command, Join},
    connect,
    envelope::{Inbox, Incoming},
    event_stream, long_poll,
    websocket::{self, Framing},
};

/// What carries a session.
pub enum Wire {
    /// In either framing.
    WebSocket(Box<websocket::Socket>),
    /// With requests.
    EventStream(Box<event_stream::EventStream>),
    /// With requests.
    LongPoll(Box<long_poll::LongPoll>),
    /// gRPC.
    Connect(Box<connect::Stream>),
}

impl Wire {
    /// Connects a user, where that can be done without a room. A cursor is brought by sockets here, by streams when they begin.
    pub async fn open(doors: Doors, transport: Transport, user: &str, cursor: Option<&str>) -> Wire {
        let socket = async |framing| {
            Wire::WebSocket(Box::new(websocket::Socket::open(doors, framing, user, cursor).await))
        };
        match transport {
            Transport::WebSocketJson => socket(Framing::Json).await,
            Transport::WebSocketProtobuf => socket(Framing::Protobuf).await,
            Transport::EventStream => {
                Wire::EventStream(Box::new(event_stream::EventStream::new(doors, user)))
            }
            Transport::LongPoll => Wire::LongPoll(Box::new(long_poll::LongPoll::new(doors, user))),
            Transport::Connect => Wire::Connect(Box::new(connect::Stream::open(doors, user).await)),
        }
    }

    /// Asks to be in rooms, the n-th by the id `join n` where there are ids: a stream in all at once, a socket in one after the other.
    pub async fn join(&mut self, rooms: &[&str], join: &Join) {
        match self {
            Wire::EventStream(stream) => stream.join(rooms, join).await,
            Wire::LongPoll(polls) => polls.join(rooms, join).await,
            Wire::WebSocket(_) | Wire::Connect(_) => {
                for (n, room) in rooms.iter().enumerate() {
                    self.send(Some(&format!("join {n}")), &Command::Join(room, join)).await;
                }
            }
        }
    }

    /// Says something.
    pub async fn send(&mut self, id: Option<&str>, command: &Command<'_>) {
        match self {
            Wire::WebSocket(socket) => socket.send(id, command).await,
            Wire::EventStream(stream) => stream.send(id, command).await,
            Wire::LongPoll(polls) => polls.send(id, command).await,
            Wire::Connect(stream) => stream.send(id, command).await,
        }
    }

    /// What comes next.
    pub async fn receive(&mut self) -> Incoming {
        match self {
            Wire::WebSocket(socket) => socket.receive().await,
            Wire::EventStream(stream) => stream.receive().await,
            Wire::LongPoll(polls) => polls.receive().await,
            Wire::Connect(stream) => stream.receive().await,
        }
    }

    /// The cursor that a stream brings back; a socket's is in its last `joined`.
    pub fn cursor(&self) -> Option<&String> {
        match self {
            Wire::EventStream(stream) => stream.cursor.as_ref(),
            Wire::LongPoll(polls) => polls.cursor.as_ref(),
            Wire::WebSocket(_) | Wire::Connect(_) => None,
        }
    }

    /// Takes in what has come already and was not asked for: a poll brings more than one looks at.
    pub async fn stop(&mut self) -> Inbox {
        match self {
            Wire::LongPoll(polls) => polls.cut().await,
            _ => Inbox::new(),
        }
    }

    /// Goes as one that has done, as far as the transport can say so.
    pub async fn close(self) {
        match self {
            Wire::WebSocket(socket) => socket.close().await,
            Wire::Connect(stream) => stream.close().await,
            Wire::EventStream(_) | Wire::LongPoll(_) => self.cut().await,
        }
    }

    /// Breaks without a word.
    pub async fn cut(self) {
        match self {
            Wire::WebSocket(socket) => socket.cut(),
            Wire::EventStream(stream) => stream.cut(),
            // Nobody is told that polls stop.
            Wire::LongPoll(polls) => drop(polls),
            Wire::Connect(stream) => stream.cut().await,
        }
    }
}
