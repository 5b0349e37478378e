//! Logs: to standard error, pretty for a person at a terminal, JSON for everything else.
use crate::settings::{Common, LogFormat};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. Fails on a filter that is none.
pub fn start(common: &Common) -> Result<(), String> {
    let filter = EnvFilter::try_new(&common.log)
        .map_err(|error| format!("--log {}: {error}", common.log))?
        // Their lines about every connection say nothing that ours do not.
        .add_directive_unless_named("h2", &common.log)
        .add_directive_unless_named("hyper", &common.log);
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

trait Quieten {
    fn add_directive_unless_named(self, target: &str, filter: &str) -> Self;
}

impl Quieten for EnvFilter {
    fn add_directive_unless_named(self, target: &str, filter: &str) -> Self {
        match format!("{target}=warn").parse() {
            Ok(directive) if !filter.contains(target) => self.add_directive(directive),
            _ => self,
        }
    }
}
