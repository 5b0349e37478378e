//! What a request may say outside its body. What is not named here is ignored.
use super::names::{Id, Room, Seq, User};
use utoipa::IntoParams;

/// Who asks.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Caller {
    /// A token, where the server asks for one and it does not stand in `Authorization: Bearer`.
    pub token: Option<String>,
    /// In dev mode, who one is; without it, a guest.
    pub user: Option<User>,
}

/// One room.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct RoomInPath {
    /// The room.
    pub room: Room,
}

/// Several rooms.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Rooms {
    /// The rooms: the name stands as often as there are rooms.
    #[param(min_items = 1, max_items = 32)]
    pub room: Vec<Room>,
}

/// Rooms beside the path's.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MoreRooms {
    /// More rooms, 32 in all.
    #[param(max_items = 31)]
    pub room: Option<Vec<Room>>,
}

/// Where a stream goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Since {
    /// The cursor of the last event that was seen. One that cannot be read is answered with `recovered: false`.
    pub since: Option<String>,
}

/// Where a stream goes on, as an `EventSource` says it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct LastEventId {
    /// The same as `since`, and beats it.
    #[param(rename = "Last-Event-ID")]
    pub last_event_id: Option<String>,
}

/// How a poll waits.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// The last answer's. Without it a session begins, and the answer comes at once. One that cannot be read is answered with
    /// `recovered: false`.
    pub cursor: Option<String>,
    /// How long to wait for something to happen, in seconds.
    #[param(minimum = 0, maximum = 60, default = 25)]
    pub timeout: Option<u64>,
    /// How many messages to answer with at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u64>,
}

/// Which part of the history.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// Only what is after this.
    pub after: Option<Seq>,
    /// Only what is before this. With neither, the newest; with both, up from `after`.
    pub before: Option<Seq>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u64>,
}

/// What makes a publish count once.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// Stands in for the envelope's `id`: sent again by the same user, it counts once.
    #[param(rename = "Idempotency-Key")]
    pub idempotency_key: Option<Id>,
}
