//! What each envelope looks like, to the letter.
use super::*;
use crate::wire::event::{Code, Kind};
use serde_json::{Value, json};

fn text(envelope: Envelope) -> String {
    String::from_utf8(envelope.into_text().to_vec()).unwrap()
}

fn message(payload: Payload) -> Event {
    Event {
        room: "general".into(),
        kind: Kind::Text,
        seq: 42,
        id: Some("msg_123".into()),
        author: "user_42".into(),
        payload,
        timestamp_us: 1_711_000_000_123_000,
    }
}

fn at(seq: u64) -> Position {
    Position { epoch: "e1".into(), seq }
}

fn delivered(position: &Position, duplicate: bool) -> Acked<'_> {
    Acked::Delivered { position: Some(position), duplicate }
}

fn history(id: Option<&str>, events: &[&Event], seq: u64, more: bool) -> Envelope {
    let page = Page { position: &at(seq), events, more };
    envelope(&Frame::History { id, room: "general", page })
}

#[test]
fn the_exchange_of_the_contract_to_the_letter() {
    assert_eq!(
        text(event(&message(Payload::Json(Bytes::from_static(br#"{"content":"Hello"}"#))))),
        r#"{"type":"text","id":"msg_123","room":"general","seq":42,"data":{"content":"Hello","author":"user_42"},"timestamp":1711000000.123}"#
    );
    assert_eq!(
        text(ack(Some("msg_123"), Some("general"), delivered(&at(42), false))),
        r#"{"type":"ack","id":"msg_123","room":"general","data":{"status":"delivered","seq":42}}"#
    );
}

#[test]
fn ephemeral_events_have_no_seq_and_payloads_may_be_binary() {
    let signal = Event {
        kind: Kind::Signal,
        seq: 0,
        id: None,
        author: "a\"b".into(),
        timestamp_us: 5_000_000,
        ..message(Payload::Binary(Bytes::from_static(&[0, 255, 62])))
    };
    assert_eq!(
        text(event(&signal)),
        r#"{"type":"signal","room":"general","data":{"binary":"AP8+","author":"a\"b"},"timestamp":5}"#
    );
}

#[test]
fn every_reply() {
    let failure = Failure::new(Code::ResourceExhausted, "slow \"down\"").retry_after_ms(250);
    let joined_now = |recovered| {
        Joined { position: &Position { epoch: "e1".into(), seq: 7 }, cursor: "AQ", recovered, replayed: 3 }
            .into_text()
    };
    let cases = [
        (
            text(ack(Some("1"), Some("r"), delivered(&at(9), true))),
            json!({"type":"ack","id":"1","room":"r","data":{"status":"delivered","seq":9,"duplicate":true}}),
        ),
        (
            text(ack(Some("1"), Some("r"), Acked::Delivered { position: None, duplicate: false })),
            json!({"type":"ack","id":"1","room":"r","data":{"status":"delivered"}}),
        ),
        (text(ack(Some("1"), None, Acked::Ok)), json!({"type":"ack","id":"1","data":{"status":"ok"}})),
        (
            text(ack(Some("1"), Some("r"), Acked::Left)),
            json!({"type":"ack","id":"1","room":"r","data":{"status":"left"}}),
        ),
        (
            text(error(Some("1"), Some("r"), &failure)),
            json!({"type":"error","id":"1","room":"r","data":{"code":"resource_exhausted","message":"slow \"down\"","retry_after_ms":250}}),
        ),
        (
            text(error(None, None, &Failure::new(Code::Internal, "x"))),
            json!({"type":"error","data":{"code":"internal","message":"x"}}),
        ),
        (
            text(welcome("s1", "Zoë\n", 25_000, 65_536)),
            json!({"type":"system","data":{"event":"welcome","session":"s1","user":"Zoë\n","heartbeat_ms":25000,"max_message_bytes":65536}}),
        ),
        (
            joined_now(None),
            json!({"type":"system","id":"j","room":"r","data":{"event":"joined","epoch":"e1","seq":7,"cursor":"AQ","replayed":3}}),
        ),
        (
            joined_now(Some(false)),
            json!({"type":"system","id":"j","room":"r","data":{"event":"joined","epoch":"e1","seq":7,"cursor":"AQ","recovered":false,"replayed":3}}),
        ),
        (
            text(envelope(&Frame::Left { room: "r" })),
            json!({"type":"system","room":"r","data":{"event":"left"}}),
        ),
        (
            text(envelope(&Frame::Draining { reconnect_after_ms: 5 })),
            json!({"type":"system","data":{"event":"draining","reconnect_after_ms":5}}),
        ),
        (text(overloaded(6)), json!({"type":"system","data":{"event":"overloaded","reconnect_after_ms":6}})),
    ];
    for (written, meant) in cases {
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), meant, "{written}");
        assert!(!written.contains('\n'));
    }
}

impl Joined<'_> {
    fn into_text(self) -> String {
        text(joined(Some("j"), "r", &self))
    }
}

#[test]
fn history_holds_whole_envelopes() {
    let one = message(Payload::Json(Bytes::from_static(b"{}")));
    let two = Event { seq: 43, ..one.clone() };
    let page: Value = serde_json::from_str(&text(history(Some("h"), &[&one, &two], 50, true))).unwrap();
    assert_eq!(
        (&page["type"], &page["id"], &page["room"]),
        (&json!("history"), &json!("h"), &json!("general"))
    );
    assert_eq!((&page["data"]["epoch"], &page["data"]["seq"]), (&json!("e1"), &json!(50)));
    assert_eq!(page["data"]["more"], json!(true));
    assert_eq!(page["data"]["messages"][0], serde_json::from_str::<Value>(&text(event(&one))).unwrap());
    assert_eq!(page["data"]["messages"][1]["seq"], json!(43));
    let empty: Value = serde_json::from_str(&text(history(None, &[], 0, false))).unwrap();
    assert_eq!(empty["data"], json!({"epoch":"e1","seq":0,"messages":[],"more":false}));
}

#[test]
fn timestamps_lose_no_digit() {
    let shown = |us| {
        let mut out = Vec::new();
        timestamp(&mut out, us);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(shown(0), "0");
    assert_eq!(shown(1), "0.000001");
    assert_eq!(shown(1_711_000_000_000_000), "1711000000");
    assert_eq!(shown(1_711_000_000_100_000), "1711000000.1");
    assert_eq!(shown(1_711_000_000_012_340), "1711000000.01234");
    assert_eq!(shown(1_711_000_000_999_999), "1711000000.999999");
}

#[test]
fn heads_fit_every_length() {
    for len in [50usize, 124, 125, 126, 127, 65_534, 65_535, 65_536, 70_000] {
        let envelope = Envelope { buffer: [vec![0; HEAD_MAX], vec![b'x'; len]].concat(), kind: "text" };
        let frame = envelope.into_frame();
        assert_eq!(frame[0], 0x81);
        let (head, told) = match frame[1] {
            126 => (4, u16::from_be_bytes([frame[2], frame[3]]) as usize),
            127 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize),
            short => (2, short as usize),
        };
        assert_eq!((told, frame.len()), (len, head + len));
        assert!(frame[head..].iter().all(|byte| *byte == b'x'));
        let shortest = if len < 126 {
            2
        } else if len <= 0xffff {
            4
        } else {
            10
        };
        assert_eq!(head, shortest);
    }
}
