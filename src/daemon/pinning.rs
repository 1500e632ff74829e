//! Pins the ports of captured Docker bridges to the containers behind them, and keeps them apart where that is
//! wanted.
//!
//! What fails here is told and tried again: the bridge is captured all the same. Must not know rules, nor what
//! Docker's messages look like.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::docker::{Attachment, Bridge, NetworkState, Picture, View};
use crate::nft::{Binding, Installed, Netfilter, NftError, Pins, ROUTE_TABLE, Standing};
use crate::settings::{DockerSettings, TABLE};
use crate::sys::monitor::{Monitor, Table};
use crate::sys::ports;

/// What is pinned, and by what.
pub(super) struct Pinning {
    view: View,
    kernel: Arc<dyn Netfilter>,
    /// Captured networks, by name.
    networks: Vec<String>,
    /// Whether ports are kept apart.
    isolate: bool,
}

impl Pinning {
    /// Pins the ports of the captured networks.
    pub(super) fn new(view: View, kernel: Arc<dyn Netfilter>, docker: &DockerSettings) -> Self {
        Self { view, kernel, networks: docker.networks.clone(), isolate: docker.isolate }
    }

    /// Follows containers and ports until cancelled. What was pinned stays so.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let watched = Table { family: NFPROTO_BRIDGE, name: TABLE.to_owned() };
        let mut monitor = Monitor::open(vec![watched], ROUTE_TABLE).ok();
        let mut changes = self.view.changes();
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut installed = None;
        let mut told = None;
        loop {
            let outcome = self.follow(&mut installed).await.map_err(|error| error.to_string());
            match outcome {
                Ok(()) => told = None,
                // Once, not every five seconds.
                Err(error) if told.as_ref() != Some(&error) => {
                    tracing::warn!(error, "ports of captured bridges are not pinned to their containers");
                    told = Some(error);
                }
                Err(_) => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = hear(&mut monitor) => {}
                _ = every.tick() => {}
            }
        }
    }

    async fn follow(&self, installed: &mut Option<Installed>) -> Result<(), NftError> {
        let Some(picture) = self.view.picture() else { return Ok(()) };
        let failed = |source| NftError::Netlink { action: "show the ports of a bridge", source };
        let pins = self.pins(&picture).await.map_err(failed)?;
        if self.isolate {
            for port in &pins.members {
                let source = ports::isolate(port, true).await;
                source.map_err(|source| NftError::Netlink { action: "keep a port apart", source })?;
            }
        }
        let ruleset = pins.ruleset()?;
        match installed {
            None => *installed = Some(Installed::load(Arc::clone(&self.kernel), ruleset).await?),
            Some(there) if *there.ruleset() != ruleset => there.exchange(ruleset).await?,
            Some(there) => match there.verify().await? {
                Standing::Intact => {}
                Standing::Missing | Standing::Changed => {
                    tracing::warn!("the pins of captured bridges were not as installed");
                    there.restore().await?;
                }
            },
        }
        Ok(())
    }

    async fn pins(&self, picture: &Picture) -> io::Result<Pins> {
        let (mut members, mut bindings) = (BTreeSet::new(), BTreeSet::new());
        for network in
            picture.networks.iter().filter(|network| self.networks.iter().any(|name| **name == *network.name))
        {
            let NetworkState::Found(bridge) = &network.state else { continue };
            members.extend(ports::of_bridge(&bridge.bridge).await?);
            for attachment in picture.attachments.iter().filter(|there| there.network_id == bridge.id) {
                bindings.extend(bind(attachment, bridge, picture).await);
            }
        }
        Ok(Pins {
            members: members.into_iter().collect(),
            bindings: bindings.into_iter().collect(),
            table: TABLE.to_owned(),
        })
    }
}

/// What is known of one container's port; none while its port cannot be told. An address that several claim is bound
/// to none of them.
async fn bind(attachment: &Attachment, bridge: &Bridge, picture: &Picture) -> Option<Binding> {
    // A process that has just ended is no reason to leave the others unpinned.
    let found = ports::of_process(attachment.pid, &bridge.bridge).await.unwrap_or_default();
    let [port] = found.as_slice() else { return None };
    let own = attachment.addresses.iter().filter(|address| !picture.contested.contains(address));
    Some(Binding { port: port.clone(), mac: attachment.mac?, addresses: own.copied().collect() })
}

/// Waits for word of our table; for ever when there is none to be had.
async fn hear(monitor: &mut Option<Monitor>) {
    let Some(listening) = monitor else { return std::future::pending().await };
    if let Err(error) = listening.changed().await {
        tracing::warn!(%error, "the kernel no longer tells of changes to pins: they are looked at every 5 s");
        *monitor = None;
    }
}

/// How often ports and pins are looked at though nothing was told.
const LOOK: Duration = Duration::from_secs(5);

/// Of `netfilter.h`.
const NFPROTO_BRIDGE: u8 = 7;
