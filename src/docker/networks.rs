//! From Docker's list of networks to the bridges behind the names that were asked for.
//!
//! Pure. What cannot be read is never guessed. Must not know containers.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use bollard::models::{Ipam, Network as Described};
use ipnet::IpNet;

use crate::facts::canonical;

use super::picture::{Bridge, Network, NetworkState};

/// Finds the networks that were asked for; when none was, all with a bridge.
pub(super) fn read(wanted: &[String], all: &[Described]) -> Vec<Network> {
    let bridges = || all.iter().filter(|network| network.driver.as_deref() == Some(BRIDGE));
    let every: BTreeSet<&str> = bridges().filter_map(|network| network.name.as_deref()).collect();
    let names: Vec<&str> = if wanted.is_empty() {
        every.into_iter().collect()
    } else {
        wanted.iter().map(String::as_str).collect()
    };
    let network = |name: &str| Network { name: name.into(), state: state(name, all) };
    names.into_iter().map(network).collect()
}

fn state(name: &str, all: &[Described]) -> NetworkState {
    let mut named = all.iter().filter(|network| network.name.as_deref() == Some(name));
    match (named.next(), named.next()) {
        (None, _) => NetworkState::Missing,
        (Some(_), Some(_)) => NetworkState::Ambiguous,
        (Some(network), None) => match network.driver.as_deref() {
            Some(BRIDGE) => {
                bridge(network).map_or_else(|field| NetworkState::Garbled { field }, NetworkState::Found)
            }
            other => NetworkState::NotABridge { driver: other.unwrap_or("?").chars().take(64).collect() },
        },
    }
}

fn bridge(network: &Described) -> Result<Bridge, &'static str> {
    let id = network.id.as_deref().filter(|id| is_id(id)).ok_or("identifier")?;
    let option =
        |key: &str| network.options.as_ref().and_then(|options| options.get(key)).map(String::as_str);
    let bridge = match (option(NAME_OPTION), option(DEFAULT_OPTION)) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Some("true")) => DEFAULT_BRIDGE.to_owned(),
        (_, _) => format!("br-{}", &id[..12]),
    };
    if !is_interface(&bridge) {
        return Err("bridge name");
    }
    let (subnets, gateways) = ranges(network.ipam.as_ref())?;
    let (internal, ipv6) = (network.internal.unwrap_or(false), network.enable_ipv6.unwrap_or(false));
    Ok(Bridge { id: id.into(), bridge, subnets, gateways, internal, ipv6 })
}

fn ranges(ipam: Option<&Ipam>) -> Result<(Vec<IpNet>, Vec<IpAddr>), &'static str> {
    let (mut subnets, mut gateways) = (Vec::new(), Vec::new());
    for range in ipam.and_then(|ipam| ipam.config.as_ref()).into_iter().flatten() {
        if let Some(subnet) = range.subnet.as_deref().filter(|text| !text.is_empty()) {
            subnets.push(subnet.parse::<IpNet>().map_err(|_| "subnet")?.trunc());
        }
        if let Some(gateway) = range.gateway.as_deref().filter(|text| !text.is_empty()) {
            // Docker writes some with the length of the prefix.
            let address = gateway.split('/').next().unwrap_or(gateway);
            gateways.push(canonical(address.parse().map_err(|_| "gateway")?));
        }
    }
    Ok((subnets, gateways))
}

/// Which networks count.
#[derive(Debug)]
pub(super) enum Scope {
    /// All.
    Any,
    /// These, by identifier, with the names that were asked for.
    Of(HashMap<Arc<str>, Arc<str>>),
}

impl Scope {
    pub(super) fn new(wanted: &[String], networks: &[Network]) -> Self {
        if wanted.is_empty() {
            return Self::Any;
        }
        let found = networks.iter().filter_map(|network| match &network.state {
            NetworkState::Found(bridge) => Some((Arc::clone(&bridge.id), Arc::clone(&network.name))),
            NetworkState::Missing
            | NetworkState::NotABridge { .. }
            | NetworkState::Ambiguous
            | NetworkState::Garbled { .. } => None,
        });
        Self::Of(found.collect())
    }

    /// Returns the name of a network that counts. `called` is how a container calls it.
    pub(super) fn name(&self, id: &str, called: &str) -> Option<Arc<str>> {
        match self {
            Self::Any => Some(called.into()),
            Self::Of(names) => names.get(id).cloned(),
        }
    }
}

/// Whether Docker made this up: 64 hex digits.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the kernel takes this as the name of an interface (`dev_valid_name`), without what no bridge is called.
fn is_interface(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    (1..=15).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(fine)
}

const BRIDGE: &str = "bridge";
const DEFAULT_BRIDGE: &str = "docker0";
const NAME_OPTION: &str = "com.docker.network.bridge.name";
const DEFAULT_OPTION: &str = "com.docker.network.bridge.default_bridge";
