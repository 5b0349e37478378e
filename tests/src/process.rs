//! The real binary as a process: started on free ports, killed, asked to stop, started again on the same ports.
//!
//! Two threads a process read its pipes, so that it never blocks on them; the last of what it said is shown when the
//! test fails. Dropping it kills it and takes its exit status, so that no test leaves anything behind.
use crate::{
    secure::{Authority, Tunnel},
    within,
};
use std::{
    collections::VecDeque,
    env,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How much of a process's output is kept.
const OUTPUT_BYTES: usize = 64 * 1024;

/// A running `hearth`.
pub struct Hearth {
    role: &'static str,
    flags: Vec<String>,
    child: Child,
    addresses: watch::Receiver<Addresses>,
    output: Arc<Mutex<VecDeque<u8>>>,
    /// What clients that know nothing of TLS go through: for browsers, and for services.
    tunnels: Option<[Tunnel; 2]>,
}

/// Where it listens, as it printed.
#[derive(Debug, Default, Clone, Copy)]
struct Addresses {
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
}

impl Hearth {
    /// `hearth serve`: core and edge in one process.
    pub async fn serve(flags: &[&str]) -> Hearth {
        Self::start("serve", owned(flags)).await
    }

    /// The same with TLS at both doors, and tunnels in front of them: whoever goes to [`Hearth::http`] or [`Hearth::grpc`] speaks it.
    pub async fn serve_by_tls(authority: &Authority, flags: &[&str]) -> Hearth {
        let mut hearth = Self::start("serve", [owned(flags), authority.server_flags()].concat()).await;
        let http = Tunnel::start(hearth.http(), authority.client(&["http/1.1"])).await;
        let grpc = Tunnel::start(hearth.grpc(), authority.client(&["h2"])).await;
        hearth.tunnels = Some([http, grpc]);
        hearth
    }

    /// `hearth core`.
    pub async fn core(flags: &[&str]) -> Hearth {
        Self::start("core", owned(flags)).await
    }

    /// `hearth edge` in front of the core, or whatever else is at that address.
    pub async fn edge(core: SocketAddr, flags: &[&str]) -> Hearth {
        let mut flags = owned(flags);
        flags.extend(["--core".to_owned(), format!("http://{core}")]);
        Self::start("edge", flags).await
    }

    /// The same, where the core speaks TLS.
    pub async fn secure_edge(core: SocketAddr, flags: &[&str]) -> Hearth {
        let mut flags = owned(flags);
        flags.extend(["--core".to_owned(), format!("https://{core}")]);
        Self::start("edge", flags).await
    }

    async fn start(role: &'static str, mut flags: Vec<String>) -> Hearth {
        for (door, wanted) in [("--http", role != "core"), ("--grpc", role != "edge")] {
            if wanted && !flags.iter().any(|flag| flag == door) {
                flags.extend([door.to_owned(), "127.0.0.1:0".to_owned()]);
            }
        }
        let (child, addresses, output) = spawn(role, &flags);
        let mut hearth = Hearth { role, flags, child, addresses, output, tunnels: None };
        hearth.listening().await;
        hearth
    }

    async fn listening(&mut self) {
        let role = self.role;
        let complete = |now: &Addresses| {
            (role == "core" || now.http.is_some()) && (role == "edge" || now.grpc.is_some())
        };
        let listening =
            within("the line that says where it listens", self.addresses.wait_for(complete)).await;
        let ended = listening.is_err();
        drop(listening);
        assert!(!ended, "hearth {role} {:?} ended at its start:\n{}", self.flags, self.said());
    }

    /// Where browsers go.
    pub fn http(&self) -> SocketAddr {
        let own = self.addresses.borrow().http.expect("a core has no door for browsers");
        self.tunnels.as_ref().map_or(own, |[http, _]| http.address())
    }

    /// Where services go.
    pub fn grpc(&self) -> SocketAddr {
        let own = self.addresses.borrow().grpc.expect("an edge has no door for services");
        self.tunnels.as_ref().map_or(own, |[_, grpc]| grpc.address())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last of what it wrote, for a person.
    pub fn said(&self) -> String {
        let output = self.output.lock().unwrap();
        String::from_utf8_lossy(&output.iter().copied().collect::<Vec<u8>>()).into_owned()
    }

    /// `kill -9`, and its exit taken: nothing of it is left when this returns.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Asks it to stop: SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("there is a kill");
        assert!(sent.success(), "kill -s {name} {pid}");
    }

    /// Awaits its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut addresses = self.addresses.clone();
        // Its standard output is closed when it ends, which ends the reading thread.
        within("the end of the process", async { while addresses.changed().await.is_ok() {} }).await;
        self.child.wait().expect("it is our child")
    }

    /// Starts it again after its end, on the ports that it had.
    pub async fn restart(&mut self) {
        let before = *self.addresses.borrow();
        for (door, address) in [("--http", before.http), ("--grpc", before.grpc)] {
            if let (Some(at), Some(address)) = (self.flags.iter().position(|flag| flag == door), address) {
                self.flags[at + 1] = address.to_string();
            }
        }
        (self.child, self.addresses, self.output) = spawn(self.role, &self.flags);
        self.listening().await;
    }
}

impl Drop for Hearth {
    fn drop(&mut self) {
        // Fails only where it has ended and been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- hearth {} (pid {}) said:\n{}", self.role, self.pid(), self.said());
        }
    }
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|&flag| flag.to_owned()).collect()
}

/// `HEARTH_BIN`, or what cargo has built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(named) = env::var_os("HEARTH_BIN") {
        return named.into();
    }
    let tests = env::current_exe().expect("a process knows its program");
    let built =
        tests.parent().and_then(|deps| deps.parent()).expect("tests lie in target/…/deps").join("hearth");
    assert!(built.exists(), "{} is missing: run `cargo build -p hearth`, or set HEARTH_BIN", built.display());
    built
}

/// A `hearth` command with nothing in its environment or its folder that changes its settings.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    command.current_dir(env::temp_dir()).stdin(Stdio::null());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEARTH_")) {
        command.env_remove(name);
    }
    command
}

fn spawn(role: &str, flags: &[String]) -> (Child, watch::Receiver<Addresses>, Arc<Mutex<VecDeque<u8>>>) {
    let mut child = command()
        .arg(role)
        .args(flags)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
    let output = Arc::new(Mutex::new(VecDeque::new()));
    let (found, addresses) = watch::channel(Addresses::default());
    let stdout = child.stdout.take().expect("it is piped");
    let kept = output.clone();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            keep(&kept, format!("{line}\n").as_bytes());
            let last = line.rsplit(' ').next().unwrap_or_default();
            match line.split_once(" listening on ").map(|(door, _)| door) {
                Some("http" | "https") => found.send_modify(|now| now.http = without_scheme(last)),
                Some("grpc") => found.send_modify(|now| now.grpc = without_scheme(last)),
                _ => {}
            }
        }
    });
    let mut stderr = child.stderr.take().expect("it is piped");
    let kept = output.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            keep(&kept, &buffer[..read]);
        }
    });
    (child, addresses, output)
}

fn without_scheme(url: &str) -> Option<SocketAddr> {
    url.split_once("://").map_or(url, |(_, address)| address).parse().ok()
}

fn keep(output: &Mutex<VecDeque<u8>>, bytes: &[u8]) {
    let mut output = output.lock().unwrap();
    output.extend(bytes);
    let over = output.len().saturating_sub(OUTPUT_BYTES);
    output.drain(..over);
}

/// An address for a process that will be started again on it. Ports that the system gives to whoever asks for any could
/// meanwhile become the local end of some connection, so this takes one from below them.
pub fn lasting_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 12_000 + (std::process::id() % 1_000) as u16 * 16;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let port = 12_000 + (start - 12_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 18_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
        assert!(Instant::now() < deadline, "no free port");
    }
}
