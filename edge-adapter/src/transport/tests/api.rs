//! The descriptions and the code say the same.
use crate::config::Config;
use crate::transport::testing::{Answer, Edge, config};
use crate::transport::{asked, long_poll, routes};
use crate::wire::command::{self, LIMIT_DEFAULT, LIMIT_MAX};
use crate::wire::event::Code;
use hearth_proto::name::{ID_MAX, ROOM_MAX, USER_MAX};
use serde_json::Value;
use std::collections::BTreeSet;

const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "trace"];

async fn document(edge: &Edge, path: &str) -> Value {
    let answer = edge.ask(&format!("GET {path} HTTP/1.1"), &[]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    serde_json::from_str(&answer.body).unwrap()
}

fn names(members: &Value) -> BTreeSet<&str> {
    members.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The words that some source gives between `start` and `end`: what is matched, or what it is turned into.
fn words<'a>(
    source: &'a str,
    start: &str,
    end: &str,
    cut: impl Fn(&'a str) -> Option<&'a str>,
) -> BTreeSet<&'a str> {
    let part = source.split_once(start).unwrap().1;
    part.split_once(end).unwrap().0.lines().filter_map(|line| cut(line.trim())).collect()
}

/// Both ways: no route goes undescribed, and nothing is described that there is not.
#[tokio::test]
async fn what_is_described_is_what_there_is() {
    let edge = Edge::start(config()).await;
    let openapi = document(&edge, "/openapi.json").await;
    let asyncapi = document(&edge, "/asyncapi.json").await;
    let paths: Vec<String> =
        routes(&edge.doors()).into_iter().map(|(path, _)| path.replace("{*room}", "{room}")).collect();
    let (sockets, paths): (BTreeSet<&str>, BTreeSet<&str>) =
        paths.iter().map(String::as_str).partition(|path| path.starts_with("/ws"));
    assert_eq!(names(&openapi["paths"]), paths);
    // An empty name is no address of its own.
    let sockets: BTreeSet<&str> = sockets.into_iter().map(|path| path.trim_end_matches('/')).collect();
    let channels = asyncapi["channels"].as_object().unwrap().values();
    assert_eq!(
        channels.map(|channel| channel["address"].as_str().unwrap()).collect::<BTreeSet<_>>(),
        sockets
    );
    for path in paths {
        let described = names(&openapi["paths"][path]);
        for method in METHODS {
            let line = format!("{} {} HTTP/1.1", method.to_uppercase(), path.replace("{room}", "large"));
            let answer: Answer = edge.ask(&line, &[]).await;
            assert_eq!(answer.status != 405, described.contains(method), "{line}: {answer:?}");
            if answer.status == 405 {
                let allow =
                    answer.header("allow").unwrap_or_else(|| panic!("{line}: {answer:?}")).to_lowercase();
                let allowed: BTreeSet<&str> =
                    allow.split(',').map(str::trim).filter(|method| *method != "head").collect();
                assert_eq!(allowed, described, "{line}");
            }
        }
    }
}

/// Bounds are written twice, since attributes take no constants.
#[tokio::test]
async fn described_bounds_are_those_of_the_code() {
    let edge = Edge::start(config()).await;
    let openapi = document(&edge, "/openapi.json").await;
    let asyncapi = document(&edge, "/asyncapi.json").await;
    let parameter = |path: &str, name: &str, place: &str| {
        let all = openapi["paths"][path]["get"]["parameters"].as_array().unwrap();
        let found = all.iter().find(|parameter| parameter["name"] == name && parameter["in"] == place);
        found.unwrap_or_else(|| panic!("{name} of {path}"))["schema"].clone()
    };
    let (limits, times) = (long_poll::LIMIT, long_poll::TIMEOUT);
    for path in ["/poll", "/poll/{room}"] {
        let limit = parameter(path, "limit", "query");
        assert_eq!([&limit["minimum"], &limit["maximum"], &limit["default"]], [1, limits.0, limits.1]);
        let timeout = parameter(path, "timeout", "query");
        assert_eq!([&timeout["minimum"], &timeout["maximum"], &timeout["default"]], [0, times.1, times.0]);
    }
    for door in ["/poll", "/events"] {
        assert_eq!(parameter(door, "room", "query")["maxItems"], asked::ROOMS_MAX);
        assert_eq!(parameter(&format!("{door}/{{room}}"), "room", "query")["maxItems"], asked::ROOMS_MAX - 1);
    }
    let schemas = &asyncapi["components"]["schemas"];
    let range = &schemas["Range"]["properties"]["limit"];
    for limit in [range, &parameter("/rooms/{room}/messages", "limit", "query")] {
        assert_eq!([&limit["minimum"], &limit["maximum"], &limit["default"]], [1, LIMIT_MAX, LIMIT_DEFAULT]);
    }
    assert_eq!(schemas["Join"]["properties"]["history"]["maximum"], LIMIT_MAX);
    for (name, max) in [("Room", ROOM_MAX), ("User", USER_MAX), ("Id", ID_MAX)] {
        assert_eq!(schemas[name]["maxLength"], max, "{name}");
    }
    assert!(openapi["components"]["schemas"]["Present"]["properties"]["online"]["maxItems"] == 1000);
}

/// What a client may say stands in it, in words that are read as they are meant.
#[tokio::test]
async fn every_command_is_described() {
    let edge = Edge::start(config()).await;
    let asyncapi = document(&edge, "/asyncapi.json").await;
    // What the parser matches a type with. A service's own stands with what is told.
    let source = include_str!("../../wire/command.rs");
    let known = words(source, "fn action(", "\n    }\n", |line| {
        let (word, rest) = line.strip_prefix('"')?.split_once('"')?;
        rest.trim_start().starts_with("=>").then_some(word)
    });
    assert!(known.len() >= 10 && known.contains("text") && known.contains("system"), "{known:?}");
    let received = asyncapi["operations"]["receiveFromSession"]["messages"].as_array().unwrap();
    let mut described = BTreeSet::from(["system".to_owned()]);
    for reference in received {
        let title = reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        let message = &asyncapi["components"]["messages"][title];
        if message["contentType"] == "application/protobuf" {
            assert_eq!(title, "ConnectRequest");
            continue;
        }
        let name = message["name"].as_str().unwrap();
        let example = &message["examples"][0]["payload"];
        assert_eq!(example["type"], *name);
        assert_eq!(asyncapi["components"]["schemas"][title]["properties"]["type"]["enum"][0], *name);
        match command::parse(&example.to_string()) {
            Ok(_) => {}
            Err(rejected) => {
                assert_eq!(rejected.failure.code, Code::Unimplemented, "{example}: {rejected:?}")
            }
        }
        described.insert(name.to_owned());
    }
    assert_eq!(described.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

/// Every way to close, but the one that is told nobody, and every word for what went wrong.
#[tokio::test]
async fn every_close_code_and_every_failure_is_described() {
    let edge = Edge::start(config()).await;
    let asyncapi = document(&edge, "/asyncapi.json").await;
    let between = |line: &'static str| line.split_once("=> ").map(|(_, right)| right.trim_end_matches(','));
    let mut known = words(include_str!("../../wire/close.rs"), "fn code_and_word", "\n    }\n", between);
    known.remove("match self {");
    assert!(known.remove(r#"(1006, "vanished")"#) && known.len() >= 15, "{known:?}");
    for channel in asyncapi["channels"].as_object().unwrap().values() {
        let closes = channel["x-close-codes"].as_array().unwrap();
        let described: BTreeSet<String> =
            closes.iter().map(|close| format!("({}, {})", close["code"], close["reason"])).collect();
        assert_eq!(described.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
    }
    let known = words(include_str!("../../wire/event.rs"), "impl Code", "\n}\n", |line| {
        between(line).map(|word| word.trim_matches('"'))
    });
    let codes = asyncapi["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    assert_eq!(codes.iter().map(|code| code.as_str().unwrap()).collect::<BTreeSet<_>>(), known);
}

/// Who writes a program need not be let in for a playground, nor have a page here.
#[tokio::test]
async fn descriptions_are_there_for_all_who_may_connect() {
    let listed =
        Config { playground: Some(false), allowed_origins: vec!["https://app.test".into()], ..config() };
    let edge = Edge::start(listed).await;
    for path in ["/openapi.json", "/asyncapi.json"] {
        for (origin, named) in [("https://app.test", Some("https://app.test")), ("https://evil.test", None)] {
            let answer = edge.ask(&format!("GET {path} HTTP/1.1"), &[&format!("Origin: {origin}")]).await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, named));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("cache-control"), Some("no-cache"));
        }
    }
}
