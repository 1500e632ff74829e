//! The suite for egress filters: attacks that must not come through and ordinary uses that must, tried on any filter
//! that is given as a command.
//!
//! Clients, gateway and Internet are network namespaces; the filter runs in the gateway's. What counts is what the
//! servers saw and the clients heard. Must not know how any filter decides, nor how the outcome is shown.

mod act;
mod craft;
mod enter;
mod error;
mod filter;
mod map;
mod order;
mod outcome;
mod own;
mod reach;
mod serve;
mod stage;
mod strays;
mod talk;
mod trial;
mod trials;
mod world;

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::props::Authority;
use crate::sys::signals;

use filter::Filter;
use stage::Stage;
use world::World;

pub use enter::alone;
pub use error::Error;
pub use outcome::{Fate, Outcome, Row};

/// What is to be tried.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Shell command that starts the filter; `None`: namegate.
    pub filter: Option<String>,
    /// When it is ready: a command that succeeds then, `:PORT`, or `Ns`.
    pub ready: Option<String>,
    /// Names of trials; empty: all.
    pub only: Vec<String>,
}

/// Runs the suite. Must be run by [`alone`].
///
/// # Errors
/// The world cannot be made, or the filter does not start. What the filter lets through is no error: it is in the
/// [`Outcome`].
pub fn run(wanted: &Wanted) -> Result<Outcome, Error> {
    let mut trials = trials::all();
    if let Some(name) = wanted.only.iter().find(|name| !trials.iter().any(|trial| trial.name == **name)) {
        return Err(Error::NoTrial { name: name.clone() });
    }
    trials.retain(|trial| wanted.only.is_empty() || wanted.only.iter().any(|name| name == trial.name));
    bring_up()?;
    let (command, ready, refused): (&str, &str, &[&str]) = match &wanted.filter {
        Some(command) => (command, wanted.ready.as_deref().unwrap_or("1s"), &[]),
        None => {
            own::configure(Filter::folder()).map_err(Error::Filter)?;
            (own::COMMAND, own::READY, own::REFUSED)
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let play = async {
        let authority = Arc::new(Authority::new(&map::CERTIFIED)?);
        let world = World::open(Arc::clone(&authority)).await?;
        let mut stage = Stage::open(world, Filter::new(command, ready), &authority.pem).await?;
        stage.play(&trials, refused).await
    };
    let rows = runtime.block_on(async {
        // The first process of its namespace: a signal that it has no handler for does not reach it.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        tokio::select! {
            rows = play => rows,
            _ = interrupt.recv() => Err(Error::Interrupted),
            _ = terminate.recv() => Err(Error::Interrupted),
        }
    })?;
    let filter = wanted.filter.clone().unwrap_or_else(|| format!("namegate {}", env!("CARGO_PKG_VERSION")));
    Ok(Outcome { filter, rows })
}

/// Runs the client program: orders from standard input, answers to standard output.
///
/// # Errors
/// A line that is no order, or nobody there to answer.
pub fn run_client() -> io::Result<()> {
    // A signal to everybody is for the suite to tell of.
    let _inbox = signals::Inbox::open()?;
    act::act(io::stdin().lock(), io::stdout().lock())
}

const TOPOLOGY: &str = include_str!("topology.sh");

fn bring_up() -> Result<(), Error> {
    let told = |error: io::Error| Error::Topology { said: error.to_string() };
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh")
        .args(["-eu"])
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(told)?;
    if let Some(mut script) = shell.stdin.take() {
        script.write_all(TOPOLOGY.as_bytes()).map_err(told)?;
    }
    let output = shell.wait_with_output().map_err(told)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Topology { said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
