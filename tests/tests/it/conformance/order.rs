//! Order: one numbering, dense, the same for everyone.
use super::{Behaviour, Case, Outcome};
use hearth_tests::transports::{
    Session,
    command::Join,
    envelope::{Ack, Envelope},
};

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("order: racing publishers, one order for all", racing_publishers),
        Behaviour::new("order: several rooms, each its own", several_rooms),
        Behaviour::new("echo: one's own comes back in its place", one_s_own_comes_back),
        Behaviour::new("echo: false leaves one's own out", echo_false),
    ]
}

fn id_of(envelope: &Envelope) -> String {
    envelope.id.clone().unwrap_or_default()
}

/// Publishes thirty, one after the other, and gives the seqs of the acks.
async fn publish_thirty(case: Case, user: &'static str) -> Vec<(String, u64)> {
    let mut session = case.connect(user).await;
    let mut acks = Vec::new();
    for n in 0..30 {
        let id = format!("{user}{n:02}");
        acks.push((id.clone(), session.text(&case.room, &id).await));
    }
    assert!(acks.is_sorted_by(|one, next| one.1 < next.1), "{acks:?}");
    acks
}

/// 1. Three race, two listen: both see 1 to 90, each with the id that the ack said it has.
async fn racing_publishers(case: Case) -> Outcome {
    let (mut one, mut other) = (case.enter("ben").await, case.enter("cyd").await);
    let (ann, dan, eve) = tokio::join!(
        publish_thirty(case.clone(), "ann"),
        publish_thirty(case.clone(), "dan"),
        publish_thirty(case.clone(), "eve"),
    );
    let mut expected = [ann, dan, eve].concat();
    expected.sort_by_key(|(_, seq)| *seq);
    assert_eq!(expected.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), (1..=90).collect::<Vec<_>>());
    for listener in [&mut one, &mut other] {
        let mut seen = Vec::new();
        for _ in 0..90 {
            let text = listener.next().await;
            assert_eq!((text.kind.as_str(), text.room.as_ref()), ("text", Some(&case.room)), "{text:?}");
            assert!(text.timestamp_us.is_some(), "{text:?}");
            seen.push((id_of(&text), text.seq.unwrap()));
        }
        assert_eq!(seen, expected);
    }
    Outcome::Kept
}

/// A session in several rooms hears each of them by its own numbering.
async fn several_rooms(case: Case) -> Outcome {
    let rooms = ["a", "b", "c"].map(|name| format!("{}:{name}", case.room));
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    let mut ben = case.connect("ben").await;
    for joined in ben.join_all(&rooms, &Join::default()).await {
        assert_eq!(joined.unwrap().seq, 0);
    }
    let mut ann = case.connect("ann").await;
    for n in 1..=5 {
        for room in &rooms {
            assert_eq!(ann.text(room, &format!("m{n}")).await, n);
        }
    }
    let mut tops = [0; 3];
    for _ in 0..15 {
        let text = ben.next().await;
        let at = rooms.iter().position(|room| text.room.as_deref() == Some(room)).unwrap();
        tops[at] += 1;
        assert_eq!((text.seq, id_of(&text)), (Some(tops[at]), format!("m{}", tops[at])), "{text:?}");
    }
    assert_eq!(tops, [5; 3]);
    Outcome::Kept
}

async fn one_s_own_comes_back(case: Case) -> Outcome {
    let (mut ann, mut ben) = (case.enter("ann").await, case.connect("ben").await);
    for n in 1..=6 {
        let session: &mut Session = if n % 2 == 0 { &mut ann } else { &mut ben };
        assert_eq!(session.text(&case.room, &format!("m{n}")).await, n);
    }
    for n in 1..=6 {
        let text = ann.next().await;
        let author = if n % 2 == 0 { "ann" } else { "ben" };
        assert_eq!((text.seq, text.field("author")), (Some(n), author.to_owned()), "{text:?}");
    }
    Outcome::Kept
}

async fn echo_false(case: Case) -> Outcome {
    if case.transport.speaks_by_request() {
        // What is posted is no session's, so there is nothing that could be left out.
        return Outcome::ByTheContract("a stream's URL names its rooms, and no options of a join");
    }
    let mut ann = case.connect("ann").await;
    let join = Join { echo: Some(false), ..Join::default() };
    ann.must_join(&case.room, &join).await;
    let mut tab = case.enter("ann").await;
    assert_eq!(
        ann.publish(&case.room, "text", Some("own"), "{}").await,
        Ok(Ack { seq: Some(1), duplicate: false })
    );
    assert_eq!(tab.text(&case.room, "tab's").await, 2);
    let text = ann.next().await;
    assert_eq!((text.seq, id_of(&text)), (Some(2), "tab's".to_owned()), "{text:?}");
    assert_eq!([tab.next().await.seq, tab.next().await.seq], [Some(1), Some(2)]);
    Outcome::Kept
}
