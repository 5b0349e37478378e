//! What each frame says, read as a client reads it, and what each command is taken for.
use super::*;
use crate::wire::command::{Action, Command, Rejected};
use crate::wire::event::Failure;
use bytes::Bytes;
use proptest::prelude::*;
use v1::connect_request::Command as Ask;

fn seen(frame: &Frame<'_>) -> v1::ConnectResponse {
    message::read(&message(frame)).unwrap()
}

fn said(frame: &Frame<'_>) -> Wire {
    let v1::ConnectResponse { id, frame } = seen(frame);
    assert_eq!(id, "");
    frame.unwrap()
}

fn at(seq: u64) -> Position {
    Position { epoch: "e1".into(), seq }
}

fn place(seq: u64) -> Option<v1::Position> {
    Some(v1::Position { epoch: "e1".into(), seq })
}

fn chat() -> Event {
    Event {
        room: "general".into(),
        kind: Kind::Text,
        seq: 42,
        id: Some("m1".into()),
        author: "ann".into(),
        payload: Payload::Json(Bytes::from_static(br#"{"content":"Hello"}"#)),
        timestamp_us: 1_711_000_000_123_456,
    }
}

fn parsed(id: &str, command: Ask) -> Result<Command, Rejected> {
    let mut bytes = Vec::new();
    message::write(&mut bytes, &v1::ConnectRequest { id: id.into(), command: Some(command) });
    command::parse(&bytes)
}

fn action(command: Ask) -> Action {
    parsed("", command).unwrap().action
}

/// The id, the room and the code that an error names.
fn refused(id: &str, command: Ask) -> (Option<String>, Option<String>, Code) {
    let Rejected { id, room, failure } = parsed(id, command).unwrap_err();
    (id.map(Into::into), room.map(|room| room.to_string()), failure.code)
}

fn publish(kind: v1::EventKind, data: v1::payload::Data) -> Ask {
    let payload = Some(v1::Payload { data: Some(data) });
    Ask::Publish(v1::Publish { room: "r".into(), kind: kind.into(), payload, epoch: String::new() })
}

fn json(text: &str) -> v1::payload::Data {
    v1::payload::Data::Json(text.into())
}

#[test]
fn events_keep_the_author_beside_the_payload() {
    let Wire::Event(event) = said(&Frame::Event(&chat())) else { panic!("an event") };
    assert_eq!(event.payload, Some(v1::Payload { data: Some(json(r#"{"content":"Hello"}"#)) }));
    assert_eq!((&*event.room, event.seq, &*event.id, &*event.author), ("general", 42, "m1", "ann"));
    assert_eq!(event.kind(), v1::EventKind::Text);
    let (seconds, nanos) = (1_711_000_000, 123_456_000);
    assert_eq!(event.timestamp, Some(hearth_proto::Timestamp { seconds, nanos }));
    let bare = Event {
        kind: Kind::Signal,
        seq: 0,
        id: None,
        payload: Payload::Binary(Bytes::from_static(&[0, 255])),
        ..chat()
    };
    let Wire::Event(event) = said(&Frame::Event(&bare)) else { panic!("an event") };
    assert_eq!((event.kind(), event.seq, &*event.id), (v1::EventKind::Signal, 0, ""));
    let data = v1::payload::Data::Binary(Bytes::from_static(&[0, 255]));
    assert_eq!(event.payload, Some(v1::Payload { data: Some(data) }));
}

#[test]
fn answers_carry_the_id_that_they_answer() {
    let position = at(9);
    let acked = Acked::Delivered { position: Some(&position), duplicate: true };
    let ack = v1::Ack { room: "r".into(), position: place(9), duplicate: true, expires_at: None };
    let response = seen(&Frame::Ack { id: "a", room: Some("r"), acked });
    assert_eq!(response, v1::ConnectResponse { id: "a".into(), frame: Some(Wire::Ack(ack)) });
    let response = seen(&Frame::Ack { id: "p", room: None, acked: Acked::Ok });
    assert_eq!((&*response.id, response.frame), ("p", Some(Wire::Ack(v1::Ack::default()))));

    let failure = Failure::new(Code::ResourceExhausted, "slow down").retry_after_ms(250);
    let response = seen(&Frame::Error { id: Some("e"), room: Some("r"), failure: &failure });
    let (message, room) = ("slow down".into(), "r".into());
    let error = v1::Error { code: 8, message, room, retry_after_ms: 250, ..v1::Error::default() };
    assert_eq!((&*response.id, response.frame), ("e", Some(Wire::Error(error))));

    let joined = Joined { position: &position, cursor: "AQ", recovered: Some(false), replayed: 3 };
    let response = seen(&Frame::Joined { id: Some("j"), room: "r", joined });
    let (room, cursor) = ("r".into(), "AQ".into());
    let joined = v1::Joined { room, position: place(9), recovered: Some(false), replayed: 3, cursor };
    assert_eq!((&*response.id, response.frame), ("j", Some(Wire::Joined(joined))));

    let (one, two) = (chat(), Event { seq: 43, ..chat() });
    let page = Page { position: &position, events: &[&one, &two], more: true };
    let response = seen(&Frame::History { id: Some("h"), room: "r", page });
    let Some(Wire::History(page)) = response.frame else { panic!("a page") };
    assert_eq!((&*response.id, page.position, page.more), ("h", place(9), true));
    assert_eq!(page.messages.iter().map(|event| event.seq).collect::<Vec<_>>(), [42, 43]);
}

#[test]
fn what_nobody_asked_for_has_no_id() {
    let welcome =
        Frame::Welcome { session: "s", user: "ann", heartbeat_ms: 25_000, max_message_bytes: 65_536 };
    let (session, user) = ("s".into(), "ann".into());
    let expected = v1::Welcome { session, user, max_message_bytes: 65_536, heartbeat_ms: 25_000 };
    assert_eq!(said(&welcome), Wire::Welcome(expected));
    assert_eq!(said(&Frame::Left { room: "r" }), Wire::Left(v1::Left { room: "r".into() }));
    let draining = v1::Draining { reconnect_after_ms: 7 };
    assert_eq!(said(&Frame::Draining { reconnect_after_ms: 7 }), Wire::Draining(draining));
    let presence = |frame: &Frame<'_>| match said(frame) {
        Wire::Presence(v1::Presence { room, event }) => (room, event.unwrap()),
        other => panic!("{other:?}"),
    };
    let ann = Online { user: "ann".into(), meta: "{}".into(), sessions: 2, since_us: 1_500_000 };
    let (_, event) = presence(&Frame::State { room: "r", all: &[ann] });
    let v1::presence::Event::State(v1::PresenceState { online }) = event else { panic!("a state") };
    let since = Some(hearth_proto::Timestamp { seconds: 1, nanos: 500_000_000 });
    assert_eq!(online, [v1::PresenceUser { user: "ann".into(), meta: "{}".into(), sessions: 2, since }]);
    let step = Step { happened: Happened::Leave, user: "bob".into(), meta: "{}".into() };
    let (room, event) = presence(&Frame::Step { room: "r", step: &step });
    assert!(matches!(event, v1::presence::Event::Leave(user) if user.user == "bob"));
    assert_eq!(room, "r");
    let (_, event) = presence(&Frame::Count { room: "r", count: 501 });
    assert_eq!(event, v1::presence::Event::Count(501));
}

#[test]
fn commands_are_what_json_would_have_said() {
    let join = v1::Join { room: "r".into(), since: place(7), echo: Some(false), ..v1::Join::default() };
    let expected =
        Action::Join { room: "r".into(), since: Some(at(7)), history: 0, presence: true, echo: false };
    assert_eq!(action(Ask::Join(join)), expected);
    assert_eq!(action(Ask::Leave(v1::Leave { room: "r".into() })), Action::Leave { room: "r".into() });
    assert_eq!(action(Ask::Ping(v1::Ping {})), Action::Ping);
    let history = v1::History { room: "r".into(), after: Some(3), before: None, limit: None };
    let expected = Action::History { room: "r".into(), after: Some(3), before: None, limit: 100 };
    assert_eq!(action(Ask::History(history)), expected);
    let presence = |meta: Option<&str>| {
        let meta = meta.map(Into::into);
        Ask::Presence(v1::SetPresence { room: "r".into(), meta })
    };
    let expected = Action::Presence { room: "r".into(), meta: Some(r#"{ "a":1}"#.into()) };
    assert_eq!(action(presence(Some("{\n \"a\":1}"))), expected);
    assert_eq!(action(presence(None)), Action::Presence { room: "r".into(), meta: None });
    let published = parsed("m", publish(v1::EventKind::Unspecified, json(r#"{"a":1,"author":"x"}"#)));
    let expected = Action::Publish {
        room: "r".into(),
        kind: Kind::Text,
        payload: Payload::Json(Bytes::from_static(br#"{"a":1}"#)),
        fence: None,
    };
    assert_eq!(published, Ok(Command { id: Some("m".into()), action: expected }));
    let Ask::Publish(fenced) = publish(v1::EventKind::Text, v1::payload::Data::Binary("x".into())) else {
        unreachable!()
    };
    let fenced = action(Ask::Publish(v1::Publish { epoch: "e1".into(), ..fenced }));
    let payload = Payload::Binary("x".into());
    let fence = Some("e1".into());
    assert_eq!(fenced, Action::Publish { room: "r".into(), kind: Kind::Text, payload, fence });
}

#[test]
fn what_is_no_command_is_told_so() {
    use v1::EventKind::{Signal, System, Text, Typing};
    let bad = |id: &str, command| {
        let (id, room, code) = refused(id, command);
        assert_eq!(code, Code::InvalidArgument, "{id:?}");
        (id, room)
    };
    let binary = || v1::payload::Data::Binary(Bytes::from_static(b"x"));
    let (m, r) = (Some("m".to_owned()), Some("r".to_owned()));
    for wrong in [
        publish(Text, json("[1]")),
        publish(Signal, json("{")),
        publish(Typing, json("{}")),
        publish(Typing, binary()),
        publish(Text, json(&format!("{}{}", r#"{"a":"#.repeat(64), "}".repeat(64)))),
        Ask::Publish(v1::Publish { room: "r".into(), ..v1::Publish::default() }),
        Ask::Publish(v1::Publish { room: "r".into(), kind: 99, ..v1::Publish::default() }),
        Ask::Join(v1::Join { room: "r".into(), history: 1001, ..v1::Join::default() }),
        Ask::History(v1::History { room: "r".into(), limit: Some(0), ..v1::History::default() }),
        Ask::Presence(v1::SetPresence { room: "r".into(), meta: Some("[]".into()) }),
    ] {
        assert_eq!(bad("m", wrong), (m.clone(), r.clone()));
    }
    assert_eq!(bad("m", Ask::Leave(v1::Leave { room: "no room".into() })), (m, None));
    assert_eq!(bad(&"x".repeat(257), Ask::Leave(v1::Leave { room: "r".into() })), (None, r));
    assert!(
        matches!(action(publish(System, json("{}"))), Action::Publish { kind: Kind::System, .. }),
        "a core judges"
    );
    let nothing = command::parse(b"").unwrap_err();
    assert_eq!((nothing.id, nothing.room, nothing.failure.code), (None, None, Code::InvalidArgument));
    assert_eq!(command::parse(b"{}").unwrap_err().failure.code, Code::InvalidArgument);
}

proptest! {
    #[test]
    fn any_bytes_are_a_command_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = command::parse(&bytes);
    }
}
