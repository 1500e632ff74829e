//! The demo: an Internet of its own, two clients behind the real gate, and a story of bypasses that must die.
//!
//! Every row is measured three times: the client says what it heard, the Internet what arrived, the audit log what
//! was decided. Must not know how the gate is started, nor how the outcome is shown.
//!
//! The order of things: [`prepare`] starts no thread, so that a gate can be forked off afterwards; [`play`] starts
//! the runtime.

mod act;
mod audit;
mod error;
mod gate;
mod judge;
mod map;
mod order;
mod outcome;
mod run;
mod stage;
mod story;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::props::{Authority, Scratch};

use audit::Audit;
use map::Map;
use stage::Stage;
use world::World;

pub use act::act;
pub use error::Error;
pub use gate::{Client, Gate};
pub use outcome::{Outcome, Row};
pub use run::{run, run_client};

/// What the gate and the Internet need before they start. Dropped by the process that made it, its folder is gone.
#[derive(Debug)]
pub struct Prepared {
    map: Map,
    authority: Authority,
    audit: PathBuf,
    policy: String,
    scratch: Scratch,
}

/// Makes a scratch folder and a certificate authority. Starts no thread.
///
/// # Errors
/// [`Error::Props`].
pub fn prepare() -> Result<Prepared, Error> {
    prepare_on(Map::INTERNET)
}

fn prepare_on(map: Map) -> Result<Prepared, Error> {
    let scratch = Scratch::new("demo")?;
    let audit = scratch.path().join("audit.jsonl");
    let policy = map.policy(&audit);
    Ok(Prepared { map, authority: Authority::new(&map::CERTIFIED)?, audit, policy, scratch })
}

impl Prepared {
    /// Returns the gate's configuration, TOML: everything but what it captures.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Returns where the gate, told by [`Prepared::policy`], writes its audit lines.
    pub fn audit(&self) -> &Path {
        &self.audit
    }

    /// Returns a folder for whatever else is needed; it is removed with the rest.
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }
}

/// Opens the Internet and plays the story against a running gate. When it returns, whatever it returns, the gate is
/// ended and the folder is gone.
///
/// Must run where the addresses of the Internet are local ones and port 53 may be bound.
///
/// # Errors
/// The Internet cannot be opened, the pipes to the clients are none, or a signal asked to stop. What the gate does
/// wrong is no error: it is in the [`Outcome`].
pub fn play(prepared: Prepared, gate: Gate) -> Result<Outcome, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        tokio::select! {
            outcome = perform(&prepared, gate, PATIENCE) => outcome,
            _ = interrupt.recv() => Err(Error::Interrupted),
            _ = terminate.recv() => Err(Error::Interrupted),
        }
    })
}

/// How long an audit line may be on its way.
const PATIENCE: Duration = Duration::from_secs(2);

async fn perform(prepared: &Prepared, gate: Gate, patience: Duration) -> Result<Outcome, Error> {
    let Prepared { map, authority, audit, .. } = prepared;
    let world = World::open(map, authority.server.clone()).await?;
    let audit = Audit::new(audit, patience);
    let stage = Stage::new(*map, world.seen.clone(), gate, &authority.pem, audit);
    let rows = stage.map_err(Error::Pipe)?.play(&story::story(map)).await;
    Ok(Outcome { rows })
}

#[cfg(test)]
mod tests;
