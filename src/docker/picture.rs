//! What Docker says of networks and containers at one moment.
//!
//! Pure. A picture that no follower keeps fresh says who was where, not who is. Must not know the daemon's messages.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::facts::Container;

use super::notice::Notice;

/// The networks that were asked for, and who is on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// One for each name that was asked for, in that order; when none was: every bridge network, by name.
    pub networks: Vec<Network>,
    /// The running containers with an address on these networks, by identifier. Those that share another container's
    /// network (`network_mode: service:...`) have none of their own and are not among them.
    pub containers: Vec<Arc<Container>>,
    /// Where these containers are attached, by container.
    pub attachments: Vec<Attachment>,
    /// Addresses that several containers claim at this moment. They are nobody's.
    pub contested: Vec<IpAddr>,
}

/// A network, by the name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// As asked for.
    pub name: Arc<str>,
    /// What there is of that name.
    pub state: NetworkState,
}

/// What there is of a network's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkState {
    /// A bridge network.
    Found(Bridge),
    /// Nothing.
    Missing,
    /// Its packets pass no bridge of this host.
    NotABridge {
        /// Docker's name for what it is.
        driver: String,
    },
    /// Several networks have this name (Docker before 25 allows it): which is meant cannot be told.
    Ambiguous,
    /// A bridge network whose description cannot be read.
    Garbled {
        /// What cannot be read.
        field: &'static str,
    },
}

/// The bridge of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The network's identifier: a network that was made again has another.
    pub id: Arc<str>,
    /// The interface.
    pub bridge: String,
    /// Its address ranges.
    pub subnets: Vec<IpNet>,
    /// The addresses that containers use as default gateway.
    pub gateways: Vec<IpAddr>,
    /// Whether it was made with `internal: true`: Docker itself lets nothing out.
    pub internal: bool,
    /// Whether it was made with IPv6.
    pub ipv6: bool,
}

/// One container's place on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The container's identifier.
    pub container: Arc<str>,
    /// The network's name.
    pub network: Arc<str>,
    /// The network's identifier.
    pub network_id: Arc<str>,
    /// The container's Ethernet address there; none on networks without (ipvlan).
    pub mac: Option<[u8; 6]>,
    /// Its addresses there, canonical, contested ones included.
    pub addresses: Vec<IpAddr>,
    /// The container's first process, by its number on this host.
    pub pid: u32,
}

impl Picture {
    /// Puts containers together: each with the places where it is.
    pub(super) fn new(networks: Vec<Network>, found: Vec<(Arc<Container>, Vec<Attachment>)>) -> Self {
        let mut claims: Vec<(IpAddr, &str)> = found
            .iter()
            .flat_map(|(container, _)| container.addresses.iter().map(|address| (*address, &*container.id)))
            .collect();
        claims.sort_unstable();
        claims.dedup();
        let mut contested: Vec<IpAddr> =
            claims.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| two[0].0).collect();
        contested.dedup();
        let mut picture = Self { networks, contested, ..Self::default() };
        for (container, attachments) in found {
            picture.containers.extend(without(&container, &picture.contested));
            picture.attachments.extend(attachments);
        }
        picture.containers.sort_by(|one, other| one.id.cmp(&other.id));
        picture.attachments.sort_by(|one, other| {
            (&one.container, &one.network_id).cmp(&(&other.container, &other.network_id))
        });
        picture
    }

    /// Takes away what holds no more after an event. Never adds anything: that takes a look.
    pub(super) fn take_away(&mut self, notice: &Notice) -> bool {
        match notice {
            Notice::Renamed { container } => {
                let Some(known) = self.containers.iter_mut().find(|known| *known.id == **container) else {
                    return false;
                };
                // It is who it was; what it is called now takes a look.
                Arc::make_mut(known).name = "".into();
                true
            }
            Notice::Left { container } => {
                let before = self.containers.len() + self.attachments.len();
                self.containers.retain(|known| *known.id != **container);
                self.attachments.retain(|known| *known.container != **container);
                before != self.containers.len() + self.attachments.len()
            }
            Notice::Detached { container, network } => {
                self.detach(|place| *place.container == **container && *place.network_id == **network)
            }
            Notice::Removed { network } => {
                let mut changed = self.detach(|place| *place.network_id == **network);
                for known in &mut self.networks {
                    if matches!(&known.state, NetworkState::Found(bridge) if *bridge.id == **network) {
                        known.state = NetworkState::Missing;
                        changed = true;
                    }
                }
                changed
            }
            Notice::Changed => false,
        }
    }

    fn detach(&mut self, gone: impl Fn(&Attachment) -> bool) -> bool {
        let (left, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.attachments).into_iter().partition(gone);
        self.attachments = kept;
        for place in &left {
            let Some(at) = self.containers.iter().position(|known| known.id == place.container) else {
                continue;
            };
            match without(&self.containers[at], &place.addresses) {
                Some(container) => self.containers[at] = container,
                None => {
                    self.containers.remove(at);
                }
            }
        }
        !left.is_empty()
    }
}

/// The container without these addresses; `None`: it has no other.
fn without(container: &Arc<Container>, addresses: &[IpAddr]) -> Option<Arc<Container>> {
    let is_left = |address: &IpAddr| !addresses.contains(address);
    if container.addresses.iter().all(is_left) {
        return (!container.addresses.is_empty()).then(|| Arc::clone(container));
    }
    let left: Vec<IpAddr> = container.addresses.iter().copied().filter(is_left).collect();
    (!left.is_empty()).then(|| Arc::new(Container { addresses: left, ..Container::clone(container) }))
}
