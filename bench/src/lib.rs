//! `hearth bench`: this build against a plain WebSocket server, on this machine, in one run.
//!
//! Absolute numbers say more about a machine than about a server, and drift with its neighbours. So both servers run at the
//! same time, take turns in slices of a second, and are compared by what a second of their own processor time delivers. While
//! measuring, every delivery is checked: none lost, none doubled, none out of order.
//!
//! `hearth bench presence`, `bytes` and `idle` look at what the plain server has not: what it costs to know who is here, to speak in each
//! format, and to wait by each transport.
pub mod attacks;
mod audience;
mod bytes;
mod chat;
mod crowd;
mod door;
mod frames;
mod idle;
mod listeners;
mod plain;
mod presence;
mod report;
mod server;
mod socket;
mod stats;
mod view;
mod workload;

use clap::{Args, Subcommand, ValueEnum};
use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What goes wrong, for a person.
type Failure = Box<dyn Error + Send + Sync>;

/// What to measure, and how much of it.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    part: Option<Part>,
    /// What to measure
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Workload::All)]
    workload: Workload,
    /// Connections that listen
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    subscribers: u32,
    /// Seconds to measure each server in each workload, in slices of one
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Messages under way at once in `fanout`; 1 and 8 unless said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    in_flight: Option<u32>,
    /// Size of what a message says, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(16..=60_000))]
    payload_bytes: u32,
    /// Rooms in `rooms`, with ten listeners each
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rooms: u32,
    /// Messages per second in `rooms`, over all rooms
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// One room, all listen: one message at a time, and several
    Fanout,
    /// Many small rooms at a steady rate
    Rooms,
    /// Memory of connections that do nothing
    Idle,
    /// All connections drop and come back at once
    Storm,
    /// All of these
    All,
}

#[derive(Debug, Clone, Subcommand)]
enum Part {
    /// Run attacks against a server of this build, and measure what a well-behaved client feels of them
    Attacks(attacks::AttacksArgs),
    /// The attacker; `hearth bench attacks` starts it by itself
    #[command(hide = true)]
    Attacker(attacks::AttackerArgs),
    /// The server that Hearth is compared with; `hearth bench` starts it by itself
    #[command(hide = true)]
    NaiveServer,
    /// Measure what the formats of a session cost, on the wire and in the server
    Bytes(bytes::BytesArgs),
    /// Measure what it costs that somebody waits, by each transport
    Idle(idle::IdleArgs),
    /// Measure what it costs to know who is here: many come and go at once, and many are silent
    Presence(presence::PresenceArgs),
}

/// Measures, and prints what came of it.
pub async fn run(args: BenchArgs) -> Result<(), Failure> {
    if let Some(Part::NaiveServer) = args.part {
        return plain::serve().await;
    }
    if let Some(Part::Attacker(args)) = args.part {
        return attacks::attacker(args).await;
    }
    if !cfg!(target_os = "linux") {
        return Err("hearth bench reads processor time and memory from /proc, which only Linux has".into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let measuring = tokio::task::spawn_blocking(move || match &args.part {
        Some(Part::Attacks(args)) => tokio::runtime::Handle::current().block_on(attacks::run(args, &told)),
        Some(Part::Bytes(args)) => bytes::run(args, &told),
        Some(Part::Idle(args)) => tokio::runtime::Handle::current().block_on(idle::run(args, &told)),
        Some(Part::Presence(args)) => presence::run(args, &told),
        _ => workload::run(&args, &told),
    });
    tokio::pin!(measuring);
    tokio::select! {
        outcome = &mut measuring => outcome?,
        () = interrupted() => {
            // The servers end with the thread that owns them.
            stop.store(true, Ordering::Relaxed);
            measuring.await?
        }
    }
}

async fn interrupted() {
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = terminate.recv() => return,
            Ok(()) = tokio::signal::ctrl_c() => return,
            else => {}
        }
    }
    std::future::pending::<()>().await;
}
