//! `hearth.toml`: its values become the defaults of the flags of the same name, so that flag and
//! environment win over them and everything is checked by the same parsers.
use super::Cli;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::{collections::BTreeMap, ffi::OsString, fs, io};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "hearth.toml";

/// A file's settings by flag name, as text.
pub type Values = BTreeMap<String, String>;

/// Reads the command line with the file's values behind it. The error is for a person, and says how to exit.
pub fn parse(args: &[OsString]) -> Result<(Cli, ArgMatches, Values), clap::Error> {
    let path = named_file(args);
    let values = read(path.as_deref())?;
    let command = with_defaults(Cli::command(), &values);
    let matches =
        command.try_get_matches_from(args).map_err(|error| mention_file(error, &values, path.as_deref()))?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok((cli, matches, values))
}

/// The file that the command line or the environment names, looked for before the rest can be parsed.
fn named_file(args: &[OsString]) -> Option<String> {
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().map(str::to_owned);
        }
        if let Some(path) = arg.strip_prefix("--config=") {
            return Some(path.to_owned());
        }
    }
    std::env::var("HEARTH_CONFIG").ok()
}

fn read(path: Option<&str>) -> Result<Values, clap::Error> {
    let refuse = |message: String| Cli::command().error(clap::error::ErrorKind::Io, message);
    let name = path.unwrap_or(DEFAULT_FILE);
    let text = match fs::read_to_string(name) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(Values::new()),
        Err(error) => return Err(refuse(format!("{name}: {error}"))),
    };
    let table: toml::Table = text.parse().map_err(|error| refuse(format!("{name}: {error}")))?;
    let known = known_keys(&Cli::command());
    let mut values = Values::new();
    for (key, value) in &table {
        if !known.contains(key) {
            return Err(refuse(format!(
                "{name}: there is no setting `{key}`; `hearth check-config --table` lists them"
            )));
        }
        let text = as_flag(value).ok_or_else(|| {
            refuse(format!("{name}: `{key}` must be a string, a number, true or false, or a list of strings"))
        })?;
        values.insert(key.clone(), text);
    }
    Ok(values)
}

fn known_keys(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_long()).filter(|long| *long != "config");
    let mut keys: Vec<String> = own.map(str::to_owned).collect();
    for subcommand in command.get_subcommands().filter(|sub| sub.get_name() != "bench") {
        keys.extend(known_keys(subcommand));
    }
    keys.retain(|key| !["help", "version", "table"].contains(&key.as_str()));
    keys
}

/// A TOML value as it would be typed behind its flag.
fn as_flag(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(|item| item.as_str()).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

fn with_defaults(command: clap::Command, values: &Values) -> clap::Command {
    let set = |arg: clap::Arg| match arg.get_long().and_then(|long| values.get(long)) {
        Some(value) => arg.default_value(value.clone()).required(false),
        None => arg,
    };
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let mut command = command.mut_args(set);
    for name in names.iter().filter(|name| *name != "bench") {
        command = command.mut_subcommand(name, |sub| sub.mut_args(set));
    }
    command
}

/// A bad value is reported under its flag; say that it may have come from the file.
fn mention_file(error: clap::Error, values: &Values, path: Option<&str>) -> clap::Error {
    let culprit = error.get(clap::error::ContextKind::InvalidArg).map(|arg| arg.to_string());
    let key = culprit.and_then(|arg| Some(arg.strip_prefix("--")?.split_whitespace().next()?.to_owned()));
    match key.and_then(|key| values.contains_key(&key).then_some(key)) {
        Some(key) => {
            let name = path.unwrap_or(DEFAULT_FILE);
            let text = error.render().to_string();
            let text = text.trim_start_matches("error: ").trim_end();
            Cli::command().error(error.kind(), format!("{text}\n\n`{key}` is set in {name}"))
        }
        None => error,
    }
}
