//! All settings as a table: for `check-config`, with what is in force, and for the docs.
use super::{command, file::Values};
use clap::{ArgMatches, parser::ValueSource};
use std::fmt::Write;

/// The settings of every role as a Markdown table, one row each.
pub fn markdown() -> String {
    let mut out = String::from(
        "| flag and key | environment | means | default | role |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in rows() {
        let Row { long, env, help, default, roles } = row;
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let _ =
            writeln!(out, "| `--{long}` | `{env}` | {} | {default} | {roles} |", help.replace('|', "\\|"));
    }
    out
}

struct Row {
    long: String,
    env: String,
    help: String,
    default: String,
    roles: String,
}

fn rows() -> Vec<Row> {
    let command = command();
    let mut rows: Vec<Row> = Vec::new();
    for role in ["core", "edge"] {
        let Some(subcommand) = command.find_subcommand(role) else { continue };
        for arg in subcommand.get_arguments() {
            let (Some(long), Some(env)) = (arg.get_long(), arg.get_env()) else { continue };
            if let Some(row) = rows.iter_mut().find(|row| row.long == long) {
                row.roles = "both".to_owned();
                continue;
            }
            let defaults = arg.get_default_values();
            let default = defaults.iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",");
            let is_flag = arg.get_action().takes_values();
            rows.push(Row {
                long: long.to_owned(),
                env: env.to_string_lossy().into_owned(),
                help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
                default: if is_flag { default } else { "false".to_owned() },
                roles: role.to_owned(),
            });
        }
    }
    rows
}

/// What is in force after flags, environment and file, a line a setting.
pub fn in_force(matches: &ArgMatches, values: &Values) -> String {
    let command = command();
    let mut out = String::new();
    let Some(subcommand) = command.find_subcommand("check-config") else { return out };
    for arg in subcommand.get_arguments() {
        let (Some(long), Some(_)) = (arg.get_long(), arg.get_env()) else { continue };
        let raw = matches.try_get_raw(arg.get_id().as_str()).ok().flatten();
        let value =
            raw.map(|raw| raw.map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(","));
        let value =
            value.map(|value| if arg.is_hide_env_values_set() { "(secret)".to_owned() } else { value });
        let source = match matches.value_source(arg.get_id().as_str()) {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "environment",
            Some(_) if values.contains_key(long) => "file",
            _ => "default",
        };
        let _ = writeln!(out, "{long:<28} {:<24} {source}", value.unwrap_or_else(|| "-".to_owned()));
    }
    out
}

#[cfg(test)]
mod tests {
    /// The page in the docs is this table: `hearth check-config --table` makes it anew.
    #[test]
    fn the_documented_table_is_the_one_in_the_code() {
        let page = include_str!("../../../docs/configuration.md");
        let table = super::markdown();
        assert!(page.contains(&table), "docs/configuration.md is not up to date; it must contain:\n{table}");
    }
}
