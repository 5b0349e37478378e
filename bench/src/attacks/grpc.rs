//! Garbage at a service's door: requests whose bodies are no messages.
use super::{Plan, Seen, pace::Pace, talk::PATIENCE};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::{net::TcpStream, time::timeout};

/// Random bytes, with a frame's head that says that they are a message.
pub(super) async fn garbage(plan: &Plan, seen: &mut Seen) {
    let mut pace = Pace::new(plan.rate, plan.lasting);
    let mut sender: Option<SendRequest<Bytes>> = None;
    while let Some(portion) = pace.portion().await {
        for _ in 0..portion {
            if sender.is_none() {
                sender = connect(plan).await;
            }
            let Some(open) = &mut sender else {
                seen.answer("no connection");
                break;
            };
            seen.did("calls with 64 random bytes", 1);
            match timeout(PATIENCE, call(plan, open)).await {
                Ok(Ok(status)) => seen.answer(format!("grpc-status {status}")),
                Ok(Err(error)) => {
                    seen.answer(error);
                    sender = None;
                }
                Err(_) => seen.answer("no answer"),
            }
        }
    }
}

async fn connect(plan: &Plan) -> Option<SendRequest<Bytes>> {
    let stream = TcpStream::connect(plan.grpc).await.ok()?;
    let (sender, connection) = h2::client::handshake(stream).await.ok()?;
    // It ends with its last sender.
    tokio::spawn(connection);
    Some(sender)
}

async fn call(plan: &Plan, sender: &mut SendRequest<Bytes>) -> Result<String, String> {
    let shown = |error: h2::Error| error.to_string();
    let request = Request::post(format!("http://{}/hearth.v1.RoomService/Publish", plan.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", plan.token))
        .body(())
        .map_err(|error| error.to_string())?;
    let mut ready = sender.clone().ready().await.map_err(shown)?;
    let (answer, mut body) = ready.send_request(request, false).map_err(shown)?;
    let mut message = vec![0, 0, 0, 0, 64];
    message.extend((0..64).map(|_| fastrand::u8(..)));
    // The answer may come before all of it is taken.
    let _ = body.send_data(message.into(), true);
    let answer = answer.await.map_err(shown)?;
    let status = |headers: &http::HeaderMap| {
        headers.get("grpc-status").and_then(|status| status.to_str().ok()).map(str::to_owned)
    };
    if let Some(status) = status(answer.headers()) {
        return Ok(status);
    }
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        let _ = body.flow_control().release_capacity(data.map_err(shown)?.len());
    }
    let trailers = body.trailers().await.map_err(shown)?;
    Ok(trailers.as_ref().and_then(status).unwrap_or_else(|| "none".to_owned()))
}
