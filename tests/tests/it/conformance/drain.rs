//! Going away in good order.
use super::{Behaviour, Case, Outcome};
use hearth_tests::{
    grpc,
    process::Hearth,
    transports::{
        Doors, Session,
        envelope::{Envelope, Incoming},
    },
};
use tokio::sync::mpsc;

pub(super) fn behaviours() -> Vec<Behaviour> {
    vec![Behaviour::new("drain: told, ended, nothing acked is lost", drain)]
}

/// A listener is told and its session ends; what a publisher got acked until then is in the room. The door that the transport goes
/// through is what drains: for browsers an edge, behind which the room lives on; for services the core, so that there the listener
/// must have heard it.
async fn drain(case: Case) -> Outcome {
    let mut core = Hearth::core(&["--drain-timeout", "5s"]).await;
    let mut edge = Hearth::edge(core.grpc(), &["--drain-timeout", "5s"]).await;
    let doors = Doors { http: edge.http(), grpc: core.grpc() };
    let mut listener = Session::enter(doors, case.transport, "ben", &case.room).await;
    // A poll is told while it waits, which it does for sure where nothing happens.
    let mut quiet = Session::enter(doors, case.transport, "cyd", &format!("{}:quiet", case.room)).await;
    let (progress, mut count) = mpsc::channel(1000);
    let publisher = Session::connect(doors, case.transport, "ann").await;
    let publishing = tokio::spawn(publish_on(publisher, case.room.clone(), progress));
    for _ in 0..20 {
        count.recv().await;
    }
    let draining = if case.transport.is_service() { &mut core } else { &mut edge };
    draining.terminate();
    let told = quiet.next().await;
    assert!(told.tells("draining"), "{told:?}");
    assert!(told.value()["reconnect_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{told:?}");
    let (nothing, how) = rest(&mut quiet).await;
    assert_eq!(nothing, []);
    if !case.transport.is_service() && !case.transport.speaks_by_request() {
        assert_eq!(how, "1001 draining");
    }
    let (heard, _) = rest(&mut listener).await;
    let texts = heard.iter().filter(|envelope| envelope.kind == "text");
    let seqs: Vec<u64> = texts.filter_map(|text| text.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(seqs.len() >= 20, "what was acked before the drain is heard: {seqs:?}");
    let acked = publishing.await.unwrap();
    let status = draining.ended().await;
    assert_eq!(status.code(), Some(0), "{}", draining.said());
    let there: Vec<String> = if case.transport.is_service() {
        heard.into_iter().filter_map(|envelope| envelope.id).collect()
    } else {
        let mut rooms = grpc::rooms(core.grpc()).await;
        grpc::history(&mut rooms, &case.room).await.into_iter().map(|event| event.id).collect()
    };
    for id in &acked {
        assert!(there.contains(id), "{id} was acked, and is not there: {} of {}", there.len(), acked.len());
    }
    Outcome::Kept
}

/// What comes up to the end, and how that comes.
async fn rest(session: &mut Session) -> (Vec<Envelope>, String) {
    let mut envelopes = Vec::new();
    loop {
        match session.incoming().await {
            Incoming::Envelope(envelope) => envelopes.push(envelope),
            Incoming::End(how) => return (envelopes, how),
        }
    }
}

/// Publishes until it is told that the server goes away, or refused; the ids that were acked.
async fn publish_on(mut session: Session, room: String, progress: mpsc::Sender<()>) -> Vec<String> {
    let mut acked = Vec::new();
    while !session.has_come(|envelope| envelope.tells("draining")) {
        let id = format!("m{}", acked.len());
        match session.publish(&room, "text", Some(&id), "{}").await {
            Ok(_) => acked.push(id),
            Err(_) => break,
        }
        // Nobody counts them once the drain is on.
        let _ = progress.try_send(());
    }
    acked
}
