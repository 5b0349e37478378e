//! A service's side: typed calls, and a `Connect` stream as a session with questions and answers.
use crate::{PATIENCE, within};
use hearth_proto::v1::{
    Ack, ConnectRequest, ConnectResponse, Event, EventKind, Join, Joined, ListMessagesRequest,
    ListPresenceRequest, ListRoomsRequest, Payload, Position, PresenceUser, Publish, PublishRequest, Room,
    TrackEnter, TrackLeave, TrackRequest, TrackResponse, WatchRequest, WatchResponse, Welcome,
    connect_request::Command, connect_response::Frame, payload::Data,
    presence_service_client::PresenceServiceClient, room_service_client::RoomServiceClient, track_request,
    track_response, watch_response,
};
use std::{collections::VecDeque, net::SocketAddr};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel, transport::Endpoint};

/// How many commands wait for the stream: more than any test sends at once.
const COMMANDS: usize = 1024;

/// A channel to a core.
pub async fn channel(grpc: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).expect("an address makes a URL");
    within("a gRPC connection", endpoint.connect()).await.unwrap_or_else(|error| panic!("{grpc}: {error}"))
}

/// A core's rooms.
pub async fn rooms(grpc: SocketAddr) -> RoomServiceClient<Channel> {
    RoomServiceClient::new(channel(grpc).await)
}

/// A JSON payload.
pub fn json(text: &str) -> Option<Payload> {
    Some(Payload { data: Some(Data::Json(text.to_owned())) })
}

/// A payload's JSON.
pub fn text_of(event: &Event) -> &str {
    match event.payload.as_ref().and_then(|payload| payload.data.as_ref()) {
        Some(Data::Json(text)) => text,
        other => panic!("no JSON: {other:?}"),
    }
}

/// Publishes `{"n": n}` for `user` and gives the position.
pub async fn publish(rooms: &mut RoomServiceClient<Channel>, room: &str, n: u64) -> Position {
    let payload = json(&format!(r#"{{"n":{n}}}"#));
    let request = PublishRequest { room: room.to_owned(), payload, ..Default::default() };
    let answer = within("an answer to Publish", rooms.publish(request)).await.unwrap().into_inner();
    answer.position.expect("a text has a position")
}

/// All of a room's history, ascending.
pub async fn history(rooms: &mut RoomServiceClient<Channel>, room: &str) -> Vec<Event> {
    let request = ListMessagesRequest { room: room.to_owned(), limit: Some(1000), ..Default::default() };
    within("an answer to ListMessages", rooms.list_messages(request)).await.unwrap().into_inner().messages
}

/// What a core knows of a room, if it knows it.
pub async fn room(rooms: &mut RoomServiceClient<Channel>, name: &str) -> Option<Room> {
    let request = ListRoomsRequest { prefix: name.to_owned(), ..Default::default() };
    let listed =
        within("an answer to ListRooms", rooms.list_rooms(request)).await.unwrap().into_inner().rooms;
    listed.into_iter().find(|room| room.name == name)
}

/// How many sessions a core has in a room.
pub async fn sessions(rooms: &mut RoomServiceClient<Channel>, name: &str) -> u64 {
    room(rooms, name).await.map_or(0, |room| room.sessions)
}

/// A core's presence.
pub async fn presence(grpc: SocketAddr) -> PresenceServiceClient<Channel> {
    PresenceServiceClient::new(channel(grpc).await)
}

/// All who are online in a room, in order of their names.
pub async fn online(presence: &mut PresenceServiceClient<Channel>, room: &str) -> Vec<PresenceUser> {
    let mut online: Vec<PresenceUser> = Vec::new();
    let mut request = ListPresenceRequest { room: room.to_owned(), ..Default::default() };
    loop {
        let asked = presence.list_presence(request.clone());
        let page = within("an answer to ListPresence", asked).await.unwrap().into_inner();
        online.extend(page.online);
        if page.next_page_token.is_empty() {
            assert!(online.is_sorted_by(|one, next| one.user < next.user), "each once, by name: {online:?}");
            assert_eq!(page.count, online.len() as u64, "as many as it says: {online:?}");
            return online;
        }
        request.page_token = page.next_page_token;
    }
}

/// Only the names of those who are online in a room.
pub async fn users(presence: &mut PresenceServiceClient<Channel>, room: &str) -> Vec<String> {
    online(presence, room).await.into_iter().map(|user| user.user).collect()
}

/// A request in the name of a user.
pub fn as_user<T>(user: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("user", user.parse().expect("a plain name"));
    request
}

/// One `Connect` stream.
pub struct Session {
    commands: mpsc::Sender<ConnectRequest>,
    responses: Streaming<ConnectResponse>,
    inbox: VecDeque<ConnectResponse>,
    /// The first frame.
    pub welcome: Welcome,
    /// Whether presence is heard. Stories about other things are told without it.
    pub presence: bool,
}

impl Session {
    /// Connects as a user.
    pub async fn connect(grpc: SocketAddr, user: &str) -> Session {
        let mut rooms = rooms(grpc).await;
        let (commands, stream) = mpsc::channel(COMMANDS);
        let request = as_user(user, ReceiverStream::new(stream));
        let responses = within("an answer to Connect", rooms.connect(request)).await.unwrap().into_inner();
        let mut session = Session {
            commands,
            responses,
            inbox: VecDeque::new(),
            welcome: Welcome::default(),
            presence: false,
        };
        match session.next().await {
            Frame::Welcome(welcome) => session.welcome = welcome,
            other => panic!("{other:?} instead of welcome"),
        }
        session
    }

    /// Sends a command.
    pub async fn send(&self, id: &str, command: Command) {
        let request = ConnectRequest { id: id.to_owned(), command: Some(command) };
        within("room to send", self.commands.send(request)).await.expect("the stream is open");
    }

    /// Sends whatever it is.
    pub async fn send_request(&self, request: ConnectRequest) {
        within("room to send", self.commands.send(request)).await.expect("the stream is open");
    }

    /// The same where the server may have ended the stream.
    pub async fn try_send(&self, request: ConnectRequest) {
        let _ = within("room to send", self.commands.send(request)).await;
    }

    /// What comes next: a response, the stream's orderly end, or its status.
    pub async fn receive(&mut self) -> Result<Option<ConnectResponse>, Status> {
        if let Some(response) = self.inbox.pop_front() {
            return Ok(Some(response));
        }
        loop {
            match timeout(PATIENCE, self.responses.message()).await {
                Ok(Ok(Some(ConnectResponse { frame: Some(Frame::Presence(_)), .. }))) if !self.presence => {}
                Ok(outcome) => return outcome,
                Err(_) => panic!("{}: nothing came within {PATIENCE:?}", self.welcome.user),
            }
        }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Frame {
        self.receive().await.unwrap().expect("the stream goes on").frame.expect("a response has a frame")
    }

    /// The answer to a command: what comes before it stays to be read.
    pub async fn answer(&mut self, id: &str) -> Frame {
        let mut before = VecDeque::new();
        loop {
            let response = self.receive().await.unwrap().expect("the stream goes on");
            if response.id == id && !matches!(response.frame, Some(Frame::Event(_))) {
                before.append(&mut self.inbox);
                self.inbox = before;
                return response.frame.expect("a response has a frame");
            }
            before.push_back(response);
        }
    }

    /// Joins a room.
    pub async fn join(&mut self, room: &str, since: Option<Position>) -> Joined {
        let join = Join { room: room.to_owned(), since, ..Default::default() };
        self.send("join", Command::Join(join)).await;
        match self.answer("join").await {
            Frame::Joined(joined) => joined,
            other => panic!("{other:?} instead of joined"),
        }
    }

    /// Publishes a text and gives its ack.
    pub async fn publish(&mut self, room: &str, id: &str, json_text: &str) -> Ack {
        self.send(id, text(room, json_text)).await;
        match self.answer(id).await {
            Frame::Ack(ack) => ack,
            other => panic!("{other:?} instead of an ack"),
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Event {
        match self.next().await {
            Frame::Event(event) => event,
            other => panic!("{other:?} instead of an event"),
        }
    }

    /// Ends its side, and awaits the server's.
    pub async fn finish(mut self) {
        drop(self.commands);
        while let Some(_passing) = within("the end of Connect", self.responses.message()).await.unwrap() {}
    }
}

/// A command that publishes a text.
pub fn text(room: &str, json_text: &str) -> Command {
    of_kind(room, EventKind::Text, json_text)
}

/// A command that publishes.
pub fn of_kind(room: &str, kind: EventKind, json_text: &str) -> Command {
    Command::Publish(Publish {
        room: room.to_owned(),
        kind: kind.into(),
        payload: json(json_text),
        ..Default::default()
    })
}

/// One `Watch` stream.
pub struct Watch {
    responses: Streaming<WatchResponse>,
}

impl Watch {
    /// Follows a room, and gives the first `joined` too.
    pub async fn start(grpc: SocketAddr, room: &str, since: Option<Position>) -> (Watch, Joined) {
        let request = WatchRequest { room: room.to_owned(), since, ..Default::default() };
        let mut rooms = rooms(grpc).await;
        let responses = within("an answer to Watch", rooms.watch(request)).await.unwrap().into_inner();
        let mut watch = Watch { responses };
        match watch.next().await {
            watch_response::Frame::Joined(joined) => (watch, joined),
            other => panic!("{other:?} instead of joined"),
        }
    }

    /// What comes next.
    pub async fn receive(&mut self) -> Result<Option<WatchResponse>, Status> {
        within("what is watched", self.responses.message()).await
    }

    /// The next frame.
    pub async fn next(&mut self) -> watch_response::Frame {
        self.receive().await.unwrap().expect("the stream goes on").frame.expect("a response has a frame")
    }

    /// The next event.
    pub async fn event(&mut self) -> Event {
        match self.next().await {
            watch_response::Frame::Event(event) => event,
            other => panic!("{other:?} instead of an event"),
        }
    }
}

/// One `Track` stream.
pub struct Track {
    commands: mpsc::Sender<TrackRequest>,
    responses: Streaming<TrackResponse>,
    inbox: VecDeque<TrackResponse>,
    asked: u64,
}

impl Track {
    /// Begins as a user, who keeps nobody online yet.
    pub async fn start(grpc: SocketAddr, user: &str) -> Track {
        let mut presence = presence(grpc).await;
        let (commands, stream) = mpsc::channel(COMMANDS);
        let request = as_user(user, ReceiverStream::new(stream));
        let responses = within("an answer to Track", presence.track(request)).await.unwrap().into_inner();
        Track { commands, responses, inbox: VecDeque::new(), asked: 0 }
    }

    /// Sends a command and gives its answer: what comes before it stays to be read.
    pub async fn ask(&mut self, command: track_request::Command) -> track_response::Frame {
        self.asked += 1;
        let id = format!("t{}", self.asked);
        self.send(TrackRequest { id: id.clone(), command: Some(command) }).await;
        loop {
            let response = self.read().await;
            if response.id == id {
                return response.frame.expect("a response has a frame");
            }
            self.inbox.push_back(response);
        }
    }

    /// Sends whatever it is.
    pub async fn send(&self, request: TrackRequest) {
        within("room to send", self.commands.send(request)).await.expect("the stream is open");
    }

    /// What comes next.
    pub async fn next(&mut self) -> TrackResponse {
        match self.inbox.pop_front() {
            Some(response) => response,
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> TrackResponse {
        within("what is tracked", self.responses.message()).await.unwrap().expect("the stream goes on")
    }

    /// Keeps a user online in a room.
    pub async fn enter(&mut self, room: &str, user: &str, meta: Option<&str>) {
        let (room, meta) = (room.to_owned(), meta.map(str::to_owned));
        let enter = TrackEnter { room: room.clone(), user: user.to_owned(), meta };
        match self.ask(track_request::Command::Enter(enter)).await {
            track_response::Frame::Ack(ack) => assert_eq!(ack.room, room),
            other => panic!("{other:?} instead of an ack"),
        }
    }

    /// Keeps a user online in a room no longer.
    pub async fn leave(&mut self, room: &str, user: &str) {
        let leave = TrackLeave { room: room.to_owned(), user: user.to_owned() };
        match self.ask(track_request::Command::Leave(leave)).await {
            track_response::Frame::Ack(ack) => assert_eq!(ack.room, room),
            other => panic!("{other:?} instead of an ack"),
        }
    }

    /// Ends its side, and awaits the server's.
    pub async fn finish(mut self) {
        drop(self.commands);
        while let Some(_passing) = within("the end of Track", self.responses.message()).await.unwrap() {}
    }
}
