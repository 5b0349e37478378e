//! Who is there: told to whoever is there, once, and never as news what is none.
use super::{Behaviour, Case, Outcome, until_sessions};
use hearth_tests::{
    presence::View,
    transports::{Doors, Session, Transport, command::Join, envelope::Envelope},
};
use serde_json::{Value, json};

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![
        Behaviour::new("presence: a state behind joined, oneself in it", state_on_join),
        Behaviour::new("presence: who comes is told", who_comes),
        Behaviour::new("presence: who leaves is gone at once", who_leaves),
        Behaviour::new("presence: who vanished is gone in time, once", who_vanished),
        Behaviour::new("presence: a return in time is silent", a_return_is_silent),
        Behaviour::new("presence: a second session is silent", a_second_session),
        Behaviour::new("presence: a meta is shown, its update told", metas),
        Behaviour::new("presence: a join without it", a_join_without),
    ]
}

/// Somebody who hears a room's presence, and what that comes to.
struct Watcher {
    session: Session,
    view: View,
    /// As it was told.
    told: Vec<Envelope>,
}

impl Watcher {
    /// Joins, and has been told who is there.
    async fn attend(case: &Case, doors: Doors, user: &str) -> Watcher {
        let session = Session::attend(doors, case.transport, user, &case.room).await;
        let mut watcher = Watcher { session, view: View::new(user, &case.room), told: Vec::new() };
        watcher.until(View::has_begun).await;
        assert!(watcher.view.shows(user), "{:?}", watcher.view);
        watcher
    }

    async fn until(&mut self, wanted: impl Fn(&View) -> bool) {
        while !wanted(&self.view) {
            let told = self.session.next().await;
            assert_eq!(told.kind, "presence", "{told:?}");
            self.view.frame(&json!({"type": "presence", "room": told.room, "data": told.value()}));
            self.told.push(told);
        }
    }

    async fn until_shows(&mut self, user: &str, shown: bool) {
        self.until(|view| view.shows(user) == shown).await;
    }

    /// Somebody comes and goes: what was done before is told by then.
    async fn mark(&mut self, doors: Doors, room: &str) {
        let mark = Session::enter(doors, Transport::WebSocketJson, "mark", room).await;
        self.until_shows("mark", true).await;
        mark.close().await;
        self.until_shows("mark", false).await;
    }
}

/// What a newcomer is told, which is one state.
async fn state_for(case: &Case, doors: Doors, user: &str) -> Vec<Value> {
    let mut session = Session::attend(doors, case.transport, user, &case.room).await;
    let told = session.next().await.value();
    assert_eq!(told["event"], "state", "{told}");
    let mut online: Vec<Value> = told["online"].as_array().unwrap().clone();
    online.sort_by_key(|one| one["user"].as_str().unwrap().to_owned());
    session.close().await;
    online
}

/// Without the times, which are looked at on the way.
fn plain(online: &[Value]) -> Vec<(String, u64, Value)> {
    online
        .iter()
        .map(|one| {
            assert!(one["since"].as_f64().is_some_and(|since| since > 1e9), "{one}");
            (one["user"].as_str().unwrap().to_owned(), one["sessions"].as_u64().unwrap(), one["meta"].clone())
        })
        .collect()
}

/// 11.
async fn state_on_join(case: Case) -> Outcome {
    let _ann = case.enter("ann").await;
    let online = state_for(&case, case.doors(), "ben").await;
    assert_eq!(plain(&online), [("ann".to_owned(), 1, json!({})), ("ben".to_owned(), 1, json!({}))]);
    Outcome::Kept
}

async fn who_comes(case: Case) -> Outcome {
    let mut watcher = Watcher::attend(&case, case.doors(), "ben").await;
    let _ann = case.enter("ann").await;
    watcher.until_shows("ann", true).await;
    watcher.mark(case.doors(), &case.room).await;
    assert_eq!((watcher.view.told("ann"), watcher.view.told("ben")), (vec!["join"], vec![]));
    Outcome::Kept
}

/// Here nobody who has merely vanished is gone within a test's patience.
async fn who_leaves(case: Case) -> Outcome {
    if case.transport.speaks_by_request() {
        return Outcome::ByTheContract("a stream leaves its rooms by its end, and that is to have vanished");
    }
    let doors = Doors::of(&case.servers.short);
    let mut watcher = Watcher::attend(&case, doors, "ben").await;
    let mut ann = Session::enter(doors, case.transport, "ann", &case.room).await;
    watcher.until_shows("ann", true).await;
    ann.leave(&case.room).await.unwrap();
    watcher.until_shows("ann", false).await;
    ann.must_join(&case.room, &Join::default()).await;
    watcher.until_shows("ann", true).await;
    ann.close().await;
    watcher.until_shows("ann", false).await;
    assert_eq!(watcher.view.told("ann"), ["join", "leave", "join", "leave"]);
    Outcome::Kept
}

/// 13.
async fn who_vanished(case: Case) -> Outcome {
    let mut watcher = Watcher::attend(&case, case.doors(), "ben").await;
    let ann = case.enter("ann").await;
    watcher.until_shows("ann", true).await;
    ann.cut(&case.room).await;
    watcher.until_shows("ann", false).await;
    watcher.mark(case.doors(), &case.room).await;
    assert_eq!(watcher.view.told("ann"), ["join", "leave"]);
    Outcome::Kept
}

/// 12. A reload.
async fn a_return_is_silent(case: Case) -> Outcome {
    let doors = Doors::of(&case.servers.short);
    let mut watcher = Watcher::attend(&case, doors, "ben").await;
    let ann = Session::enter(doors, case.transport, "ann", &case.room).await;
    watcher.until_shows("ann", true).await;
    ann.cut(&case.room).await;
    until_sessions(doors, &case.room, 1).await;
    watcher.mark(doors, &case.room).await;
    let _ann = Session::enter(doors, case.transport, "ann", &case.room).await;
    watcher.mark(doors, &case.room).await;
    assert_eq!(watcher.view.told("ann"), ["join"]);
    Outcome::Kept
}

/// 12. Another tab, both ways.
async fn a_second_session(case: Case) -> Outcome {
    let doors = Doors::of(&case.servers.short);
    let mut watcher = Watcher::attend(&case, doors, "ben").await;
    let _first = Session::enter(doors, case.transport, "ann", &case.room).await;
    watcher.until_shows("ann", true).await;
    let second = Session::enter(doors, case.transport, "ann", &case.room).await;
    watcher.mark(doors, &case.room).await;
    let online = state_for(&case, doors, "cyd").await;
    assert_eq!(plain(&online)[0], ("ann".to_owned(), 2, json!({})));
    second.close().await;
    eventually_one_session(&case, doors).await;
    watcher.mark(doors, &case.room).await;
    assert_eq!(watcher.view.told("ann"), ["join"]);
    Outcome::Kept
}

/// Until the core counts one session of ann's.
async fn eventually_one_session(case: &Case, doors: Doors) {
    let mut presence = hearth_tests::grpc::presence(doors.grpc).await;
    hearth_tests::eventually("one session of ann", async || {
        let online = hearth_tests::grpc::online(&mut presence, &case.room).await;
        online.iter().any(|one| one.user == "ann" && one.sessions == 1).then_some(())
    })
    .await;
}

/// As it was spelled; to who is there by an update, to who comes by the state. The newest of several holds.
async fn metas(case: Case) -> Outcome {
    let mut watcher = Watcher::attend(&case, case.doors(), "ben").await;
    let mut ann = case.enter("ann").await;
    watcher.until_shows("ann", true).await;
    ann.set_meta(&case.room, r#"{"status":"away","n":1.00}"#).await.unwrap();
    watcher.until(|view| view.told("ann").contains(&"update")).await;
    let update = watcher.told.last().unwrap();
    let data = r#"{"event":"update","user":"ann","meta":{"status":"away","n":1.00}}"#;
    assert_eq!(update.data, data);
    let away = json!({"status": "away", "n": 1.0});
    assert_eq!(plain(&state_for(&case, case.doors(), "cyd").await)[0].2, away);
    // What is shown already is no update.
    ann.set_meta(&case.room, r#"{"status":"away","n":1.00}"#).await.unwrap();
    watcher.mark(case.doors(), &case.room).await;
    ann.set_meta(&case.room, "{}").await.unwrap();
    watcher.until(|view| view.told("ann").len() == 3).await;
    assert_eq!(watcher.view.told("ann"), ["join", "update", "update"]);
    for wrong in ["[]", "null", r#""away""#] {
        assert_eq!(ann.set_meta(&case.room, wrong).await.unwrap_err().code, "invalid_argument", "{wrong}");
    }
    Outcome::Kept
}

/// Who does not want it is told none, and is seen all the same.
async fn a_join_without(case: Case) -> Outcome {
    if case.transport.speaks_by_request() {
        return Outcome::ByTheContract("a stream's URL names its rooms, and no options of a join");
    }
    let mut watcher = Watcher::attend(&case, case.doors(), "ben").await;
    let mut ann = case.connect("ann").await;
    ann.presence = true;
    let join = Join { presence: Some(false), ..Join::default() };
    ann.must_join(&case.room, &join).await;
    watcher.until_shows("ann", true).await;
    watcher.mark(case.doors(), &case.room).await;
    watcher.session.mark(&case.room, "end").await;
    let heard = ann.until_mark("end").await;
    assert_eq!(heard.len(), 1, "{heard:?}");
    Outcome::Kept
}
