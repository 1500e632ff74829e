//! `demo`: the story of the bypasses, as a table or as JSON. Here the verdicts are the data.
//!
//! Must not know what is tried. Starts no thread: the demo forks first.

use std::process::ExitCode;

use crate::demo;

use super::output::{Failure, Screen};
use super::tree::DemoArgs;

pub(super) fn demo(arguments: &DemoArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    if arguments.act {
        demo::run_client().map_err(Failure::system)?;
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = demo::run().map_err(|error| {
        let hint = error.hint();
        Failure::system(error).maybe_hint(hint)
    })?;
    let text = if arguments.json { outcome.json() } else { outcome.table(screen.stdout_colour()) };
    screen.data(&text)?;
    Ok(if outcome.as_expected() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
