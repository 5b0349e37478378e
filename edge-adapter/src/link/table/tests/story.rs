//! What stories about the table are told with: sessions that ask, a core that says, and what came of both.
use super::*;

pub(super) const SHARDS: usize = 2;

pub(super) struct Story {
    pub(super) table: Table,
    pub(super) now: Instant,
}

impl Story {
    /// A table with a core.
    pub(super) fn attached() -> Self {
        let mut story = Self::detached();
        story.attach();
        story
    }

    /// To the core that is always the same.
    pub(super) fn attach(&mut self) {
        self.attach_to("core");
    }

    pub(super) fn attach_to(&mut self, core: &str) {
        let (core, presence_timeout_ms) = (core.to_owned(), 30_000);
        let attached = v1::Attached { protocol: 1, core, presence_timeout_ms, ..v1::Attached::default() };
        self.table.attach(self.now, &attached);
    }

    pub(super) fn detached() -> Self {
        let now = Instant::now();
        Self { table: Table::new(now, SHARDS, LinkMetrics::default()), now }
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.table.request(self.now, request);
    }

    pub(super) fn core(&mut self, session: Option<SessionKey>, request: u64, frame: FromCore) {
        let session = session.map_or(0, SessionKey::number);
        self.table.answer(self.now, CoreFrame { session, request, frame: Some(frame) });
    }

    /// What the core was sent since, with the number of each.
    pub(super) fn sent(&mut self) -> Vec<(u64, Frame)> {
        self.table.out.frames.drain(..).filter_map(|frame| Some((frame.request, frame.frame?))).collect()
    }

    /// What a shard was told since.
    pub(super) fn told(&mut self, shard: usize) -> Vec<String> {
        self.table.out.posts[shard].drain(..).map(|post| short(&post)).collect()
    }

    pub(super) fn lose_core(&mut self) {
        self.table.detach(self.now);
    }

    /// A session that is let in.
    pub(super) fn open(&mut self, key: SessionKey) {
        self.ask(Request::Open {
            session: key,
            id: id_of(key),
            who: Credentials::default(),
            rooms: Vec::new(),
        });
        self.core(Some(key), 0, FromCore::Opened(v1::Opened { user: "ann".into(), ..v1::Opened::default() }));
        self.table.out.frames.clear();
        self.told(key.shard());
    }

    /// The number under which the core was asked.
    pub(super) fn join(&mut self, key: SessionKey, id: &str) -> u64 {
        self.ask(Request::Join {
            session: key,
            id: Some(id.into()),
            room: "r".into(),
            since: None,
            history: 0,
            echo: true,
            presence: false,
        });
        self.table.last_number
    }

    /// A session that is live in the room.
    pub(super) fn member(&mut self, key: SessionKey, seq: u64) {
        self.open(key);
        let number = self.join(key, "j");
        self.core(Some(key), number, joined(seq, &[], true));
        self.table.out.frames.clear();
        self.told(key.shard());
    }

    pub(super) fn publish(&mut self, key: SessionKey, id: Option<&str>, kind: Kind) -> u64 {
        let (id, payload) = (id.map(Into::into), Payload::Json(Bytes::from_static(b"{}")));
        self.ask(Request::Publish { session: key, id, room: "r".into(), kind, payload, fence: None });
        self.table.last_number
    }
}

pub(super) fn ann() -> SessionKey {
    SessionKey::new(0, 0, 1)
}

pub(super) fn bob() -> SessionKey {
    SessionKey::new(1, 7, 1)
}

pub(super) fn id_of(key: SessionKey) -> Arc<str> {
    format!("id-{key:?}").into()
}

pub(super) fn at(epoch: &str, seq: u64) -> v1::Position {
    v1::Position { epoch: epoch.into(), seq }
}

pub(super) fn event(seq: u64) -> v1::Event {
    v1::Event { room: "r".into(), kind: v1::EventKind::Text.into(), seq, ..v1::Event::default() }
}

pub(super) fn live(seq: u64) -> FromCore {
    FromCore::Event(v1::RoomEvent { event: Some(event(seq)), session: String::new() })
}

pub(super) fn page(seqs: &[u64], live: bool) -> v1::Page {
    v1::Page { room: "r".into(), events: seqs.iter().map(|seq| event(*seq)).collect(), live }
}

pub(super) fn joined(seq: u64, seqs: &[u64], live: bool) -> FromCore {
    let joined = v1::Joined { room: "r".into(), position: Some(at("e1", seq)), ..v1::Joined::default() };
    FromCore::Joined(v1::LinkJoined {
        joined: Some(joined),
        page: Some(page(seqs, live)),
        presence: 0,
        presence_hidden: false,
    })
}

pub(super) fn resumed(epoch: &str, seq: u64, recovered: bool, page: v1::Page) -> FromCore {
    let position = Some(at(epoch, seq));
    let joined =
        v1::Joined { room: "r".into(), position, recovered: Some(recovered), ..v1::Joined::default() };
    FromCore::Resumed(v1::Resumed { joined: Some(joined), page: Some(page) })
}

pub(super) fn ack(epoch: &str, seq: u64) -> FromCore {
    FromCore::Ack(v1::Ack {
        room: "r".into(),
        position: Some(at(epoch, seq)),
        duplicate: false,
        expires_at: None,
    })
}

pub(super) fn error(code: i32) -> FromCore {
    FromCore::Error(v1::Error { code, message: "no".into(), room: "r".into(), ..v1::Error::default() })
}

pub(super) fn seqs(events: &[Arc<SharedEvent>]) -> Vec<u64> {
    events.iter().map(|event| event.event.seq).collect()
}

/// What is told of presence, in a line.
pub(super) fn shown(shared: &SharedPresence) -> String {
    match &shared.told {
        Told::Count(count) => format!("{count} online"),
        Told::State(all) => {
            let all: Vec<String> =
                all.iter().map(|one| format!("{}{}×{}", one.user, one.meta, one.sessions)).collect();
            format!("state {}", all.join(" "))
        }
        Told::Steps(steps) => {
            let name = |step: &Step| format!("{} {}{}", step.happened.name(), step.user, step.meta);
            steps.iter().map(name).collect::<Vec<_>>().join(", ")
        }
    }
}

/// A post in a line; the session is left out.
pub(super) fn short(post: &Post) -> String {
    match post {
        Post::Opened { user, .. } => format!("opened {user}"),
        Post::Kicked { .. } => "kicked".to_owned(),
        Post::Refused { failure, .. } => format!("refused {}", failure.code.name()),
        Post::Joined { id, position, recovered, page, live, echo, .. } => {
            let (id, seq, page) = (id.as_deref().unwrap_or("-"), position.seq, seqs(page));
            let recovered = recovered.map_or(String::new(), |recovered| format!(" recovered={recovered}"));
            let live = if *live { "live" } else { "paging" };
            let echo = if *echo { "" } else { " no echo" };
            format!("joined {id} at {seq} {page:?} {live}{recovered}{echo}")
        }
        Post::StillJoined { id, position, .. } => {
            format!("still {} at {}", id.as_deref().unwrap_or("-"), position.seq)
        }
        Post::JoinFailed { id, failure, .. } => {
            format!("no join {} {}", id.as_deref().unwrap_or("-"), failure.code.name())
        }
        Post::HistoryFailed { id, failure, .. } => {
            format!("no history {} {}", id.as_deref().unwrap_or("-"), failure.code.name())
        }
        Post::Called { answer, .. } => format!("called {answer:?}"),
        Post::Done { id, .. } => format!("done {}", id.as_deref().unwrap_or("-")),
        Post::Presence { shared, .. } => format!("all: {}", shown(shared)),
        Post::ShowPresence { session, shared, .. } => format!("{session:?}: {}", shown(shared)),
        Post::LeaveFailed { id, failure, .. } => {
            format!("no leave {} {}", id.as_deref().unwrap_or("-"), failure.code.name())
        }
        Post::Page { events, live, .. } => {
            format!("page {:?} {}", seqs(events), if *live { "live" } else { "paging" })
        }
        Post::Left { asked, .. } => match asked {
            Some(id) => format!("left {}", id.as_deref().unwrap_or("-")),
            None => "put out".into(),
        },
        Post::Refreshed { id, expires_us, .. } => format!("refreshed {id:?} {expires_us:?}"),
        Post::Ack { id, position, .. } => {
            format!("ack {id} {:?}", position.as_ref().map(|position| position.seq))
        }
        Post::Failed { id, failure, .. } => {
            format!("failed {} {}", id.as_deref().unwrap_or("-"), failure.code.name())
        }
        Post::History { id, events, .. } => {
            format!("history {} {:?}", id.as_deref().unwrap_or("-"), seqs(events))
        }
        Post::Event { event, origin, .. } => {
            format!(
                "event {}{}",
                event.event.seq,
                origin.map_or(String::new(), |origin| format!(" by {origin:?}"))
            )
        }
        Post::Reset { position, .. } => format!("reset {}/{}", position.epoch, position.seq),
    }
}
