//! Which attacks there are, how hard each is run, and what a server has to answer. What is to be expected stands here alone.
use clap::ValueEnum;

/// An attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Requests whose heads never end, a byte every second
    Slowloris,
    /// Handshakes that are begun and not finished
    HalfOpen,
    /// Heads of a mebibyte
    GiantHeaders,
    /// Tokens that are forged, by every door for browsers
    BadTokens,
    /// HTTP/2 streams that are opened and reset at once
    RapidReset,
    /// The same on the port for services
    RapidResetGrpc,
    /// HTTP/2 heads that go on for ever in CONTINUATION frames
    Continuation,
    /// The same on the port for services
    ContinuationGrpc,
    /// HTTP/2 pings
    Pings,
    /// The same on the port for services
    PingsGrpc,
    /// Compressed messages that become 60 MiB
    Bomb,
    /// Commands of one session, far more than it may give
    Commands,
    /// Messages likewise
    Publishing,
    /// JSON that is 60,000 deep, by WebSocket and as a body
    DeepJson,
    /// WebSocket frames of random bytes
    Frames,
    /// WebSocket pings whose pongs nobody reads
    FramePings,
    /// Random bytes as protobuf messages, by WebSocket
    Protobuf,
    /// Random bytes as gRPC requests
    ProtobufGrpc,
}

impl Attack {
    /// All, in the order of the table.
    pub fn all() -> &'static [Attack] {
        Attack::value_variants()
    }

    /// Its name, as the command line has it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Connections held, and what is done a second, when it is run in earnest.
    pub fn strength(self) -> (usize, u32) {
        match self {
            Attack::Slowloris => (2_000, 1_000),
            Attack::HalfOpen => (10_000, 2_000),
            Attack::GiantHeaders => (0, 50),
            Attack::BadTokens => (0, 300),
            Attack::RapidReset | Attack::RapidResetGrpc => (0, 5_000),
            Attack::Continuation | Attack::ContinuationGrpc => (0, 2_000),
            Attack::Pings | Attack::PingsGrpc | Attack::FramePings => (0, 10_000),
            Attack::Bomb => (0, 50),
            Attack::Commands => (0, 10_000),
            Attack::Publishing => (0, 5_000),
            Attack::DeepJson => (0, 100),
            Attack::Frames => (0, 300),
            Attack::Protobuf | Attack::ProtobufGrpc => (0, 500),
        }
    }

    /// What the server must have answered at least once, each of them by its beginning. None where the right answer is to go on as usual.
    pub fn expected(self) -> &'static [&'static str] {
        match self {
            Attack::Slowloris | Attack::HalfOpen => &["ended"],
            Attack::GiantHeaders => &["431"],
            Attack::BadTokens => &["401", "close 1008"],
            Attack::RapidReset | Attack::RapidResetGrpc => &["GOAWAY 11"],
            Attack::Continuation | Attack::ContinuationGrpc => &["GOAWAY"],
            Attack::Pings | Attack::PingsGrpc => &["PING acknowledged"],
            Attack::Bomb => &["close 1009"],
            Attack::Commands | Attack::Publishing => &["resource_exhausted", "close 4004"],
            Attack::DeepJson => &["400", "invalid_argument"],
            Attack::Frames => &["close 1002"],
            Attack::FramePings => &[],
            Attack::Protobuf => &["an error in protobuf"],
            Attack::ProtobufGrpc => &["grpc-status"],
        }
    }
}
