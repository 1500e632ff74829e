//! `completions`: a script for a shell, made from the command tree.
//!
//! Knows no command by itself.

use std::process::ExitCode;

use clap::CommandFactory;

use super::output::{Failure, Screen};
use super::tree::{Cli, CompletionsArgs};

pub(super) fn completions(arguments: &CompletionsArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "namegate", &mut script);
    screen.data(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
