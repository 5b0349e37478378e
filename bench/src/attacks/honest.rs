//! The well-behaved client: it publishes steadily, and a second session of it listens. Each message must be acknowledged and delivered once, in
//! order, whatever goes on beside; how long both take is kept.
use super::{
    Plan,
    talk::{PATIENCE, Talk},
};
use crate::{Failure, frames, frames::opcode};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// What was felt since the last look, in seconds.
#[derive(Debug, Default, Clone)]
pub(super) struct Felt {
    /// From sending a message to its acknowledgement.
    pub(super) acks: Vec<f64>,
    /// From sending it to its delivery to the other session.
    pub(super) deliveries: Vec<f64>,
}

/// It runs on a thread of its own, so that nothing else here delays it.
pub(super) struct Honest {
    felt: Arc<Mutex<Felt>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64, String>>,
}

impl Honest {
    pub(super) fn start(plan: &Plan, per_second: u32) -> Result<Honest, Failure> {
        let (felt, stop) = (Arc::<Mutex<Felt>>::default(), Arc::<AtomicBool>::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (plan, seen, told) = (plan.clone(), felt.clone(), stop.clone());
        let thread = thread::Builder::new()
            .name("honest".to_owned())
            .spawn(move || runtime.block_on(converse(&plan, per_second, &seen, &told)))?;
        Ok(Honest { felt, stop, thread })
    }

    /// What was felt since the last time.
    pub(super) fn take(&self) -> Felt {
        match self.felt.lock() {
            Ok(mut felt) => std::mem::take(&mut felt),
            // Its thread has broken down, which `end` tells.
            Err(_) => Felt::default(),
        }
    }

    /// Whether it has lost its connections, or its patience.
    pub(super) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Awaits what is under way. How many messages there were; an error if one was lost, doubled or out of order.
    pub(super) fn end(self) -> Result<u64, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.join().map_err(|_| "the honest client broke down")?;
        outcome.map_err(|error| format!("the honest client: {error}").into())
    }
}

async fn converse(
    plan: &Plan,
    per_second: u32,
    felt: &Mutex<Felt>,
    stop: &AtomicBool,
) -> Result<u64, String> {
    let headers = format!("Authorization: Bearer {}\r\n", plan.token);
    let mut says = Talk::open(plan.http, "/ws", &headers).await?;
    let mut hears = Talk::open(plan.http, "/ws/honest", &headers).await?;
    let mut clock = interval(Duration::from_secs(1) / per_second);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // By number from 1 on, as the room counts.
    let mut sent: HashMap<u64, Instant> = HashMap::new();
    let (mut published, mut acknowledged, mut delivered) = (0u64, 0u64, 0u64);
    // The listener is in the room before the first message.
    timeout(PATIENCE, joined(&mut hears)).await.map_err(|_| "it was not let into its room")??;
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if stopping && acknowledged == published && delivered == published {
            return Ok(published);
        }
        let oldest = sent.get(&(acknowledged.min(delivered) + 1));
        if oldest.is_some_and(|oldest| oldest.elapsed() > PATIENCE * 4) {
            return Err(format!(
                "a message was lost: {published} published, {acknowledged} acknowledged, {delivered} delivered"
            ));
        }
        let mut wrong = None;
        tokio::select! {
            biased;
            heard = says.stream.readable() => {
                let now = Instant::now();
                heard.map_err(|error| error.to_string())?;
                let open = says.hear(|opcode, payload| match acknowledged_seq(opcode, payload) {
                    Ok(Some(seq)) if seq == acknowledged + 1 => {
                        acknowledged = seq;
                        keep(felt, |felt| &mut felt.acks, sent.get(&seq), now);
                    }
                    Ok(None) => {}
                    other => wrong = Some(format!("{other:?} after {acknowledged} acknowledgements")),
                });
                if !open { wrong = wrong.or(Some("its connection was ended".to_owned())) }
            }
            heard = hears.stream.readable() => {
                let now = Instant::now();
                heard.map_err(|error| error.to_string())?;
                let mut pong = Vec::new();
                let open = hears.hear(|opcode, payload| {
                    if opcode == opcode::PING {
                        frames::write(&mut pong, frames::PONG, payload);
                    }
                    let Some(seq) = frames::seq(payload).filter(|_| opcode == opcode::TEXT) else { return };
                    if seq != delivered + 1 {
                        wrong = Some(format!("{seq} was delivered after {delivered}"));
                    }
                    delivered = seq;
                    keep(felt, |felt| &mut felt.deliveries, sent.get(&seq), now);
                });
                // Whoever only listens must show that it lives.
                if !pong.is_empty() {
                    hears.send(&pong).await;
                }
                if !open { wrong = wrong.or(Some("its other connection was ended".to_owned())) }
            }
            _ = clock.tick() => {
                if !stopping {
                    published += 1;
                    let text = format!(r#"{{"type":"text","id":"m{published}","room":"honest","data":{{"n":{published}}}}}"#);
                    let mut frame = Vec::new();
                    frames::write(&mut frame, frames::TEXT, text.as_bytes());
                    sent.insert(published, Instant::now());
                    if !says.send(&frame).await { wrong = Some("it could not send".to_owned()) }
                }
            }
        }
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        // Both have it: forgotten.
        let done = acknowledged.min(delivered);
        sent.remove(&done);
    }
}

async fn joined(hears: &mut Talk) -> Result<(), String> {
    let mut is_in = false;
    while !is_in {
        hears.stream.readable().await.map_err(|error| error.to_string())?;
        let open = hears.hear(|_, payload| is_in |= frames::after(payload, br#""event":"joined""#).is_some());
        if !open {
            return Err("its connection was ended".to_owned());
        }
    }
    Ok(())
}

/// The seq of an acknowledgement; none of what else may come. An error is one.
fn acknowledged_seq(opcode: u8, payload: &[u8]) -> Result<Option<u64>, String> {
    match opcode {
        opcode::CLOSE => {
            Err(format!("closed: {}", String::from_utf8_lossy(payload.get(2..).unwrap_or_default())))
        }
        opcode::TEXT if payload.starts_with(br#"{"type":"ack""#) => {
            let digits = frames::after(payload, br#""seq":"#).unwrap_or_default();
            let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
            Ok(Some(digits.fold(0, |seq, digit| seq * 10 + u64::from(digit - b'0'))))
        }
        opcode::TEXT if payload.starts_with(br#"{"type":"error""#) => {
            Err(String::from_utf8_lossy(payload).into_owned())
        }
        _ => Ok(None),
    }
}

fn keep(
    felt: &Mutex<Felt>,
    which: impl FnOnce(&mut Felt) -> &mut Vec<f64>,
    sent: Option<&Instant>,
    now: Instant,
) {
    if let (Ok(mut felt), Some(sent)) = (felt.lock(), sent) {
        which(&mut felt).push(now.duration_since(*sent).as_secs_f64());
    }
}
