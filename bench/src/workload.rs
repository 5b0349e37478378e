//! The workloads. In each, both servers run at once and take turns, and only the one whose turn it is has anything to do.
use crate::{
    BenchArgs, Failure, Workload,
    crowd::Crowd,
    report::{Better, Report},
    server::{Kind, Server},
    stats::{median, quantile},
};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

/// How long a turn is.
const SLICE: Duration = Duration::from_secs(1);
/// Before the first turn that counts: buffers grow, pages are touched.
const WARM_UP: Duration = Duration::from_millis(500);
/// The load's own files, beside its connections.
const OTHER_FILES: u64 = 200;
/// How many connections `idle` and `storm` have, where the limit on open files bears it.
const MANY: u64 = 5_000;
/// Listeners of one room in `rooms`.
const LISTENERS: u32 = 10;
/// Messages that a storm has to give back to everybody.
const MISSED: usize = 10;
/// How often a storm is repeated.
const STORMS: usize = 3;

/// Both kinds, in the order in which they take turns.
const KINDS: [Kind; 2] = [Kind::Hearth, Kind::Plain];

/// A server and its load.
struct Side {
    kind: Kind,
    // Before the server, so that connections end first.
    crowd: Crowd,
    server: Server,
}

/// What a turn came to.
struct Slice {
    deliveries: f64,
    wall: f64,
    cpu: f64,
    latencies: Vec<f64>,
    rounds: Vec<f64>,
}

impl Side {
    fn start(kind: Kind, stop: &Arc<AtomicBool>) -> Result<Side, Failure> {
        let server = Server::start(kind)?;
        let crowd = Crowd::new(server.address, stop)?;
        Ok(Side { kind, crowd, server })
    }

    /// One turn: `drive` publishes and pumps until its time is over.
    fn slice(&mut self, drive: impl FnOnce(&mut Crowd) -> Result<(), Failure>) -> Result<Slice, Failure> {
        let (deliveries, cpu, start) = (self.crowd.deliveries(), self.server.cpu()?, Instant::now());
        drive(&mut self.crowd)?;
        self.crowd.settle()?;
        let wall = start.elapsed().as_secs_f64();
        let (latencies, rounds) = self.crowd.take_times();
        Ok(Slice {
            deliveries: (self.crowd.deliveries() - deliveries) as f64,
            wall,
            cpu: (self.server.cpu()? - cpu).as_secs_f64(),
            latencies,
            rounds,
        })
    }
}

/// Measures what was asked for and prints it.
pub fn run(args: &BenchArgs, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let files = rlimit::increase_nofile_limit(u64::MAX)?;
    let needed = 2 * u64::from(args.subscribers.max(args.rooms * LISTENERS)) + OTHER_FILES;
    if files < needed {
        return Err(format!("{needed} open files are needed, {files} are allowed (ulimit -Hn)").into());
    }
    let many = MANY.min((files - OTHER_FILES) / 2) as u32;
    let wants = |workload| args.workload == Workload::All || args.workload == workload;
    let mut report = Report::new(args);
    if wants(Workload::Fanout) {
        let windows = args.in_flight.map_or(vec![1, 8], |window| vec![window]);
        for window in windows {
            fanout(args, window, stop, &mut report)?;
        }
    }
    if wants(Workload::Rooms) {
        rooms(args, stop, &mut report)?;
    }
    if wants(Workload::Idle) {
        idle(many, stop, &mut report)?;
    }
    if wants(Workload::Storm) {
        storm(args, many, stop, &mut report)?;
    }
    report.print();
    Ok(())
}

/// `{"n":"…"}` of the asked size.
fn data(args: &BenchArgs) -> String {
    let filler = (args.payload_bytes as usize).saturating_sub(r#"{"n":""}"#.len());
    format!(r#"{{"n":"{}"}}"#, "x".repeat(filler))
}

fn both<T>(mut make: impl FnMut(Kind) -> Result<T, Failure>) -> Result<[T; 2], Failure> {
    let [first, second] = KINDS;
    Ok([make(first)?, make(second)?])
}

/// Turns of both sides, one after the other.
fn in_turns(
    args: &BenchArgs,
    sides: &mut [Side; 2],
    drive: impl Fn(&mut Crowd, Duration) -> Result<(), Failure>,
) -> Result<[Vec<Slice>; 2], Failure> {
    for side in sides.iter_mut() {
        side.slice(|crowd| drive(crowd, WARM_UP))?;
    }
    let mut slices = [Vec::new(), Vec::new()];
    for _ in 0..args.seconds {
        for (side, slices) in sides.iter_mut().zip(&mut slices) {
            slices.push(side.slice(|crowd| drive(crowd, SLICE))?);
        }
    }
    Ok(slices)
}

fn each<'a>(slices: &'a [Vec<Slice>; 2], value: impl Fn(&Slice) -> f64 + 'a) -> [f64; 2] {
    let middle = |slices: &Vec<Slice>| median(&slices.iter().map(&value).collect::<Vec<f64>>());
    [middle(&slices[0]), middle(&slices[1])]
}

/// One room. `window` messages are under way: the next is published when everybody has the oldest.
fn fanout(args: &BenchArgs, window: u32, stop: &Arc<AtomicBool>, report: &mut Report) -> Result<(), Failure> {
    let mut sides = both(|kind| {
        let mut side = Side::start(kind, stop)?;
        side.crowd.gather("bench", args.subscribers)?;
        Ok(side)
    })?;
    let data = data(args);
    let slices = in_turns(args, &mut sides, |crowd, time| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            while crowd.under_way(0) < window as usize {
                crowd.publish(0, &data);
            }
            crowd.pump(Some(Duration::from_millis(100)))?;
        }
        Ok(())
    })?;
    report.section(&match window {
        1 => format!("1 room × {}, one message at a time", args.subscribers),
        _ => format!("1 room × {}, {window} messages under way", args.subscribers),
    });
    report.row("deliveries per server-CPU second", Better::More, each(&slices, |it| it.deliveries / it.cpu));
    report.row("deliveries per second", Better::More, each(&slices, |it| it.deliveries / it.wall));
    report.row("ms until all have it, median", Better::Less, each(&slices, |it| median(&it.rounds) * 1e3));
    Ok(())
}

/// Many rooms at a steady rate, each in its turn.
fn rooms(args: &BenchArgs, stop: &Arc<AtomicBool>, report: &mut Report) -> Result<(), Failure> {
    let mut sides = both(|kind| {
        let mut side = Side::start(kind, stop)?;
        for room in 0..args.rooms {
            side.crowd.gather(&format!("bench{room}"), LISTENERS)?;
        }
        side.crowd.keep_latencies();
        Ok(side)
    })?;
    let data = data(args);
    let slices = in_turns(args, &mut sides, |crowd, time| {
        let start = Instant::now();
        let mut published = 0;
        while start.elapsed() < time {
            let due = (start.elapsed().as_secs_f64() * f64::from(args.rate)) as u64;
            while published < due {
                crowd.publish(published as usize % crowd.rooms(), &data);
                published += 1;
            }
            let next = Duration::from_secs_f64((published + 1) as f64 / f64::from(args.rate));
            crowd.pump(Some(next.saturating_sub(start.elapsed())))?;
        }
        Ok(())
    })?;
    report.section(&format!("{} rooms × {LISTENERS} at {} messages per second", args.rooms, args.rate));
    report.row("deliveries per server-CPU second", Better::More, each(&slices, |it| it.deliveries / it.cpu));
    for (name, part) in [("ms to a delivery, median", 0.5), ("ms to a delivery, 99 of 100", 0.99)] {
        report.row(name, Better::Less, each(&slices, |it| quantile(&it.latencies, part) * 1e3));
    }
    Ok(())
}

/// Memory per connection that is in a room and does nothing; one server after the other.
fn idle(connections: u32, stop: &Arc<AtomicBool>, report: &mut Report) -> Result<(), Failure> {
    let kib = both(|kind| {
        let mut side = Side::start(kind, stop)?;
        side.crowd.gather("first", 1)?;
        let before = side.server.memory()?;
        side.crowd.gather("idle", connections)?;
        let mut after = side.server.memory()?;
        loop {
            // It may still be at it.
            let deadline = Instant::now() + WARM_UP;
            while Instant::now() < deadline {
                side.crowd.pump(Some(WARM_UP))?;
            }
            let now = side.server.memory()?;
            if now.abs_diff(after) < 64 * 1024 {
                return Ok(now.saturating_sub(before) as f64 / f64::from(connections) / 1024.0);
            }
            after = now;
        }
    })?;
    report.section(&format!("{connections} idle connections, each in a room"));
    report.row("KiB per connection", Better::Less, kib);
    Ok(())
}

/// All drop and come back. Hearth's are sent what they missed; the plain server knows nothing to send.
fn storm(
    args: &BenchArgs,
    connections: u32,
    stop: &Arc<AtomicBool>,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut sides = both(|kind| {
        let mut side = Side::start(kind, stop)?;
        side.crowd.gather("storm", connections)?;
        Ok(side)
    })?;
    let data = data(args);
    let mut times = [Vec::new(), Vec::new()];
    let cursors: Vec<Option<String>> = sides
        .iter()
        .map(|side| (side.kind == Kind::Hearth).then(|| side.crowd.cursor().to_owned()))
        .collect();
    for side in &mut sides {
        for _ in 0..MISSED {
            side.crowd.publish(0, &data);
        }
        side.crowd.settle()?;
    }
    for _ in 0..STORMS {
        for ((side, times), cursor) in sides.iter_mut().zip(&mut times).zip(&cursors) {
            times.push(side.crowd.storm(cursor.as_deref())?.as_secs_f64());
        }
    }
    report.section(&format!(
        "{connections} connections drop and come back (Hearth's are also sent {MISSED} missed messages)"
    ));
    report.row("seconds until all are back", Better::Less, [median(&times[0]), median(&times[1])]);
    Ok(())
}
