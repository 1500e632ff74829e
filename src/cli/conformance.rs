//! `conformance`: the suite for egress filters, as a table or as JSON.
//!
//! Must not know what is tried. The suite runs in a process that is alone in its namespaces, which this one becomes.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::conformance::{self, Wanted};

use super::output::{Failure, Screen};
use super::tree::ConformanceArgs;

pub(super) fn conformance(arguments: &ConformanceArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let failed = |error: conformance::Error| {
        let hint = error.hint();
        let usage = matches!(error, conformance::Error::NoTrial { .. });
        let failure = if usage { Failure::usage(error) } else { Failure::system(error) };
        failure.maybe_hint(hint)
    };
    if arguments.act {
        conformance::run_client().map_err(Failure::system)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.alone {
        let mut again: Vec<OsString> = std::env::args_os().skip(1).collect();
        again.push("--alone".into());
        match conformance::alone(&again).map_err(failed)? {}
    }
    let wanted = Wanted {
        filter: arguments.filter.clone(),
        ready: arguments.ready.clone(),
        only: arguments.only.clone(),
    };
    let outcome = conformance::run(&wanted).map_err(failed)?;
    let text = if arguments.json { outcome.json() } else { outcome.table(screen.stdout_colour()) };
    screen.data(&text)?;
    Ok(if outcome.as_expected() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
