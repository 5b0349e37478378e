//! Checks what a watcher is told about who is online: first a state or a number, then steps that fit the last state. Nobody
//! comes twice, nobody goes who is not there, nothing is told as news that is none.
use crate::{PATIENCE, client::Client, grpc, within};
use hearth_proto::v1::{
    Presence, PresenceUser, WatchPresenceRequest, WatchPresenceResponse, presence::Event as Told,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};
use tokio::time::timeout;
use tonic::Streaming;

/// What one watcher believes about one room.
#[derive(Debug)]
pub struct View {
    name: String,
    room: String,
    mode: Mode,
    online: BTreeMap<String, Value>,
    sessions: BTreeMap<String, u64>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nothing,
    List,
    Count(u64),
}

/// What was told, and when it was read.
#[derive(Debug, Clone)]
pub struct Step {
    /// `state`, `count`, `join`, `update` or `leave`; `appears`, `changes` or `is missing` where only a later state
    /// shows it.
    pub what: &'static str,
    /// Whom it is about; empty for a state and a count.
    pub user: String,
    /// When.
    pub at: Instant,
}

impl View {
    /// One that is called `name` when it complains.
    pub fn new(name: impl Into<String>, room: impl Into<String>) -> View {
        View {
            name: name.into(),
            room: room.into(),
            mode: Mode::Nothing,
            online: BTreeMap::new(),
            sessions: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    /// Takes a JSON frame; what is not presence of this room passes.
    pub fn frame(&mut self, frame: &Value) {
        if frame["type"] != "presence" || frame["room"] != self.room.as_str() {
            return;
        }
        let data = frame["data"].as_object().unwrap_or_else(|| panic!("{}: {frame}", self.name));
        let keys = |wanted: &[&str]| {
            let mut keys: Vec<&str> = data.keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, wanted, "{frame}");
        };
        match data["event"].as_str() {
            Some("state") => {
                keys(&["event", "online"]);
                self.state(data["online"].as_array().expect("online is a list").iter().map(|entry| {
                    let user = entry["user"].as_str().unwrap_or_else(|| panic!("no user: {entry}"));
                    assert!(entry["since"].is_number(), "{entry}");
                    let sessions = entry["sessions"].as_u64().unwrap_or_else(|| panic!("{entry}"));
                    (user.to_owned(), entry["meta"].clone(), sessions)
                }));
            }
            Some("count") => {
                keys(&["count", "event"]);
                self.count_is(data["count"].as_u64().expect("count is a number"));
            }
            what @ Some("join" | "update" | "leave") => {
                keys(&["event", "meta", "user"]);
                let user = data["user"].as_str().expect("user is a string");
                let meta = data["meta"].clone();
                match what {
                    Some("join") => self.join(user, meta),
                    Some("update") => self.update(user, meta),
                    _ => self.leave(user, &meta),
                }
            }
            _ => panic!("{}: {frame}", self.name),
        }
    }

    /// Takes what gRPC says; what is of another room passes.
    pub fn presence(&mut self, presence: &Presence) {
        if presence.room != self.room {
            return;
        }
        match presence.event.as_ref().expect("presence says something") {
            Told::State(state) => {
                self.state(state.online.iter().map(|entry| {
                    assert!(entry.since.is_some(), "{entry:?}");
                    (entry.user.clone(), meta_of(entry), entry.sessions.into())
                }));
            }
            Told::Count(count) => self.count_is(*count),
            Told::Join(user) => self.join(&user.user, meta_of(user)),
            Told::Update(user) => self.update(&user.user, meta_of(user)),
            Told::Leave(user) => self.leave(&user.user, &meta_of(user)),
        }
    }

    fn state(&mut self, entries: impl Iterator<Item = (String, Value, u64)>) {
        let before = std::mem::take(&mut self.online);
        let goes_on = self.mode == Mode::List;
        self.mode = Mode::List;
        self.sessions.clear();
        self.took("state", "");
        for (user, meta, sessions) in entries {
            assert!(meta.is_object(), "{}: {user}'s meta: {meta}", self.name);
            if goes_on {
                match before.get(&user) {
                    None => self.took("appears", &user),
                    Some(old) if *old != meta => self.took("changes", &user),
                    Some(_) => {}
                }
            }
            self.sessions.insert(user.clone(), sessions);
            if let Some(twice) = self.online.insert(user, meta) {
                panic!("{}: somebody stands twice in one state, first with {twice}", self.name);
            }
        }
        if goes_on {
            for user in
                before.keys().filter(|user| !self.online.contains_key(*user)).cloned().collect::<Vec<_>>()
            {
                self.took("is missing", &user);
            }
        }
    }

    fn count_is(&mut self, count: u64) {
        self.online.clear();
        self.sessions.clear();
        self.mode = Mode::Count(count);
        self.took("count", "");
    }

    fn join(&mut self, user: &str, meta: Value) {
        self.steps_on("join", user, &meta);
        let before = self.online.insert(user.to_owned(), meta);
        assert!(before.is_none(), "{}: {user} joins, and was there: {:?}", self.name, self.told(user));
    }

    fn update(&mut self, user: &str, meta: Value) {
        self.steps_on("update", user, &meta);
        let told = self.told(user);
        let Some(known) = self.online.get_mut(user) else {
            panic!("{}: an update of {user}, who is not there: {told:?}", self.name);
        };
        assert_ne!(*known, meta, "{}: an update of {user} that changes nothing: {told:?}", self.name);
        *known = meta;
    }

    fn leave(&mut self, user: &str, meta: &Value) {
        self.steps_on("leave", user, meta);
        let before = self.online.remove(user);
        assert!(before.is_some(), "{}: {user} leaves, and was not there: {:?}", self.name, self.told(user));
    }

    fn steps_on(&mut self, what: &'static str, user: &str, meta: &Value) {
        assert_eq!(self.mode, Mode::List, "{}: {what} of {user} belongs to no state", self.name);
        assert!(meta.is_object(), "{}: {what} of {user} with {meta}", self.name);
        self.took(what, user);
    }

    fn took(&mut self, what: &'static str, user: &str) {
        self.steps.push(Step { what, user: user.to_owned(), at: Instant::now() });
    }

    /// Whether anything was told yet.
    pub fn has_begun(&self) -> bool {
        self.mode != Mode::Nothing
    }

    /// Everybody who is online, by name, with their meta.
    pub fn online(&self) -> &BTreeMap<String, Value> {
        &self.online
    }

    /// The names of those who are online.
    pub fn users(&self) -> Vec<&str> {
        self.online.keys().map(String::as_str).collect()
    }

    /// Whether somebody is online.
    pub fn shows(&self, user: &str) -> bool {
        self.online.contains_key(user)
    }

    /// How many sessions somebody had in the last state.
    pub fn sessions(&self, user: &str) -> Option<u64> {
        self.sessions.get(user).copied()
    }

    /// How many are online, where only that is told.
    pub fn count(&self) -> Option<u64> {
        match self.mode {
            Mode::Count(count) => Some(count),
            _ => None,
        }
    }

    /// All that was told since the record was begun.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Begins the record anew.
    pub fn clear_steps(&mut self) {
        self.steps.clear();
    }

    /// What was told about somebody, in order: `["join", "leave"]`. Whom the first state showed has no `join`.
    pub fn told(&self, user: &str) -> Vec<&'static str> {
        self.steps.iter().filter(|step| step.user == user).map(|step| step.what).collect()
    }

    /// When it was told of somebody the last time.
    pub fn when(&self, what: &str, user: &str) -> Instant {
        let step = self.steps.iter().rfind(|step| step.what == what && step.user == user);
        step.unwrap_or_else(|| panic!("{}: no {what} of {user:?}: {:?}", self.name, self.told(user))).at
    }

    /// How often something was told, of whomever.
    pub fn times(&self, what: &str) -> usize {
        self.steps.iter().filter(|step| step.what == what).count()
    }
}

/// A user's meta, as JSON.
pub fn meta_of(user: &PresenceUser) -> Value {
    serde_json::from_str(&user.meta).unwrap_or_else(|error| panic!("{user:?}: {error}"))
}

/// What a view should be where the core lists these.
pub fn as_online(listed: &[PresenceUser]) -> BTreeMap<String, Value> {
    listed.iter().map(|user| (user.user.clone(), meta_of(user))).collect()
}

/// Somebody who watches a room, and what that comes to.
pub struct Watcher {
    source: Source,
    /// What it believes.
    pub view: View,
}

enum Source {
    Browser(Box<Client>),
    Service(Box<Streaming<WatchPresenceResponse>>),
}

impl Watcher {
    /// A browser that joins the room, and has been told who is there.
    pub async fn enter(http: SocketAddr, room: &str, user: &str) -> Watcher {
        let (client, _) = Client::attend(http, &format!("/ws/{room}?user={user}")).await;
        Self::of(client, room).await
    }

    /// A browser that has just joined the room, and is being told who is there.
    pub async fn of(client: Client, room: &str) -> Watcher {
        let view = View::new(&client.user, room);
        let user = client.user.clone();
        let mut watcher = Watcher { source: Source::Browser(Box::new(client)), view };
        watcher.until("who is there", View::has_begun).await;
        assert!(
            watcher.view.count().is_some() || watcher.view.shows(&user),
            "{user} is there too: {:?}",
            watcher.view
        );
        watcher
    }

    /// A service that watches by `WatchPresence`, and has been told who is there.
    pub async fn service(grpc: SocketAddr, room: &str) -> Watcher {
        let request = WatchPresenceRequest { room: room.to_owned() };
        let mut presence = grpc::presence(grpc).await;
        let answer = within("an answer to WatchPresence", presence.watch_presence(request)).await;
        let source = Source::Service(Box::new(answer.unwrap().into_inner()));
        let mut watcher = Watcher { source, view: View::new("a service", room) };
        watcher.until("who is there", View::has_begun).await;
        watcher
    }

    /// Takes the next frame, whatever it is.
    pub async fn step(&mut self) {
        match &mut self.source {
            Source::Browser(client) => self.view.frame(&client.next().await),
            Source::Service(stream) => {
                let response = within("what is watched", stream.message()).await.unwrap();
                let presence =
                    response.expect("the stream goes on").presence.expect("a response says something");
                self.view.presence(&presence);
            }
        }
    }

    /// Reads until the view is as wanted, which it may be already.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&View) -> bool) {
        let reading = async {
            while !wanted(&self.view) {
                self.step().await;
            }
        };
        let found = timeout(PATIENCE, reading).await;
        assert!(found.is_ok(), "{what} did not come within {PATIENCE:?}: {:?}", self.view);
    }

    /// Reads until exactly these are online.
    pub async fn until_online(&mut self, users: &[&str]) {
        self.until(&format!("{users:?}"), |view| view.users() == users).await;
    }

    /// Reads until somebody is online, or no longer.
    pub async fn until_shows(&mut self, user: &str, shown: bool) {
        let what = if shown { "online" } else { "gone" };
        self.until(&format!("{user}, {what}"), |view| view.shows(user) == shown).await;
    }

    /// Somebody comes through that door and goes: when both have been told, so has all that was done there before.
    pub async fn mark(&mut self, door: SocketAddr) {
        self.pass(door, false).await;
    }

    /// Awaits the presence timeout: somebody vanishes at that door now and is told gone, and so has been by then
    /// whoever vanished before.
    pub async fn wait_out(&mut self, door: SocketAddr) {
        self.pass(door, true).await;
        self.mark(door).await;
    }

    async fn pass(&mut self, door: SocketAddr, vanishing: bool) {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let user = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        let (client, _) = Client::enter(door, &format!("/ws/{}?user={user}", self.view.room)).await;
        self.until_shows(&user, true).await;
        if vanishing {
            client.cut();
        } else {
            client.close().await;
        }
        self.until_shows(&user, false).await;
    }

    /// The browser's socket.
    pub fn client(&mut self) -> &mut Client {
        match &mut self.source {
            Source::Browser(client) => client,
            Source::Service(_) => panic!("a service has no socket"),
        }
    }

    /// The browser's socket, and nobody watches any more.
    pub fn into_client(self) -> Client {
        match self.source {
            Source::Browser(client) => *client,
            Source::Service(_) => panic!("a service has no socket"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::panic::catch_unwind;

    #[allow(clippy::needless_pass_by_value, reason = "`told(json!(…))` reads better")]
    fn told(data: Value) -> Value {
        json!({"type": "presence", "room": "r", "data": data})
    }

    fn state(users: &[&str]) -> Value {
        let entry = |user| json!({"user": user, "meta": {}, "sessions": 1, "since": 1.5});
        told(json!({"event": "state", "online": users.iter().map(entry).collect::<Vec<_>>()}))
    }

    fn step(event: &str, user: &str, n: u32) -> Value {
        told(json!({"event": event, "user": user, "meta": {"n": n}}))
    }

    fn watch(frames: &[Value]) -> View {
        let mut view = View::new("it", "r");
        for frame in frames {
            view.frame(frame);
        }
        view
    }

    #[test]
    fn what_is_right_passes() {
        let view = watch(&[
            state(&["a"]),
            step("join", "b", 1),
            step("update", "b", 2),
            step("leave", "a", 0),
            json!({"type": "presence", "room": "other", "data": {"event": "leave", "user": "b", "meta": {}}}),
            step("join", "a", 1),
        ]);
        assert_eq!(view.users(), ["a", "b"]);
        assert_eq!((view.told("a"), view.told("b")), (vec!["leave", "join"], vec!["join", "update"]));
        let view = watch(&[state(&["a", "b"]), state(&["b", "c"])]);
        assert_eq!(
            (view.told("a"), view.told("b"), view.told("c")),
            (vec!["is missing"], vec![], vec!["appears"])
        );
        let view = watch(&[told(json!({"event": "count", "count": 7})), state(&["b"])]);
        assert_eq!((view.told("b"), view.users(), view.count()), (vec![], vec!["b"], None));
    }

    #[test]
    fn a_view_sees_what_is_wrong() {
        let wrongs = [
            vec![step("join", "a", 1)],
            vec![state(&["a", "a"])],
            vec![state(&["a"]), step("join", "a", 1)],
            vec![state(&["a"]), step("leave", "b", 1)],
            vec![state(&["a"]), step("update", "b", 1)],
            vec![state(&[]), step("join", "a", 1), step("update", "a", 1)],
            vec![state(&[]), told(json!({"event": "count", "count": 7})), step("join", "a", 1)],
            vec![state(&[]), told(json!({"event": "join", "user": "a", "meta": "x"}))],
            vec![state(&[]), told(json!({"event": "join", "user": "a"}))],
        ];
        for wrong in wrongs {
            assert!(catch_unwind(|| watch(&wrong)).is_err(), "{wrong:?}");
        }
    }
}
