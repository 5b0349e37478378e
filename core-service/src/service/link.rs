//! `LinkService.Attach`: all sessions of an edge on one stream. Written by hand over tonic's own server parts, because what goes out is
//! encoded already: an event once for all links.
use super::{
    Shared, caller,
    codec::{AttachCodec, Entries},
    convert::{self, Door},
    held::{Held, Turn},
    incoming::Peer,
    session::{Command, Sessions, Shown},
    status, streams,
};
use crate::hub::{Delivery, Error, Gone, Outbox, To, outbox::LINK_QUEUE_BYTES};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, future::BoxFuture};
use hearth_proto::v1::{self, edge_frame::Frame};
use prometheus_client::metrics::gauge::Gauge;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    server::{Grpc, NamedService, StreamingService},
};

/// How many bytes of entries go into one message: large enough that framing costs nothing, small enough to flow.
const MESSAGE_BYTES: usize = 32 * 1024;

/// How large a message from an edge may be beside one payload: `resume` names up to 100,000 sessions.
const EDGE_MESSAGE_BYTES: usize = 4 << 20;

/// The service.
#[derive(Clone)]
pub struct LinkService {
    shared: Arc<Shared>,
    /// The edge is part of this process.
    own: bool,
}

impl LinkService {
    pub(super) fn new(shared: Arc<Shared>, own: bool) -> Self {
        Self { shared, own }
    }

    /// Whether an edge is let in. What it says of its sessions is believed, so with tokens nobody may attach who has not shown that it is one:
    /// by a certificate or by the link token, either of which will do.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Error> {
        let refused = |reason, message: &str| Error::Unauthenticated { reason, message: message.to_owned() };
        let config = &self.shared.config;
        let certified = request.extensions().get().is_some_and(|peer: &Peer| peer.is_edge);
        match (&config.link_token, config.link_certificates) {
            _ if self.own || certified => Ok(()),
            (Some(token), _) if token.is(caller::bearer(request.metadata())) => Ok(()),
            (Some(_), false) => Err(refused("LINK_TOKEN_INVALID", "an edge needs this core's link token")),
            (Some(_), true) => Err(refused(
                "LINK_TOKEN_INVALID",
                "an edge needs this core's link token, or a certificate of its --link-ca",
            )),
            (None, true) => Err(refused(
                "LINK_CERTIFICATE_MISSING",
                "an edge needs a certificate of this core's --link-ca; a link token is not set here",
            )),
            (None, false) if config.auth.is_dev() => Ok(()),
            (None, false) => Err(refused(
                "LINK_TOKEN_MISSING",
                "with tokens on, a core needs a link token (--link-token) or a CA of its edges (--link-ca) to let edges in",
            )),
        }
    }
}

impl NamedService for LinkService {
    const NAME: &'static str = "hearth.v1.LinkService";
}

impl tonic::codegen::Service<tonic::codegen::http::Request<Body>> for LinkService {
    type Response = tonic::codegen::http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::codegen::http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() == "/hearth.v1.LinkService/Attach" {
                let max = service.shared.config.max_message_bytes + EDGE_MESSAGE_BYTES;
                let mut grpc = Grpc::new(AttachCodec).max_decoding_message_size(max);
                return Ok(grpc.streaming(service, request).await);
            }
            Ok(Status::unimplemented("LinkService has Attach alone").into_http())
        })
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Entries, Status>> + Send>>;

impl StreamingService<v1::AttachRequest> for LinkService {
    type Response = Entries;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<v1::AttachRequest>>) -> Self::Future {
        let (shared, admitted) = (self.shared.clone(), self.admit(&request));
        async move {
            admitted.map_err(|error| status::status(&error))?;
            shared.streams.admit().map_err(|error| status::status(&error))?;
            Ok(Response::new(attach(shared, request.into_inner())))
        }
        .boxed()
    }
}

/// Starts to read the edge's frames, and gives the answers. When the edge's side ends, or nobody reads the answers any more, the other ends too.
fn attach(shared: Arc<Shared>, frames: Streaming<v1::AttachRequest>) -> Answers {
    let outbox = Arc::new(Outbox::for_sessions(LINK_QUEUE_BYTES, shared.metrics.clone()));
    let reader = shared.streams.adopt(&outbox, read(shared.clone(), outbox.clone(), frames));
    let answers = async_stream::stream! {
        let _reader = reader;
        loop {
            match streams::next(&outbox).await {
                Ok(Some(batch)) => {
                    let mut entries: Vec<Bytes> = Vec::with_capacity(batch.len());
                    let mut bytes = 0;
                    for delivery in &batch {
                        let entry = match delivery {
                            Delivery::Event(event) => event.encoded(|one| convert::entry(&convert::room_event(one))).clone(),
                            Delivery::Presence(shared) => shared.encoded(|one| convert::entry(&convert::room_presence(one))).clone(),
                            other => convert::entry(&convert::core_frame(other, &shared.identity)),
                        };
                        bytes += entry.len();
                        entries.push(entry);
                        if bytes > MESSAGE_BYTES {
                            bytes = 0;
                            yield Ok(Entries(std::mem::take(&mut entries)));
                        }
                    }
                    if !entries.is_empty() {
                        yield Ok(Entries(entries));
                    }
                }
                Ok(None) => return,
                Err(status) => {
                    yield Err(status);
                    return;
                }
            }
        }
    };
    Box::pin(answers)
}

/// Counts a link as long as it is read, however that ends.
struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn read(shared: Arc<Shared>, outbox: Arc<Outbox>, mut frames: Streaming<v1::AttachRequest>) {
    shared.metrics.links.inc();
    let _counted = Counted(shared.metrics.links.clone());
    let mut sessions: Option<Sessions> = None;
    let (gate, mut held) = (&shared.gate, Held::default());
    let end = 'stream: loop {
        let next = tokio::select! {
            next = frames.next() => next,
            () = outbox.ordered() => {
                settle(&mut sessions, &outbox);
                continue;
            }
            () = held.news() => {
                settle(&mut sessions, &outbox);
                if let Some(sessions) = &mut sessions {
                    take(sessions, &outbox, held.due(gate)).await;
                }
                continue;
            }
        };
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(status)) => break Some(Error::Unreadable(status.message().to_owned())),
            None => break None,
        };
        for frame in message.frames {
            settle(&mut sessions, &outbox);
            match (&mut sessions, frame.frame) {
                (sessions @ None, Some(Frame::Hello(hello))) => {
                    if hello.protocol != hearth_proto::LINK_PROTOCOL {
                        let error = Error::OutOfTurn("this core speaks version 1 of the link's protocol");
                        outbox.push(Delivery::Failed(To::default(), None, error));
                        break 'stream None;
                    }
                    *sessions = Some(Sessions::new(&shared, outbox.clone(), Door::Edge, &hello.edge));
                    outbox.push(Delivery::Attached);
                }
                (None, _) => {
                    let error = Error::OutOfTurn("a link begins with hello");
                    outbox.push(Delivery::Failed(To::default(), None, error));
                    break 'stream None;
                }
                (Some(sessions), inner) => {
                    let frame = v1::EdgeFrame { frame: inner, ..frame };
                    if held.lets_pass(&frame) {
                        act(sessions, &outbox, frame).await;
                    } else {
                        take(sessions, &outbox, held.take_in(gate, frame)).await;
                    }
                }
            }
        }
    };
    outbox.end_with(end);
}

/// Does what was ordered meanwhile, and tells the edge of those who have ended.
fn settle(sessions: &mut Option<Sessions>, outbox: &Outbox) {
    for (session, error) in sessions.as_mut().map(Sessions::settle).unwrap_or_default() {
        outbox.push(Delivery::Refused(To { session, ..To::default() }, error));
    }
}

async fn take(sessions: &mut Sessions, outbox: &Outbox, turns: Vec<Turn>) {
    for turn in turns {
        match turn {
            Turn::Act(frame) => act(sessions, outbox, frame).await,
            Turn::Refuse(frame, verdict) => {
                let (to, error) = (
                    To { session: frame.session, request: frame.request, id: None },
                    caller::unauthenticated(&verdict),
                );
                outbox.push(match frame.frame {
                    Some(Frame::Open(_)) => Delivery::Refused(to, error),
                    _ => Delivery::Failed(to, None, error),
                });
            }
        }
    }
}

/// Acts upon a frame behind the first.
async fn act(sessions: &mut Sessions, outbox: &Outbox, frame: v1::EdgeFrame) {
    let v1::EdgeFrame { session, request, frame } = frame;
    let to = To { session, request, id: None };
    let (id, command) = match frame {
        Some(Frame::Open(open)) => {
            let shown = Shown::by(open.credentials.as_ref(), &open.token);
            let granted = sessions.granted(open.credentials, &open.token, &open.rooms);
            let opened = granted.and_then(|grant| sessions.open(&to, &open.id, grant, (open.call, shown)));
            return opened.unwrap_or_else(|error| outbox.push(Delivery::Refused(to, error)));
        }
        Some(Frame::Close(v1::CloseSession { vanished })) => {
            return sessions.close(session, if vanished { Gone::Vanished } else { Gone::Left });
        }
        Some(Frame::Resume(resume)) => return sessions.resume(request, resume).await,
        Some(Frame::Pull(pull)) if session == 0 => return sessions.pull_for_all(pull).await,
        Some(Frame::Metas(metas)) => return sessions.metas(metas),
        Some(Frame::Watch(watch)) => return sessions.watch(&watch.room),
        Some(Frame::Join(join)) => (String::new(), Command::Join(join)),
        Some(Frame::Leave(leave)) => (String::new(), Command::Leave(leave)),
        Some(Frame::Publish(v1::LinkPublish { id, publish: Some(publish) })) => {
            (id, Command::Publish(publish))
        }
        Some(Frame::History(history)) => (String::new(), Command::History(history)),
        Some(Frame::Pull(pull)) => (String::new(), Command::Pull(pull)),
        Some(Frame::ListOnline(list)) => (String::new(), Command::ListOnline(list)),
        Some(Frame::Presence(presence)) => (String::new(), Command::Presence(presence)),
        Some(Frame::IssueTicket(v1::IssueTicket {})) => (String::new(), Command::Ticket),
        Some(Frame::Refresh(v1::RefreshSession { token })) => (String::new(), Command::Auth(token)),
        Some(Frame::Publish(_) | Frame::Hello(_)) | None => {
            outbox.push(Delivery::Failed(
                to,
                None,
                Error::OutOfTurn("a frame out of turn, or with nothing in it"),
            ));
            return;
        }
    };
    sessions.run(session, request, &id, command).await;
}
