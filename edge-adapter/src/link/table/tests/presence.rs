//! Who is online, as one core or another tells.
use super::*;

impl Story {
    /// A session that is live in the room and wants to know who is online. What it was told of that is left.
    fn attends(&mut self, key: SessionKey, user: &str) {
        self.attends_from(key, user, 0);
    }

    /// The same; what is told knows of it from this number on.
    fn attends_from(&mut self, key: SessionKey, user: &str, presence: u64) {
        self.ask(Request::Open {
            session: key,
            id: id_of(key),
            who: Credentials::default(),
            rooms: Vec::new(),
        });
        self.core(Some(key), 0, FromCore::Opened(v1::Opened { user: user.into(), ..v1::Opened::default() }));
        let (id, room) = (Some("j".into()), "r".into());
        self.ask(Request::Join {
            session: key,
            id,
            room,
            since: None,
            history: 0,
            echo: true,
            presence: true,
        });
        let FromCore::Joined(answer) = joined(3, &[], true) else { unreachable!() };
        let answer = v1::LinkJoined { presence, ..answer };
        self.core(Some(key), self.table.last_number, FromCore::Joined(answer));
    }

    /// The core is lost and another, or the same, is there; nothing was missed.
    fn moves_to(&mut self, core: &str) {
        self.lose_core();
        self.attach_to(core);
        let number = self.table.last_number;
        self.core(None, number, resumed("e1", 3, true, page(&[], true)));
    }

    fn said(&mut self, n: u64, said: v1::room_presence::Said) {
        self.core(None, 0, FromCore::Presence(v1::RoomPresence { room: "r".into(), n, said: Some(said) }));
    }

    /// What shards were told of presence since.
    fn shown(&mut self) -> Vec<String> {
        let all: Vec<String> = (0..SHARDS).flat_map(|shard| self.told(shard)).collect();
        all.into_iter().filter(|told| told.contains(": ")).collect()
    }

    fn watches(&mut self) -> usize {
        self.sent()
            .iter()
            .filter(|(_, frame)| matches!(frame, Frame::Watch(watch) if watch.room == "r"))
            .count()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.table.due(self.now);
    }
}

fn one(user: &str, meta: &str) -> v1::PresenceUser {
    v1::PresenceUser { user: user.into(), meta: meta.into(), sessions: 1, since: None }
}

fn state(users: &[&str]) -> v1::room_presence::Said {
    let online = users.iter().map(|user| one(user, "{}")).collect();
    v1::room_presence::Said::State(v1::PresenceState { online })
}

fn diff(online: &[&str], gone: &[&str]) -> v1::room_presence::Said {
    let online = online.iter().map(|user| one(user, "{}")).collect();
    let gone = gone.iter().map(|user| (*user).to_owned()).collect();
    v1::room_presence::Said::Diff(v1::PresenceDiff { online, gone })
}

use v1::room_presence::Said::Count;

#[test]
fn the_core_is_asked_once_and_a_session_is_shown_a_state_that_knows_of_it() {
    let mut story = Story::attached();
    story.attends(ann(), "ann");
    assert_eq!(story.watches(), 1);
    assert_eq!(story.shown(), Vec::<String>::new());
    story.said(1, state(&["ann", "eve"]));
    assert_eq!(story.shown(), ["0/0.1: state ann{}×1 eve{}×1"]);
    // The second one is not known of yet: the state comes with the news of it.
    story.attends_from(bob(), "bob", 2);
    assert_eq!((story.watches(), story.shown()), (0, vec![]));
    story.said(2, diff(&["bob"], &["eve"]));
    assert_eq!(
        story.shown(),
        ["all: leave eve{}, join bob{}", "all: leave eve{}, join bob{}", "1/7.1: state ann{}×1 bob{}×1"]
    );
    // A second tab is shown a state at once.
    story.attends(SessionKey::new(0, 9, 1), "bob");
    assert_eq!(story.shown(), ["0/9.1: state ann{}×1 bob{}×1"]);
    story.ask(Request::ShowPresence { session: ann(), room: RoomId(0) });
    assert_eq!(story.shown(), ["0/0.1: state ann{}×1 bob{}×1"]);
}

#[test]
fn a_step_that_is_missing_has_the_core_asked_again_and_what_changed_meanwhile_is_told() {
    let mut story = Story::attached();
    story.attends(ann(), "ann");
    story.said(1, state(&["ann"]));
    story.watches();
    story.shown();
    story.said(3, diff(&["eve"], &[]));
    assert_eq!((story.watches(), story.shown()), (1, vec![]));
    story.said(3, state(&["ann", "dan", "eve"]));
    assert_eq!(story.shown(), ["all: join dan{}, join eve{}"]);
    story.said(4, diff(&["dan"], &[]));
    assert_eq!(story.shown(), Vec::<String>::new(), "nothing that a person would see");
}

#[test]
fn a_big_room_is_counted() {
    let mut story = Story::attached();
    story.attends(ann(), "ann");
    story.said(1, state(&["ann", "eve"]));
    story.shown();
    story.said(2, Count(501));
    assert_eq!(story.shown(), ["all: 501 online"]);
    story.attends(bob(), "bob");
    assert_eq!(story.shown(), ["1/7.1: 501 online"]);
    story.said(3, state(&["ann", "bob"]));
    assert_eq!(story.shown(), ["all: state ann{}×1 bob{}×1", "all: state ann{}×1 bob{}×1"]);
}

/// Another core does not know yet who is at other edges: nobody is shown as gone before the timeout, and then once.
#[test]
fn at_another_core_nobody_is_gone_before_the_timeout() {
    let mut story = Story::attached();
    story.attends(ann(), "ann");
    story.said(5, state(&["ann", "back", "gone", "late"]));
    story.watches();
    story.shown();
    story.moves_to("another");
    assert_eq!(story.watches(), 1);
    story.said(1, state(&["ann"]));
    story.said(2, diff(&["back", "new"], &[]));
    assert_eq!(story.shown(), ["all: join new{}"]);
    story.wait(Duration::from_secs(29));
    story.said(3, diff(&["late"], &[]));
    story.attends(bob(), "new");
    assert_eq!(story.shown(), ["1/7.1: state ann{}×1 back{}×1 gone{}×1 late{}×1 new{}×1"]);
    story.wait(Duration::from_secs(1));
    assert_eq!(story.shown(), ["all: leave gone{}", "all: leave gone{}"]);
    // The same core again: its word holds at once.
    story.moves_to("another");
    story.said(9, state(&["ann", "new"]));
    let told = "all: leave back{}, leave late{}";
    assert_eq!(story.shown(), [told, told]);
    story.wait(Duration::from_secs(60));
    assert_eq!(story.shown(), Vec::<String>::new());
}

/// The same where users are counted: no smaller number is shown, and no names, before the timeout.
#[test]
fn at_another_core_no_smaller_number_is_shown_before_the_timeout() {
    let mut story = Story::attached();
    story.attends(ann(), "ann");
    story.said(1, Count(700));
    assert_eq!(story.shown(), ["0/0.1: 700 online"]);
    story.moves_to("another");
    story.said(1, state(&["ann"]));
    story.said(2, Count(600));
    assert_eq!(story.shown(), Vec::<String>::new());
    story.attends(bob(), "bob");
    assert_eq!(story.shown(), ["1/7.1: 700 online"]);
    story.said(3, Count(800));
    assert_eq!(story.shown(), ["all: 800 online", "all: 800 online"]);
    story.said(4, state(&["ann", "bob"]));
    story.wait(Duration::from_secs(30));
    assert_eq!(story.shown(), ["all: state ann{}×1 bob{}×1", "all: state ann{}×1 bob{}×1"]);
}

/// Two cores replaced in a row, in a room that had been counted: whoever the last one does not name is gone when its time is over.
#[test]
fn nobody_stays_for_ever_where_users_had_been_counted() {
    let mut story = Story::attached();
    story.attends(ann(), "ann");
    story.said(1, Count(700));
    story.moves_to("second");
    story.said(1, state(&["ann", "gone"]));
    story.moves_to("third");
    story.said(1, state(&["ann"]));
    story.shown();
    story.wait(Duration::from_secs(30));
    assert_eq!(story.shown(), ["all: state ann{}×1"]);
}

/// What sessions have set is told to the next core before they are.
#[test]
fn metas_go_to_the_next_core() {
    let mut story = Story::attached();
    story.attends(ann(), "ann");
    let (id, room, meta) = (Some("m".into()), "r".into(), Some(r#"{"a":1}"#.into()));
    story.ask(Request::Presence { session: ann(), id, room, meta });
    let number = story.table.last_number;
    assert!(matches!(story.sent().last(), Some((n, Frame::Presence(_))) if *n == number));
    story.core(Some(ann()), number, FromCore::Ack(v1::Ack { room: "r".into(), ..v1::Ack::default() }));
    assert_eq!(story.told(0).last().unwrap(), "done m");
    story.lose_core();
    story.attach_to("another");
    let sent = story.sent();
    let [(_, Frame::Open(_)), (_, Frame::Metas(metas)), (_, Frame::Resume(_)), (_, Frame::Watch(_))] =
        &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(metas.metas, [v1::SessionMeta { session: ann().number(), meta: r#"{"a":1}"#.into() }]);
}
