//! A server under measurement: a process of its own, so that its processor time and memory are its own. Ends with its owner.
use crate::Failure;
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

/// Linux counts processor time in this unit on every architecture, whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);

/// How long it may take to say what it has counted.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a server says where browsers go.
const HTTP: &str = "http listening on http://";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This build, as `hearth serve`.
    Hearth,
    /// The plain one.
    Plain,
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    /// Kept, so that the server never writes into a closed pipe.
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one on a free port.
    pub fn start(kind: Kind) -> Result<Server, Failure> {
        match kind {
            Kind::Hearth => Server::hearth(&[]),
            Kind::Plain => Server::spawn(Command::new(env::current_exe()?).args(["bench", "naive-server"])),
        }
    }

    /// Starts this build on a free port, with these flags besides.
    pub fn hearth(more: &[&str]) -> Result<Server, Failure> {
        let flags = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--rate-limit", "0", "--log", "error"];
        Server::spawn(Command::new(env::current_exe()?).arg("serve").args(flags).args(more))
    }

    /// Starts this build with its own limits in force, to be attacked; also where services go.
    pub fn attacked(more: &[&str]) -> Result<(Server, SocketAddr), Failure> {
        let flags = ["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log", "error"];
        let mut server = Server::spawn(Command::new(env::current_exe()?).args(flags).args(more))?;
        let grpc = listening(&mut server.stdout, "grpc listening on ")?;
        Ok((server, grpc))
    }

    fn spawn(command: &mut Command) -> Result<Server, Failure> {
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEARTH_")) {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let Some(stdout) = child.stdout.take() else {
            return Err("the server has no standard output".into());
        };
        let mut stdout = BufReader::new(stdout);
        match listening(&mut stdout, HTTP) {
            Ok(address) => Ok(Server { address, child, stdout }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Processor time that it has used so far.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let ticks = ticks(&text).ok_or("/proc/PID/stat has another shape")?;
        Ok(TICK * ticks)
    }

    /// Memory that it holds, in bytes.
    pub fn memory(&self) -> Result<u64, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(kib(&text, "VmRSS:").ok_or("/proc/PID/status has another shape")?)
    }

    /// Memory that it holds, in bytes, with what it shares divided among all who share it.
    pub fn own_memory(&self) -> Result<u64, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        Ok(kib(&text, "Pss:").ok_or("/proc/PID/smaps_rollup has another shape")?)
    }

    /// Frames on the link so far: to the core and from it.
    pub fn link_frames(&self) -> Result<[u64; 2], Failure> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let frames = |direction| {
            let name = format!("hearth_link_frames_total{{direction=\"{direction}\"}}");
            metric(&text, &name).ok_or(format!("/metrics does not show {name}"))
        };
        Ok([frames("sent")?, frames("received")?])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn listening(stdout: &mut impl BufRead, door: &str) -> Result<SocketAddr, Failure> {
    let mut line = String::new();
    while stdout.read_line(&mut line)? > 0 {
        if let Some(address) = line.trim().strip_prefix(door) {
            return Ok(address.parse()?);
        }
        line.clear();
    }
    Err("the server ended at its start".into())
}

/// User and system time, the 14th and 15th field; the second one, a name in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(next()? + next()?)
}

/// The value of a line such as `VmRSS:  2048 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The value of a counter, by its name with its labels.
fn metric(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read() {
        let stat = "12 (a ) b (c) S 1 12 12 0 -1 4194560 3000 0 0 0 150 50 7 8 20 0 5 0 900 1000 200";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks("12 (x) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn memory_is_read() {
        let status = "Name:\thearth\nVmRSS:\t   2048 kB\nThreads: 1\n";
        assert_eq!(kib(status, "VmRSS:"), Some(2048 * 1024));
        assert_eq!(kib("Name:\thearth\n", "VmRSS:"), None);
        assert_eq!(kib("Rss: 9 kB\nPss_Dirty: 8 kB\nPss:    7 kB\n", "Pss:"), Some(7 * 1024));
    }

    #[test]
    fn metrics_are_read() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE a counter\na_total{b=\"c\"} 12\na_total{b=\"d\"} 13\n";
        assert_eq!(metric(text, r#"a_total{b="d"}"#), Some(13));
        assert_eq!(metric(text, "a_total"), None);
    }

    #[test]
    fn the_address_is_found() {
        let mut lines = "Hearth\nhttp listening on http://127.0.0.1:5\n".as_bytes();
        assert_eq!(listening(&mut lines, HTTP).unwrap().port(), 5);
        assert!(listening(&mut "no\n".as_bytes(), HTTP).is_err());
    }
}
