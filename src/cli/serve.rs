//! `serve` and `down`: settings in hand, the daemon does the rest.
//!
//! Must not know what the daemon does.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use crate::daemon;
use crate::settings::{self, Arguments, Checked, DEFAULT_PATH, Report, Settings};
use crate::sys::clock;

use super::output::{Failure, Screen};
use super::tree::ServeArgs;

pub(super) fn serve(arguments: &ServeArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let plain = Arguments {
        interfaces: arguments.interface.clone(),
        docker_networks: arguments.docker_network.clone(),
        dnstap: arguments.dnstap.clone(),
        resolvers: arguments.resolver.clone(),
        upstreams: arguments.dns_upstream.clone(),
        audit: arguments.audit.clone(),
        admin: arguments.admin.clone(),
        names: arguments.names.clone(),
    };
    let now = clock::now().wall;
    let checked = match (&arguments.config, plain.interfaces.is_empty() && plain.docker_networks.is_empty()) {
        (Some(file), _) => settings::load(file, now),
        (None, true) => settings::load(Path::new(DEFAULT_PATH), now),
        (None, false) => settings::from_arguments(&plain, now),
    };
    let settings = accept(checked.map(both), screen)?;
    block_on(daemon::run(settings))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn down(screen: &mut Screen) -> Result<ExitCode, Failure> {
    let removed = block_on(daemon::down())?;
    if removed.is_empty() {
        screen.talk("nothing to remove\n");
    }
    for line in removed {
        screen.data(&format!("{line}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a file for a command that needs a sound one.
pub(super) fn load(file: &Path, screen: &mut Screen) -> Result<Settings, Failure> {
    accept(settings::load(file, clock::now().wall).map(both), screen)
}

fn both(checked: Checked) -> (Settings, Report) {
    (checked.settings, checked.report)
}

/// Says what was found on stderr; goes on when it is only warnings.
pub(super) fn accept<T>(
    checked: Result<(T, Report), settings::Error>,
    screen: &mut Screen,
) -> Result<T, Failure> {
    match checked {
        Ok((settings, report)) => {
            let text = report.render(screen.stderr_colour());
            screen.talk(&text);
            Ok(settings)
        }
        Err(settings::Error::Faulty { report }) => {
            let text = report.render(screen.stderr_colour());
            screen.talk(&text);
            Err(Failure::usage(anyhow::anyhow!("the configuration has {}", count(report.errors(), "error"))))
        }
        Err(error @ settings::Error::Unreadable { .. }) => Err(unreadable(error)),
    }
}

pub(super) fn unreadable(error: settings::Error) -> Failure {
    Failure::usage(error).hint("name a configuration file; config/minimal.toml is one to begin with")
}

/// Spells a number of things.
pub(super) fn count(number: usize, thing: &str) -> String {
    match number {
        0 => format!("no {thing}s"),
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, daemon::Error>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system(anyhow::Error::new(error).context("cannot start the runtime")))?;
    let outcome = runtime.block_on(work);
    // What still blocks then, a log on a stuck disk say, does not keep the process.
    runtime.shutdown_background();
    outcome.map_err(refused)
}

/// Tells why the daemon could not do it.
pub(super) fn refused(error: daemon::Error) -> Failure {
    let (code, hint) = (error.exit_code(), error.hint());
    Failure::system(error).code(code).maybe_hint(hint)
}
