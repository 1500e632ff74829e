//! Docker networks: their bridges at the start, and what becomes of them.
//!
//! Must not know rules; who has which address is handed to `residents`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::docker::{Docker, DockerConfig, DockerError, NetworkState, Picture, View};
use crate::nft::{CaptureConfig, Form, Plan};
use crate::record::{Event, Log, RulesetEvent};
use crate::settings::{DockerSettings, Settings};
use crate::sys::{clock, host};
use crate::who::{self, Who};

use super::Error;
use super::engine::Tasks;
use super::residents::Residents;

/// Docker as it was at the start.
pub(super) struct Watched {
    docker: Docker,
    picture: Arc<Picture>,
}

/// Looks once: every network that is to be captured must be there.
pub(super) async fn look(settings: &DockerSettings) -> Result<Watched, Error> {
    let config = DockerConfig { socket: settings.socket.clone(), networks: settings.networks.clone() };
    let docker = Docker::new(config);
    let picture = docker.look().await?;
    for network in
        picture.networks.iter().filter(|network| settings.networks.iter().any(|name| **name == *network.name))
    {
        if let Some(why) = unusable(&network.state) {
            return Err(Error::Network { name: network.name.to_string(), why });
        }
    }
    Ok(Watched { docker, picture: Arc::new(picture) })
}

impl Watched {
    /// Follows Docker from here on; returns where it is seen.
    pub(super) fn follow(self, tasks: &Tasks) -> View {
        let (follower, view) = self.docker.follower();
        tasks.keep(follower.run(tasks.upkeep.clone()));
        view
    }

    /// Returns the bridges of the captured networks.
    pub(super) fn bridges(&self, settings: &DockerSettings) -> Vec<String> {
        bridges(&self.picture, &settings.networks)
    }
}

/// Returns what is captured, the bridges of networks included.
pub(super) fn with_bridges(
    capture: &CaptureConfig,
    watched: &Watched,
    docker: &DockerSettings,
) -> CaptureConfig {
    CaptureConfig { interfaces: joined(&capture.interfaces, watched.bridges(docker)), ..capture.clone() }
}

/// Joins names, each once.
fn joined(names: &[String], more: Vec<String>) -> Vec<String> {
    let mut all = names.to_vec();
    for name in more {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Returns what is captured besides the bridges of networks, which may change.
pub(super) fn besides(
    watched: Option<&Watched>,
    settings: &Settings,
    whole: &CaptureConfig,
) -> CaptureConfig {
    let mut config = whole.clone();
    if let Some((watched, docker)) = watched.zip(settings.docker.as_ref()) {
        let bridges = watched.bridges(docker);
        // What the operator named is captured whatever becomes of networks.
        let asked = &settings.capture.interfaces;
        config.interfaces.retain(|name| asked.contains(name) || !bridges.contains(name));
    }
    config
}

fn bridges(picture: &Picture, captured: &[String]) -> Vec<String> {
    captured.iter().filter_map(|name| bridge(picture, name)).collect()
}

/// The bridge of one network.
fn bridge(picture: &Picture, name: &str) -> Option<String> {
    let network = picture.networks.iter().find(|network| *network.name == *name)?;
    match &network.state {
        NetworkState::Found(bridge) => Some(bridge.bridge.clone()),
        NetworkState::Missing
        | NetworkState::NotABridge { .. }
        | NetworkState::Ambiguous
        | NetworkState::Garbled { .. } => None,
    }
}

/// Waits for the first picture, and lets the policy follow it: nobody is served before it is known who there is.
pub(super) async fn first_picture(view: &View, residents: &Residents, log: &Log) -> Result<(), Error> {
    let mut changes = view.changes();
    let there = timeout(FIRST, changes.wait_for(Option::is_some)).await;
    if !matches!(there, Ok(Ok(_))) {
        let after = FIRST;
        return Err(DockerError::Timeout { action: "show its containers", after }.into());
    }
    tell(view, residents, log).await;
    Ok(())
}

/// Why a network cannot be captured; `None`: it can.
fn unusable(state: &NetworkState) -> Option<String> {
    match state {
        NetworkState::Found(_) => None,
        NetworkState::Missing => Some("there is none of this name".to_owned()),
        NetworkState::NotABridge { driver } => {
            Some(format!("its driver is {driver}: only networks with a bridge on this host can be captured"))
        }
        NetworkState::Ambiguous => Some("several networks have this name".to_owned()),
        NetworkState::Garbled { field } => {
            Some(format!("Docker's description of it has no readable {field}"))
        }
    }
}

/// Waits until it is known who is at an address, if a container can be there.
pub(super) fn news(view: View, residents: Arc<Residents>, log: Log) -> who::News {
    Arc::new(move |address: IpAddr| {
        let (view, residents, log) = (view.clone(), Arc::clone(&residents), log.clone());
        Box::pin(async move {
            // Docker shows a container some milliseconds after its first process began.
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                let looked = view.fresh().await;
                tell(&view, &residents, &log).await;
                // Without a look nothing is new: too many wait, nobody looks, or Docker does not answer.
                if !looked || view.picture().is_none() || !residents.may_be_new(address) {
                    return;
                }
            }
        })
    })
}

/// What following needs.
pub(super) struct Following {
    pub(super) view: View,
    pub(super) residents: Arc<Residents>,
    pub(super) who: Arc<Who>,
    pub(super) log: Log,
    /// Capture without the bridges of networks.
    pub(super) capture: CaptureConfig,
    pub(super) form: Form,
    pub(super) networks: Vec<String>,
    /// The bridge that each network had last.
    pub(super) known: HashMap<String, String>,
    /// Where the plan in force is asked for.
    pub(super) plans: watch::Sender<Plan>,
}

impl Following {
    /// Keeps policy and capture with what Docker shows, until cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.view.changes();
        let mut last: Option<Arc<Picture>> = None;
        let forever = async {
            loop {
                changes.mark_unchanged();
                tell(&self.view, &self.residents, &self.log).await;
                if let Some(picture) = self.view.picture() {
                    self.follow(last.as_deref(), &picture).await;
                    last = Some(picture);
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        cancel.run_until_cancelled(forever).await;
    }

    /// Captures the bridges there are. The bridge of a network that Docker can no longer name stays captured as long as
    /// it is there: containers may still be on it.
    async fn follow(&mut self, last: Option<&Picture>, now: &Picture) {
        for network in &now.networks {
            let before = last.and_then(|last| last.networks.iter().find(|known| known.name == network.name));
            if before.is_some_and(|before| before.state != network.state)
                && let Some(why) = unusable(&network.state)
            {
                tracing::warn!(network = %network.name, why, "a captured network cannot be captured any more");
                self.log.record(gone(&network.name)).await;
            }
        }
        let mut found = Vec::new();
        for name in &self.networks {
            if let Some(bridge) = bridge(now, name) {
                self.known.insert(name.clone(), bridge.clone());
                found.push(bridge);
            } else if let Some(bridge) = self.known.get(name)
                && !matches!(host::link(bridge).await, Ok(None))
            {
                found.push(bridge.clone());
            }
        }
        if found.is_empty() {
            // The rules stay as they are, for bridges that may come back.
            return;
        }
        let interfaces = joined(&self.capture.interfaces, found);
        if self.plans.borrow().config().interfaces == interfaces {
            return;
        }
        let config = CaptureConfig { interfaces: interfaces.clone(), ..self.capture.clone() };
        match Plan::new(config, self.form) {
            Ok(plan) => {
                tracing::info!(?interfaces, "captured interfaces changed");
                self.who.follow(interfaces);
                self.plans.send_replace(plan);
            }
            Err(error) => tracing::error!(%error, "a network's bridge cannot be captured"),
        }
    }
}

/// Lets the policy follow the present picture.
async fn tell(view: &View, residents: &Residents, log: &Log) {
    for event in residents.see(|| view.picture()) {
        log.record(event).await;
    }
}

fn gone(network: &str) -> Event {
    Event::Ruleset(RulesetEvent { at: clock::now(), what: "network_missing", table: network.into() })
}

/// How long the first picture may take.
const FIRST: Duration = Duration::from_secs(10);
/// How long a first packet may wait for word of its container.
const PATIENCE: Duration = Duration::from_secs(2);
