//! `hearth.toml`: its values become the defaults of the flags of the same name, so that flag and
//! environment win over them and everything is checked by the same parsers.
use super::{
    Cli, Command, command,
    namespaces::{self, NamespaceTable},
    values::as_flag,
};
use clap::{ArgMatches, FromArgMatches};
use std::{collections::BTreeMap, ffi::OsString, fs, io};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "hearth.toml";

/// The key that is no flag.
const NAMESPACES: &str = "namespaces";

/// A file's settings by flag name, as text.
pub type Values = BTreeMap<String, String>;

/// Reads the command line with the file's values behind it. The error is for a person, and says how to exit.
pub fn parse(args: &[OsString]) -> Result<(Cli, ArgMatches, Values), clap::Error> {
    let path = named_file(args);
    let (values, namespaces) = read(path.as_deref())?;
    let matches = with_defaults(command(), &values)
        .try_get_matches_from(args)
        .map_err(|error| mention_source(error, args, &values, path.as_deref()))?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let core = match &mut cli.command {
        None => Some(&mut cli.serve.core),
        Some(Command::Serve(serve)) => Some(&mut serve.core),
        Some(Command::Core(only)) => Some(&mut only.core),
        Some(Command::CheckConfig(check)) => Some(&mut check.serve.core),
        // An edge leaves rooms to its core.
        Some(Command::Edge(_) | Command::Token(_) | Command::Bench(_)) => None,
    };
    if let Some(core) = core {
        core.namespaces = namespaces;
    }
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

fn read(path: Option<&str>) -> Result<(Values, NamespaceTable), clap::Error> {
    let refuse = |message: String| command().error(clap::error::ErrorKind::Io, message);
    let name = path.unwrap_or(DEFAULT_FILE);
    let text = match fs::read_to_string(name) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Default::default());
        }
        Err(error) => return Err(refuse(format!("{name}: {error}"))),
    };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // Without the line itself, which may hold a secret.
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        refuse(format!("{name}: line {line}: {}", error.message()))
    })?;
    let known = known_keys(&command());
    let (mut values, mut namespaces) = (Values::new(), NamespaceTable::new());
    for (key, value) in &table {
        if key == NAMESPACES {
            namespaces = namespaces::read(value).map_err(|problem| refuse(format!("{name}: {problem}")))?;
            continue;
        }
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
    Ok((values, namespaces))
}

fn known_keys(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|arg| arg.get_long()).filter(|long| *long != "config");
    let mut keys: Vec<String> = own.map(str::to_owned).collect();
    for subcommand in command.get_subcommands().filter(|sub| !["bench", "token"].contains(&sub.get_name())) {
        keys.extend(known_keys(subcommand));
    }
    keys.retain(|key| !["help", "version", "table"].contains(&key.as_str()));
    keys
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

/// A bad value is reported under its flag; say where it came from if nobody typed it.
fn mention_source(error: clap::Error, args: &[OsString], values: &Values, path: Option<&str>) -> clap::Error {
    let culprit = error.get(clap::error::ContextKind::InvalidArg).map(|arg| arg.to_string());
    let key = culprit.and_then(|arg| Some(arg.strip_prefix("--")?.split_whitespace().next()?.to_owned()));
    let Some(key) = key else { return error };
    let flag = format!("--{key}");
    let typed =
        |arg: &str| arg.strip_prefix(&flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    if args.iter().filter_map(|arg| arg.to_str()).any(typed) {
        return error;
    }
    let source = match variable(&command(), &key).filter(|name| std::env::var_os(name).is_some()) {
        Some(name) => format!("`{name}` is set in the environment"),
        None if values.contains_key(&key) => format!("`{key}` is set in {}", path.unwrap_or(DEFAULT_FILE)),
        None => return error,
    };
    let text = error.render().to_string();
    // What follows is said anew, below the source.
    let said = text.split("\n\nFor more information").next().unwrap_or(&text);
    command().error(error.kind(), format!("{}\n\n{source}", said.trim_start_matches("error: ").trim_end()))
}

/// The environment variable of a setting.
fn variable(command: &clap::Command, key: &str) -> Option<String> {
    let own = command.get_arguments().find(|arg| arg.get_long() == Some(key)).and_then(clap::Arg::get_env);
    own.and_then(|name| name.to_str())
        .map(str::to_owned)
        .or_else(|| command.get_subcommands().find_map(|sub| variable(sub, key)))
}
