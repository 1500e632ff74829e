//! What this machine has and lets us do: links, addresses, bridge filtering, privilege. Reads only.
//!
//! All of it is about the network namespace of the calling process. Must not know what follows from it.

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rustix::thread::CapabilitySet;

use super::netlink::{Netlink, os_error};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The name that packets carry (`iifname`), which need not be the one asked for: links have other names.
    pub name: String,
    /// Whether it is a Linux bridge.
    pub bridge: bool,
    /// The bridge, bond, team or VRF that its packets enter by.
    pub controller: Option<String>,
}

/// Whether frames that cross a bridge are shown to the IP hooks (`net.bridge.bridge-nf-call-*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgeFiltering {
    /// `bridge-nf-call-iptables`.
    pub ipv4: bool,
    /// `bridge-nf-call-ip6tables`.
    pub ipv6: bool,
}

/// Finds a link by any of its names.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn link(name: &str) -> io::Result<Option<Link>> {
    let netlink = Netlink::open()?;
    let links = netlink.handle().link();
    let Some(message) = first(links.get().match_name(name)).await? else { return Ok(None) };
    let mut found = Link { name: name_of(&message).unwrap_or_default(), bridge: false, controller: None };
    for attribute in &message.attributes {
        if let LinkAttribute::LinkInfo(infos) = attribute {
            found.bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
        }
        if let LinkAttribute::Controller(index) = attribute {
            let controller = first(links.get().match_index(*index)).await?;
            let name = controller.as_ref().and_then(name_of);
            found.controller = Some(name.unwrap_or_else(|| format!("interface {index}")));
        }
    }
    Ok(Some(found))
}

/// Lists the addresses of this host, loopback ones included.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn addresses() -> io::Result<Vec<IpAddr>> {
    let netlink = Netlink::open()?;
    let mut dump = std::pin::pin!(netlink.handle().address().get().execute());
    let mut found = Vec::new();
    while let Some(message) = dump.try_next().await.map_err(os_error)? {
        // On a point-to-point link `Address` is the far end.
        let mut near = None;
        for attribute in message.attributes {
            if let AddressAttribute::Local(address) = attribute {
                near = Some(address);
            } else if let AddressAttribute::Address(address) = attribute {
                near = near.or(Some(address));
            }
        }
        found.extend(near);
    }
    Ok(found)
}

/// Reads the bridge switches of this network namespace. Without `br_netfilter` there are none; one that
/// cannot be read counts as on.
pub fn bridge_filtering() -> BridgeFiltering {
    let on =
        |family: &str| match std::fs::read_to_string(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"))
        {
            Ok(value) => value.trim() != "0",
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
    BridgeFiltering { ipv4: on("iptables"), ipv6: on("ip6tables") }
}

/// Whether this process, and a program that it starts, may change the network of its namespace
/// (`CAP_NET_ADMIN`). A capability that comes from the file (`setcap`) is not passed on to programs.
pub fn may_administer_network() -> bool {
    let wanted = CapabilitySet::NET_ADMIN;
    let held = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted));
    let passed_on = rustix::process::geteuid().is_root()
        || rustix::thread::capability_is_in_ambient_set(wanted).unwrap_or(false);
    held && passed_on
}

async fn first(request: rtnetlink::LinkGetRequest) -> io::Result<Option<LinkMessage>> {
    let mut answers = std::pin::pin!(request.execute());
    match answers.try_next().await.map_err(os_error) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        answer => answer,
    }
}

fn name_of(link: &LinkMessage) -> Option<String> {
    let names = link.attributes.iter();
    names.filter_map(|a| if let LinkAttribute::IfName(name) = a { Some(name.clone()) } else { None }).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_a_link_without_a_controller_and_nonsense_is_none() {
        let lo = link("lo").await.expect("netlink").expect("lo");
        assert_eq!(lo, Link { name: "lo".to_owned(), bridge: false, controller: None });
        assert_eq!(link("no-such-link").await.expect("netlink"), None);
    }

    #[tokio::test]
    async fn the_addresses_of_this_host_are_addresses_that_can_be_bound() {
        for address in addresses().await.expect("netlink") {
            let link_local = matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
            if !link_local {
                std::net::UdpSocket::bind((address, 0)).expect("an own address");
            }
        }
    }
}
