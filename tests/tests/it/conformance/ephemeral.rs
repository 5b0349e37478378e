//! Signals and typing: for the others, for now.
use super::{Behaviour, Case, Outcome};
use hearth_tests::transports::{
    Session,
    command::{Join, Range},
    envelope::Envelope,
};
use std::time::{Duration, Instant};

/// Why what is posted is heard by the streams of who has posted it.
const NO_SESSION: &str = "a request is its user's and no session's, so the user's own stream hears it too";

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("signal: to the others, and not kept", signals),
        Behaviour::new("signal: not to its own session", signals_of_one_s_own),
        Behaviour::new("typing: told, and taken back", typing),
        Behaviour::new("typing: not to its own session", typing_of_one_s_own),
        Behaviour::new("typing: ends by itself", typing_ends_by_itself),
        Behaviour::new("typing: ends with its session", typing_ends_with_its_session),
    ]
}

async fn types(session: &mut Session, room: &str, active: bool) {
    let data = format!(r#"{{"active":{active}}}"#);
    let ack = session.publish(room, "typing", Some("typing"), &data).await.unwrap();
    assert_eq!((ack.seq, ack.duplicate), (None, false));
}

fn is_typing(envelope: &Envelope, active: bool, author: &str) -> bool {
    assert_eq!((envelope.kind.as_str(), envelope.seq), ("typing", None), "{envelope:?}");
    assert!(envelope.timestamp_us.is_some(), "{envelope:?}");
    envelope.data == format!(r#"{{"active":{active},"author":"{author}"}}"#)
}

/// The other tabs of its user are others too. Needs no join, as a text needs none.
async fn signals(case: Case) -> Outcome {
    let (mut ben, mut tab) = (case.enter("ben").await, case.enter("ann").await);
    let mut ann = case.connect("ann").await;
    ann.publish(&case.room, "signal", Some("s1"), r#"{"x":1.0}"#).await.unwrap();
    for listener in [&mut ben, &mut tab] {
        let signal = listener.next().await;
        assert_eq!((signal.kind.as_str(), signal.id.as_deref(), signal.seq), ("signal", Some("s1"), None));
        assert_eq!(signal.data, r#"{"x":1.0,"author":"ann"}"#);
        assert!(signal.timestamp_us.is_some());
    }
    assert_eq!(ann.history(&case.room, Range::default()).await.unwrap().messages, []);
    let joined = case.connect("cyd").await.must_join(&case.room, &Join::default()).await;
    assert_eq!((joined.seq, joined.replayed), (0, 0));
    Outcome::Kept
}

async fn signals_of_one_s_own(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.enter("ann").await, case.enter("ben").await);
    ann.mark(&case.room, "ann's").await;
    ben.until_mark("ann's").await;
    ben.mark(&case.room, "ben's").await;
    let heard = ann.until_mark("ben's").await.len();
    if case.transport.speaks_by_request() {
        assert_eq!(heard, 2);
        return Outcome::ByTheContract(NO_SESSION);
    }
    assert_eq!(heard, 1);
    Outcome::Kept
}

async fn typing(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.enter("ann").await, case.enter("ben").await);
    types(&mut ann, &case.room, true).await;
    let told = ben.next().await;
    assert!(is_typing(&told, true, "ann"), "{told:?}");
    types(&mut ann, &case.room, false).await;
    let told = ben.next().await;
    assert!(is_typing(&told, false, "ann"), "{told:?}");
    for wrong in ["{}", r#"{"active":1}"#, "[]"] {
        let refusal = ann.publish(&case.room, "typing", Some("t"), wrong).await.unwrap_err();
        assert_eq!(refusal.code, "invalid_argument", "{wrong}");
    }
    ann.mark(&case.room, "end").await;
    assert_eq!(ben.until_mark("end").await.len(), 1, "it does not end twice");
    Outcome::Kept
}

async fn typing_of_one_s_own(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.enter("ann").await, case.enter("ben").await);
    types(&mut ann, &case.room, true).await;
    types(&mut ann, &case.room, false).await;
    assert!(is_typing(&ben.next().await, true, "ann"));
    assert!(is_typing(&ben.next().await, false, "ann"));
    ben.mark(&case.room, "end").await;
    let heard = ann.until_mark("end").await;
    if case.transport.speaks_by_request() {
        assert!(is_typing(&heard[0], true, "ann") && is_typing(&heard[1], false, "ann"), "{heard:?}");
        assert_eq!(heard.len(), 3, "{heard:?}");
        return Outcome::ByTheContract(NO_SESSION);
    }
    assert_eq!(heard.len(), 1, "{heard:?}");
    Outcome::Kept
}

/// Six seconds after it was last repeated.
async fn typing_ends_by_itself(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.enter("ann").await, case.enter("ben").await);
    let start = Instant::now();
    types(&mut ann, &case.room, true).await;
    assert!(is_typing(&ben.next().await, true, "ann"));
    let end = ben.next().await;
    assert!(is_typing(&end, false, "ann") && end.id.is_none(), "{end:?}");
    let after = start.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(12)).contains(&after), "it ended after {after:?}");
    Outcome::Kept
}

/// At once, however it ends.
async fn typing_ends_with_its_session(case: Case) -> Outcome {
    let mut ben = case.enter("ben").await;
    for cleanly in [true, false] {
        let mut ann = case.enter("ann").await;
        let start = Instant::now();
        types(&mut ann, &case.room, true).await;
        assert!(is_typing(&ben.next().await, true, "ann"));
        if cleanly {
            ann.close().await;
        } else {
            ann.cut(&case.room).await;
        }
        let end = ben.next().await;
        assert!(is_typing(&end, false, "ann"), "{end:?}");
        let after = start.elapsed();
        if case.transport.speaks_by_request() {
            assert!(after > Duration::from_secs(5), "it ended after {after:?}");
        } else {
            assert!(after < Duration::from_secs(5), "it ended after {after:?}");
        }
    }
    if case.transport.speaks_by_request() {
        return Outcome::ByTheContract("a request is no session's, so what it has begun ends by itself");
    }
    Outcome::Kept
}
