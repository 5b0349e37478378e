//! Logs: to standard error, pretty for a person at a terminal, JSON for everything else.
use crate::settings::{Common, LogFormat};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, fmt};

/// What is logged. Fails on a filter that is none.
pub fn filter(common: &Common) -> Result<EnvFilter, String> {
    let filter = EnvFilter::try_new(&common.log).map_err(|error| format!("--log {}: {error}", common.log))?;
    // Their lines about every connection say nothing that ours do not, and by h2's warnings whoever resets streams would fill the log.
    let quiet = [("h2", "error"), ("hyper", "warn")].into_iter();
    Ok(quiet.fold(filter, |filter, (target, level)| match format!("{target}={level}").parse() {
        Ok(directive) if !common.log.contains(target) => filter.add_directive(directive),
        _ => filter,
    }))
}

/// Starts logging.
pub fn start(common: &Common) -> Result<(), String> {
    let filter = filter(common)?;
    let pretty = match common.log_format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let builder = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if pretty {
        builder.with_ansi(io::stderr().is_terminal()).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
    started.map_err(|error| error.to_string())
}
