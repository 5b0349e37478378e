//! gRPC: the only place of the core that names tonic and prost.
//!
//! [`link`] and `room` are the services, `session` is what both do for a session, `convert` and `status` are the borders between protobuf's
//! words and ours. [`Core`] puts them together.
mod admin;
mod caller;
mod codec;
mod convert;
mod held;
mod incoming;
pub mod link;
mod presence;
mod room;
mod session;
mod status;
mod streams;

use crate::{
    auth::{Gate, grant::Defaults},
    config::Config,
    hub::Hub,
    jwks,
    metrics::CoreMetrics,
};
use convert::Identity;
use hearth_proto::v1::{
    admin_service_server::AdminServiceServer, presence_service_server::PresenceServiceServer,
    room_service_server::RoomServiceServer,
};
use prometheus_client::registry::Registry;
use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};
use streams::Streams;
use tokio::net::TcpListener;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

/// What the services share.
struct Shared {
    hub: Arc<Hub>,
    config: Arc<Config>,
    gate: Arc<Gate>,
    metrics: CoreMetrics,
    identity: Identity,
    /// What is allowed to those whose token names no rooms.
    defaults: Defaults,
    streams: Streams,
    /// Since 1970.
    started: Duration,
    /// What `grpc.health.v1` says, once it is served.
    health: OnceLock<HealthReporter>,
}

/// A core: its rooms and its services.
#[derive(Clone)]
pub struct Core {
    shared: Arc<Shared>,
}

/// HTTP/2 windows: at 10 ms of round trip 64 KiB would cap a stream at 6.5 MB/s.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// What a request may take beside its payload: names, an id, a meta.
const REQUEST_BYTES: usize = 64 << 10;
/// So many streams for each that a client may reset are reset by us, for its mistakes, before its connection ends.
const MISTAKES: usize = 8;
/// A peer that is silent is asked after this …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// … and given up after that.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

impl Core {
    /// A core with its rooms in memory.
    pub fn in_memory(config: Config, registry: &mut Registry) -> Self {
        let metrics = CoreMetrics::register(registry);
        let boot = random_id();
        let hub = Hub::in_memory(&config, &boot, metrics.clone());
        let identity = Identity {
            core: boot,
            engine: hub.engine_identity().to_owned(),
            dev_mode: config.auth.is_dev(),
            presence_timeout_ms: config.longest_presence_timeout().as_millis() as u64,
        };
        let (gate, defaults) =
            (Arc::new(Gate::new(config.auth.clone(), hub.ticket_key())), config.defaults());
        let (config, streams, health) = (Arc::new(config), Streams::default(), OnceLock::new());
        let started = caller::now();
        let shared = Shared { hub, config, gate, metrics, identity, defaults, streams, started, health };
        Self { shared: Arc::new(shared) }
    }

    /// The link's service, for an edge in the same process.
    pub fn link_service(&self) -> link::LinkService {
        link::LinkService::new(self.shared.clone(), true)
    }

    /// All services: rooms, link, health, and reflection where it is on.
    pub async fn routes(&self) -> Result<Routes, String> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let max = self.shared.config.max_message_bytes + REQUEST_BYTES;
        let rooms = RoomServiceServer::new(room::Rooms { shared: self.shared.clone() });
        let presence = PresenceServiceServer::new(presence::PresenceRpc { shared: self.shared.clone() });
        let (rooms, presence) =
            (rooms.max_decoding_message_size(max), presence.max_decoding_message_size(max));
        let admin = admin::Admin { shared: self.shared.clone() };
        reporter.set_serving::<AdminServiceServer<admin::Admin>>().await;
        reporter.set_serving::<RoomServiceServer<room::Rooms>>().await;
        reporter.set_serving::<PresenceServiceServer<presence::PresenceRpc>>().await;
        reporter.set_serving::<link::LinkService>().await;
        // Whoever asks for the routes twice has two reporters; the first one's word is as good.
        let _ = self.shared.health.set(reporter);
        let mut routes = Routes::new(rooms)
            .add_service(presence)
            .add_service(AdminServiceServer::new(admin))
            .add_service(link::LinkService::new(self.shared.clone(), false))
            .add_service(health);
        if self.shared.config.reflection {
            let builder = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(hearth_proto::DESCRIPTORS)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            };
            routes = routes
                .add_service(builder().build_v1().map_err(|error| error.to_string())?)
                .add_service(builder().build_v1alpha().map_err(|error| error.to_string())?);
        }
        Ok(routes)
    }

    /// Forgets what has expired, fills the holes of feeds and follows the keys of tokens, until `stop`.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let Shared { hub, config, metrics, .. } = &*self.shared;
        let keys = async {
            match config.auth.key_sets() {
                Some(sets) => jwks::run(&config.key_sources, sets, metrics).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = hub.clone().run(stop) => {}
            () = keys => {}
        }
    }

    /// Serves gRPC on a listener until `shutdown`, then drains: links are told goodbye, streams `draining`, calls under way are finished.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), String> {
        let routes = self.routes().await?;
        let stopped = tokio::sync::Notify::new();
        let drained = async {
            shutdown.await;
            stopped.notify_one();
            self.drain().await;
        };
        // A stream that does not read, or one that has nothing to do with rooms, would hold the end up for ever.
        let too_long = async {
            stopped.notified().await;
            tokio::time::sleep(self.shared.config.drain_timeout).await;
        };
        let config = &self.shared.config;
        let tls = self.shared.config.tls.clone();
        let incoming = incoming::incoming(listener, tls, self.shared.metrics.tls_failures.clone());
        let serving = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams((config.http2_streams > 0).then_some(config.http2_streams))
            .http2_max_header_list_size(u32::try_from(config.max_header_bytes).ok())
            .http2_max_pending_accept_reset_streams(Some(config.http2_resets))
            .http2_max_local_error_reset_streams(Some(config.http2_resets.saturating_mul(MISTAKES)))
            .add_routes(routes)
            .serve_with_incoming_shutdown(incoming, drained);
        tokio::select! {
            served = serving => served.map_err(|error| error.to_string()),
            () = too_long => {
                tracing::warn!("drain timed out, cutting what is left");
                Ok(())
            }
        }
    }

    /// Whether anybody can be let in: with tokens, once there is a key to verify them with.
    pub fn is_ready(&self) -> bool {
        self.shared.config.auth.is_ready()
    }

    /// Tells every stream that this core goes away and ends it, within the drain's time.
    pub async fn drain(&self) {
        if let Some(health) = self.shared.health.get() {
            health.set_service_status("", ServingStatus::NotServing).await;
            health.set_not_serving::<RoomServiceServer<room::Rooms>>().await;
            health.set_not_serving::<PresenceServiceServer<presence::PresenceRpc>>().await;
            health.set_not_serving::<AdminServiceServer<admin::Admin>>().await;
            health.set_not_serving::<link::LinkService>().await;
        }
        self.shared.streams.drain(self.shared.config.drain_timeout).await;
    }
}

/// 16 random bytes as text; ids that cannot be guessed.
fn random_id() -> String {
    use base64::Engine;
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // No entropy source at all: unique is then the best there is.
        bytes.iter_mut().for_each(|byte| *byte = fastrand::u8(..));
    }
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
