//! One look: ask for networks and containers, and about those that are new.
//!
//! What costs one container (it is gone meanwhile, Docker cannot tell about it) costs no other. Must not know when
//! looks are due.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::api::Api;
use super::containers::{Listed, Run};
use super::error::DockerError;
use super::networks::{self, Scope};
use super::notice::Notice;
use super::picture::Picture;

/// Remembers what was asked, so that a look costs two questions when nothing is new.
#[derive(Debug, Default)]
pub(super) struct Looker {
    known: HashMap<Arc<str>, Known>,
}

#[derive(Debug)]
enum Known {
    Run(Run),
    /// Docker did not answer: to ask about it at each look would stop the looks.
    Silent {
        until: Instant,
    },
}

/// A picture, and whether everything in it fitted together.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) picture: Picture,
    /// `false`: something changed during the look, or could not be asked; another look may see more.
    pub(super) is_settled: bool,
}

impl Looker {
    /// Forgets a container that an event took something from, so that the next look asks about it. The list alone
    /// would bring it back: the daemon tells that a container left a network before it writes down that it ended. Who
    /// asks for the container itself waits until that is done (moby, `handleContainerExit` holds its lock).
    pub(super) fn forget(&mut self, notice: &Notice) {
        match notice {
            Notice::Left { container } | Notice::Detached { container, .. } => {
                self.known.remove(container.as_str());
            }
            Notice::Renamed { .. } | Notice::Removed { .. } | Notice::Changed => {}
        }
    }

    /// Looks at networks of these names; none: at all.
    pub(super) async fn look(&mut self, api: &Api, wanted: &[String]) -> Result<Looked, DockerError> {
        let known = &mut self.known;
        let networks = networks::read(wanted, &api.networks().await?);
        let scope = Scope::new(wanted, &networks);
        let listed = api.containers().await?.into_iter();
        let listed: Vec<Listed> = listed.filter_map(|summary| Listed::read(summary, &scope)).collect();
        let ids: HashSet<&Arc<str>> = listed.iter().map(|listed| &listed.id).collect();
        known.retain(|id, _| ids.contains(id));
        let mut is_settled = ask(api, &listed, &scope, known).await;
        let mut found = Vec::with_capacity(listed.len());
        for listed in listed {
            match known.get_mut(&listed.id) {
                Some(Known::Run(run)) if listed.is_of(run) => found.push(listed.with(run)),
                Some(Known::Run(_)) | None => is_settled = false,
                Some(Known::Silent { .. }) => {}
            }
        }
        Ok(Looked { picture: Picture::new(networks, found), is_settled })
    }
}

/// Asks about the containers whose run is not known, some at a time. Returns whether all that was said fits the list.
async fn ask(api: &Api, listed: &[Listed], scope: &Scope, known: &mut HashMap<Arc<str>, Known>) -> bool {
    let now = Instant::now();
    let is_new = |listed: &&Listed| match known.get(&listed.id) {
        Some(Known::Run(run)) => !listed.is_of(run),
        Some(Known::Silent { until }) => *until <= now,
        None => true,
    };
    let new: HashMap<&Arc<str>, &Listed> =
        listed.iter().filter(is_new).map(|listed| (&listed.id, listed)).collect();
    let mut answers = api.inspect(new.keys().copied().cloned().collect(), PATIENCE);
    let mut is_settled = true;
    while let Some((id, answer)) = answers.next().await {
        let found = match answer {
            Ok(inspected) => new.get(&id).and_then(|listed| listed.run(inspected, scope)).map(Known::Run),
            Err(error) if error.is_gone() => None,
            Err(error) => {
                tracing::debug!(%error, container = %id, "nothing is known of a container");
                Some(Known::Silent { until: Instant::now() + SILENCE })
            }
        };
        is_settled &= found.is_some();
        match found {
            Some(found) => known.insert(id, found),
            None => known.remove(&id),
        };
    }
    is_settled
}

/// For one container; a healthy daemon takes a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a container about which Docker says nothing is left alone.
const SILENCE: Duration = Duration::from_secs(5);
