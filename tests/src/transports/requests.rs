//! What a client without a socket says: requests, whose answers are put into the envelopes that a socket would have got.
use super::{Doors, command::Command, envelope::Envelope};
use crate::http::{self, Response};
use serde_json::{Value, json};

/// Does what a command says, and gives its answer.
pub async fn perform(doors: Doors, user: &str, id: Option<&str>, command: &Command<'_>) -> Envelope {
    let user = encode(user);
    match command {
        Command::Publish(room, ..) => {
            let target = format!("/rooms/{}/messages?user={user}", encode(room));
            match http::try_send(doors.http, "POST", &target, &command.envelope(id)).await {
                Ok(answer) if answer.status == 200 => Envelope::read(&answer.body),
                Ok(answer) => problem(&answer, id, Some(room)),
                Err(gone) => {
                    let problem = json!({"code": "nobody answers", "detail": gone.to_string()});
                    error(&problem, None, id, Some(room))
                }
            }
        }
        Command::Presence(room, meta) => {
            let target = format!("/rooms/{}/presence?user={user}", encode(room));
            let body = format!(r#"{{"meta":{meta}}}"#);
            let answer = http::send(doors.http, "PUT", &target, &[], &body).await;
            match answer.status {
                200 => Envelope { id: id.map(str::to_owned), ..Envelope::read(&answer.body) },
                _ => problem(&answer, id, Some(room)),
            }
        }
        Command::History(room, range) => {
            let mut target = format!("/rooms/{}/messages?user={user}", encode(room));
            let limit = range.limit.map(u64::from);
            for (name, value) in [("after", range.after), ("before", range.before), ("limit", limit)] {
                if let Some(value) = value {
                    target.push_str(&format!("&{name}={value}"));
                }
            }
            let answer = http::get(doors.http, &target, &[]).await;
            match answer.status {
                200 => Envelope::new("history", id, Some(room), answer.body),
                _ => problem(&answer, id, Some(room)),
            }
        }
        Command::Join(..) | Command::Leave(_) | Command::Ping => panic!("no request says {command:?}"),
    }
}

/// A problem as the error that a socket would have got.
pub fn problem(answer: &Response, id: Option<&str>, room: Option<&str>) -> Envelope {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem: Value =
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{answer:?}: {error}"));
    error(&problem, answer.header("retry-after"), id, room)
}

/// The same where the body has been read.
pub fn error(problem: &Value, retry_after: Option<&str>, id: Option<&str>, room: Option<&str>) -> Envelope {
    let mut data = json!({"code": problem["code"], "message": problem["detail"]});
    if let Some(seconds) = retry_after {
        let seconds: u64 = seconds.parse().expect("whole seconds");
        data["retry_after_ms"] = (seconds * 1000).into();
    }
    Envelope::new("error", id, room, data.to_string())
}

/// Percent-encoding for a path's segment and for a query's value.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The query that names a stream's rooms and its user.
pub fn query(rooms: &[&str], user: &str) -> String {
    let rooms: String = rooms.iter().map(|room| format!("room={}&", encode(room))).collect();
    format!("{rooms}user={}", encode(user))
}
