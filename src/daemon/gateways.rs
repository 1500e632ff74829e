//! Being the default gateway of a network: which link leads there, and taking the address that its clients send to.
//!
//! Container links have arbitrary names, so a link is known by having an address in the network. Everything is checked
//! before anything is installed; the address is taken last, when whoever sends to it is captured. It stays when the gate
//! stops: clients are then refused instead of being left to whoever answers in its place. Must not know what is captured.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::sys::addresses::{self, DefaultRoute, Held};

use super::Error;

/// Gateway addresses and the links they belong on.
#[derive(Debug, Clone, Default)]
pub(super) struct Gateways(Vec<Place>);

#[derive(Debug, Clone)]
struct Place {
    gateway: IpNet,
    index: u32,
    link: String,
    /// Whether the link has the gateway address already.
    there: bool,
}

/// Why this host cannot be a network's default gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// No link leads to the network.
    #[error("no interface has an address in {network}, whose gateway this is to be")]
    Elsewhere {
        /// The network.
        network: IpNet,
    },
    /// Several do, and capturing one alone could leave the clients of the other uncaptured.
    #[error("{} all have an address in {network}, whose gateway this is to be", links.join(", "))]
    Ambiguous {
        /// The network.
        network: IpNet,
        /// The links.
        links: Vec<String>,
    },
    /// Clients would send to whoever answers first.
    #[error("another host on {link} has the gateway address {address} already")]
    Taken {
        /// The gateway address.
        address: IpAddr,
        /// The link.
        link: String,
    },
    /// The way to the world leads back here.
    #[error("the default route of this host leads to {address}, which is to be its own address")]
    Circle {
        /// The gateway address.
        address: IpAddr,
    },
}

impl GatewayError {
    /// Returns the next step.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Elsewhere { network } => format!(
                "give this host an address of its own in {network}, such as `ipv4_address` in the Compose file; \
                 `ip -brief address` lists what there is"
            ),
            Self::Ambiguous { .. } => {
                "name the interface in `capture.interfaces` and give it the gateway address yourself".to_owned()
            }
            Self::Taken { .. } => "a Docker network keeps its gateway address off the host with the driver option \
                 com.docker.network.bridge.inhibit_ipv4: \"true\" (IPv4); other networks: give that host another address"
                .to_owned(),
            Self::Circle { .. } => "of a container's networks Docker takes the default route from the one whose name comes first: \
                 name the one that leads out so that it sorts before the captured one (`ip route` shows the route)"
                .to_owned(),
        }
    }
}

impl Gateways {
    /// Finds the link of each gateway.
    pub(super) async fn find(wanted: &[IpNet]) -> Result<Self, Error> {
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let held = addresses::held().await.map_err(system("list this machine's addresses"))?;
        let places: Result<_, GatewayError> = wanted.iter().map(|&gateway| place(gateway, &held)).collect();
        Ok(Self(places?))
    }

    /// Checks that the addresses can be taken and that the way to the world stays.
    pub(super) async fn check(&self) -> Result<(), Error> {
        for Place { gateway, index, link, there } in &self.0 {
            let address = gateway.addr();
            let routes = addresses::default_routes(address).await.map_err(system("list default routes"))?;
            if leads_to(address, &routes) {
                return Err(GatewayError::Circle { address }.into());
            }
            let taken = !there
                && addresses::is_taken(*index, address).await.map_err(system("ask for the gateway"))?;
            if taken {
                return Err(GatewayError::Taken { address, link: link.clone() }.into());
            }
        }
        Ok(())
    }

    /// Returns the names of the links, each once.
    pub(super) fn links(&self) -> Vec<String> {
        let mut links: Vec<String> = self.0.iter().map(|place| place.link.clone()).collect();
        links.sort();
        links.dedup();
        links
    }

    /// Adds the addresses to the links, where they are not there yet.
    pub(super) async fn take(&self) -> Result<(), Error> {
        for Place { gateway, index, link, there: _ } in &self.0 {
            addresses::add(*index, *gateway).await.map_err(system("add the gateway address"))?;
            if let Err(error) = addresses::announce(*gateway).await {
                tracing::debug!(%error, %gateway, "clients find out by themselves, later");
            }
            tracing::info!(%gateway, link, "gateway of this network");
        }
        Ok(())
    }
}

fn system(action: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::System { action, source }
}

/// The one link that has an address in the gateway's network.
fn place(gateway: IpNet, held: &[Held]) -> Result<Place, GatewayError> {
    let network = gateway.trunc();
    let mut there: Vec<&Held> =
        held.iter().filter(|held| held.index != LOOPBACK && network.contains(&held.address)).collect();
    there.sort_by_key(|held| held.index);
    there.dedup_by_key(|held| held.index);
    match there.as_slice() {
        [] => Err(GatewayError::Elsewhere { network }),
        [one] => {
            let there = held.iter().any(|held| held.address == gateway.addr());
            Ok(Place { gateway, index: one.index, link: one.link.clone(), there })
        }
        several => {
            let links = several.iter().map(|held| held.link.clone()).collect();
            Err(GatewayError::Ambiguous { network, links })
        }
    }
}

/// Whether what no other route covers is sent to this address.
fn leads_to(address: IpAddr, routes: &[DefaultRoute]) -> bool {
    routes.iter().min_by_key(|route| route.metric).is_some_and(|best| best.via == Some(address))
}

/// `LOOPBACK_IFINDEX`: an address there says nothing about a network.
const LOOPBACK: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(index: u32, link: &str, address: &str) -> Held {
        Held { index, link: link.to_owned(), address: address.parse().expect("an address") }
    }

    fn found(gateway: &str, held: &[Held]) -> Result<(u32, String), GatewayError> {
        place(gateway.parse().expect("a gateway"), held).map(|place| (place.index, place.link))
    }

    #[test]
    fn the_link_of_a_gateway_is_the_one_with_an_address_in_its_network() {
        let links = [
            held(1, "lo", "127.0.0.1"),
            held(1, "lo", "10.9.0.7"),
            held(5, "eth0", "172.20.0.2"),
            held(9, "eth1", "10.9.0.254"),
            held(9, "eth1", "10.9.0.253"),
            held(9, "eth1", "fe80::1"),
            held(9, "eth1", "fd00:9::fe"),
        ];
        assert_eq!(found("10.9.0.1/24", &links), Ok((9, "eth1".to_owned())));
        assert_eq!(found("fd00:9::1/64", &links), Ok((9, "eth1".to_owned())));
        assert_eq!(found("172.20.0.2/16", &links), Ok((5, "eth0".to_owned())), "its only address");
        let network = "10.8.0.0/24".parse().expect("a network");
        assert_eq!(found("10.8.0.1/24", &links), Err(GatewayError::Elsewhere { network }));
        let network = "0.0.0.0/1".parse().expect("a network");
        let two = [held(5, "eth0", "10.1.0.2"), held(9, "eth1", "10.9.0.254")];
        let links = vec!["eth0".to_owned(), "eth1".to_owned()];
        assert_eq!(found("10.9.0.1/1", &two), Err(GatewayError::Ambiguous { network, links }));
    }

    #[test]
    fn only_the_preferred_default_route_counts() {
        let gateway: IpAddr = "10.9.0.1".parse().expect("an address");
        let to = |metric, via: &str| DefaultRoute { metric, via: via.parse().ok() };
        assert!(!leads_to(gateway, &[]));
        assert!(leads_to(gateway, &[to(0, "10.9.0.1")]));
        assert!(!leads_to(gateway, &[to(0, "172.20.0.1"), to(100, "10.9.0.1")]));
        assert!(leads_to(gateway, &[to(200, "172.20.0.1"), to(100, "10.9.0.1")]));
        assert!(!leads_to(gateway, &[to(0, "on the link")]));
    }
}
