//! What is too much is refused, and what there was goes on.
use super::{Behaviour, Case, Outcome};
use hearth_tests::transports::{Doors, Session, command::Join};

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![Behaviour::new("limit: rooms of a session", rooms)]
}

/// 28. Three are taken here, and a URL of more than 32 is none.
async fn rooms(case: Case) -> Outcome {
    let doors = Doors::of(&case.servers.narrow);
    let rooms: Vec<String> = (0..33).map(|n| format!("{}:{n}", case.room)).collect();
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    let mut ann = Session::connect(doors, case.transport, "ann").await;
    let mut answers = ann.join_all(&rooms[..4], &Join::default()).await;
    let refusal = answers.pop().unwrap().unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.room.as_deref()), ("resource_exhausted", Some(rooms[3])));
    for (n, answer) in answers.into_iter().enumerate() {
        answer.unwrap();
        ann.text(rooms[n], "1").await;
        assert_eq!(ann.next().await.room.as_deref(), Some(rooms[n]));
    }
    if case.transport.speaks_by_request() {
        let mut ben = Session::connect(doors, case.transport, "ben").await;
        for answer in ben.join_all(&rooms, &Join::default()).await {
            assert_eq!(answer.unwrap_err().code, "invalid_argument");
        }
    } else {
        // A place that is left is free again.
        ann.leave(rooms[0]).await.unwrap();
        ann.must_join(rooms[3], &Join::default()).await;
    }
    Outcome::Kept
}
