//! A network that breaks on demand: a TCP proxy in this process that forwards, holds back, cuts and refuses.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to the target.
    Up,
    /// From the target back.
    Down,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    refuse: bool,
    stall_up: bool,
    stall_down: bool,
    /// Connections of this generation and before are cut.
    cut: u64,
    /// How many bytes the next connections may pass down before they are cut.
    cut_after: Option<usize>,
}

impl State {
    fn stalls(&self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.stall_up,
            Direction::Down => self.stall_down,
        }
    }
}

/// A proxy in front of one address.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Forwards to `target` until told otherwise.
    pub async fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
        let address = listener.local_addr().expect("a listener has an address");
        let (state, _) = watch::channel(State::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(accept(listener, target, state.clone(), accepted.clone()));
        Proxy { address, state, accepted, accepting }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have come so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Holds back what goes one way; the other way goes on.
    pub fn stall(&self, direction: Direction) {
        self.state.send_modify(|state| match direction {
            Direction::Up => state.stall_up = true,
            Direction::Down => state.stall_down = true,
        });
    }

    /// Cuts all connections that there are. What was held back is lost. New ones are taken unless refused.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut += 1);
    }

    /// Cuts each connection made from now on when it has passed so many bytes down.
    pub fn cut_after(&self, bytes: usize) {
        self.state.send_modify(|state| state.cut_after = Some(bytes));
    }

    /// Closes each new connection at once.
    pub fn refuse(&self) {
        self.state.send_modify(|state| state.refuse = true);
    }

    /// A good network again.
    pub fn forward(&self) {
        self.state.send_modify(|state| *state = State { cut: state.cut, ..State::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<AtomicUsize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        let now = *state.borrow();
        if now.refuse {
            continue;
        }
        let mut state = state.subscribe();
        tokio::spawn(async move {
            // A target that is away is seen as a connection that ends at once.
            let Ok(server) = TcpStream::connect(target).await else { return };
            let (Ok(()), Ok(())) = (client.set_nodelay(true), server.set_nodelay(true)) else { return };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let others = (state.clone(), state.clone());
            tokio::select! {
                // What was held back must be lost when it is cut, even if it is let through in the same moment.
                biased;
                _ = state.wait_for(|state| state.cut > now.cut) => {}
                () = pipe(from_client, to_server, Direction::Up, None, others.0) => {}
                () = pipe(from_server, to_client, Direction::Down, now.cut_after, others.1) => {}
            }
        });
    }
}

/// Ends when either side does, or the allowance is used up.
async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    mut allowance: Option<usize>,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if state.wait_for(|state| !state.stalls(direction)).await.is_err() {
            return;
        }
        let passed = allowance.map_or(read, |left| left.min(read));
        if to.write_all(&buffer[..passed]).await.is_err() || passed < read {
            return;
        }
        allowance = allowance.map(|left| left - passed);
    }
}
