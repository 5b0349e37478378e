//! Holds the walls of the house: reads which names the sources use, and fails on one that they may not.
//!
//! Sources are read as words, not compiled: comments, strings and tests are left out, `use` trees are taken apart, `super`
//! is resolved. That finds every path that is written down, which is what a wall is about.
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder of a crate, and what it may name of its own crate and must not name of others.
struct Wall {
    folder: &'static str,
    /// Folders of the same crate. `config` and `metrics` are allowed everywhere.
    may_use: &'static [&'static str],
    /// Crates, or paths in them.
    never: &'static [&'static str],
}

const GRPC: [&str; 3] = ["tonic", "prost", SCHEMA];
/// What does no I/O in an edge does not name what does.
const EDGE_PURE: [&str; 10] =
    ["tokio", "tokio_rustls", "tonic", "prost", SCHEMA, "axum", "hyper", "hyper_util", "std::net", "std::fs"];
/// The schema's types.
const SCHEMA: &str = "hearth_proto::v1";
/// The one module of the wire that speaks the schema. How it becomes bytes is not named there either.
const WIRE_OF_SCHEMA: [&str; 2] = ["wire", "protobuf"];

const CORE: &[Wall] = &[
    Wall {
        folder: "room",
        may_use: &[],
        never: &["tokio", "tokio_rustls", "tonic", "prost", SCHEMA, "std::net", "std::fs", "axum", "hyper"],
    },
    // It waits for nobody: of tokio it may have what others wait by.
    Wall {
        folder: "auth",
        may_use: &["room"],
        never: &[
            "tonic",
            "prost",
            SCHEMA,
            "tokio::time",
            "tokio::net",
            "hyper",
            "hyper_util",
            "rustls",
            "tokio_rustls",
            "std::net",
            "std::fs",
        ],
    },
    Wall { folder: "jwks", may_use: &["room", "auth"], never: &GRPC },
    Wall {
        folder: "engine",
        may_use: &["room", "auth"],
        never: &["tonic", "prost", SCHEMA, "hyper", "rustls", "tokio_rustls"],
    },
    Wall {
        folder: "hub",
        may_use: &["room", "auth", "engine"],
        never: &["tonic", "prost", SCHEMA, "hyper", "rustls", "tokio_rustls"],
    },
    Wall {
        folder: "service",
        may_use: &["room", "auth", "jwks", "engine", "hub"],
        never: &["axum", "hyper", "hyper_util"],
    },
    // How callers are let in is a setting, and where their keys come from, and what holds in a room.
    Wall { folder: "config", may_use: &["auth", "jwks", "room"], never: &GRPC },
    Wall { folder: "metrics", may_use: &[], never: &GRPC },
];

const EDGE: &[Wall] = &[
    Wall { folder: "wire", may_use: &[], never: &EDGE_PURE },
    Wall { folder: "session", may_use: &["wire"], never: &EDGE_PURE },
    Wall {
        folder: "fanout",
        may_use: &["wire", "session"],
        never: &["tonic", "prost", SCHEMA, "axum", "hyper", "hyper_util"],
    },
    Wall { folder: "link", may_use: &["wire", "session", "fanout"], never: &["axum"] },
    Wall { folder: "transport", may_use: &["wire", "session", "fanout", "link"], never: &GRPC },
    Wall { folder: "config", may_use: &[], never: &GRPC },
    // It counts by code and close reason, which are plain words.
    Wall { folder: "metrics", may_use: &["wire"], never: &GRPC },
];

/// What is allowed to everybody: settings, and numbers to count with.
const EVERYWHERE: [&str; 2] = ["config", "metrics"];

#[test]
fn floors_use_lower_floors_only() {
    for (sources, walls) in [("core-service/src", CORE), ("edge-adapter/src", EDGE)] {
        let root = workspace().join(sources);
        let mut seen = Vec::new();
        let mut offences = Vec::new();
        for file in rust_files(&root) {
            let within = file.strip_prefix(&root).unwrap();
            let module = module_of(within);
            let Some(wall) =
                walls.iter().find(|wall| module.first().is_some_and(|first| first == wall.folder))
            else {
                continue;
            };
            seen.push(wall.folder);
            for offence in wall.offences(walls, &module, &fs::read_to_string(&file).unwrap()) {
                offences.push(format!("{sources}/{}: {offence}", within.display()));
            }
        }
        for wall in walls.iter().filter(|wall| !EVERYWHERE.contains(&wall.folder)) {
            assert!(
                seen.contains(&wall.folder),
                "{sources}/{} has gone: is the wall at the right place?",
                wall.folder
            );
        }
        assert!(offences.is_empty(), "forbidden names:\n{}", offences.join("\n"));
    }
}

/// What crosses between core and edge is in `proto/`: neither knows the other.
#[test]
fn core_and_edge_share_the_schema_only() {
    for (manifest, forbidden) in [
        ("core-service", ["hearth-edge", "hearth-bench"].as_slice()),
        ("edge-adapter", &["hearth-core", "hearth-bench"]),
        ("proto", &["hearth-core", "hearth-edge", "hearth-bench"]),
    ] {
        let text = fs::read_to_string(workspace().join(manifest).join("Cargo.toml")).unwrap();
        for name in forbidden {
            assert!(!text.contains(name), "{manifest} depends on {name}");
        }
    }
}

/// `unsafe` has one place, where each use must have its reason.
#[test]
fn unsafe_stands_in_the_fanout_only() {
    let root = workspace();
    let folders = ["proto/src", "core-service/src", "edge-adapter/src", "hearth/src", "bench/src", "tests"];
    let folders = folders.iter().map(|folder| root.join(folder)).filter(|folder| folder.exists());
    for file in folders.flat_map(|folder| rust_files(&folder)) {
        if file.starts_with(root.join("edge-adapter/src/fanout")) {
            continue;
        }
        let words = words(&fs::read_to_string(&file).unwrap());
        assert!(!words.iter().any(|word| word == "unsafe"), "unsafe in {}", file.display());
    }
}

/// A wall that nothing ever hits might be painted on: each forbidden thing is found where it is put.
#[test]
fn what_is_forbidden_is_found() {
    let room = &CORE[0];
    let hub = CORE.iter().find(|wall| wall.folder == "hub").unwrap();
    let wire = &EDGE[0];
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let found: &[(&Wall, &str, &str, &str)] = &[
        (room, "room/log", "use tokio::time::Instant;", "tokio::time::Instant"),
        (room, "room/log", "fn f() { let t = ::tokio::spawn(async {}); }", "tokio::spawn"),
        (room, "room", "use std::{collections::HashMap, net::{IpAddr, SocketAddr}};", "std::net::IpAddr"),
        (room, "room/log", "use hearth_proto::{name, v1::Event};", "hearth_proto::v1::Event"),
        (room, "room/log", "pub(crate) use crate::engine::Engine as Other;", "crate::engine::Engine"),
        (room, "room/log", "use super::super::hub;", "crate::hub"),
        (hub, "hub/rooms", "type A = crate::service::Service;", "crate::service::Service"),
        (hub, "hub/rooms", "impl From<tonic::Status> for E {}", "tonic::Status"),
        (hub, "hub", "use tokio_rustls::TlsAcceptor;", "tokio_rustls::TlsAcceptor"),
        (hub, "hub", "use crate::{config::Config, service::*};", "crate::service::*"),
        (wire, "wire/json", "use tokio_rustls::rustls;", "tokio_rustls::rustls"),
        (wire, "wire/json", "use crate::session;", "crate::session"),
        (wire, "wire/json", "use hearth_proto::v1::Event;", "hearth_proto::v1::Event"),
        (wire, "wire/protobuf/command", "use prost::Message;", "prost::Message"),
        (wire, "wire/json", "fn f(x: &str) -> axum::Error { 'a' }", "axum::Error"),
    ];
    for (wall, path, source, offence) in found {
        let walls = if wall.folder == "wire" { EDGE } else { CORE };
        let offences = wall.offences(walls, &module(path), source);
        assert!(offences.iter().any(|found| found == offence), "{source}: {offences:?}");
    }
    let fine: &[(&Wall, &str, &str)] = &[
        (room, "room/log", "// use tokio::time;\n/* tokio::spawn /* tokio::x */ */ use std::time::Instant;"),
        (room, "room/log", "use super::event::Event; use crate::{config::Config, room::id::RoomName};"),
        (
            room,
            "room/log",
            r##"const A: &str = "tokio::spawn"; const B: &str = r#"tonic::"x"#; const C: char = '"';"##,
        ),
        (room, "room/log", "use hearth_proto::name::BadName; fn tokio() { tokio(); }"),
        (
            room,
            "room/log",
            "#[cfg(test)] mod tests { use tokio::time; mod m { } } #[cfg(test)] use tokio::x;",
        ),
        (
            hub,
            "hub/rooms",
            "use crate::{engine::Engine, metrics::Metrics}; use tokio::sync::Notify; use self::x; ",
        ),
        (hub, "hub/rooms", "fn f<'a>(x: &'a str) -> &'a str { x }"),
        (wire, "wire/protobuf/command", "use hearth_proto::{message, v1::Event};"),
        (hub, "hub/rooms", "fn f() -> impl Send + use<> { if a { b; } else { c } }"),
    ];
    for (wall, path, source) in fine {
        let offences = wall.offences(CORE, &module(path), source);
        assert!(offences.is_empty(), "{source}: {offences:?}");
    }
}

impl Wall {
    fn offences(&self, walls: &[Wall], module: &[String], source: &str) -> Vec<String> {
        let is_wrong = |path: &String| {
            let within = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}::"));
            let own = |folder: &str| within(&format!("crate::{folder}"));
            let neighbour = walls.iter().find(|wall| own(wall.folder)).map(|wall| wall.folder);
            let trespasses = neighbour.is_some_and(|folder| {
                folder != self.folder && !self.may_use.contains(&folder) && !EVERYWHERE.contains(&folder)
            });
            let may = |name: &str| name == SCHEMA && module.starts_with(&WIRE_OF_SCHEMA.map(str::to_owned));
            trespasses || self.never.iter().any(|never| within(never) && !may(never))
        };
        paths(&words(source), module).into_iter().filter(is_wrong).collect()
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// All sources below a folder, tests left out.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !["tests", "node_modules", "target"].contains(&stem) {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && !["tests", "testing"].contains(&stem)
        {
            files.push(path);
        }
    }
    files
}

/// `hub/rooms.rs` is `hub::rooms`, `hub/mod.rs` is `hub`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// A source's words: names, `::`, and single signs. No comments, strings, characters, lifetimes; no tests.
fn words(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let at = |n: usize| chars.get(n).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut words: Vec<String> = Vec::new();
    let mut n = 0;
    while n < chars.len() {
        match (at(n), at(n + 1)) {
            ('/', '/') => n += chars[n..].iter().take_while(|c| **c != '\n').count(),
            ('/', '*') => n = end_of_comment(&chars, n),
            ('"', _) => n = end_of_string(&chars, n),
            ('\'', _) if at(n + 1) == '\\' => {
                n += 3;
                n += chars[n.min(chars.len())..].iter().take_while(|c| **c != '\'').count() + 1;
            }
            ('\'', _) if at(n + 2) == '\'' => n += 3,
            // A lifetime: its name is no name of anything else.
            ('\'', _) => n += 1 + chars[n + 1..].iter().take_while(|c| is_name(**c)).count(),
            ('r', '#' | '"') if raw_string(&chars, n).is_some() => n = raw_string(&chars, n).unwrap(),
            (':', ':') => {
                words.push("::".to_owned());
                n += 2;
            }
            (c, _) if is_name(c) => {
                let word: String = chars[n..].iter().take_while(|c| is_name(**c)).collect();
                n += word.chars().count();
                words.push(word);
            }
            (c, _) => {
                if !c.is_whitespace() {
                    words.push(c.to_string());
                }
                n += 1;
            }
        }
    }
    without_tests(&words)
}

fn end_of_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0usize;
    let mut n = start;
    while n < chars.len() {
        match (chars[n], chars.get(n + 1)) {
            ('/', Some('*')) => (depth, n) = (depth + 1, n + 2),
            ('*', Some('/')) => (depth, n) = (depth - 1, n + 2),
            _ => n += 1,
        }
        if depth == 0 {
            break;
        }
    }
    n
}

fn end_of_string(chars: &[char], start: usize) -> usize {
    let mut n = start + 1;
    while n < chars.len() && chars[n] != '"' {
        n += if chars[n] == '\\' { 2 } else { 1 };
    }
    n + 1
}

fn raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"')
        || start > 0 && chars[start - 1].is_alphanumeric() && chars[start - 1] != 'b'
    {
        return None;
    }
    let closing: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let rest: String = chars[open + 1..].iter().collect();
    let end = rest.find(&closing)?;
    Some(open + 1 + rest[..end].chars().count() + closing.len())
}

/// Leaves out what stands behind `#[cfg(test)]`: one item, to its `;` or its closing brace.
fn without_tests(words: &[String]) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut n = 0;
    while n < words.len() {
        if !words[n..].iter().map(String::as_str).take(mark.len()).eq(mark) {
            kept.push(words[n].clone());
            n += 1;
            continue;
        }
        n += mark.len();
        let mut depth = 0usize;
        while n < words.len() {
            match words[n].as_str() {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            n += 1;
            if depth == 0 && [";", "}"].contains(&words[n - 1].as_str()) {
                break;
            }
        }
    }
    kept
}

/// All paths of two or more parts that stand in the words, and all that `use` names, from the root.
fn paths(words: &[String], module: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut n = 0;
    while n < words.len() {
        // `use<…>` in a type says what it captures, and names nothing.
        if words[n] == "use" && words.get(n + 1).is_none_or(|next| next != "<") {
            let mut prefix = Vec::new();
            n = use_tree(words, n + 1, &mut prefix, &mut found);
        } else if is_name(&words[n]) {
            let mut path = vec![words[n].clone()];
            n += 1;
            while n + 1 < words.len() && words[n] == "::" && is_name(&words[n + 1]) {
                path.push(words[n + 1].clone());
                n += 2;
            }
            if path.len() > 1 {
                found.push(path);
            }
        } else {
            n += 1;
        }
    }
    found.into_iter().map(|path| from_the_root(path, module).join("::")).collect()
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// One branch of a `use` tree; where it ends.
fn use_tree(words: &[String], mut n: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    let mut whole = true;
    while n < words.len() {
        match words[n].as_str() {
            "::" => n += 1,
            "{" => {
                whole = false;
                n += 1;
                while n < words.len() && words[n] != "}" {
                    n = use_tree(words, n, prefix, found);
                    if words.get(n).is_some_and(|word| word == ",") {
                        n += 1;
                    }
                }
                n += 1;
            }
            "as" => n += 2,
            "," | "}" | ";" => break,
            part => {
                prefix.push(part.to_owned());
                n += 1;
            }
        }
    }
    if whole && prefix.len() > depth {
        found.push(prefix.clone());
    }
    prefix.truncate(depth);
    n
}

/// `self` and `super` are resolved to `crate`.
fn from_the_root(path: Vec<String>, module: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = path.into_iter().peekable();
    let mut relative = false;
    while let Some(word) = rest.next_if(|word| word == "self" || word == "super") {
        relative = true;
        if word == "super" {
            base.pop();
        }
    }
    let head = if relative { std::iter::once("crate".to_owned()).chain(base).collect() } else { Vec::new() };
    head.into_iter().chain(rest).collect()
}
