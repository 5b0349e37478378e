//! Joining again, and leaving.
use super::{Behaviour, Case, Outcome, until_sessions};
use hearth_tests::transports::{Doors, Session, command::Join};

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("join: tells where the room is", tells_where_the_room_is),
        Behaviour::new("join: what comes meanwhile is replayed or live", no_hole_at_the_seam),
        Behaviour::new("leave: nothing comes behind it", leave),
        Behaviour::new("end: a session that ends leaves nothing behind", leaves_nothing_behind),
    ]
}

async fn tells_where_the_room_is(case: Case) -> Outcome {
    let mut ann = case.connect("ann").await;
    for n in 1..=3 {
        ann.text(&case.room, &format!("m{n}")).await;
    }
    let mut ben = case.connect("ben").await;
    let joined = ben.must_join(&case.room, &Join::default()).await;
    assert_eq!((joined.seq, joined.recovered, joined.replayed), (3, None, 0), "{joined:?}");
    ann.text(&case.room, "m4").await;
    assert_eq!(ben.next().await.seq, Some(4), "what was before is not told");
    if !case.transport.speaks_by_request() {
        let again = ben.must_join(&case.room, &Join { history: 3, ..Join::default() }).await;
        assert_eq!((again.seq, again.replayed), (4, 0), "who is there is told the place and no more");
        ann.text(&case.room, "m5").await;
        assert_eq!(ben.next().await.seq, Some(5), "and hears all once");
    }
    Outcome::Kept
}

/// 3. Events that are published while a join is under way come, from `joined` on, each once.
async fn no_hole_at_the_seam(case: Case) -> Outcome {
    let first = case.enter("ben").await;
    let (_, place) = first.cut(&case.room).await;
    until_sessions(case.doors(), &case.room, 0).await;
    let publishing = {
        let case = case.clone();
        tokio::spawn(async move {
            let mut ann = case.connect("ann").await;
            for n in 1..=60 {
                ann.text(&case.room, &format!("m{n}")).await;
            }
        })
    };
    let mut joining = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (case, place) = (case.clone(), place.clone());
        joining.spawn(async move {
            let user = format!("ben{n}");
            let (mut ben, joined) =
                Session::come_back(case.doors(), case.transport, &user, &case.room, &place).await;
            assert_eq!((joined.recovered, joined.replayed), (Some(true), joined.seq), "{joined:?}");
            for seq in 1..=60 {
                assert_eq!(ben.next().await.seq, Some(seq), "{joined:?}");
            }
        });
    }
    publishing.await.unwrap();
    joining.join_all().await;
    Outcome::Kept
}

async fn leave(case: Case) -> Outcome {
    if case.transport.speaks_by_request() {
        return Outcome::ByTheContract("a stream leaves its rooms by its end, and that is to have vanished");
    }
    let (mut ann, mut ben) = (case.connect("ann").await, case.enter("ben").await);
    let other = format!("{}:other", case.room);
    ben.must_join(&other, &Join::default()).await;
    ann.text(&case.room, "m1").await;
    assert_eq!(ben.next().await.seq, Some(1));
    ben.leave(&case.room).await.unwrap();
    ann.text(&case.room, "m2").await;
    ann.mark(&other, "end").await;
    assert_eq!(ben.until_mark("end").await.len(), 1, "only the other room is heard");
    assert_eq!(ben.leave(&case.room).await.unwrap_err().code, "failed_precondition");
    let joined = ben.must_join(&case.room, &Join::default()).await;
    assert_eq!((joined.seq, joined.recovered), (2, None));
    ann.text(&case.room, "m3").await;
    assert_eq!(ben.next().await.seq, Some(3));
    Outcome::Kept
}

/// 4. However it ends.
async fn leaves_nothing_behind(case: Case) -> Outcome {
    let doors = Doors::of(&case.servers.usual);
    let (one, other) = (case.enter("ann").await, case.enter("ben").await);
    until_sessions(doors, &case.room, 2).await;
    one.close().await;
    until_sessions(doors, &case.room, 1).await;
    other.cut(&case.room).await;
    until_sessions(doors, &case.room, 0).await;
    Outcome::Kept
}
