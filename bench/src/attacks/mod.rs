//! `hearth bench attacks`: attacks run for real against a started server, while a well-behaved client counts what it feels.
//!
//! Three processes: the server, the attacker, and the one that publishes honestly and keeps the table. The attacker is paced and
//! runs at a lower priority: on a machine that all three share, one that takes all there is would measure the scheduler. Between
//! two attacks there is quiet, and what the client felt under attack is held against that.
//!
//! [`attack`] alone is what the end-to-end tests call, with small numbers and no clock.
mod arena;
mod grpc;
mod heads;
mod honest;
mod http2;
mod kinds;
mod pace;
mod streams;
mod table;
mod talk;
mod websocket;

pub use arena::{AttacksArgs, run};
pub use kinds::Attack;

use clap::Args;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// What one attack is run against, and how hard.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The door for browsers.
    pub http: SocketAddr,
    /// The door for services.
    pub grpc: SocketAddr,
    /// A token of a user who may do what all may: an attacker can be a customer.
    pub token: String,
    /// Connections that are held at once, where an attack holds any.
    pub connections: usize,
    /// Connections, requests, frames or messages a second: whatever an attack is made of.
    pub rate: u32,
    /// How long.
    pub lasting: Duration,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// What was done, and how often.
    pub did: BTreeMap<String, u64>,
    /// What the server answered, and how often.
    pub answers: BTreeMap<String, u64>,
}

impl Seen {
    fn did(&mut self, what: &str, times: u64) {
        *self.did.entry(what.to_owned()).or_default() += times;
    }

    fn answer(&mut self, what: impl Into<String>) {
        *self.answers.entry(what.into()).or_default() += 1;
    }
}

/// Runs one attack. It is over when its time is.
pub async fn attack(kind: Attack, plan: &Plan) -> Seen {
    let mut seen = Seen::default();
    match kind {
        Attack::Slowloris => heads::hold(plan, heads::Hold::Drip, &mut seen).await,
        Attack::HalfOpen => heads::hold(plan, heads::Hold::Silent, &mut seen).await,
        Attack::GiantHeaders => heads::giant(plan, &mut seen).await,
        Attack::BadTokens => heads::bad_tokens(plan, &mut seen).await,
        Attack::RapidReset => streams::rapid_reset(plan, plan.http, &mut seen).await,
        Attack::RapidResetGrpc => streams::rapid_reset(plan, plan.grpc, &mut seen).await,
        Attack::Continuation => streams::continuation(plan, plan.http, &mut seen).await,
        Attack::ContinuationGrpc => streams::continuation(plan, plan.grpc, &mut seen).await,
        Attack::Pings => streams::pings(plan, plan.http, &mut seen).await,
        Attack::PingsGrpc => streams::pings(plan, plan.grpc, &mut seen).await,
        Attack::Bomb => websocket::bomb(plan, &mut seen).await,
        Attack::Commands => websocket::commands(plan, &mut seen).await,
        Attack::Publishing => websocket::publishing(plan, &mut seen).await,
        Attack::DeepJson => websocket::deep(plan, &mut seen).await,
        Attack::Frames => websocket::garbage(plan, &mut seen).await,
        Attack::FramePings => websocket::pings(plan, &mut seen).await,
        Attack::Protobuf => websocket::protobuf(plan, &mut seen).await,
        Attack::ProtobufGrpc => grpc::garbage(plan, &mut seen).await,
    }
    seen
}

/// What the attacker's own process is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct AttackerArgs {
    #[arg(long, value_enum)]
    kind: Attack,
    #[arg(long)]
    http: SocketAddr,
    #[arg(long)]
    grpc: SocketAddr,
    #[arg(long)]
    token: String,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    seconds: u64,
}

/// The attacker's process: attacks, and prints what it has seen as one line of JSON.
pub(crate) async fn attacker(args: AttackerArgs) -> Result<(), crate::Failure> {
    let _ = rlimit::increase_nofile_limit(u64::MAX)?;
    let AttackerArgs { kind, http, grpc, token, connections, rate, seconds } = args;
    let plan = Plan { http, grpc, token, connections, rate, lasting: Duration::from_secs(seconds) };
    let seen = attack(kind, &plan).await;
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}
