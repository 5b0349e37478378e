//! `hearth`: reads the settings, assembles what they ask for, runs it until a signal.
mod assemble;
mod memory;
mod pages;
mod settings;
mod shutdown;
mod telemetry;
mod tls;
mod tokens;

use settings::{Cli, Command};
use std::{env, ffi::OsString, process::ExitCode, time::Duration};

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let (cli, matches, values) = match settings::file::parse(&args) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Where standard error is closed there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if let Some(Command::CheckConfig(check)) = &cli.command {
        if check.table {
            print!("{}", settings::table::markdown());
            return ExitCode::SUCCESS;
        }
        if let Err(message) = assemble::check(check) {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
        let own = matches.subcommand_matches("check-config").unwrap_or(&matches);
        print!("{}", settings::table::in_force(own, &values));
        print!("{}", settings::namespaces::in_force(&check.serve.core.namespaces));
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli));
    // What is still running has been told to stop; a second signal must not wait for it.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), String> {
    match cli.command {
        None => assemble::serve(cli.serve).await,
        Some(Command::Serve(settings)) => assemble::serve(*settings).await,
        Some(Command::Core(settings)) => assemble::core(*settings).await,
        Some(Command::Edge(settings)) => assemble::edge(*settings).await,
        Some(Command::Token(args)) => tokens::mint(&args).map(|token| println!("{token}")),
        Some(Command::Bench(args)) => hearth_bench::run(args).await.map_err(|error| error.to_string()),
        Some(Command::CheckConfig(_)) => Err(settings::command().render_usage().to_string()),
    }
}
