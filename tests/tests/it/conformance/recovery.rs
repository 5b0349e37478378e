//! Coming back: each kind of place, in every way that a transport lets a client say it, answered exactly.
use super::{Behaviour, Case, Outcome, until_sessions};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use hearth_tests::{
    Dice, eventually,
    transports::{
        Doors, Session,
        command::{Join, Range},
        envelope::{Joined, Place},
    },
};
use std::ops::Range as Seqs;

pub(super) fn behaviours() -> Vec<Behaviour> {
    let mut behaviours: Vec<Behaviour> =
        ROWS.iter().map(|row| Behaviour::new(row.name, move |case: Case| row.comes_back(case))).collect();
    behaviours.extend([
        Behaviour::new("recovery: expired, missed nothing", |case| expired(case, 10, true)),
        Behaviour::new("recovery: expired, missed one", |case| expired(case, 9, false)),
        Behaviour::new("recovery: all that is kept, beyond a queue", all_that_is_kept),
        Behaviour::new("recovery: cut amid a replay", cut_amid_a_replay),
        Behaviour::new("recovery: cut again and again", cut_again_and_again),
    ]);
    behaviours
}

/// How a place is brought that was taken.
enum Bent {
    /// As it is.
    Not,
    /// As if one more had been seen than there are.
    Ahead,
    /// From a server where the room has another epoch.
    Elsewhere,
    /// As something that nobody gave.
    Unreadable,
}

/// A client that was at `at` comes back to a room that is at `top` and keeps the last five.
struct Row {
    name: &'static str,
    at: u64,
    top: u64,
    bent: Bent,
    recovered: bool,
    replayed: Seqs<u64>,
}

const fn row(name: &'static str, at: u64, bent: Bent, recovered: bool, replayed: Seqs<u64>) -> Row {
    Row { name, at, top: 10, bent, recovered, replayed }
}

/// 2. The recovery table.
static ROWS: [Row; 10] = [
    row("recovery: current", 10, Bent::Not, true, 0..0),
    row("recovery: behind", 7, Bent::Not, true, 8..11),
    row("recovery: exactly at history's edge", 5, Bent::Not, true, 6..11),
    row("recovery: one older than history", 4, Bent::Not, false, 0..0),
    row("recovery: from the very beginning", 0, Bent::Not, false, 0..0),
    row("recovery: ahead of the top", 10, Bent::Ahead, false, 0..0),
    row("recovery: another epoch", 10, Bent::Elsewhere, false, 0..0),
    row("recovery: unreadable", 10, Bent::Unreadable, false, 0..0),
    Row { top: 0, ..row("recovery: empty room", 0, Bent::Not, true, 0..0) },
    Row { top: 0, ..row("recovery: ahead of an empty room", 0, Bent::Ahead, false, 0..0) },
];

impl Row {
    async fn comes_back(&self, case: Case) -> Outcome {
        let doors = Doors::of(&case.servers.short);
        let (mut ann, places) = match self.bent {
            Bent::Elsewhere => {
                let (_, places) = left_off(&case, case.doors(), self.at, self.top).await;
                (left_off(&case, doors, self.at, self.top).await.0, places)
            }
            _ => left_off(&case, doors, self.at, self.top).await,
        };
        assert!(!places.is_empty());
        for place in places {
            let place = match self.bent {
                Bent::Not | Bent::Elsewhere => place,
                Bent::Ahead => ahead(place),
                Bent::Unreadable => unreadable(&place),
            };
            let back = Session::come_back(doors, case.transport, "ben", &case.room, &place);
            let (mut ben, joined) = back.await;
            let what = format!("{place:?}: {joined:?}");
            let Joined { seq, recovered, replayed, .. } = joined;
            let count = self.replayed.end - self.replayed.start;
            assert_eq!((seq, recovered, replayed), (self.top, Some(self.recovered), count), "{what}");
            // A signal takes no seq: it marks the end of the replay, and shows that live events flow.
            ann.mark(&case.room, "end").await;
            let texts = ben.until_mark("end").await;
            let seqs: Vec<u64> = texts.iter().filter_map(|text| text.seq).collect();
            assert_eq!(seqs, self.replayed.clone().collect::<Vec<_>>(), "{what}");
            ben.close().await;
        }
        Outcome::Kept
    }
}

/// Publishes up to `top`. A client was there at `at`, and where it was it has in every way there is; it has gone, and the server knows.
async fn left_off(case: &Case, doors: Doors, at: u64, top: u64) -> (Session, Vec<Place>) {
    let mut ann = Session::connect(doors, case.transport, "ann").await;
    for n in 1..=at.min(top) {
        assert_eq!(ann.text(&case.room, &format!("m{n}")).await, n);
    }
    let ben = Session::enter(doors, case.transport, "ben", &case.room).await;
    let places = ben.places(&case.room);
    ben.cut(&case.room).await;
    for n in at + 1..=top {
        assert_eq!(ann.text(&case.room, &format!("m{n}")).await, n);
    }
    until_sessions(doors, &case.room, 0).await;
    (ann, places)
}

/// A cursor's last number is the seq of its last room, in one byte where it is small.
fn ahead(place: Place) -> Place {
    match place {
        Place::Position { epoch, seq } => Place::Position { epoch, seq: seq + 1 },
        Place::Cursor(cursor) => {
            let (before, rooms) = cursor.rsplit_once('.').map_or(("", cursor.as_str()), |it| it);
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(rooms).expect("a cursor of this version");
            *bytes.last_mut().expect("a cursor that names a room") += 1;
            let dot = if before.is_empty() { "" } else { "." };
            Place::Cursor(format!("{before}{dot}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
        }
    }
}

fn unreadable(place: &Place) -> Place {
    match place {
        Place::Position { seq, .. } => Place::Position { epoch: "nobody's".to_owned(), seq: *seq },
        Place::Cursor(_) => Place::Cursor("nobodys".to_owned()),
    }
}

/// Where history has expired, who missed nothing is told so, and who missed one is told that.
async fn expired(case: Case, at: u64, recovered: bool) -> Outcome {
    let doors = Doors::of(&case.servers.forgetful);
    let (mut ann, places) = left_off(&case, doors, at, 10).await;
    eventually("the end of history", async || {
        let page = ann.history(&case.room, Range::default()).await.unwrap();
        page.messages.is_empty().then_some(())
    })
    .await;
    for place in places {
        let (mut ben, joined) = Session::come_back(doors, case.transport, "ben", &case.room, &place).await;
        let came = (joined.seq, joined.recovered, joined.replayed);
        assert_eq!(came, (10, Some(recovered), 0), "{place:?}: {joined:?}");
        ann.mark(&case.room, "end").await;
        assert_eq!(ben.until_mark("end").await.len(), 1);
        ben.close().await;
    }
    assert_eq!(ann.text(&case.room, "m11").await, 11, "the numbering goes on");
    Outcome::Kept
}

/// How many events the server keeps that keeps more than a session's queue holds.
const KEPT: u64 = 300;

/// Fills a room to the brim behind a client that had joined it; where that was.
async fn fill(case: &Case) -> (Session, Place) {
    let doors = Doors::of(&case.servers.deep);
    let ben = Session::enter(doors, case.transport, "ben", &case.room).await;
    let (_, place) = ben.cut(&case.room).await;
    until_sessions(doors, &case.room, 0).await;
    let mut ann = Session::connect(doors, case.transport, "ann").await;
    let data = format!(r#"{{"filler":"{}"}}"#, "x".repeat(1000));
    for n in 1..=KEPT {
        let ack = ann.publish(&case.room, "text", Some(&n.to_string()), &data).await.unwrap();
        assert_eq!(ack.seq, Some(n));
    }
    (ann, place)
}

/// Comes back and must have missed so many.
async fn back(case: &Case, place: &Place, missed: u64) -> Session {
    let doors = Doors::of(&case.servers.deep);
    let (ben, joined) = Session::come_back(doors, case.transport, "ben", &case.room, place).await;
    let came = (joined.seq, joined.recovered, joined.replayed);
    assert_eq!(came, (KEPT, Some(true), missed), "{place:?}: {joined:?}");
    ben
}

/// All that is kept can be asked for at once, though a session's queue holds less; the room goes on behind it.
async fn all_that_is_kept(case: Case) -> Outcome {
    let (mut ann, place) = fill(&case).await;
    let mut ben = back(&case, &place, KEPT).await;
    for n in 1..=KEPT {
        assert_eq!(ben.next().await.seq, Some(n));
    }
    assert_eq!(ann.text(&case.room, "live").await, KEPT + 1);
    assert_eq!(ben.next().await.seq, Some(KEPT + 1));
    Outcome::Kept
}

/// A client that was cut while it was being told what it missed has missed the rest, no more and no less.
async fn cut_amid_a_replay(case: Case) -> Outcome {
    let (_, place) = fill(&case).await;
    let mut ben = back(&case, &place, KEPT).await;
    for n in 1..=30 {
        assert_eq!(ben.next().await.seq, Some(n));
    }
    let (rest, place) = ben.cut(&case.room).await;
    let last = rest.iter().filter_map(|text| text.seq).max().unwrap_or(30);
    assert!(last < KEPT, "it was cut too late to mean anything");
    until_sessions(Doors::of(&case.servers.deep), &case.room, 0).await;
    let mut ben = back(&case, &place, KEPT - last).await;
    for n in last + 1..=KEPT {
        assert_eq!(ben.next().await.seq, Some(n));
    }
    Outcome::Kept
}

/// A client is cut at random while another publishes, and comes back from where it was each time: all come once, in order.
async fn cut_again_and_again(case: Case) -> Outcome {
    const MESSAGES: u64 = 200;
    let publishing = {
        let case = case.clone();
        tokio::spawn(async move {
            let mut ann = case.connect("ann").await;
            for n in 1..=MESSAGES {
                assert_eq!(ann.text(&case.room, &format!("m{n}")).await, n);
            }
        })
    };
    let mut ben = case.connect("ben").await;
    let joined = ben.must_join(&case.room, &Join::default()).await;
    let (mut dice, mut last, mut cuts) = (Dice::new(19), joined.seq, 0);
    let mut take = |envelope: &hearth_tests::transports::envelope::Envelope| {
        if envelope.tells("joined") {
            assert_eq!(envelope.value()["recovered"], true, "{envelope:?}");
        } else if envelope.kind == "text" {
            assert_eq!(envelope.seq, Some(last + 1), "{envelope:?}");
            last += 1;
        }
        last
    };
    let mut seen = joined.seq;
    loop {
        for _ in 0..=dice.roll(20) {
            seen = take(&ben.next().await);
            if seen == MESSAGES {
                break;
            }
        }
        let (rest, place) = ben.cut(&case.room).await;
        rest.iter().for_each(|envelope| seen = take(envelope));
        if seen == MESSAGES {
            break;
        }
        ben = Session::resume(case.doors(), case.transport, "ben", &case.room, &place).await;
        cuts += 1;
    }
    assert!(cuts > 0, "never cut");
    publishing.await.unwrap();
    Outcome::Kept
}
