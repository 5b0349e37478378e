//! A server under measurement: a process of its own, so that its processor time and memory are its own. Ends with its owner.
use crate::Failure;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

/// Linux counts processor time in this unit on every architecture, whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);

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
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one on a free port.
    pub fn start(kind: Kind) -> Result<Server, Failure> {
        let mut command = Command::new(env::current_exe()?);
        match kind {
            Kind::Hearth => {
                let flags =
                    ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--rate-limit", "0", "--log", "error"];
                command.arg("serve").args(flags)
            }
            Kind::Plain => command.args(["bench", "naive-server"]),
        };
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEARTH_")) {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let Some(stdout) = child.stdout.take() else {
            return Err("the server has no standard output".into());
        };
        let mut stdout = BufReader::new(stdout);
        match listening(&mut stdout) {
            Ok(address) => Ok(Server { address, child, _stdout: stdout }),
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
        Ok(resident(&text).ok_or("/proc/PID/status has another shape")?)
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

fn listening(stdout: &mut impl BufRead) -> Result<SocketAddr, Failure> {
    let mut line = String::new();
    while stdout.read_line(&mut line)? > 0 {
        if let Some(address) = line.trim().strip_prefix("http listening on http://") {
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

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
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
        assert_eq!(resident("Name:\thearth\nVmRSS:\t   2048 kB\nThreads: 1\n"), Some(2048 * 1024));
        assert_eq!(resident("Name:\thearth\n"), None);
    }

    #[test]
    fn the_address_is_found() {
        let mut lines = "Hearth\nhttp listening on http://127.0.0.1:5\n".as_bytes();
        assert_eq!(listening(&mut lines).unwrap().port(), 5);
        assert!(listening(&mut "no\n".as_bytes()).is_err());
    }
}
