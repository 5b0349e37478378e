//! The subprotocol `hearth.v1.proto`: what is its own. That it behaves as all others do is the conformance suite's.
use futures_util::{SinkExt, StreamExt};
use hearth_proto::message;
use hearth_proto::v1::{
    self, connect_request::Command, connect_response::Frame, payload::Data, presence::Event as Presence,
};
use hearth_tests::{client::Client, process::Hearth, within};
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    /// Connects and takes the `welcome`.
    async fn connect(http: SocketAddr, target: &str) -> (Peer, v1::Welcome) {
        let stream = TcpStream::connect(http).await.unwrap();
        let mut request = format!("ws://{http}{target}").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("hearth.v1.proto"));
        let (socket, answer) = within("the handshake", client_async(request, stream)).await.unwrap();
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "hearth.v1.proto");
        let mut peer = Peer(socket);
        match peer.frame().await {
            (id, Frame::Welcome(welcome)) if id.is_empty() => (peer, welcome),
            other => panic!("{other:?}"),
        }
    }

    async fn message(&mut self) -> Message {
        within("a message", self.0.next()).await.expect("the stream goes on").expect("it is no error")
    }

    async fn frame(&mut self) -> (String, Frame) {
        match self.message().await {
            Message::Binary(bytes) => {
                let v1::ConnectResponse { id, frame } = message::read(&bytes).unwrap();
                (id, frame.expect("a frame says something"))
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next frame that is not about presence.
    async fn next(&mut self) -> (String, Frame) {
        loop {
            let (id, frame) = self.frame().await;
            if !matches!(frame, Frame::Presence(_)) {
                return (id, frame);
            }
        }
    }

    async fn error(&mut self) -> (String, v1::Error) {
        match self.next().await {
            (id, Frame::Error(error)) => (id, error),
            other => panic!("{other:?}"),
        }
    }

    async fn send(&mut self, id: &str, command: Command) {
        let mut bytes = Vec::new();
        message::write(&mut bytes, &v1::ConnectRequest { id: id.into(), command: Some(command) });
        self.0.send(Message::binary(bytes)).await.unwrap();
    }
}

fn text(room: &str, data: Data, epoch: &str) -> Command {
    let payload = Some(v1::Payload { data: Some(data) });
    Command::Publish(v1::Publish { room: room.into(), payload, epoch: epoch.into(), ..Default::default() })
}

/// Bytes travel as they are to those who speak protobuf, and in base64 to those who speak JSON; both see one order.
#[tokio::test]
async fn bytes_and_json_in_one_room() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, welcome) = Peer::connect(hearth.http(), "/ws/lobby?user=ann").await;
    assert_eq!((&*welcome.user, welcome.heartbeat_ms, welcome.max_message_bytes), ("ann", 25_000, 65_536));
    let (id, Frame::Joined(joined)) = ann.frame().await else { panic!("joined comes first") };
    assert_eq!((&*id, &*joined.room, joined.recovered, joined.replayed), ("", "lobby", None, 0));
    assert!(!joined.cursor.is_empty());
    let (_, Frame::Presence(v1::Presence { event: Some(Presence::State(state)), .. })) = ann.frame().await
    else {
        panic!("then who is there")
    };
    assert_eq!(state.online[0].user, "ann");
    let (mut bob, _) = Client::enter(hearth.http(), "/ws/lobby?user=bob").await;

    ann.send("b1", text("lobby", Data::Binary(vec![0, 255, 62].into()), "")).await;
    let (id, Frame::Ack(ack)) = ann.next().await else { panic!("an ack") };
    let position = ack.position.expect("a place");
    assert_eq!((&*id, &*ack.room, position.seq, ack.duplicate), ("b1", "lobby", 1, false));
    assert_eq!(position.epoch, joined.position.unwrap().epoch);
    let (_, Frame::Event(event)) = ann.next().await else { panic!("the event") };
    assert_eq!((event.seq, &*event.id, &*event.author), (1, "b1", "ann"));
    assert_eq!(event.payload.unwrap().data, Some(Data::Binary(vec![0, 255, 62].into())));
    let seen = bob.next().await;
    assert_eq!((&seen["data"], &seen["seq"]), (&json!({"binary":"AP8+","author":"ann"}), &json!(1)));

    bob.publish("lobby", "Hello").await;
    let (_, Frame::Event(event)) = ann.next().await else { panic!("the event") };
    assert_eq!((event.seq, &*event.author), (2, "bob"));
    assert_eq!(event.payload.unwrap().data, Some(Data::Json(r#"{"n":"Hello"}"#.into())));
}

/// A publish that names an epoch is for that epoch alone: in another one it is refused, and never taken.
#[tokio::test]
async fn a_fence_holds() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Peer::connect(hearth.http(), "/ws?user=ann").await;
    let json = || Data::Json("{}".into());
    ann.send("1", text("r", json(), "another")).await;
    let (id, error) = ann.error().await;
    assert_eq!((&*id, error.code, &*error.room), ("1", 14, "r"), "{error:?}");
    ann.send("1", text("r", json(), "")).await;
    let (_, Frame::Ack(v1::Ack { position: Some(position), .. })) = ann.next().await else {
        panic!("an ack")
    };
    assert_eq!(position.seq, 1, "the refused one was not taken");
    ann.send("2", text("r", json(), &position.epoch)).await;
    let (_, Frame::Ack(ack)) = ann.next().await else { panic!("an ack") };
    assert_eq!(ack.position.unwrap().seq, 2);
    // A signal has no place in any numbering, and none to keep to.
    let signal = match text("r", json(), "another") {
        Command::Publish(publish) => {
            Command::Publish(v1::Publish { kind: v1::EventKind::Signal.into(), ..publish })
        }
        other => other,
    };
    ann.send("3", signal).await;
    assert!(matches!(ann.next().await, (id, Frame::Ack(_)) if id == "3"));
}

/// What is no command is told so, and the session stays; a text frame is not for this protocol, and ends it.
#[tokio::test]
async fn nonsense() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Peer::connect(hearth.http(), "/ws?user=ann").await;
    let nonsense: [&[u8]; 5] = [b"", b"{}", &[0xff; 40], &[0x0a, 0x02, b'x'], &[0x0a, 0x01, 0xff]];
    for bytes in nonsense {
        ann.0.send(Message::binary(bytes.to_vec())).await.unwrap();
        let (id, error) = ann.error().await;
        assert_eq!((&*id, error.code), ("", 3), "{bytes:?}: {error:?}");
    }
    ann.send("p", Command::Ping(v1::Ping {})).await;
    assert!(matches!(ann.next().await, (id, Frame::Ack(_)) if id == "p"));
    ann.0.send(Message::text(r#"{"type":"ping","id":"1"}"#)).await.unwrap();
    let Message::Close(Some(close)) = ann.message().await else { panic!("it ends") };
    assert_eq!((u16::from(close.code), &*close.reason), (1003, "unsupported_data"));
}
