//! Stories about a core that is lost and the one that follows it.
use super::*;

#[test]
fn what_waits_for_a_core_is_asked_in_order_when_it_is_there() {
    let mut story = Story::detached();
    story.ask(Request::Open {
        session: ann(),
        id: id_of(ann()),
        who: Credentials::named("ann"),
        rooms: Vec::new(),
    });
    story.join(ann(), "j");
    story.publish(ann(), Some("p"), Kind::Text);
    assert!(story.sent().is_empty());
    story.attach();
    assert!(matches!(story.sent()[..], [(1, Frame::Open(_)), (2, Frame::Join(_)), (3, Frame::Publish(_))]));
}

#[test]
fn another_core_is_told_the_sessions_then_the_rooms_then_what_waits() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.core(None, 0, live(4));
    story.open(bob());
    let join = story.join(bob(), "bj");
    let publish = story.publish(ann(), Some("p"), Kind::Text);
    story.sent();
    story.told(0);
    story.lose_core();
    assert_eq!((story.told(0), story.told(1)), (vec![], vec![]));
    story.attach();
    let sent = story.sent();
    let [
        (0, Frame::Open(one)),
        (0, Frame::Open(_)),
        (resume, Frame::Resume(room)),
        (join_again, Frame::Join(_)),
        (publish_again, Frame::Publish(fenced)),
    ] = &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert!(
        matches!(&one.credentials, Some(v1::open_session::Credentials::Reopened(opened)) if opened.user == "ann")
    );
    assert_eq!((room.since.clone(), &room.sessions[..]), (Some(at("e1", 4)), &[ann().number()][..]));
    assert_eq!((*join_again, *publish_again), (join, publish));
    assert_eq!(fenced.publish.as_ref().map(|publish| publish.epoch.as_str()), Some("e1"));

    story.core(None, *resume, resumed("e1", 6, true, page(&[4, 5, 6], true)));
    story.core(Some(bob()), join, joined(6, &[], true));
    story.core(Some(ann()), publish, ack("e1", 6));
    story.core(None, 0, live(7));
    assert_eq!(story.told(0), ["event 5", "event 6", "ack p Some(6)", "event 7"]);
    assert_eq!(story.told(1), ["joined bj at 6 [] live", "event 7"]);
}

#[test]
fn another_epoch_resets_the_room_and_refuses_the_publish() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    let publish = story.publish(ann(), Some("p"), Kind::Text);
    story.lose_core();
    story.attach();
    let resume = story.sent().into_iter().find(|(_, frame)| matches!(frame, Frame::Resume(_))).unwrap().0;
    story.core(None, resume, resumed("e2", 0, false, page(&[], true)));
    story.core(Some(ann()), publish, error(14));
    story.core(None, 0, live(1));
    assert_eq!(story.told(0), ["reset e2/0", "failed p unavailable", "event 1"]);
}

#[test]
fn publishes_that_cannot_be_repeated_fail_and_those_that_were_never_sent_wait() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.publish(ann(), None, Kind::Text);
    story.publish(ann(), Some("signal"), Kind::Signal);
    let kept = story.publish(ann(), Some("kept"), Kind::Text);
    story.open(bob());
    // Bob is not in the room; but the room is known here, so its epoch is too.
    let bobs = story.publish(bob(), Some("bobs"), Kind::Text);
    story.lose_core();
    assert_eq!(story.told(0), ["failed - unavailable", "failed signal unavailable"]);
    let late = story.publish(ann(), None, Kind::Text);
    story.attach();
    let publishes: Vec<(u64, String)> = story
        .sent()
        .into_iter()
        .filter_map(|(number, frame)| match frame {
            Frame::Publish(publish) => Some((number, publish.publish?.epoch)),
            _ => None,
        })
        .collect();
    assert_eq!(publishes, [(kept, "e1".into()), (bobs, "e1".into()), (late, String::new())]);
}

#[test]
fn the_epoch_of_a_room_that_is_not_joined_is_known_from_an_earlier_ack() {
    let mut story = Story::attached();
    story.open(ann());
    let first = story.publish(ann(), Some("1"), Kind::Text);
    story.lose_core();
    assert_eq!(story.told(0), ["failed 1 unavailable"]);
    story.attach();
    story.core(Some(ann()), first, ack("e1", 1));
    assert_eq!(story.told(0), Vec::<String>::new());
    let second = story.publish(ann(), Some("2"), Kind::Text);
    story.core(Some(ann()), second, ack("e1", 2));
    let third = story.publish(ann(), Some("3"), Kind::Text);
    story.sent();
    story.lose_core();
    assert_eq!(story.told(0), ["ack 2 Some(2)"]);
    story.attach();
    let sent = story.sent();
    let [(_, Frame::Open(_)), (number, Frame::Publish(fenced))] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*number, third);
    assert_eq!(fenced.publish.as_ref().unwrap().epoch, "e1");
}

#[test]
fn nobody_waits_for_a_core_for_ever() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.publish(ann(), Some("sent"), Kind::Text);
    let later = story.now + Duration::from_secs(100);
    story.now = later;
    story.lose_core();
    story.now = later + Duration::from_secs(4);
    story.join(ann(), "j");
    story.ask(Request::Open {
        session: bob(),
        id: id_of(bob()),
        who: Credentials::default(),
        rooms: Vec::new(),
    });
    assert_eq!(story.table.deadline(), Some(later + DETACHED_GRACE));
    story.table.due(later + DETACHED_GRACE);
    assert_eq!(story.told(0), ["failed sent unavailable"]);
    let end = story.now + DETACHED_GRACE;
    assert_eq!(story.table.deadline(), Some(end));
    story.table.due(end - Duration::from_millis(1));
    assert_eq!(story.told(0), Vec::<String>::new());
    story.table.due(end);
    assert_eq!(story.told(0), ["no join j unavailable"]);
    assert_eq!(story.told(1), ["refused unavailable"]);
    assert_eq!((story.table.deadline(), story.table.pending()), (None, 0));
    // Ann is still in the room.
    story.attach();
    assert!(matches!(story.sent()[..], [(0, Frame::Open(_)), (_, Frame::Resume(_))]));
}

#[test]
fn a_session_that_closes_without_a_core_takes_its_requests_along() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.publish(ann(), Some("p"), Kind::Text);
    story.sent();
    story.lose_core();
    story.ask(Request::Close { session: ann(), vanished: false });
    story.attach();
    assert!(story.sent().is_empty());
    assert_eq!((story.told(0), story.table.pending()), (vec![], 0));
}

#[test]
fn what_a_room_missed_comes_in_pages_and_live_events_wait_for_the_last() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.lose_core();
    story.attach();
    let resume = story.sent().pop().unwrap().0;
    story.core(None, 0, live(9));
    story.core(None, resume, resumed("e1", 9, true, page(&[4, 5], false)));
    let sent = story.sent();
    assert!(matches!(&sent[..], [(0, Frame::Pull(pull))] if pull.after == Some(at("e1", 5))), "{sent:?}");
    story.core(None, 0, live(10));
    story.core(None, 0, FromCore::Page(page(&[6, 7, 8, 9, 10], true)));
    story.core(None, 0, live(11));
    let expected: Vec<String> = (4..=11).map(|seq| format!("event {seq}")).collect();
    assert_eq!(story.told(0), expected);
}

/// A join is answered at 6 while the room's other session still waits for 4 to 8: the new one must get 7 and 8 and
/// must not get 4 to 6.
#[test]
fn a_joined_that_comes_before_the_room_has_caught_up_keeps_its_place() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.lose_core();
    story.attach();
    let resume = story.sent().pop().unwrap().0;
    story.open(bob());
    let join = story.join(bob(), "j");
    story.core(Some(bob()), join, joined(6, &[], true));
    story.core(None, 0, live(7));
    assert_eq!(story.told(1), Vec::<String>::new());
    story.core(None, resume, resumed("e1", 8, true, page(&[4, 5, 6, 7, 8], true)));
    assert_eq!(story.told(0), ["event 4", "event 5", "event 6", "event 7", "event 8"]);
    assert_eq!(story.told(1), ["joined j at 6 [] live", "event 7", "event 8"]);
}

#[test]
fn a_joined_that_waits_survives_the_last_one_who_leaves_and_the_loss_of_the_core() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.lose_core();
    story.attach();
    story.open(bob());
    let join = story.join(bob(), "j");
    story.core(Some(bob()), join, joined(6, &[], true));
    story.lose_core();
    story.attach();
    assert!(story.sent().iter().any(|(number, frame)| *number == join && matches!(frame, Frame::Join(_))));
    story.core(Some(bob()), join, joined(6, &[], true));
    story.ask(Request::Close { session: ann(), vanished: false });
    assert_eq!(story.told(1), ["joined j at 6 [] live"]);
    // Events behind it may have been let pass, so they are asked for.
    let sent = story.sent();
    assert!(
        matches!(&sent[..], [(0, Frame::Pull(pull)), (0, Frame::Close(_))] if pull.after == Some(at("e1", 6))),
        "{sent:?}"
    );
    story.core(None, 0, FromCore::Page(page(&[7], true)));
    assert_eq!(story.told(1), ["event 7"]);
}

#[test]
fn a_pull_is_repeated_at_the_next_core_and_after_a_refusal() {
    let mut story = Story::attached();
    story.open(ann());
    let number = story.join(ann(), "j");
    story.core(Some(ann()), number, joined(5, &[1], false));
    let after = Position { epoch: "e1".into(), seq: 1 };
    story.ask(Request::Pull { session: ann(), room: "r".into(), after });
    let pull = story.table.last_number;
    story.lose_core();
    story.attach();
    let sent = story.sent();
    assert!(
        matches!(&sent[..], [(0, Frame::Open(_)), (_, Frame::Resume(_)), (number, Frame::Pull(_))] if *number == pull)
    );
    story.told(0);
    story.core(Some(ann()), pull, error(14));
    assert!(story.sent().is_empty());
    story.table.due(story.now + REPLAY_RETRY);
    assert!(matches!(&story.sent()[..], [(number, Frame::Pull(_))] if *number == pull));
    assert_eq!(story.told(0), Vec::<String>::new());
    // The core cannot serve it at all.
    let resume = story.table.rooms.iter_mut().next().unwrap().feed;
    let Feed::Resuming(resume) = resume else { panic!("{resume:?}") };
    story.core(None, resume, resumed("e1", 5, true, page(&[], true)));
    story.core(Some(ann()), 0, joined(5, &[], true));
    story.core(None, 0, live(6));
    assert_eq!(story.told(0), ["joined - at 5 [] live", "event 6"]);
}

#[test]
fn a_room_that_cannot_be_resumed_now_is_resumed_later() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.lose_core();
    story.attach();
    let resume = story.sent().pop().unwrap().0;
    story.core(None, resume, error(14));
    assert_eq!(story.table.deadline(), Some(story.now + REPLAY_RETRY));
    story.table.due(story.now + REPLAY_RETRY);
    let sent = story.sent();
    let [(again, Frame::Resume(_))] = &sent[..] else { panic!("{sent:?}") };
    // The answer to the first is worth nothing any more.
    story.core(None, resume, resumed("e2", 0, false, page(&[], true)));
    story.core(None, *again, resumed("e1", 4, true, page(&[4], true)));
    assert_eq!(story.told(0), ["event 4"]);
}

/// A request that brings down every core that it is sent to must not do so for ever.
#[test]
fn a_request_that_is_lost_again_and_again_is_given_up() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.publish(ann(), Some("p"), Kind::Text);
    story.lose_core();
    story.attach();
    story.now += DETACHED_GRACE - Duration::from_millis(1);
    story.lose_core();
    assert_eq!(story.told(0), Vec::<String>::new());
    story.attach();
    story.now += Duration::from_millis(1);
    story.lose_core();
    assert_eq!(story.told(0), ["failed p unavailable"]);
}
