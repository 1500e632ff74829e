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
            let picture = self.view.picture();
            let outcome = self.follow(picture.as_deref(), &mut installed).await;
            let outcome = outcome.map_err(|error| error.to_string());
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

    /// Pins what is known now. Where that cannot be told (no picture: Docker is away), what was pinned before is kept in
    /// force.
    async fn follow(
        &self,
        picture: Option<&Picture>,
        installed: &mut Option<Installed>,
    ) -> Result<(), NftError> {
        let (wanted, apart) = match picture {
            Some(picture) => match self.pins(picture).await {
                Ok(pins) => (pins.ruleset().map(Some).map_err(NftError::from), self.keep_apart(&pins).await),
                Err(source) => {
                    (Err(NftError::Netlink { action: "show the ports of a bridge", source }), Ok(()))
                }
            },
            None => (Ok(None), Ok(())),
        };
        let pinned = match (&mut *installed, &wanted) {
            (None, Ok(Some(ruleset))) => Installed::load(Arc::clone(&self.kernel), ruleset.clone())
                .await
                .map(|new| *installed = Some(new)),
            (Some(there), Ok(Some(ruleset))) if there.ruleset() != ruleset => {
                match there.exchange(ruleset.clone()).await {
                    Ok(()) => Ok(()),
                    Err(error) => keep(there).await.and(Err(error)),
                }
            }
            (Some(there), Ok(_) | Err(_)) => keep(there).await,
            (None, Ok(None) | Err(_)) => Ok(()),
        };
        pinned.and(wanted.map(drop)).and(apart)
    }

    /// Keeps ports from each other, where that is wanted: all that can be.
    async fn keep_apart(&self, pins: &Pins) -> Result<(), NftError> {
        let mut failed = Ok(());
        for port in pins.members.iter().filter(|_| self.isolate) {
            match ports::isolate(port, true).await {
                Err(source) if !is_gone(&source) => {
                    failed = Err(NftError::Netlink { action: "keep a port apart", source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        failed
    }

    async fn pins(&self, picture: &Picture) -> io::Result<Pins> {
        let (mut members, mut bindings) = (BTreeSet::new(), BTreeSet::new());
        for network in
            picture.networks.iter().filter(|network| self.networks.iter().any(|name| **name == *network.name))
        {
            let NetworkState::Found(bridge) = &network.state else { continue };
            match ports::of_bridge(&bridge.bridge).await {
                Ok(ports) => members.extend(ports),
                // It is gone, and Docker has not told of it yet: no reason to leave the others unpinned.
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error),
            }
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

/// Puts pins back that somebody took or changed.
async fn keep(there: &mut Installed) -> Result<(), NftError> {
    match there.verify().await? {
        Standing::Intact => Ok(()),
        Standing::Missing | Standing::Changed => {
            tracing::warn!("the pins of captured bridges were not as installed");
            there.restore().await
        }
    }
}

/// Whether the kernel says that there is no such interface.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::{Docker, DockerConfig, Network};
    use crate::nft::TableFamily;
    use crate::nft::scripted::Scripted;

    /// A network of this name on this bridge, with nothing on it.
    fn network(name: &str, bridge: &str) -> Network {
        let state = NetworkState::Found(Bridge {
            id: name.into(),
            bridge: bridge.to_owned(),
            subnets: Vec::new(),
            gateways: Vec::new(),
            internal: false,
            ipv6: false,
        });
        Network { name: name.into(), state }
    }

    #[tokio::test]
    async fn what_was_pinned_is_kept_while_docker_is_away_and_though_a_bridge_has_vanished() {
        let kernel = Arc::new(Scripted::default());
        let (_, view) = Docker::new(DockerConfig::default()).follower();
        let networks = ["gone", "there"].map(str::to_owned).to_vec();
        let pinning = Pinning { view, kernel: kernel.clone(), networks, isolate: true };
        let mut installed = None;
        pinning.follow(None, &mut installed).await.expect("nothing is known yet");
        assert_eq!(kernel.tables(), 0);

        let networks = vec![network("gone", "no-such-bridge"), network("there", "lo")];
        let picture = Picture { networks, ..Picture::default() };
        pinning.follow(Some(&picture), &mut installed).await.expect("pinned");
        assert_eq!(kernel.tables(), 1);

        kernel.forget_of(TableFamily::Bridge, TABLE);
        pinning.follow(None, &mut installed).await.expect("kept");
        assert_eq!(kernel.tables(), 1, "Docker is away, and the pins are back");
    }
}
