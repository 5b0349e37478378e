//! `hearth bench bytes`: what the formats of a WebSocket session cost, on the wire and in the server.
//!
//! The same chat goes to as many subscribers in each format, from one publisher who speaks JSON to all. Each format has a server of
//! its own; they take turns, a part of the chat each, so that a neighbour of the machine's is a neighbour to all.
use crate::{
    Failure,
    chat::{self, Message},
    listeners::{Format, Listeners},
    report::Columns,
    server::Server,
    stats::quantile,
};
use clap::Args;
use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

/// How many messages a turn has.
const TURN: usize = 500;
/// Before the first that counts: buffers grow, pages are touched.
const WARM_UP: usize = 200;
/// Files that are not the subscribers'.
const OTHER_FILES: u64 = 300;

const FORMATS: [(&str, Format); 4] = [
    ("JSON", Format::Json),
    ("deflated", Format::Deflated),
    ("protobuf", Format::Protobuf),
    ("pb deflated", Format::ProtobufDeflated),
];

/// How much of it.
#[derive(Debug, Clone, Args)]
pub struct BytesArgs {
    /// Messages that are said in each format
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    messages: u32,
    /// Connections that listen in each format
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Messages under way at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    in_flight: u32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

struct Side {
    // Before the server, so that connections end first.
    listeners: Listeners,
    server: Server,
    cpu: Duration,
    wall: Duration,
}

/// Measures and prints it.
pub fn run(args: &BytesArgs, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    let needed = FORMATS.len() as u64 * u64::from(args.subscribers) + OTHER_FILES;
    if files < needed {
        return Err(format!("{needed} open files are needed, {files} are allowed (ulimit -Hn)").into());
    }
    let chat = chat::messages(args.messages);
    let mut sides = Vec::new();
    for (_, format) in FORMATS {
        let server = Server::hearth(&[])?;
        let mut listeners = Listeners::gather(server.address, format, args.subscribers, stop)?;
        let warm: Vec<Message> = (0..WARM_UP)
            .map(|n| Message { id: format!("warm{n}"), data: r#"{"content":"warm"}"#.to_owned() })
            .collect();
        listeners.publish(&warm, args.in_flight as usize)?;
        sides.push(Side { listeners, server, cpu: Duration::ZERO, wall: Duration::ZERO });
    }
    for part in chat.chunks(TURN) {
        for side in &mut sides {
            let (cpu, start) = (side.server.cpu()?, Instant::now());
            side.listeners.publish(part, args.in_flight as usize)?;
            side.wall += start.elapsed();
            side.cpu += side.server.cpu()?.saturating_sub(cpu);
        }
    }
    let table = table(args, &chat, &sides);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let build = if cfg!(debug_assertions) { ", DEBUG BUILD: the times mean little" } else { "" };
    let about = format!("{} under way at once, {processors} processors{build}", args.in_flight);
    if args.json {
        println!("{}", serde_json::json!({"about": about, "tables": [table.value()], "wrong": 0}));
    } else {
        println!("What a chat costs in each format of a WebSocket session\n{about}\n\n{}", table.table());
        println!("Every message came to all, once, in order, and as it was said.");
    }
    Ok(())
}

fn table(args: &BytesArgs, chat: &[Message], sides: &[Side]) -> Columns {
    let (messages, subscribers) = (f64::from(args.messages), f64::from(args.subscribers));
    let title = format!("{} messages to {} subscribers", args.messages, args.subscribers);
    let mut columns = Columns::named(title, FORMATS.map(|(name, _)| name));
    let mut row = |name: &str, value: &dyn Fn(&Side) -> f64| columns.row(name, sides.iter().map(value));
    let sizes = |side: &Side| -> Vec<f64> {
        side.listeners.sizes()[WARM_UP..].iter().map(|size| f64::from(*size)).collect()
    };
    let mean = |side: &Side| sizes(side).iter().sum::<f64>() / messages;
    let json = sides.first().map_or(1.0, mean);
    row("bytes on the wire a message, to each subscriber", &mean);
    row("  of JSON's, in per cent", &|side| mean(side) * 100.0 / json);
    row("  median", &|side| quantile(&sizes(side), 0.5));
    row("  of 95 in 100 at most", &|side| quantile(&sizes(side), 0.95));
    row("messages that came compressed", &|side| side.listeners.compressed() as f64);
    row("server CPU µs a message", &|side| side.cpu.as_secs_f64() * 1e6 / messages);
    row("server CPU µs a delivery", &|side| side.cpu.as_secs_f64() * 1e6 / messages / subscribers);
    row("deliveries a second", &|side| messages * subscribers / side.wall.as_secs_f64());
    let said = chat.iter().map(|message| message.data.len() as f64);
    let lengths: Vec<f64> = said.collect();
    columns.remark(format!(
        "What is said has {:.0} bytes on average, {:.0} in the middle, {:.0} at most; the rest is the envelope and the frame's head.",
        lengths.iter().sum::<f64>() / messages,
        quantile(&lengths, 0.5),
        quantile(&lengths, 1.0),
    ));
    columns
}
