//! `[namespaces.chat]` in `hearth.toml`: what is otherwise in the rooms of a namespace. The same keys as flags, checked by the same parsers.
use super::{
    CoreSettings, HISTORY_TTL_MIN, Limits, MESSAGE_MAX, PRESENCE_TIMEOUT_MIN,
    values::{LONGEST, acts, as_flag, bytes, duration},
};
use clap::{CommandFactory, Parser};
use hearth_core::{
    auth::grant::Acts,
    config::Namespace,
    room::{id::RoomName, log::Retention, presence::Rules},
};
use std::{collections::BTreeMap, time::Duration};

/// What is otherwise in the rooms of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
pub struct NamespaceSettings {
    #[arg(long)]
    history_size: Option<usize>,
    #[arg(long, value_parser = duration(HISTORY_TTL_MIN..=LONGEST))]
    history_ttl: Option<Duration>,
    #[arg(long, value_parser = duration(Duration::ZERO..=LONGEST))]
    dedupe_window: Option<Duration>,
    #[arg(long)]
    dedupe_max: Option<usize>,
    #[arg(long, value_parser = duration(PRESENCE_TIMEOUT_MIN..=LONGEST))]
    presence_timeout: Option<Duration>,
    #[arg(long)]
    presence_max: Option<usize>,
    #[arg(long, value_parser = bytes(1..=MESSAGE_MAX))]
    max_message_bytes: Option<usize>,
    #[arg(long)]
    max_meta_bytes: Option<usize>,
    /// What is allowed here to those whose token names no rooms.
    #[arg(long, value_parser = acts)]
    allow: Option<Acts>,
}

/// By their names.
pub type NamespaceTable = BTreeMap<String, NamespaceSettings>;

/// Reads the table of a file. The error is for a person.
pub fn read(table: &toml::Value) -> Result<NamespaceTable, String> {
    let shape = "`namespaces` must hold a table for each namespace, as in [namespaces.chat]";
    let named = table.as_table().ok_or(shape)?;
    named.iter().map(|(name, settings)| Ok((name.clone(), one(name, settings)?))).collect()
}

fn one(name: &str, settings: &toml::Value) -> Result<NamespaceSettings, String> {
    let refuse = |problem: &str| format!("namespaces.{name}: {problem}");
    // A room that begins so must be one.
    if name != "~" && (name.contains([':', '~']) || RoomName::new(&format!("{name}:x")).is_err()) {
        return Err(refuse("no room can be in a namespace of this name"));
    }
    let command = NamespaceSettings::command();
    let mut args = Vec::new();
    for (key, value) in settings.as_table().ok_or_else(|| refuse("it must be a table"))? {
        if !command.get_arguments().any(|arg| arg.get_long() == Some(key)) {
            let known =
                command.get_arguments().filter_map(|arg| arg.get_long()).collect::<Vec<_>>().join(", ");
            return Err(refuse(&format!("there is no `{key}` here; there are {known}")));
        }
        let text =
            as_flag(value).ok_or_else(|| refuse(&format!("`{key}` must be text, a number or a list")))?;
        args.push(format!("--{key}={text}"));
    }
    NamespaceSettings::try_parse_from(args).map_err(|error| {
        let said = error.render().to_string();
        let said = said.lines().next().unwrap_or_default();
        refuse(said.trim_start_matches("error: "))
    })
}

/// What holds in each namespace, where all else is as the flags say. The error is for a person.
pub fn resolve(core: &CoreSettings, limits: &Limits) -> Result<BTreeMap<Box<str>, Namespace>, String> {
    let all = limits.max_message_bytes;
    core.namespaces
        .iter()
        .map(|(name, own)| {
            let max_message_bytes = own.max_message_bytes.unwrap_or(all);
            if max_message_bytes > all {
                return Err(format!(
                    "namespaces.{name}: max-message-bytes may be at most --max-message-bytes, {all}, which all doors keep"
                ));
            }
            let namespace = Namespace {
                keep: Retention {
                    size: own.history_size.unwrap_or(core.history_size),
                    ttl: own.history_ttl.unwrap_or(core.history_ttl),
                    dedupe_window: own.dedupe_window.unwrap_or(core.dedupe_window),
                    dedupe_max: own.dedupe_max.unwrap_or(core.dedupe_max),
                },
                presence: Rules {
                    timeout: own.presence_timeout.unwrap_or(core.presence_timeout),
                    max: own.presence_max.unwrap_or(core.presence_max),
                },
                max_message_bytes,
                max_meta_bytes: own.max_meta_bytes.unwrap_or(core.max_meta_bytes),
                allow: own.allow.unwrap_or(Acts::ALL),
            };
            Ok((name.as_str().into(), namespace))
        })
        .collect()
}

/// What the file says of namespaces, a line a setting.
pub fn in_force(table: &NamespaceTable) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for (name, own) in table {
        let lines = [
            ("history-size", own.history_size.map(|n| n.to_string())),
            ("history-ttl", own.history_ttl.map(time)),
            ("dedupe-window", own.dedupe_window.map(time)),
            ("dedupe-max", own.dedupe_max.map(|n| n.to_string())),
            ("presence-timeout", own.presence_timeout.map(time)),
            ("presence-max", own.presence_max.map(|n| n.to_string())),
            ("max-message-bytes", own.max_message_bytes.map(|n| n.to_string())),
            ("max-meta-bytes", own.max_meta_bytes.map(|n| n.to_string())),
            ("allow", own.allow.map(|acts| acts.names().collect::<Vec<_>>().join(","))),
        ];
        for (key, value) in lines {
            let Some(value) = value else { continue };
            let _ = writeln!(out, "{:<28} {value:<24} file", format!("namespaces.{name}.{key}"));
        }
    }
    out
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
