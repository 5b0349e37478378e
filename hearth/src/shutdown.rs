//! Signals: the first asks for a drain, whose time counts from it; another one ends at once.
use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// One request to stop can arrive as several signals: coreutils' `timeout` signals its child and then the child's whole
/// group. Nobody who has lost patience is this fast.
const ONE_REQUEST: Duration = Duration::from_millis(200);
/// What is kept of a drain's time, at most a tenth, so that the process has ended when it is over.
const LAST_MOMENT: Duration = Duration::from_millis(100);

/// Listens for SIGTERM and SIGINT from the moment it is made, so that none is lost.
pub struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Starts to listen.
    pub fn listen() -> io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Runs the work until it ends. The first signal cancels `ends`, which asks it to; it then has this long. What it has
    /// not done by then is dropped, since whoever sent the signal counts on the end. Another signal does not wait.
    pub async fn run(
        mut self,
        ends: &CancellationToken,
        drain_timeout: Duration,
        work: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        tokio::pin!(work);
        let (name, first) = tokio::select! {
            outcome = &mut work => return outcome,
            name = self.next() => (name, Instant::now()),
        };
        tracing::info!(signal = name, ?drain_timeout, "draining; once more ends at once");
        ends.cancel();
        let over = drain_timeout - LAST_MOMENT.min(drain_timeout / 10);
        tokio::select! {
            outcome = &mut work => outcome,
            () = tokio::time::sleep(over) => {
                tracing::warn!("the drain's time is over, dropping what is left");
                Ok(())
            }
            name = self.next_request(first) => Err(format!("ended by a second {name} before the drain was over")),
        }
    }

    /// Waits for a signal that is not the first request's echo.
    async fn next_request(&mut self, first: Instant) -> &'static str {
        loop {
            let name = self.next().await;
            if first.elapsed() >= ONE_REQUEST {
                return name;
            }
        }
    }

    /// Waits for the next one and names it.
    async fn next(&mut self) -> &'static str {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
        #[cfg(not(unix))]
        {
            // Without a console there is nothing to wait for.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }
    }
}

/// Waits until so long after the signal.
pub async fn after(ends: &CancellationToken, time: Duration) {
    ends.cancelled().await;
    tokio::time::sleep(time).await;
}
