//! `RoomService.Connect`: the socket of services.
use super::{Doors, command::Command, envelope::Incoming, protobuf};
use crate::{grpc::Session, proxy::Proxy};
use std::error::Error as _;
use tonic::Code;

/// A stream, on a line of its own: a client that drops it has ended its side in good order, and only a line can break.
pub struct Stream {
    session: Session,
    line: Proxy,
}

impl Stream {
    /// Begins as a user; `welcome` has come.
    pub async fn open(doors: Doors, user: &str) -> Stream {
        let line = Proxy::start(doors.grpc).await;
        let mut session = Session::connect(line.address(), user).await;
        session.presence = true;
        Stream { session, line }
    }

    /// Sends a command. The server may have ended the stream: then that is what comes next.
    pub async fn send(&mut self, id: Option<&str>, command: &Command<'_>) {
        self.session.try_send(protobuf::request(id, command)).await;
    }

    /// What comes next.
    pub async fn receive(&mut self) -> Incoming {
        match self.session.receive().await {
            Ok(Some(response)) => Incoming::Envelope(protobuf::envelope(response)),
            Ok(None) => Incoming::End("OK".to_owned()),
            Err(status) if status.code() == Code::Unavailable => Incoming::End("UNAVAILABLE".to_owned()),
            Err(status) if status.source().is_some() => Incoming::End(format!("broken: {status}")),
            Err(status) => Incoming::End(status.to_string()),
        }
    }

    /// Ends its side, and awaits the server's.
    pub async fn close(self) {
        self.session.finish().await;
    }

    /// Breaks without a word.
    pub async fn cut(mut self) {
        self.line.cut();
        while let Ok(Some(_)) = self.session.receive().await {}
    }
}
