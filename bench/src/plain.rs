//! The server that Hearth is compared with, as it is usually written: axum, a task and a broadcast channel per connection,
//! default settings. It numbers what it sends and echoes the same envelope, and that is all it does: no history, no
//! recovery, no acknowledgement, no limits.
use crate::Failure;
use axum::{
    Router,
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{Message, Utf8Bytes, WebSocket},
    },
    response::Response,
    routing::any,
};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, sync::broadcast};

/// How many messages a slow connection may lag behind: far more than the load has under way, so that none is lost.
const CHANNEL: usize = 4096;

type Rooms = Arc<Mutex<HashMap<String, Room>>>;

struct Room {
    seq: u64,
    sender: broadcast::Sender<Utf8Bytes>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    room: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Serves on a free port until killed.
pub async fn serve() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http listening on http://{}", listener.local_addr()?);
    let rooms = Rooms::default();
    let router =
        Router::new().route("/ws", any(publisher)).route("/ws/{room}", any(member)).with_state(rooms);
    Ok(axum::serve(listener, router).await?)
}

async fn publisher(upgrade: WebSocketUpgrade, State(rooms): State<Rooms>) -> Response {
    upgrade.on_upgrade(async move |socket| talk(socket, rooms, None).await)
}

async fn member(upgrade: WebSocketUpgrade, Path(room): Path<String>, State(rooms): State<Rooms>) -> Response {
    upgrade.on_upgrade(async move |socket| talk(socket, rooms, Some(room)).await)
}

async fn talk(socket: WebSocket, rooms: Rooms, room: Option<String>) {
    let (mut out, mut messages) = socket.split();
    let writer = room.map(|name| {
        let mut receiver = with_room(&rooms, &name, |room| room.sender.subscribe());
        let joined = format!(r#"{{"type":"system","room":"{name}","data":{{"event":"joined"}}}}"#);
        tokio::spawn(async move {
            if out.send(Message::Text(joined.into())).await.is_err() {
                return;
            }
            while let Ok(text) = receiver.recv().await {
                if out.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
        })
    });
    while let Some(Ok(Message::Text(text))) = messages.next().await {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&text) else { continue };
        let Some(data) = envelope.data.get().strip_suffix('}') else { continue };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        with_room(&rooms, &envelope.room, |room| {
            room.seq += 1;
            let text = format!(
                r#"{{"type":"text","room":"{}","seq":{},"data":{data},"author":"guest-000000"}},"timestamp":{now:.6}}}"#,
                envelope.room, room.seq
            );
            // Nobody listens: then nobody is told.
            let _ = room.sender.send(text.into());
        });
    }
    if let Some(writer) = writer {
        writer.abort();
    }
}

fn with_room<T>(rooms: &Rooms, name: &str, act: impl FnOnce(&mut Room) -> T) -> T {
    let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
    let room = rooms
        .entry(name.to_owned())
        .or_insert_with(|| Room { seq: 0, sender: broadcast::channel(CHANNEL).0 });
    act(room)
}
