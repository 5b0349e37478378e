//! The run: quiet, an attack, quiet, the next one. The attacker is a process of its own at a lower priority.
use super::{
    Attack, Plan, Seen,
    honest::{Felt, Honest},
    table::{Row, Table},
};
use crate::{Failure, server::Server};
use clap::Args;
use std::{
    env,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Between an attack and the quiet that counts: what the attacker held is given back.
const SETTLE: Duration = Duration::from_secs(3);
/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What the server's memory is held against by default, in MiB.
const MEMORY_CAP: u64 = 512;
/// Known to this run's server alone.
const SECRET: &str = "a-secret-of-this-run-alone";

/// Which attacks, and for how long.
#[derive(Debug, Clone, Args)]
pub struct AttacksArgs {
    /// Only these
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Attack>,
    /// Seconds of each attack, and of the quiet before it; slow heads are ended after ten
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Messages a second that the well-behaved client publishes
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    honest_rate: u32,
    /// The server's memory must stay below this many MiB
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_CAP)]
    memory_cap: u64,
    /// Another flag of the server; may be given again
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    server_flag: Vec<String>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs them and prints the table. An error if a message was lost, an answer was not the expected one, or a limit was not kept.
pub async fn run(args: &AttacksArgs, stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    // The attackers and the honest one share an address: who guesses tokens is told apart by a header.
    let mut flags = vec!["--jwt-hs256-secret", SECRET, "--trusted-proxies", "127.0.0.1"];
    flags.extend(args.server_flag.iter().map(String::as_str));
    let (server, grpc) = Server::attacked(&flags)?;
    let (http, lasting) = (server.address, Duration::from_secs(args.seconds));
    let door = |user| -> Result<Plan, Failure> {
        Ok(Plan { http, grpc, token: token(user)?, connections: 0, rate: 0, lasting })
    };
    let honest = Honest::start(&door("honest")?, args.honest_rate)?;
    // The first second is warming up.
    sleep(Duration::from_secs(1)).await;
    honest.take();
    let attacker = door("mallory")?;
    let kinds = if args.only.is_empty() { Attack::all() } else { &args.only };
    let mut table = Table::new(args.honest_rate, args.seconds, args.memory_cap);
    for kind in kinds {
        let (quiet, memory) = watch(&server, &honest, stop, lasting, || Ok(false)).await?;
        table.quiet(quiet, memory);
        let (connections, rate) = kind.strength();
        let plan = Plan { connections, rate, ..attacker.clone() };
        let (felt, memory, seen) = under(*kind, &plan, &server, &honest, stop).await?;
        if !args.json {
            eprintln!("{}: done", kind.name());
        }
        table.row(Row { kind: *kind, plan, felt, memory, seen });
        watch(&server, &honest, stop, SETTLE, || Ok(false)).await?;
    }
    let published = honest.end()?;
    table.print(published, args.json);
    table.verdict()
}

/// What is felt, and the most memory, for so long or until it is over.
async fn watch(
    server: &Server,
    honest: &Honest,
    stop: &AtomicBool,
    lasting: Duration,
    mut is_over: impl FnMut() -> Result<bool, Failure>,
) -> Result<(Felt, u64), Failure> {
    honest.take();
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < lasting && !is_over()? {
        if stop.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        if honest.is_over() {
            break;
        }
        most = most.max(server.memory()?);
        sleep(LOOK).await;
    }
    Ok((honest.take(), most))
}

async fn under(
    kind: Attack,
    plan: &Plan,
    server: &Server,
    honest: &Honest,
    stop: &AtomicBool,
) -> Result<(Felt, u64, Seen), Failure> {
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(env::current_exe()?).args(["bench", "attacker", "--kind", &kind.name()]);
    for (flag, value) in [
        ("--http", plan.http.to_string()),
        ("--grpc", plan.grpc.to_string()),
        ("--token", plan.token.clone()),
        ("--connections", plan.connections.to_string()),
        ("--rate", plan.rate.to_string()),
        ("--seconds", plan.lasting.as_secs().to_string()),
    ] {
        command.args([flag, &value]);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    // Its connections need time to end.
    let longest = plan.lasting + Duration::from_secs(30);
    let watched = watch(server, honest, stop, longest, || Ok(child.try_wait()?.is_some())).await;
    if watched.is_err() {
        // It may have ended already.
        let _ = child.kill();
    }
    let output = child.wait_with_output()?;
    let (felt, memory) = watched?;
    let seen = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("{}: the attacker broke down", kind.name()))?;
    Ok((felt, memory, seen))
}

/// A token as `hearth token` makes it, good for longer than any run.
fn token(user: &str) -> Result<String, Failure> {
    let arguments = ["token", "--jwt-hs256-secret", SECRET, "--for", "24h", user];
    let output = Command::new(env::current_exe()?).args(arguments).output()?;
    let token = String::from_utf8(output.stdout)?.trim().to_owned();
    if token.is_empty() { Err(String::from_utf8_lossy(&output.stderr).into()) } else { Ok(token) }
}

/// Where the doors are, for those who start a server by other means.
impl Plan {
    /// A plan with an attack's own strength divided by so much.
    pub fn divided(
        kind: Attack,
        http: SocketAddr,
        grpc: SocketAddr,
        token: String,
        by: u32,
        lasting: Duration,
    ) -> Plan {
        let (connections, rate) = kind.strength();
        Plan {
            http,
            grpc,
            token,
            connections: connections.div_ceil(by as usize),
            rate: rate.div_ceil(by),
            lasting,
        }
    }
}
