//! Attacks by one who is in: messages that are too much, too deep, too often or nonsense.
use super::{
    Plan, Seen,
    heads::ask,
    pace::Pace,
    talk::{Talk, note},
};
use crate::frames;
use flate2::{Compress, Compression, FlushCompress};

/// Text, compressed, final.
const DEFLATED_TEXT: u8 = 0xc1;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
/// What a bomb becomes.
const BOMB_BYTES: usize = 60 << 20;

/// Little that would become much.
pub(super) async fn bomb(plan: &Plan, seen: &mut Seen) {
    let mut frame = Vec::new();
    frames::write(&mut frame, DEFLATED_TEXT, &bomb_of(BOMB_BYTES));
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    flood(plan, seen, "messages that become 60 MiB", "/ws", headers, |out| out.extend_from_slice(&frame))
        .await;
}

fn bomb_of(bytes: usize) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut out = Vec::with_capacity(bytes / 512);
    // What does not fit is left out: it is a bomb all the same.
    let _ = compress.compress_vec(&vec![b' '; bytes], &mut out, FlushCompress::Sync);
    out.truncate(out.len().saturating_sub(4));
    out
}

/// Commands that cost nothing to give.
pub(super) async fn commands(plan: &Plan, seen: &mut Seen) {
    let mut frame = Vec::new();
    frames::write(&mut frame, frames::TEXT, br#"{"type":"ping"}"#);
    flood(plan, seen, "commands", "/ws", "", |out| out.extend_from_slice(&frame)).await;
}

/// Messages to a room of its own.
pub(super) async fn publishing(plan: &Plan, seen: &mut Seen) {
    let text = format!(r#"{{"type":"text","room":"flood","data":{{"flood":"{}"}}}}"#, "x".repeat(200));
    let mut frame = Vec::new();
    frames::write(&mut frame, frames::TEXT, text.as_bytes());
    flood(plan, seen, "messages published", "/ws/flood", "", |out| out.extend_from_slice(&frame)).await;
}

/// Brackets without end, as a frame and as a body.
pub(super) async fn deep(plan: &Plan, seen: &mut Seen) {
    let text = format!(r#"{{"type":"text","room":"deep","data":{{"a":{}"#, "[".repeat(60_000));
    let mut frame = Vec::new();
    frames::write(&mut frame, frames::TEXT, text.as_bytes());
    let half = Plan { rate: plan.rate.div_ceil(2), ..plan.clone() };
    let token = &plan.token;
    let request = format!(
        "POST /rooms/deep/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let mut bodies = Seen::default();
    let posting = async {
        let mut pace = Pace::new(half.rate, half.lasting);
        while let Some(portion) = pace.portion().await {
            for _ in 0..portion {
                bodies.did("bodies", 1);
                bodies.answer(ask(half.http, request.as_bytes()).await);
            }
        }
    };
    let framing = flood(&half, seen, "frames", "/ws", "", |out| out.extend_from_slice(&frame));
    tokio::join!(posting, framing);
    seen.did.extend(bodies.did);
    seen.answers.extend(bodies.answers);
}

/// Random bytes where frames should be.
pub(super) async fn garbage(plan: &Plan, seen: &mut Seen) {
    flood(plan, seen, "writes of 64 random bytes", "/ws", "", |out| {
        out.extend((0..64).map(|_| fastrand::u8(..)));
    })
    .await;
}

/// Random bytes as messages of the other subprotocol.
pub(super) async fn protobuf(plan: &Plan, seen: &mut Seen) {
    let headers = "Sec-WebSocket-Protocol: hearth.v1.proto\r\n";
    flood(plan, seen, "messages of 64 random bytes", "/ws", headers, |out| {
        let bytes: Vec<u8> = (0..64).map(|_| fastrand::u8(..)).collect();
        frames::write(out, BINARY, &bytes);
    })
    .await;
}

/// Pings, and nobody reads the pongs.
pub(super) async fn pings(plan: &Plan, seen: &mut Seen) {
    let mut frame = Vec::new();
    frames::write(&mut frame, PING, &[b'p'; 125]);
    let mut pace = Pace::new(plan.rate, plan.lasting);
    let mut talk: Option<Talk> = None;
    while let Some(portion) = pace.portion().await {
        let mut open = match talk.take() {
            Some(open) => open,
            None => match open(plan, "/ws", "", seen).await {
                Some(open) => open,
                None => continue,
            },
        };
        seen.did("pings", portion);
        if open.send(&frame.repeat(portion as usize)).await {
            talk = Some(open);
        } else {
            // It takes no more: bounded, as it should be.
            seen.answer("stopped reading");
            open.last_words(seen).await;
        }
    }
}

async fn open(plan: &Plan, target: &str, headers: &str, seen: &mut Seen) -> Option<Talk> {
    let headers = format!("Authorization: Bearer {}\r\n{headers}", plan.token);
    match Talk::open(plan.http, target, &headers).await {
        Ok(talk) => {
            seen.did("connections", 1);
            Some(talk)
        }
        Err(answer) => {
            seen.answer(answer);
            None
        }
    }
}

/// One session at a time, another as soon as it is ended. What the server says is read and noted.
async fn flood(
    plan: &Plan,
    seen: &mut Seen,
    what: &str,
    target: &str,
    headers: &str,
    mut one: impl FnMut(&mut Vec<u8>),
) {
    let mut pace = Pace::new(plan.rate, plan.lasting);
    let mut talk: Option<Talk> = None;
    while let Some(portion) = pace.portion().await {
        let mut talking = match talk.take() {
            Some(talking) => talking,
            None => match open(plan, target, headers, seen).await {
                Some(talking) => talking,
                None => continue,
            },
        };
        let mut out = Vec::new();
        (0..portion).for_each(|_| one(&mut out));
        seen.did(what, portion);
        let taken = talking.send(&out).await;
        let goes_on = talking.hear(|opcode, payload| note(seen, opcode, payload));
        if goes_on && taken {
            talk = Some(talking);
        } else if goes_on {
            talking.last_words(seen).await;
        }
    }
    if let Some(talking) = talk {
        talking.last_words(seen).await;
    }
}
