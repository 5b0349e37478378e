//! One suite for every transport: the same bodies, told over each of them. What a transport cannot do by its contract is a cell of its
//! own that says why, and the set of those is fixed ([`BY_THE_CONTRACT`]): it cannot grow unnoticed. The table is printed at the end of
//! every run.
mod drain;
mod ephemeral;
mod errors;
mod history;
mod limits;
mod membership;
mod order;
mod pairs;
mod payload;
mod presence;
mod publishing;
mod recovery;
mod table;

use futures_util::future::LocalBoxFuture;
use hearth_tests::{
    eventually, grpc,
    process::Hearth,
    secure::Authority,
    transports::{Doors, Session, Transport},
};
use std::{any::Any, future::Future, sync::Arc};
use table::Table;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet, spawn_local},
};

/// How many cells run at once: most of them wait for a timeout that is part of the contract.
const AT_ONCE: usize = 32;

const WEB_SOCKETS: [Transport; 2] = [Transport::WebSocketJson, Transport::WebSocketProtobuf];
const STREAMS: [Transport; 2] = [Transport::EventStream, Transport::LongPoll];

/// What no session over these transports can do, or does otherwise. A cell that joins or leaves this list is a change of the contract.
const BY_THE_CONTRACT: &[(&str, &[Transport])] = &[
    ("echo: false leaves one's own out", &STREAMS),
    ("history: a join brings the newest", &STREAMS),
    ("leave: nothing comes behind it", &STREAMS),
    ("presence: a join without it", &STREAMS),
    ("presence: who leaves is gone at once", &STREAMS),
    ("signal: not to its own session", &STREAMS),
    ("typing: not to its own session", &STREAMS),
    ("typing: ends with its session", &STREAMS),
    ("error: failed_precondition", &STREAMS),
    ("error: permission_denied to publish", &[Transport::Connect]),
];

/// How a body ended that did not fail.
enum Outcome {
    /// All as it is over the others.
    Kept,
    /// Otherwise, for this reason. Where there is something that happens instead, it has been seen to happen.
    ByTheContract(&'static str),
}

/// A body, to be told over each transport.
struct Behaviour {
    name: &'static str,
    body: Box<dyn Fn(Case) -> LocalBoxFuture<'static, Outcome>>,
}

impl Behaviour {
    fn new<F: Future<Output = Outcome> + 'static>(
        name: &'static str,
        body: impl Fn(Case) -> F + 'static,
    ) -> Behaviour {
        Behaviour { name, body: Box::new(move |case| Box::pin(body(case))) }
    }
}

/// The processes that bodies share, each in rooms of its own.
struct Servers {
    /// As it comes, but that who has vanished is gone after a second.
    usual: Hearth,
    /// Keeps five events a room. Who has vanished is not gone within a test's patience.
    short: Hearth,
    /// Keeps events for a moment.
    forgetful: Hearth,
    /// Keeps more than a session's queue holds.
    deep: Hearth,
    /// Takes three rooms a session, and small messages.
    narrow: Hearth,
    /// Takes few commands.
    slow: Hearth,
}

impl Servers {
    /// In the clear, or by TLS with a certificate of this authority.
    async fn start(authority: Option<&Authority>) -> Servers {
        let serve = async |flags: &[&str]| match authority {
            None => Hearth::serve(flags).await,
            Some(authority) => Hearth::serve_by_tls(authority, flags).await,
        };
        Servers {
            usual: serve(&["--presence-timeout", "1s"]).await,
            short: serve(&["--history-size", "5"]).await,
            forgetful: serve(&["--history-ttl", "300ms"]).await,
            deep: serve(&["--history-size", "300", "--session-queue-bytes", "131072"]).await,
            narrow: serve(&["--max-rooms-per-session", "3", "--max-message-bytes", "1000"]).await,
            slow: serve(&["--rate-limit", "2", "--rate-burst", "5"]).await,
        }
    }
}

/// A body's own: a transport, and a room on each server.
#[derive(Clone)]
struct Case {
    servers: Arc<Servers>,
    transport: Transport,
    room: String,
}

impl Case {
    fn doors(&self) -> Doors {
        Doors::of(&self.servers.usual)
    }

    async fn connect(&self, user: &str) -> Session {
        Session::connect(self.doors(), self.transport, user).await
    }

    async fn enter(&self, user: &str) -> Session {
        Session::enter(self.doors(), self.transport, user, &self.room).await
    }
}

/// Awaits that so many sessions are in a room: what has been cut is gone when the server has noticed.
async fn until_sessions(doors: Doors, room: &str, count: u64) {
    let mut rooms = grpc::rooms(doors.grpc).await;
    eventually(&format!("{count} sessions in {room}"), async || {
        (grpc::sessions(&mut rooms, room).await == count).then_some(())
    })
    .await;
}

/// 19. One suite, every transport.
#[tokio::test]
async fn every_transport_keeps_the_contract() {
    LocalSet::new().run_until(all_behaviours(None)).await;
}

/// The same by TLS, which is a shard's socket of another kind.
#[tokio::test]
async fn every_transport_keeps_the_contract_by_tls() {
    LocalSet::new().run_until(all_behaviours(Some(Authority::new()))).await;
}

async fn all_behaviours(authority: Option<Authority>) {
    let mut behaviours = Vec::new();
    for some in [
        order::behaviours(),
        publishing::behaviours(),
        recovery::behaviours(),
        history::behaviours(),
        membership::behaviours(),
        presence::behaviours(),
        ephemeral::behaviours(),
        payload::behaviours(),
        errors::behaviours(),
        limits::behaviours(),
        drain::behaviours(),
    ] {
        behaviours.extend(some);
    }
    let servers = Arc::new(Servers::start(authority.as_ref()).await);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = JoinSet::new();
    for (row, behaviour) in behaviours.iter().enumerate() {
        for transport in Transport::ALL {
            let room = format!("b{row}:{}", transport.name());
            let case = Case { servers: servers.clone(), transport, room };
            let (turns, body) = (turns.clone(), (behaviour.body)(case));
            cells.spawn_local(async move {
                let _turn = turns.acquire().await;
                (row, transport, caught(body).await)
            });
        }
    }
    let rows: Vec<&str> = behaviours.iter().map(|behaviour| behaviour.name).collect();
    let mut table = Table::new("behaviour", &rows, &Transport::ALL.map(Transport::name));
    let mut exceptions = Vec::new();
    for (row, transport, outcome) in cells.join_all().await {
        let cell = match outcome {
            Ok(Outcome::Kept) => table::Cell::Kept,
            Ok(Outcome::ByTheContract(reason)) => {
                exceptions.push((rows[row], transport));
                table::Cell::ByTheContract(reason)
            }
            Err(seen) => table::Cell::Red(seen),
        };
        table.set(rows[row], transport.name(), cell);
    }
    let red = table.print();
    assert!(red.is_empty(), "{} cells are red:\n{}", red.len(), red.join("\n"));
    let mut expected: Vec<(&str, Transport)> = BY_THE_CONTRACT
        .iter()
        .flat_map(|(name, transports)| transports.iter().map(|transport| (*name, *transport)))
        .collect();
    expected.sort_unstable();
    exceptions.sort_unstable();
    assert_eq!(exceptions, expected, "what is otherwise by the contract is listed, no more and no less");
}

/// A body in a task of its own: what it panicked with.
async fn caught(body: LocalBoxFuture<'static, Outcome>) -> Result<Outcome, String> {
    spawn_local(body).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => said(&*panic),
        Err(error) => error.to_string(),
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without words".to_owned(),
    }
}
