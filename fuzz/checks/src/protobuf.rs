//! Protobuf frames: the same command in JSON must mean the same, and what is read is read again as it was written.
use crate::{
    names::{is_id, is_room},
    plain,
};
use hearth_edge::wire::{
    command::{self, Action, Command},
    event::{Code, Kind, Payload},
    protobuf,
};
use hearth_proto::{
    message,
    v1::{self, connect_request::Command as Wire, payload::Data},
};
use serde_json::{Value, json, value::RawValue};

/// One binary message of a client; and the same bytes as what services and edges send to a core.
pub fn protobuf_frame(data: &[u8]) {
    let parsed = protobuf::command::parse(data);
    match &parsed {
        Ok(command) => fits_the_contract(command),
        Err(rejected) => {
            assert!(matches!(rejected.failure.code, Code::InvalidArgument | Code::Unavailable));
            assert!(rejected.failure.message.len() < 500, "what is told does not grow with what was sent");
            assert!(rejected.id.as_deref().is_none_or(is_id));
            assert!(rejected.room.as_deref().is_none_or(is_room));
        }
    }
    // Unknown fields, fields twice, lengths spelled too long: nothing of that is left when it is written again.
    if let Ok(request) = message::read::<v1::ConnectRequest>(data) {
        let mut bytes = Vec::new();
        message::write(&mut bytes, &request);
        assert_eq!(bytes.len(), message::len(&request));
        assert_eq!(protobuf::command::parse(&bytes), parsed);
        if let Some(text) = in_json(&request) {
            match (&parsed, command::parse(&text)) {
                (Ok(ours), theirs) => assert_eq!(Ok(ours), theirs.as_ref(), "{text}"),
                (Err(_), theirs) => assert!(theirs.is_err(), "{text}"),
            }
        }
    } else {
        assert!(parsed.is_err());
    }
    comes_back::<v1::AttachRequest>(data);
    comes_back::<v1::AttachResponse>(data);
    comes_back::<v1::PublishRequest>(data);
}

fn comes_back<M: prost::Message + Default + PartialEq>(data: &[u8]) {
    let Ok(read) = message::read::<M>(data) else { return };
    let mut bytes = Vec::new();
    message::write(&mut bytes, &read);
    assert!(message::read::<M>(&bytes).is_ok_and(|again| again == read));
}

fn fits_the_contract(command: &Command) {
    assert!(command.id.as_deref().is_none_or(is_id));
    if let Action::Publish { kind, payload, fence, .. } = &command.action {
        assert!(fence.as_ref().is_none_or(|fence| !kind.is_ephemeral() && (1..=64).contains(&fence.len())));
        let json = match payload {
            Payload::Json(json) => std::str::from_utf8(json).ok(),
            Payload::Binary(_) => None,
        };
        assert!(*kind != Kind::Typing || json.is_some());
        assert!(json.is_none_or(|json| plain::is_object(json) && !json.contains(['\n', '\r'])));
    }
    if let Some(room) = command.action.clone().into_room() {
        assert!(is_room(&room));
    }
}

/// The same request as an envelope; none where JSON has no words for it.
fn in_json(request: &v1::ConnectRequest) -> Option<String> {
    // What is not there in protobuf has no place here either, and an object is put in as it is spelled.
    let valid = |text: &str| serde_json::from_str::<Box<RawValue>>(text).ok();
    let (kind, room, data) = match request.command.as_ref()? {
        Wire::Join(v1::Join { room, since, history, echo, presence }) => {
            let mut data = json!({"history": history});
            if let Some(v1::Position { epoch, seq }) = since {
                data["since"] = json!({"epoch": epoch, "seq": seq});
            }
            set(&mut data, "echo", *echo);
            set(&mut data, "presence", *presence);
            ("join", Some(room), valid(&data.to_string())?)
        }
        Wire::Leave(v1::Leave { room }) => ("leave", Some(room), valid("{}")?),
        Wire::History(v1::History { room, after, before, limit }) => {
            let mut data = json!({});
            set(&mut data, "after", *after);
            set(&mut data, "before", *before);
            set(&mut data, "limit", *limit);
            ("history", Some(room), valid(&data.to_string())?)
        }
        Wire::Presence(v1::SetPresence { room, meta }) => {
            let data = match meta {
                Some(meta) => format!(r#"{{"meta":{}}}"#, valid(meta)?.get()),
                None => "{}".to_owned(),
            };
            ("presence", Some(room), valid(&data)?)
        }
        Wire::Publish(v1::Publish { room, kind, payload, epoch }) if epoch.is_empty() => {
            let kind = match v1::EventKind::try_from(*kind).ok()? {
                v1::EventKind::Unspecified | v1::EventKind::Text => "text",
                v1::EventKind::System => "system",
                v1::EventKind::Signal => "signal",
                v1::EventKind::Typing => "typing",
            };
            let Some(Data::Json(json)) = payload.as_ref()?.data.as_ref() else { return None };
            (kind, Some(room), valid(json)?)
        }
        Wire::Publish(_) => return None,
        Wire::Auth(v1::Auth { token }) => ("auth", None, valid(&json!({"token": token}).to_string())?),
        Wire::Ping(v1::Ping {}) => ("ping", None, valid("{}")?),
    };
    let text = |text: &str| Value::from(text).to_string();
    let mut out = format!(r#"{{"type":"{kind}""#);
    if !request.id.is_empty() {
        out.push_str(&format!(r#","id":{}"#, text(&request.id)));
    }
    if let Some(room) = room {
        out.push_str(&format!(r#","room":{}"#, text(room)));
    }
    out.push_str(&format!(r#","data":{}}}"#, data.get()));
    Some(out)
}

fn set(data: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        data[name] = value.into();
    }
}
