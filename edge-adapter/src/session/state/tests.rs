//! A session's rules, with the clock in hand.
use super::held::HELD_MAX;
use super::*;
use crate::wire::event::Payload;
use bytes::Bytes;

const NOW: Duration = Duration::from_secs(1000);

fn key() -> SessionKey {
    SessionKey::new(0, 0, 1)
}

fn limits(rooms: usize) -> Limits {
    Limits { rooms, rate: Rate::new(0, 1) }
}

fn unlimited() -> Limits {
    limits(100)
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
    let payload = Payload::Json(Bytes::from_static(b"{}"));
    Action::Publish { room: room.into(), kind: Kind::Typing, payload, fence: None }
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
    session
        .joined(&name.into(), (RoomId(room), true), (true, true), Position { epoch: "e".into(), seq: 0 })
        .stage = Stage::Live;
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

/// A leave that the core could not carry out: the session is in the room as before, and nothing is owed to it.
#[test]
fn a_failed_leave_leaves_the_session_inside() {
    let (mut session, limits) = (Session::default(), unlimited());
    let _ = command(&mut session, &limits, NOW, join("a"));
    enter(&mut session, 1, "a");
    assert_eq!(code(command(&mut session, &limits, NOW, leave("a"))), None);
    assert_eq!(code(command(&mut session, &limits, NOW, typing("a"))), Some(Code::FailedPrecondition));
    assert!(session.is_due());
    session.leave_failed("a");
    assert!(!session.is_due());
    assert_eq!(code(command(&mut session, &limits, NOW, typing("a"))), None);
    assert_eq!(code(command(&mut session, &limits, NOW, leave("a"))), None, "it may leave again");
}

#[test]
fn a_failed_join_frees_the_place_unless_another_is_under_way() {
    let (mut session, limits) = (Session::default(), limits(1));
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
    ask(&mut session, leave("a"));
    let undo = ask(&mut session, join("a"));
    session.busy(undo);
    let typed = code(command(&mut session, &limits, NOW, typing("a")));
    assert_eq!(typed, Some(Code::FailedPrecondition), "it is still on its way out");
}

/// Replays wait for each other; what brings none, or is about another room, does not wait.
#[test]
fn replays_come_one_room_after_the_other() {
    let (mut session, limits) = (Session::default(), unlimited());
    let go = |session: &mut Session, action| match command(session, &limits, NOW, action) {
        Verdict::Ask(request, undo) => session.hold(request, undo, true).unwrap().is_some(),
        other => panic!("{other:?}"),
    };
    let replay =
        |room: &str| Action::Join { room: room.into(), since: None, history: 9, presence: true, echo: true };
    assert!(go(&mut session, replay("a")));
    assert!(!go(&mut session, replay("b")));
    assert!(!go(&mut session, leave("b")), "not before its join");
    assert!(!go(&mut session, replay("c")));
    assert!(go(&mut session, join("d")));
    assert!(go(&mut session, leave("d")));
    let next = |session: &mut Session, drained| session.next_held(drained).and_then(|(_, undo)| undo.room);
    assert_eq!(next(&mut session, true), None, "a is not answered");
    session.joined(&"a".into(), (RoomId(1), true), (true, true), Position { epoch: "e".into(), seq: 0 });
    assert_eq!(next(&mut session, true), None, "a has more pages");
    session.place_mut(RoomId(1)).unwrap().stage = Stage::Live;
    assert_eq!(next(&mut session, false), None, "the socket has not taken a's");
    assert_eq!((next(&mut session, true), next(&mut session, true)), (Some("b".into()), Some("b".into())));
    assert_eq!(next(&mut session, true), None);
    session.join_failed("b");
    assert_eq!(next(&mut session, true), Some("c".into()));
    assert!(session.held.is_none());
}

#[test]
fn what_is_held_is_bounded() {
    let (mut session, limits) = (Session::default(), unlimited());
    let mut go = |n: usize| {
        let action = if n.is_multiple_of(2) {
            Action::Join { room: "a".into(), since: None, history: 9, presence: true, echo: true }
        } else {
            leave("a")
        };
        match command(&mut session, &limits, NOW, action) {
            Verdict::Ask(request, undo) => session.hold(request, undo, false),
            other => panic!("{other:?}"),
        }
    };
    for n in 0..HELD_MAX {
        assert_eq!(go(n), Ok(None));
    }
    assert!(go(HELD_MAX).is_err());
}

#[test]
fn rooms_are_paged_one_at_a_time() {
    let mut session = Session::default();
    for (number, name) in [(1, "a"), (2, "b")] {
        session.joined(
            &name.into(),
            (RoomId(number), true),
            (true, true),
            Position { epoch: "e".into(), seq: 5 },
        );
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
