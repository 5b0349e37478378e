//! Stories about the table: what a core says goes in, what shards are told and the core is asked comes out.
mod presence;
mod reattach;
mod story;

use super::*;
use crate::{
    fanout::shared::SharedPresence,
    wire::{
        event::{Kind, Payload},
        presence::{Step, Told},
    },
};
use bytes::Bytes;
use hearth_proto::v1::{CoreFrame, core_frame::Frame as FromCore, edge_frame::Frame};
use story::*;

#[test]
fn an_event_goes_once_to_each_shard_with_members_and_its_origin_only_to_its_own() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.member(bob(), 3);
    let said = v1::RoomEvent { event: Some(event(4)), session: id_of(bob()).to_string() };
    story.core(None, 0, FromCore::Event(said));
    assert_eq!(story.told(0), ["event 4"]);
    assert_eq!(story.told(1), ["event 4 by 1/7.1"]);
    story.ask(Request::Close { session: bob(), vanished: false });
    assert!(matches!(story.sent()[..], [(0, Frame::Close(_))]));
    story.core(None, 0, live(5));
    assert_eq!((story.told(0), story.told(1)), (vec!["event 5".into()], vec![]));
}

#[test]
fn a_seq_never_comes_twice_and_a_hole_is_filled_before_anything_behind_it() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.core(None, 0, live(4));
    story.core(None, 0, live(4));
    story.core(None, 0, live(7));
    story.core(None, 0, live(8));
    assert_eq!(story.told(0), ["event 4"]);
    let sent = story.sent();
    assert!(matches!(&sent[..], [(0, Frame::Pull(pull))] if pull.after == Some(at("e1", 4))), "{sent:?}");
    // Not now. However often it is said, it is tried again once.
    story.core(None, 0, error(14));
    story.core(None, 0, error(14));
    story.table.due(story.now + REPLAY_RETRY);
    assert_eq!(story.sent(), sent);
    story.core(None, 0, FromCore::Page(page(&[5, 6, 7, 8], true)));
    story.core(None, 0, live(9));
    assert_eq!(story.told(0), ["event 5", "event 6", "event 7", "event 8", "event 9"]);
}

#[test]
fn a_session_that_closes_before_its_joined_comes_leaves_no_member_behind() {
    let mut story = Story::attached();
    story.open(ann());
    let number = story.join(ann(), "j");
    story.ask(Request::Close { session: ann(), vanished: false });
    story.core(Some(ann()), number, joined(3, &[], true));
    story.core(None, 0, live(4));
    assert_eq!(story.told(0), Vec::<String>::new());
    assert_eq!((story.table.rooms.len(), story.table.pending(), story.table.sessions.len()), (0, 0, 0));
}

#[test]
fn a_rooms_number_is_free_only_after_all_have_left() {
    let mut story = Story::attached();
    story.member(ann(), 0);
    story.member(bob(), 0);
    story.ask(Request::Leave { session: ann(), id: Some("l".into()), room: "r".into() });
    let number = story.table.last_number;
    assert_eq!(story.table.rooms.len(), 1);
    story.core(Some(ann()), number, FromCore::Ack(v1::Ack { room: "r".into(), ..v1::Ack::default() }));
    assert_eq!(story.told(0), ["left l"]);
    story.core(Some(bob()), 0, FromCore::Left(v1::Left { room: "r".into() }));
    assert_eq!(story.told(1), ["put out"]);
    assert_eq!(story.table.rooms.len(), 0);
    story.core(Some(bob()), 0, FromCore::Left(v1::Left { room: "r".into() }));
    assert_eq!(story.told(1), Vec::<String>::new());
}

#[test]
fn joining_again_says_where_the_room_is_and_an_unasked_joined_keeps_the_echo() {
    let mut story = Story::attached();
    story.open(ann());
    let join = |id: &str| Request::Join {
        session: ann(),
        id: Some(id.into()),
        room: "r".into(),
        since: None,
        history: 0,
        echo: false,
        presence: false,
    };
    story.ask(join("a"));
    let number = story.table.last_number;
    story.core(Some(ann()), number, joined(3, &[2, 3], true));
    story.ask(join("b"));
    let number = story.table.last_number;
    story.core(Some(ann()), number, joined(3, &[], true));
    story.core(Some(ann()), 0, joined(3, &[], true));
    assert_eq!(
        story.told(0),
        ["joined a at 3 [2, 3] live no echo", "still b at 3", "joined - at 3 [] live no echo"]
    );
    story.ask(join("c"));
    let number = story.table.last_number;
    story.core(Some(ann()), number, error(7));
    assert_eq!(story.told(0), ["no join c permission_denied"]);
}

#[test]
fn a_long_replay_is_pulled_and_its_last_page_is_the_seam() {
    let mut story = Story::attached();
    story.open(ann());
    let number = story.join(ann(), "j");
    story.core(Some(ann()), number, joined(5, &[1, 2], false));
    let after = Position { epoch: "e1".into(), seq: 2 };
    story.ask(Request::Pull { session: ann(), room: "r".into(), after });
    let pull = story.table.last_number;
    assert!(matches!(&story.sent()[..], [.., (number, Frame::Pull(_))] if *number == pull));
    // Nobody is live, so the core owes this edge none of the events up to the top.
    story.core(Some(ann()), pull, FromCore::Page(page(&[3, 4, 5, 6, 7], true)));
    story.core(None, 0, live(8));
    assert_eq!(story.told(0), ["joined j at 5 [1, 2] paging", "page [3, 4, 5, 6, 7] live", "event 8"]);
    assert!(story.sent().is_empty());
}

#[test]
fn unasked_a_room_may_begin_anew_and_a_session_may_be_put_out() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.core(None, 0, resumed("e2", 0, false, page(&[], true)));
    story.core(None, 0, live(1));
    story.core(Some(ann()), 0, FromCore::Refused(v1::Error { code: 7, ..v1::Error::default() }));
    story.core(None, 0, live(2));
    assert_eq!(story.told(0), ["reset e2/0", "event 1", "refused permission_denied"]);
    assert_eq!((story.table.rooms.len(), story.table.sessions.len()), (0, 0));
}

#[test]
fn a_joined_that_nobody_waits_for_is_undone() {
    let mut story = Story::attached();
    story.open(ann());
    story.core(Some(ann()), 0, joined(3, &[], true));
    assert!(matches!(&story.sent()[..], [(0, Frame::Leave(leave))] if leave.room == "r"));
    assert_eq!((story.told(0), story.table.rooms.len()), (vec![], 0));
}

#[test]
fn history_and_wrong_answers() {
    let mut story = Story::attached();
    story.open(ann());
    let ask = Request::History {
        session: ann(),
        id: Some("h".into()),
        room: "r".into(),
        after: None,
        before: None,
        limit: 10,
    };
    story.ask(ask.clone());
    let number = story.table.last_number;
    let messages = vec![event(1), event(2)];
    let page = v1::HistoryPage { room: "r".into(), position: Some(at("e1", 2)), messages, more: false };
    // An answer under another session's name is nobody's.
    story.core(Some(bob()), number, FromCore::History(page.clone()));
    story.core(Some(ann()), number, FromCore::History(page));
    story.ask(ask);
    let number = story.table.last_number;
    story.core(Some(ann()), number, ack("e1", 1));
    assert_eq!(story.told(0), ["history h [1, 2]", "no history h internal"]);
    assert_eq!(story.table.pending(), 0);
}

#[test]
fn a_hole_that_history_cannot_fill_is_told_to_all() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.core(None, 0, live(9));
    let place = v1::Joined {
        room: "r".into(),
        position: Some(at("e1", 9)),
        recovered: Some(false),
        ..v1::Joined::default()
    };
    story.core(
        None,
        0,
        FromCore::Joined(v1::LinkJoined {
            joined: Some(place),
            page: Some(page(&[], true)),
            presence: 0,
            presence_hidden: false,
        }),
    );
    story.core(None, 0, live(10));
    assert_eq!(story.told(0), ["reset e1/9", "event 10"]);
}

#[test]
fn a_signal_without_an_id_is_never_waited_for() {
    let mut story = Story::attached();
    story.member(ann(), 3);
    story.publish(ann(), None, Kind::Signal);
    assert!(matches!(&story.sent()[..], [(0, Frame::Publish(_))]));
    story.lose_core();
    story.publish(ann(), None, Kind::Typing);
    assert_eq!((story.told(0), story.table.pending()), (vec![], 0));
}

#[test]
fn a_replay_that_can_never_go_on_puts_its_session_out() {
    let mut story = Story::attached();
    story.open(ann());
    let number = story.join(ann(), "j");
    story.core(Some(ann()), number, joined(5, &[1], false));
    let after = Position { epoch: "e1".into(), seq: 1 };
    story.ask(Request::Pull { session: ann(), room: "r".into(), after });
    story.told(0);
    story.sent();
    story.core(Some(ann()), story.table.last_number, error(7));
    assert_eq!(story.told(0), ["put out"]);
    assert!(matches!(&story.sent()[..], [(0, Frame::Leave(_))]));
}

#[test]
fn commands_that_do_not_fit_are_refused_and_sessions_still_come_and_go() {
    let mut story = Story::detached();
    story.ask(Request::Open {
        session: ann(),
        id: id_of(ann()),
        who: Credentials::default(),
        rooms: Vec::new(),
    });
    let payload = Bytes::from(vec![b' '; 1024 * 1024]);
    for _ in 0..20 {
        let (id, payload, kind) = (Some("p".into()), Payload::Json(payload.clone()), Kind::Text);
        story.ask(Request::Publish { session: ann(), id, room: "r".into(), kind, payload, fence: None });
    }
    assert_eq!(story.told(0), vec!["failed p resource_exhausted"; 4]);
    story.ask(Request::Open {
        session: bob(),
        id: id_of(bob()),
        who: Credentials::default(),
        rooms: Vec::new(),
    });
    story.ask(Request::Close { session: ann(), vanished: false });
    assert_eq!((story.table.pending(), story.told(1)), (1, vec![]));
}

/// A call asks at once, is answered without an id, and says again to the next core that it is one.
#[test]
fn a_call_is_answered_whatever_it_asks() {
    let mut story = Story::attached();
    story.ask(Request::Call { session: ann(), id: id_of(ann()), who: Credentials::named("ann") });
    let text = story.publish(ann(), None, Kind::Text);
    let signal = story.publish(ann(), None, Kind::Signal);
    story.ask(Request::ListOnline { session: ann(), room: "r".into(), limit: 7 });
    let sent = story.sent();
    assert!(matches!(&sent[0], (1.., Frame::Open(open)) if open.call));
    assert!(matches!(sent[1..], [(2, Frame::Publish(_)), (3, Frame::Publish(_)), (4, Frame::ListOnline(_))]));
    story.core(Some(ann()), 0, FromCore::Opened(v1::Opened { user: "ann".into(), ..v1::Opened::default() }));
    let ack = |position| FromCore::Ack(v1::Ack { position, ..v1::Ack::default() });
    story.core(Some(ann()), text, ack(Some(at("e", 5))));
    story.core(Some(ann()), signal, ack(None));
    let bob = v1::PresenceUser { user: "bob".into(), meta: "{}".into(), ..v1::PresenceUser::default() };
    story.core(Some(ann()), 4, FromCore::Online(v1::OnlineList { online: vec![bob], count: 9 }));
    let told = story.told(0);
    assert_eq!(
        told[..3],
        [
            "opened ann",
            r#"called Published { position: Some(Position { epoch: "e", seq: 5 }) }"#,
            "called Published { position: None }"
        ]
    );
    assert!(told[3].starts_with("called Online") && told[3].ends_with("count: 9 }"), "{}", told[3]);
    // Its list may be asked for again, a publish without an id may not.
    story.ask(Request::ListOnline { session: ann(), room: "r".into(), limit: 7 });
    story.publish(ann(), None, Kind::Signal);
    story.lose_core();
    assert_eq!(story.told(0), ["failed - unavailable"]);
    story.sent();
    story.attach();
    assert!(matches!(&story.sent()[..], [(0, Frame::Open(open)), (5, Frame::ListOnline(_))] if open.call));
}
