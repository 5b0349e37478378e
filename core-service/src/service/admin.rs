//! `AdminService`: what is done to users, tokens and rooms from outside, by services.
use super::{
    Shared,
    caller::{self, Caller},
    convert, status,
};
use crate::{
    auth::{
        revocation::{Revocation, Revoked},
        token::TOKEN_MAX,
    },
    hub::Error,
    room::id::UserName,
};
use hearth_proto::v1::{self, admin_service_server::AdminService, revoke_token_request::Token};
use std::{borrow::Cow, sync::Arc};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) shared: Arc<Shared>,
}

impl Admin {
    /// Whoever calls must be a service: its request, and the name by which it is written down what it did.
    async fn admit<T>(&self, request: Request<T>) -> Result<(UserName, T), Status> {
        let caller = Caller::service(&self.shared, request.metadata()).await?;
        caller.must_be_service().map_err(|error| status::status(&error))?;
        Ok((caller.grant.subject, request.into_inner()))
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn disconnect_user(
        &self,
        request: Request<v1::DisconnectUserRequest>,
    ) -> Result<Response<v1::DisconnectUserResponse>, Status> {
        let (by, v1::DisconnectUserRequest { user }) = self.admit(request).await?;
        let done = async {
            let user = UserName::new(&user)?;
            tracing::info!(?by, ?user, "disconnects a user");
            self.shared.hub.disconnect(user).await
        };
        let disconnected = done.await.map_err(|error: Error| status::status(&error))? as u64;
        Ok(Response::new(v1::DisconnectUserResponse { disconnected }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let (by, v1::RevokeTokenRequest { token, expires_at }) = self.admit(request).await?;
        let done = async {
            let revoked = revoked(token)?;
            let until = expires_at.map(convert::since_1970);
            if until.is_some_and(|until| until <= caller::now()) {
                return Err(field("expires_at", "must be in the future"));
            }
            tracing::info!(?by, ?revoked, "revokes tokens");
            self.shared.hub.revoke(Revocation { revoked, until }).await
        };
        let disconnected = done.await.map_err(|error| status::status(&error))? as u64;
        Ok(Response::new(v1::RevokeTokenResponse { disconnected }))
    }

    async fn close_room(
        &self,
        request: Request<v1::CloseRoomRequest>,
    ) -> Result<Response<v1::CloseRoomResponse>, Status> {
        let (by, v1::CloseRoomRequest { room }) = self.admit(request).await?;
        let done = async {
            let room = convert::room(&room)?;
            tracing::info!(?by, ?room, "closes a room");
            self.shared.hub.close_room(&room).await
        };
        let anew = done.await.map_err(|error| status::status(&error))?;
        Ok(Response::new(v1::CloseRoomResponse { position: Some(convert::position(&anew)) }))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        self.admit(request).await?;
        let Shared { hub, metrics, identity, started, .. } = &*self.shared;
        // No gauge of these is ever below nothing.
        let now = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        Ok(Response::new(v1::GetStatsResponse {
            core: identity.core.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: identity.engine.clone(),
            started_at: Some(convert::moment(*started)),
            rooms: now(metrics.rooms.get()),
            users: hub.directory().users() as u64,
            sessions: now(metrics.sessions.get()),
            edges: now(metrics.links.get()),
            streams: now(metrics.subscribers.get()),
            published: metrics.accepted(),
            revocations: hub.directory().revocations(caller::now()) as u64,
        }))
    }
}

fn revoked(token: Option<Token>) -> Result<Revoked, Error> {
    match token {
        Some(Token::TokenId(id)) if (1..=TOKEN_MAX).contains(&id.len()) => Ok(Revoked::Token(id.into())),
        Some(Token::TokenId(_)) => Err(field("token_id", "must be 1 to 8192 bytes")),
        Some(Token::User(user)) => Ok(Revoked::User(UserName::new(&user)?, caller::now())),
        None => Err(field("token", "token_id or user must be set")),
    }
}

fn field(field: &'static str, problem: &'static str) -> Error {
    Error::Field { field, problem: Cow::from(problem) }
}
