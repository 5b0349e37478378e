//! Polls over one HTTP/2 connection: what is ready takes turns, what waits takes none.
use crate::transport::testing::{Edge, PATIENCE, config};
use bytes::Bytes;
use h2::client::SendRequest;
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many long answers a connection is given at the same time.
const TURNS: usize = 4;

async fn connect(edge: &Edge) -> SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(edge.connect().await).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// The answer's head; its body comes when it is asked for.
fn ask(client: &mut SendRequest<Bytes>, path: &str) -> h2::client::ResponseFuture {
    let request = http::Request::get(format!("http://edge.test{path}")).body(()).unwrap();
    client.send_request(request, true).unwrap().0
}

async fn read(answer: http::Response<h2::RecvStream>) -> Vec<u8> {
    let (mut body, mut whole) = (answer.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        whole.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    whole
}

/// The cursors of so many sessions for which a long message waits.
async fn sessions(client: &mut SendRequest<Bytes>, count: usize) -> Vec<String> {
    let first: Vec<_> = (0..count).map(|_| ask(client, "/poll/large?limit=1")).collect();
    let mut cursors = Vec::new();
    for answer in first {
        let answer: Value = serde_json::from_slice(&read(answer.await.unwrap()).await).unwrap();
        cursors.push(answer["cursor"].as_str().unwrap().to_owned());
    }
    cursors
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

/// An edge does not hold more than a few answers for a client that does not read them, however many it asks for at once.
#[tokio::test]
async fn long_answers_take_turns() {
    const POLLS: usize = 20;
    let edge = Edge::start(config()).await;
    let mut client = connect(&edge).await;
    let cursors = sessions(&mut client, POLLS).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut heads = JoinSet::new();
    for cursor in &cursors {
        let answer = ask(&mut client, &format!("/poll/large?cursor={cursor}"));
        let answered = answered.clone();
        heads.spawn(async move {
            let answer = answer.await.unwrap();
            answered.fetch_add(1, Ordering::SeqCst);
            answer
        });
    }
    // Short answers go past them, and while they do there is time for all that would be answered at once.
    for _ in 0..50 {
        let short = soon("a short answer", ask(&mut client, "/poll")).await.unwrap();
        assert_eq!(short.status(), 400);
    }
    assert_eq!(answered.load(Ordering::SeqCst), TURNS);
    // The last of those that wait for their turn is superseded: it need not wait any longer for being told so.
    let again = ask(&mut client, &format!("/poll/large?cursor={}", cursors[POLLS - 1]));
    let (mut given, mut superseded) = (Vec::new(), 0);
    for _ in 0..=TURNS {
        let answer = soon("an answer", heads.join_next()).await.unwrap().unwrap();
        if answer.status() == 409 {
            superseded += 1;
        } else {
            given.push(answer);
        }
    }
    assert_eq!((given.len(), superseded), (TURNS, 1));
    // All are read at once: they share the connection's window.
    let mut readers = JoinSet::new();
    given.into_iter().for_each(|answer| drop(readers.spawn(read(answer))));
    readers.spawn(async move { read(again.await.unwrap()).await });
    while let Some(answer) = soon("the next turn", heads.join_next()).await {
        readers.spawn(read(answer.unwrap()));
    }
    let lengths: Vec<usize> =
        soon("the rest", readers.join_all()).await.into_iter().map(|body| body.len()).collect();
    assert_eq!(lengths.len(), POLLS);
    assert!(lengths.iter().all(|length| *length > 500_000), "{lengths:?}");
}

/// Polls that wait for news hold no turn.
#[tokio::test]
async fn a_waiting_poll_keeps_nobody_from_its_turn() {
    let edge = Edge::start(config()).await;
    let mut client = connect(&edge).await;
    let mut waiting = JoinSet::new();
    for cursor in sessions(&mut client, 2 * TURNS).await {
        let path = format!("/poll/large?cursor={cursor}");
        let answer = read(soon("an answer", ask(&mut client, &path)).await.unwrap()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let path = format!("/poll/large?timeout=60&cursor={}", answer["cursor"].as_str().unwrap());
        waiting.spawn(ask(&mut client, &path));
    }
    let history = soon("history", ask(&mut client, "/rooms/large/messages")).await.unwrap();
    assert_eq!(history.status(), 200);
    assert!(soon("the page", read(history)).await.len() > 500_000);
    assert!(waiting.try_join_next().is_none(), "there are no news");
}
