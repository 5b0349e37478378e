//! `hearth bench presence`: what it costs to know who is here.
//!
//! *Coming and going*: so many users enter one room, and then all but a few leave. Up to `presence_max` users everybody is told of
//! everybody; beyond that only a number is told, at most once a second, so that all frames together grow with the number of users
//! and not with its square. They enter at once, and in the same time however many they are: at once, many changes are told
//! together, and how many is a matter of milliseconds. *Silence*: sessions that do nothing must cost nothing on the link, however many they are; what
//! remains is one ping per session and heartbeat.
//!
//! Every client's view is checked against who is really there, and must stay right.
use crate::{
    Failure,
    audience::{Audience, Limits, Traffic},
    report::Columns,
    server::Server,
    stats::readable,
};
use clap::Args;
use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

/// Rooms of more users are counted; said to the server, too.
const PRESENCE_MAX: usize = 500;
/// Who stays when all others leave: fewer than are counted. Of fewer users, half.
const STAY: u32 = 400;
/// In this time all have entered, where they do not enter at once.
const SPREAD: Duration = Duration::from_secs(2);
/// Longer than a count waits: by then a view that is right only for now shows it.
const LINGER: Duration = Duration::from_millis(1200);
/// Users in each room of those who are silent.
const SILENT_ROOM: u32 = 10;
/// The server pings every session so often.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// Silence is measured for so many heartbeats, so that each session is pinged equally often.
const HEARTBEATS: u32 = 2;
/// When the whole has failed.
const ALL_IN_ALL: Duration = Duration::from_secs(175);
/// Files that are not the clients' in this process, and not the sessions' in the server.
const OTHER_FILES: u64 = 300;

/// How many users.
#[derive(Debug, Clone, Args)]
pub struct PresenceArgs {
    /// Users who enter one room; several numbers are measured side by side
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [400, 1000, 2000, 5000], value_parser = clap::value_parser!(u32).range(2..=100_000))]
    users: Vec<u32>,
    /// Sessions that are silent, beside a tenth and a hundredth of them
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    sessions: u32,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Measures and prints it.
pub fn run(args: &PresenceArgs, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let limits = Limits { stop: stop.clone(), deadline: Instant::now() + ALL_IN_ALL };
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    let most = args.users.iter().copied().max().unwrap_or(0);
    if files < u64::from(most) + OTHER_FILES {
        return Err(format!("{most} users need more than the {files} open files allowed (ulimit -Hn)").into());
    }
    let coming = "Users who enter one room at once";
    let spread = format!("Users who enter one room within {} seconds", SPREAD.as_secs());
    let (at_once, leaving) = mass(coming, &args.users, Duration::ZERO, &limits)?;
    let (spread, _) = mass(&spread, &args.users, SPREAD, &limits)?;
    let bearable = (files - OTHER_FILES) * 10 / 12;
    let sessions = args.sessions.min(u32::try_from(bearable).unwrap_or(u32::MAX));
    let silence = silence([sessions / 100, sessions / 10, sessions].map(whole_rooms), files, &limits)?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let build = if cfg!(debug_assertions) { ", DEBUG BUILD: the numbers mean little" } else { "" };
    let about = format!("{processors} processors, rooms of more than {PRESENCE_MAX} are counted{build}");
    let tables = [at_once, spread, leaving, silence];
    if args.json {
        println!(
            "{}",
            serde_json::json!({"about": about, "tables": tables.map(|table| table.value()), "wrong": 0})
        );
        return Ok(());
    }
    println!("What it costs Hearth to know who is here\n{about}\n");
    for table in tables {
        println!("{}", table.table());
    }
    println!("Every client's view was checked against who was there: each became right, and stayed so.");
    Ok(())
}

fn whole_rooms(sessions: u32) -> u32 {
    (sessions / SILENT_ROOM).max(2) * SILENT_ROOM
}

fn start() -> Result<Server, Failure> {
    let (max, heartbeat) = (PRESENCE_MAX.to_string(), format!("{}s", HEARTBEAT.as_secs()));
    Server::hearth(&["--presence-max", &max, "--heartbeat", &heartbeat])
}

/// What there was at a moment.
struct Reading {
    at: Instant,
    traffic: Traffic,
    link: [u64; 2],
    cpu: Duration,
}

impl Reading {
    fn take(server: &Server, audience: &Audience) -> Result<Reading, Failure> {
        let (link, cpu) = (server.link_frames()?, server.cpu()?);
        Ok(Reading { at: Instant::now(), traffic: audience.traffic(), link, cpu })
    }

    /// What there has been since then.
    fn since(&self, before: &Reading) -> Span {
        Span {
            seconds: (self.at - before.at).as_secs_f64(),
            traffic: self.traffic - before.traffic,
            link: [0, 1].map(|way| (self.link[way] - before.link[way]) as f64),
            cpu: self.cpu.saturating_sub(before.cpu).as_secs_f64(),
        }
    }
}

/// What there was from one moment to another.
struct Span {
    seconds: f64,
    traffic: Traffic,
    /// Frames to the core and from it.
    link: [f64; 2],
    /// The server's processor seconds.
    cpu: f64,
}

/// All come, or most go.
struct Wave {
    /// How many came or went.
    moved: f64,
    moving: Duration,
    until_right: Duration,
    span: Span,
    /// What came when every view was right already.
    late: Traffic,
    most_counts: u64,
    /// Whose frames were read as JSON, too, and how many those have been so far.
    sampled: (usize, u64),
}

impl Wave {
    /// So many are set in motion, which gives how long that took and when it was done; then every view becomes right, and stays so.
    fn run(
        moved: u32,
        server: &Server,
        audience: &mut Audience,
        set_in_motion: impl FnOnce(&mut Audience) -> Result<(Duration, Instant), Failure>,
    ) -> Result<Wave, Failure> {
        let (before, counts) = (Reading::take(server, audience)?, audience.most_counts());
        let (moving, moved_at) = set_in_motion(audience)?;
        let right_at = audience.right()?;
        let right = audience.traffic();
        audience.linger(LINGER)?;
        Ok(Wave {
            moved: f64::from(moved),
            moving,
            until_right: right_at.saturating_duration_since(moved_at),
            span: Reading::take(server, audience)?.since(&before),
            late: audience.traffic() - right,
            most_counts: audience.most_counts() - counts,
            sampled: audience.sampled(),
        })
    }
}

/// So many users enter a room of a fresh server, and most leave it again.
fn mass(title: &str, users: &[u32], over: Duration, limits: &Limits) -> Result<(Columns, Columns), Failure> {
    let mut coming = Columns::new(title, users.iter().copied());
    let mut going = Columns::new("Most of them leave at once", users.iter().copied());
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for &users in users {
        let server = start()?;
        let mut audience = Audience::new(server.address, PRESENCE_MAX, limits)?;
        came.push(Wave::run(users, &server, &mut audience, |audience| {
            Ok((audience.enter(users, users, over)?, audience.last_joined()))
        })?);
        let left = users - stay(users);
        went.push(Wave::run(left, &server, &mut audience, |audience| {
            Ok((audience.leave(stay(users))?, Instant::now()))
        })?);
    }
    rows(&mut coming, "seconds until all are in", &came);
    growth(&mut coming, users, &came);
    going.row("users who stay", users.iter().map(|users| f64::from(stay(*users))));
    rows(&mut going, "seconds until all have said goodbye", &went);
    Ok((coming, going))
}

fn stay(users: u32) -> u32 {
    STAY.min(users / 2)
}

fn rows(columns: &mut Columns, moving: &str, waves: &[Wave]) {
    let mut row = |name: &str, value: &dyn Fn(&Wave) -> f64| columns.row(name, waves.iter().map(value));
    row(moving, &|it| it.moving.as_secs_f64());
    row("seconds from then until every view is right", &|it| it.until_right.as_secs_f64());
    row("presence frames to all together", &|it| it.span.traffic.frames() as f64);
    row("  of these, states", &|it| it.span.traffic.states as f64);
    row("  of these, steps", &|it| it.span.traffic.steps as f64);
    row("  of these, counts", &|it| it.span.traffic.counts as f64);
    row("  of these, when every view was right already", &|it| it.late.frames() as f64);
    row("presence frames for each who came or went", &|it| it.span.traffic.frames() as f64 / it.moved);
    row("presence KiB to all together", &|it| it.span.traffic.bytes as f64 / 1024.0);
    row("presence bytes for each who came or went", &|it| it.span.traffic.bytes as f64 / it.moved);
    row("counts, the most to one client", &|it| it.most_counts as f64);
    row("frames on the link to the core", &|it| it.span.link[0]);
    row("frames on the link from the core", &|it| it.span.link[1]);
    row("server CPU ms for each who came or went", &|it| it.span.cpu * 1e3 / it.moved);
    row("clients whose frames were read as JSON, too", &|it| it.sampled.0 as f64);
    row("  those frames so far, which said the same", &|it| it.sampled.1 as f64);
}

/// Says how much more the largest crowd was told than the smallest that was counted.
fn growth(columns: &mut Columns, users: &[u32], waves: &[Wave]) {
    let mut counted: Vec<(u32, &Wave)> =
        users.iter().copied().zip(waves).filter(|(users, _)| *users as usize > PRESENCE_MAX).collect();
    counted.sort_by_key(|(users, _)| *users);
    let [(few, small), .., (many, large)] = counted[..] else { return };
    let times = |value: &dyn Fn(&Wave) -> f64| value(large) / value(small).max(f64::MIN_POSITIVE);
    columns.remark(format!(
        "From {few} to {many}: ×{:.1} users, ×{:.1} counts, ×{:.1} on the link, ×{:.1} CPU, ×{:.1} presence frames, ×{:.1} bytes.",
        times(&|it| it.moved),
        times(&|it| it.span.traffic.counts as f64),
        times(&|it| it.span.link[0] + it.span.link[1]),
        times(&|it| it.span.cpu),
        times(&|it| it.span.traffic.frames() as f64),
        times(&|it| it.span.traffic.bytes as f64),
    ));
    columns.remark(format!(
        "Only the first {PRESENCE_MAX} are named: at most {} states and steps, whatever the size.",
        readable((PRESENCE_MAX * PRESENCE_MAX) as f64)
    ));
}

/// Sessions that have joined and do nothing, and their server.
struct Silent {
    // Before the server, so that connections end first.
    audience: Audience,
    server: Server,
    entering: Duration,
    until_right: Duration,
    kib: f64,
}

impl Silent {
    fn gather(size: u32, limits: &Limits) -> Result<Silent, Failure> {
        let server = start()?;
        let mut audience = Audience::new(server.address, PRESENCE_MAX, limits)?;
        // The first of a kind costs what the others do not.
        audience.enter(SILENT_ROOM, SILENT_ROOM, Duration::ZERO)?;
        audience.right()?;
        let (before, more) = (server.own_memory()?, size - SILENT_ROOM);
        let entering = audience.enter(more, SILENT_ROOM, Duration::ZERO)?;
        let until_right = audience.right()?.saturating_duration_since(audience.last_joined());
        let held = settled(&server, &mut audience)?.saturating_sub(before);
        let kib = held as f64 / f64::from(more) / 1024.0;
        Ok(Silent { audience, server, entering, until_right, kib })
    }
}

/// Silent sessions. All sizes are measured at the same time, each by a server of its own.
fn silence(sizes: [u32; 3], files: u64, limits: &Limits) -> Result<Columns, Failure> {
    let mut sides = Vec::new();
    for size in sizes {
        sides.push(Silent::gather(size, limits)?);
    }
    let read = |sides: &[Silent]| {
        sides.iter().map(|it| Reading::take(&it.server, &it.audience)).collect::<Result<Vec<_>, _>>()
    };
    let before = read(&sides)?;
    let end = Instant::now() + HEARTBEAT * HEARTBEATS;
    while Instant::now() < end {
        for side in &mut sides {
            side.audience.linger(Duration::from_millis(10))?;
        }
    }
    let after = read(&sides)?;
    let spans: Vec<Span> = after.iter().zip(&before).map(|(after, before)| after.since(before)).collect();
    let mut columns = Columns::new(format!("Silent sessions, in rooms of {SILENT_ROOM}"), sizes);
    let mut row = |name: &str, value: &dyn Fn(&Silent, &Span) -> f64| {
        columns.row(name, sides.iter().zip(&spans).map(|(side, span)| value(side, span)));
    };
    row("seconds until all are in", &|it, _| it.entering.as_secs_f64());
    row("seconds from then until every view is right", &|it, _| it.until_right.as_secs_f64());
    row("KiB of server memory (PSS) a session", &|it, _| it.kib);
    row("frames on the link to the core", &|_, span| span.link[0]);
    row("frames on the link from the core", &|_, span| span.link[1]);
    row("  both, a second", &|_, span| (span.link[0] + span.link[1]) / span.seconds);
    row("presence frames", &|_, span| span.traffic.frames() as f64);
    row("WebSocket pings", &|_, span| span.traffic.pings as f64);
    row("  a second", &|_, span| span.traffic.pings as f64 / span.seconds);
    row("server CPU ms a second", &|_, span| span.cpu * 1e3 / span.seconds);
    let least = spans.first().map_or(0.0, |span| span.cpu / span.seconds);
    row("  beyond the fewest's, in µs a ping", &|_, span| {
        (span.cpu - least * span.seconds).max(0.0) * 1e6 / (span.traffic.pings as f64).max(1.0)
    });
    columns.remark(format!(
        "For {} seconds, {HEARTBEATS} heartbeats, all three at the same time; {files} open files are allowed a process.",
        (HEARTBEAT * HEARTBEATS).as_secs(),
    ));
    Ok(columns)
}

/// Memory when it no longer changes.
fn settled(server: &Server, audience: &mut Audience) -> Result<u64, Failure> {
    let mut before = server.own_memory()?;
    loop {
        audience.linger(Duration::from_millis(500))?;
        let now = server.own_memory()?;
        if now.abs_diff(before) < 64 * 1024 {
            return Ok(now);
        }
        before = now;
    }
}
