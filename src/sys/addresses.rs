//! Addresses on links: which there are, one more, whether a neighbour has it already, where the default routes lead.
//!
//! What is added is signed: it can be told from other people's, and removed by somebody who knows nothing of why it is
//! there. It speaks of the network namespace of the process. Must not know what an address is for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use tokio::time::sleep;

use super::netlink::{Netlink, os_error};

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Index of the link.
    pub index: u32,
    /// Name of the link.
    pub link: String,
    /// The address; on a point-to-point link the near end.
    pub address: IpAddr,
}

/// Lists the addresses of all links.
///
/// # Errors
/// The kernel does not answer.
pub async fn held() -> io::Result<Vec<Held>> {
    let netlink = Netlink::open()?;
    Ok(messages(&netlink).await?.iter().filter_map(read).collect())
}

/// Adds an address with the length of its network, usable at once. That it is there already is fine.
///
/// # Errors
/// The kernel refuses: `EPERM` without `CAP_NET_ADMIN`, `EACCES` where IPv6 is switched off.
pub async fn add(index: u32, address: IpNet) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let mut request = netlink.handle().address().add(index, address.addr(), address.prefix_len());
    let attributes = &mut request.message_mut().attributes;
    attributes.push(AddressAttribute::Protocol(SIGNATURE));
    if address.addr().is_ipv6() {
        // `is_taken` is how to ask first; to ask again would leave it unusable for a second.
        attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    unless(request.execute().await, libc::EEXIST)
}

/// Removes every address that [`add`] added, also in an earlier run, and returns them. Kernels before 5.18 keep no
/// signature: there none is found.
///
/// # Errors
/// The kernel does not answer, or refuses.
pub async fn remove_added() -> io::Result<Vec<Held>> {
    let netlink = Netlink::open()?;
    let mut removed = Vec::new();
    for message in messages(&netlink).await? {
        if message.attributes.contains(&AddressAttribute::Protocol(SIGNATURE)) {
            removed.extend(read(&message));
            // A link that went meanwhile took it along.
            unless(netlink.handle().address().del(message).execute().await, libc::EADDRNOTAVAIL)?;
        }
    }
    Ok(removed)
}

/// Whether another host on the link answers for an address that this one does not have (ARP, NDP). Waits a quarter
/// of a second for an answer: a host that is slower than that is not found.
///
/// # Errors
/// The kernel does not answer, or refuses (`EPERM` without `CAP_NET_ADMIN`).
pub async fn is_taken(index: u32, address: IpAddr) -> io::Result<bool> {
    let netlink = Netlink::open()?;
    let neighbours = netlink.handle().neighbours();
    // What was known is forgotten, so that the kernel asks now.
    if let Some(known) = neighbour(&netlink, index, address).await? {
        unless(neighbours.del(known).execute().await, libc::ENOENT)?;
    }
    let ask = neighbours.add(index, address).state(NeighbourState::None).flags(NeighbourFlags::Use);
    ask.replace().execute().await.map_err(os_error)?;
    for _ in 0..LOOKS {
        sleep(BETWEEN_LOOKS).await;
        let state = neighbour(&netlink, index, address).await?.map(|message| message.header.state);
        if matches!(state, Some(NeighbourState::Reachable | NeighbourState::Permanent)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has the hosts of a link hear where an address of ours is now: those who knew it elsewhere would go on sending there for
/// some ten seconds. They learn it from whatever question we ask in its name (RFC 826), so one datagram is sent to an
/// address that is probably nobody's. For IPv4; IPv6 hosts find out by themselves.
///
/// # Errors
/// The kernel does not answer, or has no such address.
pub async fn announce(ours: IpNet) -> io::Result<()> {
    let IpNet::V4(ours) = ours else { return Ok(()) };
    let held: Vec<IpAddr> = held().await?.into_iter().map(|held| held.address).collect();
    let last = u32::from(ours.broadcast());
    let others = (1..=3).map(|back| Ipv4Addr::from(last.saturating_sub(back)));
    let Some(nobody) =
        others.filter(|other| ours.contains(other)).find(|&other| !held.contains(&other.into()))
    else {
        return Ok(());
    };
    let socket = UdpSocket::bind((ours.addr(), 0))?;
    socket.set_ttl(1)?;
    socket.send_to(&[], (nobody, DISCARD)).map(drop)
}

/// A default route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Lower is preferred.
    pub metric: u32,
    /// The router; none: every address is on the link.
    pub via: Option<IpAddr>,
}

/// Lists the default routes of the address family of an address.
///
/// # Errors
/// The kernel does not answer.
pub async fn default_routes(like: IpAddr) -> io::Result<Vec<DefaultRoute>> {
    let netlink = Netlink::open()?;
    let mut wanted = match like {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    // Zero is "any" in each.
    (wanted.header.kind, wanted.header.protocol) = (RouteType::Unspec, RouteProtocol::Unspec);
    (wanted.header.scope, wanted.header.table) = (RouteScope::Universe, RouteHeader::RT_TABLE_MAIN);
    let mut dump = std::pin::pin!(netlink.handle().route().get(wanted).execute());
    let mut found = Vec::new();
    while let Some(route) = dump.try_next().await.map_err(os_error)? {
        found.extend(default_route(&route));
    }
    Ok(found)
}

fn default_route(route: &RouteMessage) -> Option<DefaultRoute> {
    let header = &route.header;
    let main = header.table == RouteHeader::RT_TABLE_MAIN;
    if !main || header.destination_prefix_length != 0 || header.kind != RouteType::Unicast {
        return None;
    }
    let mut found = DefaultRoute { metric: 0, via: None };
    for attribute in &route.attributes {
        if let RouteAttribute::Priority(metric) = attribute {
            found.metric = *metric;
        } else if let RouteAttribute::Gateway(RouteAddress::Inet(four)) = attribute {
            found.via = Some(IpAddr::V4(*four));
        } else if let RouteAttribute::Gateway(RouteAddress::Inet6(six)) = attribute {
            found.via = Some(IpAddr::V6(*six));
        }
    }
    Some(found)
}

async fn messages(netlink: &Netlink) -> io::Result<Vec<AddressMessage>> {
    netlink.handle().address().get().execute().try_collect().await.map_err(os_error)
}

fn read(message: &AddressMessage) -> Option<Held> {
    let mut near = None;
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            near = Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            near = near.or(Some(*address));
        }
    }
    let index = message.header.index;
    // A link that is gone has no addresses either.
    let link = nix::net::if_::if_indextoname(index).ok()?.into_string().ok()?;
    Some(Held { index, link, address: near? })
}

async fn neighbour(netlink: &Netlink, index: u32, address: IpAddr) -> io::Result<Option<NeighbourMessage>> {
    let wanted = NeighbourAttribute::Destination(match address {
        IpAddr::V4(four) => NeighbourAddress::Inet(four),
        IpAddr::V6(six) => NeighbourAddress::Inet6(six),
    });
    let mut dump = std::pin::pin!(netlink.handle().neighbours().get().execute());
    while let Some(message) = dump.try_next().await.map_err(os_error)? {
        if message.header.ifindex == index && message.attributes.contains(&wanted) {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// Passes over the one refusal that says the work is done already.
fn unless(result: Result<(), rtnetlink::Error>, done: i32) -> io::Result<()> {
    match result.map_err(os_error) {
        Err(error) if error.raw_os_error() == Some(done) => Ok(()),
        other => other,
    }
}

/// Signs our addresses (`ip address show` prints `proto 0x4e`, "N"); nobody's in `if_addr.h` nor in iproute2's list.
const SIGNATURE: AddressProtocol = AddressProtocol::Other(78);

/// A port where nothing is expected to happen (RFC 863).
const DISCARD: u16 = 9;

/// From one look at the neighbour table to the next.
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
/// An answer on the same machine takes less than a millisecond.
const LOOKS: u32 = 10;
