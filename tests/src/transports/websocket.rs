//! A WebSocket, in either of its subprotocols: JSON in text frames, `hearth.v1` in binary ones.
use super::{
    Doors,
    command::Command,
    envelope::{Envelope, Incoming},
    protobuf,
};
use crate::{
    client::{Client, request},
    within,
};
use hearth_proto::v1::ConnectResponse;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// How frames are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `hearth.v1.json`
    Json,
    /// `hearth.v1.proto`
    Protobuf,
}

/// A socket.
pub struct Socket {
    client: Client,
    framing: Framing,
}

impl Socket {
    /// Connects without a room.
    pub async fn open(doors: Doors, framing: Framing, user: &str, cursor: Option<&str>) -> Socket {
        let since = cursor.map(|cursor| format!("&since={cursor}")).unwrap_or_default();
        let mut request = request(doors.http, &format!("/ws?user={user}{since}"));
        let subprotocol = match framing {
            Framing::Json => "hearth.v1.json",
            Framing::Protobuf => "hearth.v1.proto",
        };
        request.headers_mut().insert("sec-websocket-protocol", subprotocol.parse().expect("a header"));
        let stream =
            within("a connection", TcpStream::connect(doors.http)).await.expect("the server listens");
        // A server that does not choose what was offered has failed the handshake.
        let client = Client::shake(stream, request).await;
        Socket { client: client.unwrap_or_else(|error| panic!("{subprotocol}: {error}")), framing }
    }

    /// Sends a command. The server may have closed: then that is what comes next.
    pub async fn send(&mut self, id: Option<&str>, command: &Command<'_>) {
        let message = match self.framing {
            Framing::Json => Message::text(command.envelope(id)),
            Framing::Protobuf => Message::binary(protobuf::request(id, command).encode_to_vec()),
        };
        let _ = self.client.send_message(message).await;
    }

    /// What comes next.
    pub async fn receive(&mut self) -> Incoming {
        loop {
            return match self.client.message().await {
                Some(Ok(Message::Text(text))) if self.framing == Framing::Json => {
                    Incoming::Envelope(Envelope::read(&text))
                }
                Some(Ok(Message::Binary(bytes))) if self.framing == Framing::Protobuf => {
                    let response = ConnectResponse::decode(bytes).expect("a frame is a response");
                    Incoming::Envelope(protobuf::envelope(response))
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Close(Some(close)))) => {
                    Incoming::End(format!("{} {}", u16::from(close.code), close.reason))
                }
                Some(Ok(other)) => panic!("{other:?} in {:?}", self.framing),
                Some(Err(error)) => Incoming::End(format!("broken: {error}")),
                None => Incoming::End("the end without a close".to_owned()),
            };
        }
    }

    /// Closes as one that has done.
    pub async fn close(self) {
        self.client.close().await;
    }

    /// Breaks without a word.
    pub fn cut(self) {
        self.client.cut();
    }
}
