//! The session's messages of `hearth.v1`, put into the words of the JSON contract: for `Connect` and for binary WebSocket frames.
use super::{
    command::{Command, Data, Join},
    envelope::{Envelope, Place},
};
use base64::prelude::{BASE64_STANDARD, Engine};
use hearth_proto::{
    payload,
    v1::{
        self, ConnectRequest, ConnectResponse, Event, EventKind, Payload, Position, PresenceUser,
        connect_request, connect_response::Frame, payload::Data as Carried, presence,
    },
};
use serde_json::{Value, json};

/// A command as a request.
pub fn request(id: Option<&str>, command: &Command<'_>) -> ConnectRequest {
    let command = match command {
        Command::Join(room, join) => connect_request::Command::Join(join_of(room, join)),
        Command::Leave(room) => connect_request::Command::Leave(v1::Leave { room: (*room).to_owned() }),
        Command::Publish(room, kind, data) => {
            let kind = match *kind {
                "text" => EventKind::Text,
                "system" => EventKind::System,
                "signal" => EventKind::Signal,
                "typing" => EventKind::Typing,
                other => panic!("no kind of event: {other}"),
            };
            let data = match data {
                Data::Json(text) => Carried::Json((*text).to_owned()),
                Data::Binary(bytes) => Carried::Binary(bytes.to_vec().into()),
            };
            connect_request::Command::Publish(v1::Publish {
                room: (*room).to_owned(),
                kind: kind.into(),
                payload: Some(Payload { data: Some(data) }),
                ..Default::default()
            })
        }
        Command::History(room, range) => connect_request::Command::History(v1::History {
            room: (*room).to_owned(),
            after: range.after,
            before: range.before,
            limit: range.limit,
        }),
        Command::Presence(room, meta) => connect_request::Command::Presence(v1::SetPresence {
            room: (*room).to_owned(),
            meta: Some((*meta).to_owned()),
        }),
        Command::Ping => connect_request::Command::Ping(v1::Ping {}),
    };
    ConnectRequest { id: id.unwrap_or_default().to_owned(), command: Some(command) }
}

fn join_of(room: &str, join: &Join) -> v1::Join {
    let since = match &join.since {
        Some(Place::Position { epoch, seq }) => Some(Position { epoch: epoch.clone(), seq: *seq }),
        _ => None,
    };
    v1::Join { room: room.to_owned(), since, history: join.history, echo: join.echo, presence: join.presence }
}

/// A response as the JSON clients have it, but for an ack's `status`, which says again what was asked.
pub fn envelope(response: ConnectResponse) -> Envelope {
    let id = Some(response.id.as_str()).filter(|id| !id.is_empty());
    let say = |kind: &str, room: &str, data: &Value| {
        Envelope::new(kind, id, Some(room).filter(|room| !room.is_empty()), data.to_string())
    };
    match response.frame.expect("a response has a frame") {
        Frame::Welcome(welcome) => {
            let v1::Welcome { session, user, max_message_bytes, heartbeat_ms } = welcome;
            say(
                "system",
                "",
                &json!({"event": "welcome", "session": session, "user": user, "heartbeat_ms": heartbeat_ms, "max_message_bytes": max_message_bytes}),
            )
        }
        Frame::Joined(joined) => {
            let at = joined.position.expect("joined has a position");
            let mut data = json!({"event": "joined", "epoch": at.epoch, "seq": at.seq, "cursor": joined.cursor, "replayed": joined.replayed});
            if let Some(recovered) = joined.recovered {
                data["recovered"] = recovered.into();
            }
            say("system", &joined.room, &data)
        }
        Frame::Left(left) => say("system", &left.room, &json!({"event": "left"})),
        Frame::Event(event) => event_of(event),
        Frame::Ack(ack) => {
            let mut data = json!({});
            if let Some(position) = ack.position {
                data["seq"] = position.seq.into();
            }
            if ack.duplicate {
                data["duplicate"] = true.into();
            }
            say("ack", &ack.room, &data)
        }
        Frame::Error(error) => {
            let code = format!("{:?}", tonic::Code::from_i32(error.code));
            let mut data = json!({"code": snake(&code), "message": error.message});
            if error.retry_after_ms > 0 {
                data["retry_after_ms"] = error.retry_after_ms.into();
            }
            say("error", &error.room, &data)
        }
        Frame::History(page) => {
            let at = page.position.expect("a page has a position");
            let messages: Vec<String> =
                page.messages.into_iter().map(|event| text(&event_of(event))).collect();
            let data = format!(
                r#"{{"epoch":{},"seq":{},"messages":[{}],"more":{}}}"#,
                json!(at.epoch),
                at.seq,
                messages.join(","),
                page.more
            );
            Envelope::new("history", id, Some(&page.room), data)
        }
        Frame::Draining(draining) => say(
            "system",
            "",
            &json!({"event": "draining", "reconnect_after_ms": draining.reconnect_after_ms}),
        ),
        Frame::TokenExpiring(expiring) => {
            let at = expiring.expires_at.map_or(0, |at| at.seconds);
            say("system", "", &json!({"event": "token_expiring", "expires_at": at}))
        }
        Frame::Presence(presence) => {
            let told = presence.event.expect("presence says something");
            Envelope::new("presence", id, Some(&presence.room), presence_data(told))
        }
    }
}

/// An event with its author where the JSON clients have it.
fn event_of(event: Event) -> Envelope {
    let author = json!(event.author).to_string();
    let data = match event.payload.and_then(|payload| payload.data).expect("an event has a payload") {
        Carried::Json(json) => {
            let mut data = Vec::new();
            payload::with_author(&mut data, json.as_bytes(), author.as_bytes());
            String::from_utf8(data).expect("what was text and got text is text")
        }
        Carried::Binary(bytes) => {
            format!(r#"{{"binary":"{}","author":{author}}}"#, BASE64_STANDARD.encode(bytes))
        }
    };
    let kind = match EventKind::try_from(event.kind).expect("a kind that is known") {
        EventKind::Text => "text",
        EventKind::System => "system",
        EventKind::Signal => "signal",
        EventKind::Typing => "typing",
        EventKind::Unspecified => panic!("an event without a kind"),
    };
    Envelope {
        kind: kind.to_owned(),
        id: Some(event.id).filter(|id| !id.is_empty()),
        room: Some(event.room),
        seq: Some(event.seq).filter(|seq| *seq > 0),
        data,
        timestamp_us: event.timestamp.map(|at| {
            assert_eq!(at.nanos % 1000, 0, "finer than microseconds: {at:?}");
            at.seconds as u64 * 1_000_000 + at.nanos as u64 / 1000
        }),
    }
}

/// An event's envelope as text, to stand in a page.
fn text(event: &Envelope) -> String {
    let mut text = format!(r#"{{"type":{}"#, json!(event.kind));
    for (name, value) in [("id", &event.id), ("room", &event.room)] {
        if let Some(value) = value {
            text.push_str(&format!(r#","{name}":{}"#, json!(value)));
        }
    }
    if let Some(seq) = event.seq {
        text.push_str(&format!(r#","seq":{seq}"#));
    }
    text.push_str(&format!(r#","data":{}"#, event.data));
    if let Some(us) = event.timestamp_us {
        text.push_str(&format!(r#","timestamp":{}.{:06}"#, us / 1_000_000, us % 1_000_000));
    }
    text + "}"
}

/// Metas stay as they were spelled.
fn presence_data(told: presence::Event) -> String {
    let step = |event: &str, PresenceUser { user, meta, .. }: PresenceUser| {
        format!(r#"{{"event":"{event}","user":{},"meta":{meta}}}"#, json!(user))
    };
    match told {
        presence::Event::State(state) => {
            let online: Vec<String> = state
                .online
                .into_iter()
                .map(|PresenceUser { user, meta, sessions, since }| {
                    let since = since.expect("who is online is so since some time");
                    format!(
                        r#"{{"user":{},"meta":{meta},"sessions":{sessions},"since":{}.{:06}}}"#,
                        json!(user),
                        since.seconds,
                        since.nanos / 1000
                    )
                })
                .collect();
            format!(r#"{{"event":"state","online":[{}]}}"#, online.join(","))
        }
        presence::Event::Join(user) => step("join", user),
        presence::Event::Update(user) => step("update", user),
        presence::Event::Leave(user) => step("leave", user),
        presence::Event::Count(count) => json!({"event": "count", "count": count}).to_string(),
    }
}

/// `InvalidArgument` is `invalid_argument`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
