//! A session's rules, with the clock in hand.
use super::*;
use bytes::Bytes;

const NOW: Duration = Duration::from_secs(1000);

fn key() -> SessionKey {
    SessionKey::new(0, 0, 1)
}

fn limits(rooms: usize, per_second: u64, burst: u64) -> Limits {
    let interval = 1_000_000_000u64.checked_div(per_second).unwrap_or(0);
    Limits { rooms, interval, burst: interval * burst }
}

fn unlimited() -> Limits {
    limits(100, 0, 1)
}

fn command(session: &mut Session, limits: &Limits, now: Duration, action: Action) -> Verdict {
    session.on_command(limits, now, key(), Ok(Command { id: Some("1".into()), action }))
}

fn join(room: &str) -> Action {
    Action::Join { room: room.into(), since: None, history: 0, presence: true, echo: true }
}

fn leave(room: &str) -> Action {
    Action::Leave { room: room.into() }
}

fn typing(room: &str) -> Action {
    Action::Publish { room: room.into(), kind: Kind::Typing, payload: Bytes::from_static(b"{}") }
}

fn refused(verdict: Verdict) -> Option<Failure> {
    match verdict {
        Verdict::Reply(Reply::Error(rejected)) => Some(rejected.failure),
        _ => None,
    }
}

fn code(verdict: Verdict) -> Option<Code> {
    refused(verdict).map(|failure| failure.code)
}

fn enter(session: &mut Session, room: u32, name: &str) {
    session.joined(&name.into(), RoomId(room), true, Position { epoch: "e".into(), seq: 0 }).stage =
        Stage::Live;
}

/// Commands sent one behind the other are judged by what was asked before them, not by what has been answered.
#[test]
fn pipelined_commands_are_judged_in_the_clients_order() {
    let (mut session, limits) = (Session::default(), unlimited());
    let mut go = |action| code(command(&mut session, &limits, NOW, action));
    assert_eq!(go(typing("a")), Some(Code::FailedPrecondition));
    assert_eq!(go(leave("a")), Some(Code::FailedPrecondition));
    assert_eq!(go(join("a")), None);
    assert_eq!(go(typing("a")), None);
    assert_eq!(go(leave("a")), None);
    assert_eq!(go(typing("a")), Some(Code::FailedPrecondition));
    assert_eq!(go(leave("a")), Some(Code::FailedPrecondition));
    assert_eq!(go(join("a")), None);
    assert_eq!(go(typing("a")), None);
}

#[test]
fn join_leave_join_ends_inside() {
    let (mut session, limits) = (Session::default(), unlimited());
    for action in [join("a"), leave("a"), join("a")] {
        command(&mut session, &limits, NOW, action);
    }
    enter(&mut session, 1, "a");
    assert!(session.left(RoomId(1)).is_some());
    session.answered();
    assert_eq!(session.places().len(), 1, "the second join holds the place");
    assert!(session.place(RoomId(1)).is_none(), "but it is not in");
    enter(&mut session, 1, "a");
    assert!(session.place(RoomId(1)).is_some());
    assert!(!session.is_due());
}

#[test]
fn a_failed_join_frees_the_place_unless_another_is_under_way() {
    let (mut session, limits) = (Session::default(), limits(1, 0, 1));
    command(&mut session, &limits, NOW, join("a"));
    command(&mut session, &limits, NOW, join("a"));
    session.join_failed("a");
    assert_eq!(code(command(&mut session, &limits, NOW, join("b"))), Some(Code::ResourceExhausted));
    session.join_failed("a");
    assert!(!session.is_due());
    assert_eq!(code(command(&mut session, &limits, NOW, join("b"))), None);
}

#[test]
fn a_busy_core_leaves_all_as_it_was() {
    let (mut session, limits) = (Session::default(), unlimited());
    let ask = |session: &mut Session, action| match command(session, &limits, NOW, action) {
        Verdict::Ask(_, undo) => undo,
        other => panic!("{other:?}"),
    };
    let undo = ask(&mut session, join("a"));
    session.busy(undo);
    assert!(session.places().is_empty() && !session.is_due());
    ask(&mut session, join("a"));
    enter(&mut session, 1, "a");
    let undo = ask(&mut session, leave("a"));
    session.busy(undo);
    let undo = ask(&mut session, join("a"));
    session.busy(undo);
    assert!(!session.is_due());
    assert_eq!(code(command(&mut session, &limits, NOW, typing("a"))), None, "it is still in");
}

#[test]
fn a_burst_and_then_the_rate() {
    let (mut session, limits) = (Session::default(), limits(1, 10, 5));
    let mut ping = |now| refused(command(&mut session, &limits, now, Action::Ping));
    for _ in 0..5 {
        assert_eq!(ping(NOW), None);
    }
    assert_eq!(ping(NOW).unwrap().retry_after_ms, Some(100));
    assert_eq!(ping(NOW + Duration::from_millis(30)).unwrap().retry_after_ms, Some(70));
    assert_eq!(ping(NOW + Duration::from_millis(100)), None, "it was told the truth");
    assert!(ping(NOW + Duration::from_millis(150)).is_some());
    // A pause restores the burst, and no more than the burst.
    let later = NOW + Duration::from_secs(60);
    assert_eq!((0..10).filter(|_| ping(later).is_none()).count(), 5);
}

#[test]
fn a_hundred_refusals_within_ten_seconds_end_the_session() {
    let run = |every: Duration| {
        let (mut session, limits) = (Session::default(), limits(1, 1, 1));
        // Hardly anything gets through: the credit of each second is used by the first command in it.
        (0..1000).map(|n| NOW + every * n).find(|now| {
            matches!(
                command(&mut session, &limits, *now, Action::Ping),
                Verdict::Close(CloseReason::RateLimited)
            )
        })
    };
    assert_eq!(run(Duration::ZERO), Some(NOW), "the one that passes, and a hundred");
    assert!(run(Duration::from_millis(80)).is_some());
    assert_eq!(run(Duration::from_millis(120)), None, "not a hundred within ten seconds");
}

#[test]
fn no_rate_is_no_limit() {
    let (mut session, limits) = (Session::default(), unlimited());
    assert!((0..10_000).all(|_| refused(command(&mut session, &limits, NOW, Action::Ping)).is_none()));
}

#[test]
fn rooms_are_paged_one_at_a_time() {
    let mut session = Session::default();
    for (number, name) in [(1, "a"), (2, "b")] {
        session.joined(&name.into(), RoomId(number), true, Position { epoch: "e".into(), seq: 5 });
    }
    assert_eq!(session.next_pull().map(|(room, at)| (room, at.seq)), Some(("a".into(), 5)));
    assert_eq!(session.next_pull(), None);
    let place = session.place_mut(RoomId(1)).unwrap();
    (place.stage, place.pulling) = (Stage::Live, false);
    assert_eq!(session.next_pull().map(|(room, _)| room), Some("b".into()));
}

#[test]
fn small_while_idle() {
    assert!(size_of::<Session>() <= 64);
}
