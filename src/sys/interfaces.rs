//! Every network interface of this namespace: what kind it is, whose port, at which addresses. Reads only.
//!
//! Asks rtnetlink, as `/sys` shows the namespace that mounted it. Must not know what follows from it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::netlink::{Netlink, os_error};

/// What an interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `lo`.
    Loopback,
    /// A Linux bridge.
    Bridge,
    /// The driver of a device, which the kernel knows no kind of.
    Device,
    /// Anything else that is made by software: veth, VLAN, tunnel.
    Made,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it is switched on.
    pub up: bool,
    /// The bridge, bond, team or VRF that its packets enter by.
    pub controller: Option<String>,
    /// As the port of a bridge: whether it is kept from other such ports (`bridge link set ... isolated on`).
    pub isolated: bool,
    /// The addresses of this host on it.
    pub addresses: Vec<IpAddr>,
}

/// Lists them.
///
/// # Errors
/// The kernel does not answer.
pub async fn interfaces() -> io::Result<Vec<Interface>> {
    let netlink = Netlink::open()?;
    let mut messages = Vec::new();
    let mut dump = std::pin::pin!(netlink.handle().link().get().execute());
    while let Some(message) = dump.try_next().await.map_err(os_error)? {
        messages.push(message);
    }
    let names: BTreeMap<u32, String> =
        messages.iter().map(|message| (message.header.index, name_of(message))).collect();
    let mut addresses = addresses(&netlink).await?;
    let interface = |message: &LinkMessage| {
        let mut found = Interface {
            name: name_of(message),
            kind: Kind::Device,
            up: message.header.flags.contains(LinkFlags::Up),
            controller: None,
            isolated: false,
            addresses: addresses.remove(&message.header.index).unwrap_or_default(),
        };
        for attribute in &message.attributes {
            if let LinkAttribute::Controller(index) = attribute {
                let name = names.get(index).cloned();
                found.controller = Some(name.unwrap_or_else(|| format!("interface {index}")));
            } else if let LinkAttribute::LinkInfo(infos) = attribute {
                infos.iter().for_each(|info| note(&mut found, info));
            }
        }
        if message.header.flags.contains(LinkFlags::Loopback) {
            found.kind = Kind::Loopback;
        }
        found
    };
    Ok(messages.iter().map(interface).collect())
}

fn note(found: &mut Interface, info: &LinkInfo) {
    if let LinkInfo::Kind(kind) = info {
        found.kind = if *kind == InfoKind::Bridge { Kind::Bridge } else { Kind::Made };
    } else if let LinkInfo::PortData(InfoPortData::BridgePort(facts)) = info {
        found.isolated = facts.contains(&InfoBridgePort::Isolated(true));
    }
}

/// The addresses of this host by the index of their interface.
async fn addresses(netlink: &Netlink) -> io::Result<BTreeMap<u32, Vec<IpAddr>>> {
    let mut found: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    let mut dump = std::pin::pin!(netlink.handle().address().get().execute());
    while let Some(message) = dump.try_next().await.map_err(os_error)? {
        // On a point-to-point link `Address` is the far end.
        let (mut near, mut far) = (None, None);
        for attribute in message.attributes {
            if let AddressAttribute::Local(address) = attribute {
                near = Some(address);
            } else if let AddressAttribute::Address(address) = attribute {
                far = Some(address);
            }
        }
        found.entry(message.header.index).or_default().extend(near.or(far));
    }
    Ok(found)
}

fn name_of(link: &LinkMessage) -> String {
    let mut names = link.attributes.iter();
    let name =
        names.find_map(|a| if let LinkAttribute::IfName(name) = a { Some(name.clone()) } else { None });
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_listed_as_what_it_is() {
        let all = interfaces().await.unwrap();
        let lo = all.iter().find(|one| one.name == "lo").unwrap();
        assert_eq!((lo.kind, &lo.controller, lo.isolated), (Kind::Loopback, &None, false));
        assert!(all.iter().filter(|one| one.kind == Kind::Loopback).count() == 1);
    }
}
