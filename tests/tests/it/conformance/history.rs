//! Reading what was said.
use super::{Behaviour, Case, Outcome};
use hearth_tests::transports::{
    Doors, Session,
    command::{Join, Range},
};

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("history: after, before, limit, more", pages),
        Behaviour::new("history: as it was heard live", as_it_was_heard),
        Behaviour::new("history: a join brings the newest", a_join_brings_the_newest),
    ]
}

/// Ten events on the server that keeps five: 6 to 10.
async fn ten(case: &Case) -> Session {
    let doors = Doors::of(&case.servers.short);
    let mut ann = Session::connect(doors, case.transport, "ann").await;
    for n in 1..=10 {
        assert_eq!(ann.text(&case.room, &format!("m{n}")).await, n);
    }
    ann
}

/// Both ends are exclusive, pages ascend, and `more` speaks of the direction that was asked.
async fn pages(case: Case) -> Outcome {
    /// `after`, `before`, `limit`; the seqs, and whether there are more.
    type Row = (Option<u64>, Option<u64>, Option<u32>, &'static [u64], bool);
    const ROWS: [Row; 16] = [
        (None, None, None, &[6, 7, 8, 9, 10], false),
        (None, None, Some(5), &[6, 7, 8, 9, 10], false),
        (None, None, Some(3), &[8, 9, 10], true),
        (None, None, Some(1000), &[6, 7, 8, 9, 10], false),
        (Some(7), None, None, &[8, 9, 10], false),
        (Some(7), None, Some(2), &[8, 9], true),
        (Some(7), None, Some(3), &[8, 9, 10], false),
        (Some(10), None, None, &[], false),
        (Some(99), None, None, &[], false),
        (Some(0), None, Some(2), &[6, 7], true),
        (None, Some(9), None, &[6, 7, 8], false),
        (None, Some(9), Some(2), &[7, 8], true),
        (None, Some(6), None, &[], false),
        (Some(6), Some(9), None, &[7, 8], false),
        (Some(6), Some(9), Some(1), &[7], true),
        (Some(9), Some(6), None, &[], false),
    ];
    let mut ann = ten(&case).await;
    for (after, before, limit, seqs, more) in ROWS {
        let range = Range { after, before, limit };
        let page =
            ann.history(&case.room, range).await.unwrap_or_else(|error| panic!("{range:?}: {error:?}"));
        assert_eq!((page.seqs().as_slice(), page.more, page.seq), (seqs, more, 10), "{range:?}");
        assert!(!page.epoch.is_empty(), "{range:?}");
    }
    for limit in [0, 1001] {
        let range = Range { limit: Some(limit), ..Range::default() };
        let refusal = ann.history(&case.room, range).await.unwrap_err();
        assert_eq!(refusal.code, "invalid_argument", "{limit}");
    }
    let nowhere = ann.history(&format!("{}:nobody", case.room), Range::default()).await.unwrap();
    assert_eq!((nowhere.seqs(), nowhere.seq, nowhere.more), (vec![], 0, false));
    Outcome::Kept
}

/// Field for field, the timestamp too.
async fn as_it_was_heard(case: Case) -> Outcome {
    let mut ben = case.enter("ben").await;
    let mut ann = case.connect("ann").await;
    for (id, data) in [(Some("a"), r#"{"n":1.00}"#), (None, r#"{"author":"eve"}"#), (Some("c"), "{}")] {
        ann.publish(&case.room, "text", id, data).await.unwrap();
    }
    let heard = [ben.next().await, ben.next().await, ben.next().await];
    let page = ben.history(&case.room, Range::default()).await.unwrap();
    assert_eq!(page.messages, heard);
    Outcome::Kept
}

/// And where a join brings a place too, that decides.
async fn a_join_brings_the_newest(case: Case) -> Outcome {
    let mut ann = ten(&case).await;
    if case.transport.speaks_by_request() {
        // What a stream's page lacks, it reads by a request.
        let page = ann.history(&case.room, Range { limit: Some(3), ..Range::default() }).await.unwrap();
        assert_eq!(page.seqs(), [8, 9, 10]);
        return Outcome::ByTheContract("a stream's URL names its rooms, and no options of a join");
    }
    let doors = Doors::of(&case.servers.short);
    let mut places = Vec::new();
    for (history, since, recovered, seqs) in [
        (3, None, None, vec![8, 9, 10]),
        (1000, None, None, vec![6, 7, 8, 9, 10]),
        (3, Some(0), Some(true), vec![]),
    ] {
        let mut ben = Session::connect(doors, case.transport, "ben").await;
        let since = since.map(|at: usize| places.swap_remove(at));
        let join = Join { history, since, ..Join::default() };
        let joined = ben.must_join(&case.room, &join).await;
        assert_eq!((joined.recovered, joined.replayed), (recovered, seqs.len() as u64), "{join:?}");
        for seq in &seqs {
            assert_eq!(ben.next().await.seq, Some(*seq), "{join:?}");
        }
        ann.mark(&case.room, "end").await;
        assert_eq!(ben.until_mark("end").await.len(), 1, "{join:?}");
        places = ben.places(&case.room);
    }
    Outcome::Kept
}
