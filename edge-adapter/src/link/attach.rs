//! One attach: the stream to a core is opened, hello is said, and the core's answer looked at.
use crate::link::{
    LinkConfig, convert,
    dialer::{Dialer, with_causes},
};
use futures_util::{StreamExt, stream};
use hearth_proto::v1::{
    AttachRequest, AttachResponse, Attached, CoreFrame, core_frame::Frame,
    link_service_client::LinkServiceClient,
};
use std::time::Duration;
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport};

/// How long a core may take to say who it is.
const ATTACHED_TIMEOUT: Duration = Duration::from_secs(10);
/// How many messages may wait for the stream: at 64 KiB each a megabyte, enough to keep it busy.
const OUTBOUND_MESSAGES: usize = 16;
/// The largest message that a core may send. A page of history can be a thousand events of the largest kind; the core is
/// trusted, so this only keeps a broken one from filling memory.
const INBOUND_BYTES_MAX: usize = 128 * 1024 * 1024;

/// A core on the line.
pub struct Attachment {
    /// Who it is.
    pub core: Attached,
    /// Frames that came right behind that.
    pub frames: Vec<CoreFrame>,
    /// To the core.
    pub requests: mpsc::Sender<AttachRequest>,
    /// From the core.
    pub responses: Streaming<AttachResponse>,
}

/// Why there is none.
#[derive(Debug, Error)]
pub enum AttachError {
    /// Nobody is there.
    #[error("{}", with_causes(.0))]
    Transport(#[from] transport::Error),
    /// The core said no, or broke off.
    #[error("{}: {}", .0.code(), .0.message())]
    Status(#[from] Status),
    /// The core did not say who it is.
    #[error("the core ended the stream before it said who it is")]
    Silent,
    /// It took too long.
    #[error("the core did not answer in time")]
    TimedOut,
    /// Core and edge are too far apart.
    #[error("the core speaks link protocol {core}, this edge {edge}")]
    Protocol {
        /// The core's.
        core: u32,
        /// This edge's.
        edge: u32,
    },
    /// The core asks for no tokens, and this edge may be reached from outside.
    #[error(
        "the core is in dev mode, where anybody may be any user, and this edge listens beyond this machine: it follows only with --insecure"
    )]
    DevMode,
}

/// Attaches to a core.
pub async fn attach(dialer: &Dialer, config: &LinkConfig) -> Result<Attachment, AttachError> {
    timeout(ATTACHED_TIMEOUT, open(dialer, config)).await.unwrap_or(Err(AttachError::TimedOut))
}

async fn open(dialer: &Dialer, config: &LinkConfig) -> Result<Attachment, AttachError> {
    let mut client =
        LinkServiceClient::new(dialer.dial().await?).max_decoding_message_size(INBOUND_BYTES_MAX);
    let (requests, rest) = mpsc::channel(OUTBOUND_MESSAGES);
    // Hello is chained in front: the call does not return before the core answers, and the core waits for hello.
    let hello = AttachRequest { frames: vec![convert::hello(&config.edge_id)] };
    let outbound = stream::iter([hello]).chain(ReceiverStream::new(rest));
    let mut responses = client.attach(outbound).await?.into_inner();
    let first = responses.message().await?.ok_or(AttachError::Silent)?;
    let mut frames = first.frames.into_iter();
    let Some(CoreFrame { frame: Some(Frame::Attached(core)), .. }) = frames.next() else {
        return Err(AttachError::Silent);
    };
    if core.protocol != hearth_proto::LINK_PROTOCOL {
        return Err(AttachError::Protocol { core: core.protocol, edge: hearth_proto::LINK_PROTOCOL });
    }
    if core.dev_mode && !config.accept_dev_mode {
        return Err(AttachError::DevMode);
    }
    Ok(Attachment { core, frames: frames.collect(), requests, responses })
}
