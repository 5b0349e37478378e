//! What is taken from flags, environment and file, and what is refused.
use super::Hearth;
use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};
use tokio_tungstenite::connect_async;

/// Runs to the end in a folder of its own, with this `hearth.toml`.
fn run(name: &str, file: &str, environment: &[(&str, &str)], args: &[&str]) -> Output {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("hearth.toml"), file).unwrap();
    Command::new(env!("CARGO_BIN_EXE_hearth"))
        .current_dir(folder)
        .envs(environment.iter().copied())
        .args(args)
        .output()
        .unwrap()
}

/// What is in force for a setting, and where that comes from.
fn in_force(output: &Output, setting: &str) -> (String, String) {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(setting));
    let mut words = line.unwrap_or_else(|| panic!("no {setting} in:\n{text}")).split_whitespace().skip(1);
    (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
}

fn says(output: &Output, expected: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
}

/// What a namespace has of its own is told; what cannot hold together is refused.
#[test]
fn namespaces_are_checked_and_told() {
    let file = "[namespaces.chat]\nhistory-size = 7\nallow = [\"history\", \"join\"]\n[namespaces.\"~\"]\nhistory-ttl = \"7days\"\n";
    let output = run("namespaces", file, &[], &["check-config"]);
    assert_eq!(in_force(&output, "namespaces.chat.history-size"), ("7".into(), "file".into()));
    assert_eq!(in_force(&output, "namespaces.chat.allow"), ("join,history".into(), "file".into()));
    assert_eq!(in_force(&output, "namespaces.~.history-ttl"), ("7days".into(), "file".into()));
    let file = "max-message-bytes = 100\n[namespaces.chat]\nmax-message-bytes = 101";
    for command in ["check-config", "core"] {
        let output = run("namespaces-too-large", file, &[], &[command]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        says(&output, "namespaces.chat: max-message-bytes may be at most --max-message-bytes, 100");
    }
}

/// A deployment checks its file before it restarts anything: what any role refuses must not pass.
#[test]
fn a_check_refuses_what_a_role_refuses() {
    let rows = [
        ("metrics = \"garbage\"", "core", "'garbage' for '--metrics <ADDR>': invalid socket address syntax"),
        ("core = \"nonsense\"", "edge", "it must look like http://host:port"),
        ("core = [\"http://a:1\", \"b\"]", "edge", "it must look like http://host:port"),
        ("heartbeat = \"0s\"", "edge", "'0s' for '--heartbeat <TIME>': it must be at least 100ms"),
        ("history-ttl = \"0s\"", "core", "it must be at least 1ms"),
        ("presence-timeout = \"0s\"", "core", "it must be at least 100ms"),
        ("session-queue-bytes = 65535", "serve", "it must be at least 65536 bytes"),
        ("max-message-bytes = 16777217", "serve", "it must be at most 16777216 bytes"),
        ("max-message-bytes = 0", "serve", "it must be at least 1 bytes"),
        ("playground = \"maybe\"", "edge", "it must be on or off"),
        ("no-such = 1", "core", "there is no setting `no-such`"),
        ("namespaces = 1", "core", "`namespaces` must hold a table for each namespace"),
        ("[namespaces]\nchat = 1", "core", "namespaces.chat: it must be a table"),
        ("[namespaces.\"a b\"]", "core", "namespaces.a b: no room can be in a namespace of this name"),
        ("[namespaces.chat]\nheartbeat = \"1s\"", "core", "namespaces.chat: there is no `heartbeat` here"),
        ("[namespaces.chat]\nhistory-ttl = \"0s\"", "core", "namespaces.chat: invalid value '0s'"),
        ("[namespaces.chat]\nallow = [\"fly\"]", "serve", "fly is none of join, publish"),
    ];
    for (file, role, expected) in rows {
        for command in ["check-config", role] {
            let output = run("refuses", file, &[], &[command]);
            assert_eq!(output.status.code(), Some(2), "{command} with {file}: {output:?}");
            says(&output, expected);
            says(&output, "hearth.toml");
        }
    }
    for (name, value) in
        [("HEARTH_METRICS", "garbage"), ("HEARTH_CORE", "nonsense"), ("HEARTH_HEARTBEAT", "0s")]
    {
        let output = run("refuses", "", &[(name, value)], &["check-config"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        says(&output, &format!("`{name}` is set in the environment"));
    }
}

#[test]
fn a_check_shows_the_settings_of_every_role() {
    let file =
        "core = [\"http://a:1\", \"http://b:2\"]\nmetrics = \"127.0.0.1:9\"\nsession-queue-bytes = 65536";
    let output =
        run("shows", file, &[("HEARTH_PRESENCE_MAX", "7")], &["check-config", "--max-meta-bytes", "9"]);
    for (setting, value, source) in [
        ("core", "http://a:1,http://b:2", "file"),
        ("metrics", "127.0.0.1:9", "file"),
        ("session-queue-bytes", "65536", "file"),
        ("presence-max", "7", "environment"),
        ("max-meta-bytes", "9", "flag"),
        ("presence-timeout", "30s", "default"),
        ("max-connections", "-", "default"),
    ] {
        assert_eq!(in_force(&output, setting), (value.to_owned(), source.to_owned()), "{setting}");
    }
}

/// A container's environment says 1 where a person says on.
#[test]
fn switches_take_the_usual_words() {
    let open = ["check-config", "--grpc", "0.0.0.0:1"];
    for yes in ["1", "true", "on", "yes"] {
        assert!(run("switches", "", &[("HEARTH_INSECURE", yes)], &open).status.success(), "{yes}");
        let file = format!("reflection = \"{yes}\"\ninsecure = true");
        assert!(run("switches", &file, &[("HEARTH_PLAYGROUND", yes)], &open).status.success(), "{yes}");
    }
    for no in ["0", "false", "off", "no"] {
        let output = run("switches", "", &[("HEARTH_INSECURE", no)], &open);
        assert_eq!(output.status.code(), Some(1), "{no}");
        says(&output, "--insecure");
    }
    let output = run("switches", "", &[("HEARTH_INSECURE", "maybe")], &open);
    assert_eq!(output.status.code(), Some(2));
    says(&output, "`HEARTH_INSECURE` is set in the environment");
}

/// The soft limit is low in many places: a core's services and edges would soon have used it up.
#[cfg(target_os = "linux")]
#[test]
fn every_role_raises_the_limit_on_open_files() {
    let roles: [&[&str]; 3] = [
        &["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"],
        &["core", "--grpc", "127.0.0.1:0"],
        &["edge", "--http", "127.0.0.1:0", "--core", "http://127.0.0.1:9"],
    ];
    for role in roles {
        let hearth = Hearth::start_within("ulimit -Sn 256", role);
        let limits = fs::read_to_string(format!("/proc/{}/limits", hearth.process.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut figures = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        let (soft, hard) = (figures.next().unwrap(), figures.next().unwrap());
        assert_eq!(soft, hard, "{role:?}: {line}");
    }
}

/// How many of these browsers an edge with 300 open files takes.
async fn taken_of(browsers: usize, flags: &[&str]) -> usize {
    let args = [&["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], flags].concat();
    let hearth = Hearth::start_within("ulimit -n 300", &args);
    let url = format!("ws://{}/ws?user=ann", hearth.http);
    let mut taken = Vec::new();
    for _ in 0..browsers {
        taken.extend(connect_async(&url).await.ok());
    }
    taken.len()
}

/// Unless something is said, an edge takes what its files bear and leaves some for the rest; 0 takes the limit away.
#[tokio::test]
async fn no_limit_on_connections_is_not_the_default() {
    assert_eq!(taken_of(60, &[]).await, 44);
    assert_eq!(taken_of(60, &["--max-connections", "0"]).await, 60);
    assert_eq!(taken_of(60, &["--max-connections", "50"]).await, 50);
}
