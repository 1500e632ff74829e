//! Networks and containers by name, through the Docker socket.
//!
//! [`Docker::look`] once, or a [`Follower`] that keeps a [`View`] fresh. Only reads; whoever may use the socket can do
//! all that root can, so nothing here asks for more than lists. Must not know rules, verdicts or settings.
//!
//! # When an address changes hands
//!
//! A container that ends, or leaves a network, is gone from the picture as soon as the daemon's event comes (1 to 6 ms
//! after it, with Docker 20.10), and no list that still shows it brings it back. An address that two containers claim is
//! nobody's. What remains: some daemons free the address a moment before they tell, so that another container may be
//! given it while the picture still shows the first. Its first process takes longer to start than the event to arrive,
//! as long as this process is not stopped or starved. If events are lost, the next look tells, after 10 s at most.

mod api;
mod containers;
mod desk;
mod error;
mod follow;
mod inspected;
mod labels;
mod line;
mod look;
mod networks;
mod notice;
mod picture;
#[cfg(test)]
mod scripted;

use std::path::PathBuf;

use futures_util::StreamExt as _;

use api::{Api, PATIENCE};
use look::Looker;

pub use error::DockerError;
pub use follow::{Follower, View};
pub use inspected::{Inspected, Posture};
pub use labels::OVERSIZED;
pub use picture::{Attachment, Bridge, Network, NetworkState, Picture};

/// Which daemon, and which of its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Names of networks; none: all.
    pub networks: Vec<String>,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self { socket: PathBuf::from("/var/run/docker.sock"), networks: Vec::new() }
    }
}

/// A Docker daemon, by its socket.
#[derive(Debug, Clone)]
pub struct Docker {
    config: DockerConfig,
}

impl Docker {
    /// Makes no contact yet.
    pub fn new(config: DockerConfig) -> Self {
        Self { config }
    }

    /// Looks once.
    ///
    /// # Errors
    /// Why Docker cannot be asked, or what was wrong with an answer. A network that is missing is no error.
    pub async fn look(&self) -> Result<Picture, DockerError> {
        let api = Api::connect(&self.config.socket).await?;
        let mut looker = Looker::default();
        let mut looked = looker.look(&api, &self.config.networks).await?;
        for _ in 1..LOOKS {
            if looked.is_settled {
                break;
            }
            looked = looker.look(&api, &self.config.networks).await?;
        }
        Ok(looked.picture)
    }

    /// Returns what follows this daemon, and where to see what it finds.
    pub fn follower(self) -> (Follower, View) {
        Follower::new(self.config)
    }

    /// Asks about each running container, whatever networks it is on. One that ends meanwhile is left out.
    ///
    /// # Errors
    /// Why Docker cannot be asked, or what was wrong with an answer.
    pub async fn inspect_all(&self) -> Result<Vec<Inspected>, DockerError> {
        let api = Api::connect(&self.config.socket).await?;
        let listed = api.containers().await?.into_iter().filter_map(|listed| listed.id);
        let ids = listed.filter(|id| networks::is_id(id)).map(Into::into).collect();
        let mut answers = api.inspect(ids, PATIENCE);
        let mut all = Vec::new();
        while let Some((_, answer)) = answers.next().await {
            match answer {
                Ok(inspected) => all.extend(Inspected::read(inspected, &self.config.socket)),
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }
}

/// How often a single look is repeated while containers come and go under it.
const LOOKS: usize = 3;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]
mod tests;
