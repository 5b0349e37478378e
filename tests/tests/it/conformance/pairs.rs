//! Two transports in one room see equal envelopes: type, id, room, seq, data with the author, and the timestamp to the microsecond.
use super::{
    caught,
    table::{Cell, Table},
};
use hearth_tests::{
    process::Hearth,
    transports::{
        Doors, Session, Transport,
        command::{Data, Range},
        envelope::Envelope,
    },
};
use serde_json::Value;
use tokio::task::{JoinSet, LocalSet};

/// What is published through each of the two, one after the other.
const TEXTS: [(&str, Option<&str>, &str); 6] = [
    ("text", Some("id"), r#"{"content":"hello"}"#),
    (
        "text",
        None,
        r#"{"n":1.00,"big":12345678901234567890123,"s":"\u00e9\/é\"","deep":[[ 1 , {"a":null}]],"":"🙂"}"#,
    ),
    ("text", Some("é \"quoted\" \\ 🙂"), r#"{"author":"eve"}"#),
    ("signal", None, r#"{"cursor":[1.5,2]}"#),
    ("signal", Some("s"), "{}"),
    ("text", None, "{}"),
];

/// Somebody who listens, and what came.
struct Listener {
    session: Session,
    events: Vec<Envelope>,
    /// Steps of presence: whose they are, and their data.
    steps: Vec<(String, String)>,
}

impl Listener {
    async fn attend(doors: Doors, transport: Transport, user: &str, room: &str) -> Listener {
        let session = Session::attend(doors, transport, user, room).await;
        let mut listener = Listener { session, events: Vec::new(), steps: Vec::new() };
        while !listener.take().await {}
        listener
    }

    /// Takes what comes next. True for a state.
    async fn take(&mut self) -> bool {
        let envelope = self.session.next().await;
        if envelope.kind != "presence" {
            self.events.push(envelope);
            return false;
        }
        let (event, user) = (envelope.field("event"), envelope.field("user"));
        if ["ann", "bob"].contains(&user.as_str()) {
            self.steps.push((user, envelope.data));
        }
        event == "state"
    }

    /// Until a step of that kind has been told of a user.
    async fn until_step(&mut self, user: &str, event: &str) {
        let begins = format!(r#"{{"event":"{event}""#);
        while !self.steps.iter().any(|(whose, data)| whose == user && data.starts_with(&begins)) {
            self.take().await;
        }
    }

    async fn until_events(&mut self, count: usize) {
        while self.events.len() < count {
            self.take().await;
        }
    }
}

/// Says all there is to say through one transport; how much that was.
async fn speak(
    doors: Doors,
    transport: Transport,
    user: &str,
    room: &str,
    listeners: &mut [Listener; 2],
) -> (Session, usize) {
    let mut speaker = Session::enter(doors, transport, user, room).await;
    for listener in &mut *listeners {
        listener.until_step(user, "join").await;
    }
    speaker.set_meta(room, r#"{"status":"busy","n":1.00}"#).await.unwrap();
    for listener in &mut *listeners {
        listener.until_step(user, "update").await;
    }
    let mut said = 0;
    for (kind, id, data) in TEXTS {
        speaker.publish(room, kind, id, data).await.unwrap();
        said += 1;
    }
    if transport.has_bytes() {
        for kind in ["text", "signal"] {
            speaker.publish_data(room, kind, Some(kind), Data::Binary(b"\x00\xff")).await.unwrap();
            said += 1;
        }
    }
    if transport.is_service() {
        // By its seq it is told from what the server says about itself.
        speaker.publish(room, "system", Some("system"), r#"{"event":"joined"}"#).await.unwrap();
        said += 1;
    }
    for active in [true, false] {
        let data = format!(r#"{{"active":{active}}}"#);
        speaker.publish(room, "typing", Some("typing"), &data).await.unwrap();
        said += 1;
    }
    (speaker, said)
}

/// Two listen, two speak, each pair through both transports.
async fn equal_envelopes(doors: Doors, transports: [Transport; 2], room: String) {
    let [one, other] = transports;
    let mut listeners = [
        Listener::attend(doors, one, "listener-1", &room).await,
        Listener::attend(doors, other, "listener-2", &room).await,
    ];
    let mut said = 0;
    let mut speakers = Vec::new();
    for (transport, user) in transports.into_iter().zip(["ann", "bob"]) {
        let (speaker, more) = speak(doors, transport, user, &room, &mut listeners).await;
        speakers.push(speaker);
        said += more;
        for listener in &mut listeners {
            listener.until_events(said).await;
        }
    }
    assert_eq!(listeners[0].events, listeners[1].events);
    assert_eq!(listeners[0].events.len(), said);

    // Who comes is told the same of who is there, and what is read is what was heard.
    let mut states = Vec::new();
    for transport in transports {
        let mut late = Session::attend(doors, transport, "late", &room).await;
        let told = late.find(|told| told.kind == "presence" && told.field("event") == "state").await;
        let mut online: Vec<Value> = told.value()["online"].as_array().unwrap().clone();
        online.retain(|one| one["user"] == "ann" || one["user"] == "bob");
        online.sort_by_key(|one| one["user"].to_string());
        assert_eq!(online.len(), 2, "{told:?}");
        states.push(online);
        let page = late.history(&room, Range::default()).await.unwrap();
        let texts = listeners[0].events.iter().filter(|event| event.seq.is_some());
        assert_eq!(page.messages, texts.cloned().collect::<Vec<_>>());
        late.close().await;
    }
    assert_eq!(states[0], states[1]);

    for (speaker, user) in speakers.into_iter().zip(["ann", "bob"]) {
        speaker.close().await;
        for listener in &mut listeners {
            listener.until_step(user, "leave").await;
        }
    }
    assert_eq!(listeners[0].steps, listeners[1].steps);
    assert_eq!(listeners[0].steps.len(), 6, "join, update, leave: {:?}", listeners[0].steps);
}

/// 19. Each transport with each other one, and with itself.
#[tokio::test]
async fn two_transports_in_one_room_see_equal_envelopes() {
    LocalSet::new().run_until(all_pairs()).await;
}

async fn all_pairs() {
    let hearth = Hearth::serve(&["--presence-timeout", "1s"]).await;
    let doors = Doors::of(&hearth);
    let mut pairs = JoinSet::new();
    for (n, one) in Transport::ALL.into_iter().enumerate() {
        for other in Transport::ALL.into_iter().skip(n) {
            pairs.spawn_local(async move {
                let room = format!("{}+{}", one.name(), other.name()).replace("+post", "");
                let body = async move {
                    equal_envelopes(doors, [one, other], room).await;
                    super::Outcome::Kept
                };
                (one, other, caught(Box::pin(body)).await)
            });
        }
    }
    let names = Transport::ALL.map(Transport::name);
    let mut table = Table::new("equal envelopes", &names, &names);
    for (one, other, outcome) in pairs.join_all().await {
        let cell = match outcome {
            Ok(_) => Cell::Kept,
            Err(seen) => Cell::Red(seen),
        };
        table.set(one.name(), other.name(), cell);
    }
    let red = table.print();
    assert!(red.is_empty(), "{} pairs are red:\n{}", red.len(), red.join("\n"));
}
