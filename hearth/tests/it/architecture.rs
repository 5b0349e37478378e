//! The walls of the house, read from the sources: what a folder may not name. See ARCHITECTURE.md.
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder, and words that must not stand in its code (comments and tests aside).
const WALLS: [(&str, &[&str]); 9] = [
    (
        "core-service/src/room",
        &["tokio", "tonic", "prost", "v1::", "crate::engine", "crate::hub", "crate::service"],
    ),
    ("core-service/src/engine", &["tonic", "prost::", "v1::", "crate::hub", "crate::service"]),
    ("core-service/src/hub", &["tonic", "prost::", "v1::", "crate::service"]),
    (
        "edge-adapter/src/wire",
        &["tokio::", "tonic", "prost::", "axum", "hyper", "crate::session", "crate::fanout", "crate::link"],
    ),
    (
        "edge-adapter/src/session",
        &["tokio::", "tonic", "prost::", "axum", "hyper", "use crate::fanout", "crate::link"],
    ),
    ("edge-adapter/src/fanout", &["tonic", "v1::", "axum", "hyper", "crate::link", "crate::transport"]),
    ("edge-adapter/src/link", &["axum", "hyper", "crate::transport"]),
    ("edge-adapter/src", &["hearth_core", "unsafe "]),
    ("core-service/src", &["hearth_edge", "unsafe "]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The lines of code before the unit tests that name one of these words.
fn breaches(code: &str, words: &[&str]) -> Vec<String> {
    let shipped = code.lines().take_while(|line| !line.contains("#[cfg(test)]"));
    let lines = shipped.filter(|line| !line.trim_start().starts_with("//"));
    lines.filter(|line| words.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
}

#[test]
fn no_folder_names_what_it_must_not() {
    for (folder, words) in WALLS {
        let mut files = Vec::new();
        sources(&root().join(folder), &mut files);
        assert!(!files.is_empty(), "{folder} has gone: mend this table");
        for file in files.iter().filter(|file| !file.ends_with("tests.rs") && !file.ends_with("testing.rs")) {
            let found = breaches(&fs::read_to_string(file).unwrap(), words);
            assert!(found.is_empty(), "{} names what it must not: {found:#?}", file.display());
        }
    }
}

#[test]
fn a_forbidden_import_would_be_found() {
    assert_eq!(breaches("// tokio\nuse tokio::net;\n", &["tokio"]), ["use tokio::net;"]);
    assert!(breaches("use std::time;\n#[cfg(test)]\nmod tests { use tokio::net; }\n", &["tokio"]).is_empty());
}
