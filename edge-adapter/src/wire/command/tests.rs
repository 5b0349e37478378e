//! What is taken, and the whole list of what is refused.
use super::*;
use bytes::Bytes;
use proptest::prelude::*;

fn good(text: &str) -> Command {
    parse(text).unwrap_or_else(|rejected| panic!("{text}: {rejected:?}"))
}

fn action(text: &str) -> Action {
    good(text).action
}

#[test]
fn publishes_take_data_as_it_stands() {
    let sent = r#"{"type":"text","id":"msg_123","room":"general","x":[1],"data":{"n":1.00, "author":"me"}}"#;
    assert_eq!(
        good(sent),
        Command {
            id: Some("msg_123".into()),
            action: Action::Publish {
                room: "general".into(),
                kind: Kind::Text,
                payload: Payload::Json(Bytes::from_static(br#"{"n":1.00}"#)),
                fence: None
            }
        }
    );
    let kind = |text| match action(text) {
        Action::Publish { kind, payload, .. } => (kind, String::from_utf8(payload.bytes().to_vec()).unwrap()),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(r#"{"data":{},"room":"r","type":"signal"}"#), (Kind::Signal, "{}".into()));
    assert_eq!(
        kind(r#"{"type":"typing","room":"r","data":{"active":false,"x":1}}"#),
        (Kind::Typing, r#"{"active":false,"x":1}"#.into())
    );
}

#[test]
fn escapes_spell_the_same_names() {
    assert_eq!(
        good(r#"{"\u0074ype":"l\u0065ave","id":"\u00e9\"","room":"gener\u0061l"}"#),
        Command { id: Some("é\"".into()), action: Action::Leave { room: "general".into() } }
    );
}

#[test]
fn joins() {
    let plain = Action::Join { room: "r".into(), since: None, history: 0, presence: true, echo: true };
    assert_eq!(action(r#"{"type":"join","room":"r"}"#), plain);
    assert_eq!(action(r#"{"type":"join","room":"r","data":{}}"#), plain);
    assert_eq!(action(r#"{"type":"join","room":"r","data":{"later":null}}"#), plain);
    assert_eq!(
        action(
            r#"{"type":"join","room":"r","data":{"since":{"epoch":"e","seq":7,"x":1},"history":1000,"presence":false,"echo":false}}"#
        ),
        Action::Join {
            room: "r".into(),
            since: Some(Position { epoch: "e".into(), seq: 7 }),
            history: 1000,
            presence: false,
            echo: false
        }
    );
}

#[test]
fn metas() {
    let presence = |meta: Option<&str>| Action::Presence { room: "r".into(), meta: meta.map(Into::into) };
    let text = r#"{"type":"presence","room":"r","data":{"meta":{"status":"a\nb","author":1}}}"#;
    assert_eq!(action(text), presence(Some(r#"{"status":"a\nb","author":1}"#)));
    assert_eq!(
        action("{\"type\":\"presence\",\"room\":\"r\",\"data\":{\"meta\":{\n\"a\":1}}}"),
        presence(Some(r#"{"a":1}"#))
    );
    assert_eq!(action(r#"{"type":"presence","room":"r","data":{}}"#), presence(None), "a mere sign of life");
}

#[test]
fn histories_and_pings() {
    let history = |after, before, limit| Action::History { room: "r".into(), after, before, limit };
    assert_eq!(action(r#"{"type":"history","room":"r"}"#), history(None, None, 100));
    assert_eq!(
        action(r#"{"type":"history","room":"r","data":{"after":0,"before":18446744073709551615,"limit":1}}"#),
        history(Some(0), Some(u64::MAX), 1)
    );
    assert_eq!(action(r#"{"type":"ping"}"#), Action::Ping);
    assert_eq!(action(r#"{"type":"ping","room":5,"data":{}}"#), Action::Ping);
}

/// Every malformed frame that we could think of: what is sent, the code, and the id and room that the error names.
#[test]
fn malformed_frames() {
    use Code::InvalidArgument;
    let deep = format!(
        r#"{{"type":"text","id":"1","room":"r","data":{{"a":{}{}}}}}"#,
        "[".repeat(63),
        "]".repeat(63)
    );
    let very_deep = "[".repeat(60_000);
    let long_id = format!(r#"{{"type":"ping","id":"{}"}}"#, "é".repeat(257));
    let long_room = format!(r#"{{"type":"leave","id":"1","room":"{}"}}"#, "r".repeat(129));
    // One case a line, to be read as a table.
    #[rustfmt::skip]
    let cases: &[(&str, Code, Option<&str>, Option<&str>)] = &[
        // No JSON.
        ("", InvalidArgument, None, None),
        (" ", InvalidArgument, None, None),
        ("hello", InvalidArgument, None, None),
        ("{", InvalidArgument, None, None),
        (r#"{"type":"ping""#, InvalidArgument, None, None),
        (r#"{"type":"ping"} {}"#, InvalidArgument, None, None),
        (r#"{"type":"ping",}"#, InvalidArgument, None, None),
        (r#"{'type':'ping'}"#, InvalidArgument, None, None),
        ("{\"type\":\"pi\nng\"}", InvalidArgument, None, None),
        ("\u{feff}{\"type\":\"ping\"}", InvalidArgument, None, None),
        (r#"{"type":"text","id":"1","room":"r","data":{"a":01}}"#, InvalidArgument, None, None),
        (r#"{"type":"text","id":"1","room":"r","data":{"a":NaN}}"#, InvalidArgument, None, None),
        // No object.
        ("null", InvalidArgument, None, None),
        ("1", InvalidArgument, None, None),
        (r#""ping""#, InvalidArgument, None, None),
        (r#"["ping"]"#, InvalidArgument, None, None),
        // Too deep.
        (&deep, InvalidArgument, None, None),
        (&very_deep, InvalidArgument, None, None),
        // The type.
        ("{}", InvalidArgument, None, None),
        (r#"{"id":"1","room":"r"}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":null,"id":"1","room":"r"}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":5,"id":"1"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"","id":"1"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"Text","id":"1","room":"r","data":{}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"shout","id":"1","room":"r","data":{}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"ack","id":"1"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"\ud800","id":"1"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"presence","id":"1","room":"r"}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"presence","id":"1","data":{"meta":{}}}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"presence","id":"1","room":"r","data":{"meta":[]}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"presence","id":"1","room":"r","data":{"meta":null}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"presence","id":"1","room":"r","data":[{}]}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"auth","id":"1","data":{"token":7}}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"auth","id":"1","data":{}}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"auth","id":"1"}"#, InvalidArgument, Some("1"), None),
        // The id.
        (r#"{"type":"ping","id":1}"#, InvalidArgument, None, None),
        (r#"{"type":"ping","id":null}"#, InvalidArgument, None, None),
        (r#"{"type":"ping","id":""}"#, InvalidArgument, None, None),
        (r#"{"type":"leave","id":{},"room":"r"}"#, InvalidArgument, None, Some("r")),
        (r#"{"type":"ping","id":"\ud800"}"#, InvalidArgument, None, None),
        (&long_id, InvalidArgument, None, None),
        // The room.
        (r#"{"type":"text","id":"1","data":{}}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"join","id":"1"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"leave","id":"1","room":null}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"leave","id":"1","room":["r"]}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"history","id":"1","room":""}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"history","id":"1","room":"a b"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"history","id":"1","room":"-a"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"history","id":"1","room":"a/b"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"history","id":"1","room":"ä"}"#, InvalidArgument, Some("1"), None),
        (&long_room, InvalidArgument, Some("1"), None),
        // Data of a publish.
        (r#"{"type":"text","id":"1","room":"r"}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"text","id":"1","room":"r","data":null}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"text","id":"1","room":"r","data":"{}"}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"text","id":"1","room":"r","data":[]}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"signal","id":"1","room":"r"}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"signal","id":"1","room":"r","data":1}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r"}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r","data":{}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r","data":[true]}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r","data":{"active":1}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"typing","id":"1","room":"r","data":{"active":null}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"typing","room":"r","data":{"active":true,"active":false}}"#, InvalidArgument, None, Some("r")),
        // Data of a join.
        (r#"{"type":"join","id":"1","room":"r","data":null}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":[]}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":5}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":null}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":"c"}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":["e",1]}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"seq":1}}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e"}}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":1,"seq":1}}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e","seq":-1}}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e","seq":1.5}}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"since":{"epoch":"e","seq":"1"}}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"history":-1}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"history":1001}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"history":1.5}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"history":"9"}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"presence":"no"}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"join","id":"1","room":"r","data":{"echo":0}}"#, InvalidArgument, Some("1"), Some("r")),
        // Data of a leave, a ping, a history.
        (r#"{"type":"leave","id":"1","room":"r","data":[]}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"ping","id":"1","data":"x"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"history","id":"1","room":"r","data":7}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"limit":0}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"limit":1001}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"limit":null}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"after":-1}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"after":null}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"before":"9"}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"history","id":"1","room":"r","data":{"before":18446744073709551616}}"#, InvalidArgument, Some("1"), Some("r")),
        // A field twice, however it is spelled.
        (r#"{"type":"ping","type":"text","id":"1"}"#, InvalidArgument, Some("1"), None),
        (r#"{"type":"text","id":"1","room":"r","data":{},"d\u0061ta":{}}"#, InvalidArgument, Some("1"), Some("r")),
        (r#"{"type":"leave","id":"1","room":"r","room":"s"}"#, InvalidArgument, Some("1"), Some("s")),
    ];
    for (text, code, id, room) in cases {
        let shown = text.get(..120).unwrap_or(text);
        let rejected = parse(text).expect_err(shown);
        assert_eq!(rejected.failure.code, *code, "{shown}");
        assert_eq!(rejected.id.as_deref(), *id, "{shown}");
        assert_eq!(rejected.room.as_deref(), *room, "{shown}");
        assert!(!rejected.failure.message.is_empty() && rejected.failure.message.len() < 200, "{shown}");
    }
}

#[test]
fn the_deepest_frame_that_is_taken() {
    let nested = |n: usize| {
        format!(r#"{{"type":"text","room":"r","data":{{"a":{}{}}}}}"#, "[".repeat(n), "]".repeat(n))
    };
    assert!(parse(&nested(62)).is_ok());
    assert!(parse(&nested(63)).is_err());
}

proptest! {
    #[test]
    fn never_panics(text in ".{0,80}") {
        let _ = parse(&text);
    }

    /// Frames that are nearly right: whatever is taken obeys the rules.
    #[test]
    fn what_passes_is_sound(
        kind in "text|signal|typing|presence|join|leave|history|ping|x",
        id in r#"|,"id":("a|é"|1|null|"\\u0041")"#,
        room in r#"|,"room":("general"|"~x"|" "|7)"#,
        data in r#"|,"data":(\{\}|\{"active":true\}|\[\]|\{"since":\{"epoch":"e","seq":1\}\}|\{"limit":(0|5|1000)\}|\{"meta":(\{\n"a":1\}|7)\}|null)"#,
    ) {
        let text = format!(r#"{{"type":"{kind}"{id}{room}{data}}}"#);
        if let Ok(command) = parse(&text) {
            prop_assert!(command.id.is_none_or(|id| name::id(&id).is_ok()));
            match command.action {
                Action::Publish { room, payload, .. } => {
                    prop_assert!(name::room(&room).is_ok());
                    prop_assert!(payload.bytes().first() == Some(&b'{'), "no object");
                }
                Action::Presence { room, meta } => {
                    prop_assert!(name::room(&room).is_ok());
                    prop_assert!(meta.is_none_or(|meta| meta.starts_with('{') && !meta.contains('\n')), "one line");
                }
                Action::Join { room, .. } | Action::Leave { room } => prop_assert!(name::room(&room).is_ok()),
                Action::History { room, limit, .. } => {
                    prop_assert!(name::room(&room).is_ok());
                    prop_assert!((1..=LIMIT_MAX).contains(&limit));
                }
                Action::Auth { .. } | Action::Ping => {}
            }
        }
    }
}
