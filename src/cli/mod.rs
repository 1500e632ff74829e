//! The command line: the only room that prints. stdout is data, stderr is talk.
//!
//! Must not know bytes, sockets or the kernel.

mod check;
mod completions;
mod conformance;
mod demo;
mod doctor;
mod exec;
mod explain;
mod hints;
mod learn;
mod notice;
mod output;
mod report;
mod rules;
mod serve;
mod status;
mod steps;
mod target;
mod tree;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use output::{Failure, Screen};
use tree::{Cli, Command};

/// Runs one command. Exit codes: 0 fine, 1 the answer is no, 2 usage or configuration, 3 the system refused;
/// `exec` ends as its command did.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut screen = Screen::of_process();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that went away needs no help text.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = start_tracing(&cli, &screen).and_then(|()| match &cli.command {
        Command::Exec(arguments) => exec::exec(arguments, &mut screen),
        Command::Demo(arguments) => demo::demo(arguments, &mut screen),
        Command::Conformance(arguments) => conformance::conformance(arguments, &mut screen),
        Command::Serve(arguments) => serve::serve(arguments, &mut screen),
        Command::Check(arguments) => check::check(arguments, &mut screen),
        Command::Rules(arguments) => rules::rules(arguments, &mut screen),
        Command::Explain(arguments) => explain::explain(arguments, &mut screen),
        Command::Doctor(arguments) => doctor::doctor(arguments, &mut screen),
        Command::Status(arguments) => status::status(arguments, &mut screen),
        Command::Down => serve::down(&mut screen),
        Command::Completions(arguments) => completions::completions(arguments, &mut screen),
    });
    match outcome {
        Ok(code) => code,
        Err(failure) => screen.fail(&failure),
    }
}

/// Sends diagnostics to stderr. `NAMEGATE_LOG` wins over `-v`; its syntax is that of `tracing`'s `EnvFilter`.
fn start_tracing(cli: &Cli, screen: &Screen) -> Result<(), Failure> {
    let level = match (cli.verbose, &cli.command) {
        // The command's own words stand on the same stream.
        (0, Command::Exec(_) | Command::Demo(_) | Command::Conformance(_)) => "warn",
        (
            0,
            Command::Serve(_)
            | Command::Check(_)
            | Command::Rules(_)
            | Command::Explain(_)
            | Command::Doctor(_)
            | Command::Status(_)
            | Command::Down
            | Command::Completions(_),
        ) => "info",
        (1, _) => "debug",
        (_, _) => "trace",
    };
    let written = std::env::var("NAMEGATE_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = match &written {
        Some(filter) => EnvFilter::try_new(filter).map_err(|error| {
            Failure::usage(anyhow::Error::new(error).context("NAMEGATE_LOG is not a filter"))
                .hint("a level, such as debug, or a level for each room: info,namegate::proxy=debug")
        })?,
        // The suite's own servers meet every oddity there is.
        None if matches!(cli.command, Command::Conformance(_)) => {
            EnvFilter::new(format!("error,namegate={level}"))
        }
        None => EnvFilter::new(format!("warn,namegate={level}")),
    };
    // Only a second command in one process could find it set; it then keeps the first filter.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(screen.stderr_colour())
        .try_init();
    Ok(())
}
