//! A network of nothing but `lo`, on which every address of the world is at home.
//!
//! What is sent to any address then arrives at a listener of this namespace ("AnyIP": a local route for everything).
//! It speaks of the network namespace of the calling thread. Must not know who listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use super::netlink::{Netlink, os_error};

/// Brings `lo` up and makes every address a local one; packets to addresses that are not the namespace's own leave
/// from these two.
///
/// # Errors
/// The kernel refuses (`EPERM` without `CAP_NET_ADMIN` over the namespace). A kernel without IPv6 is no error.
pub async fn take_in_everything(from: (Ipv4Addr, Ipv6Addr)) -> io::Result<()> {
    let netlink = Netlink::open()?;
    up(&netlink).await?;
    add_address(&netlink, from.0.into(), 32).await?;
    let everything = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .pref_source(from.0)
        .output_interface(LO);
    add_route(&netlink, everything.build()).await?;
    let ipv6 = async {
        add_address(&netlink, from.1.into(), 128).await?;
        let everything = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(Ipv6Addr::UNSPECIFIED, 0)
            .pref_source(from.1)
            .output_interface(LO);
        add_route(&netlink, everything.build()).await
    };
    match ipv6.await {
        Err(error) if lacks_ipv6(&error) => Ok(()),
        done => done,
    }
}

async fn up(netlink: &Netlink) -> io::Result<()> {
    let mut link = LinkUnspec::new_with_index(LO).build();
    link.header.flags |= LinkFlags::Up;
    link.header.change_mask |= LinkFlags::Up;
    netlink.handle().link().set(link).execute().await.map_err(os_error)
}

async fn add_address(netlink: &Netlink, address: IpAddr, length: u8) -> io::Result<()> {
    let mut request = netlink.handle().address().add(LO, address, length);
    if address.is_ipv6() {
        // Usable at once: nobody else on `lo` could have it (RFC 4862 section 5.4).
        request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let added = request.execute().await;
    match added.map_err(os_error) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        added => added,
    }
}

async fn add_route(netlink: &Netlink, mut route: RouteMessage) -> io::Result<()> {
    route.header.kind = RouteType::Local;
    route.header.table = TABLE_LOCAL;
    // IPv6 has no such scope (rtnetlink(7)).
    let six = route.header.address_family == AddressFamily::Inet6;
    route.header.scope = if six { RouteScope::Universe } else { RouteScope::Host };
    netlink.handle().route().add(route).execute().await.map_err(os_error)
}

/// Whether the error says that IPv6 is not built in, or switched off here.
fn lacks_ipv6(error: &io::Error) -> bool {
    let without = [libc::EAFNOSUPPORT, libc::EOPNOTSUPP, libc::EACCES, libc::EADDRNOTAVAIL, libc::ENODEV];
    error.raw_os_error().is_some_and(|number| without.contains(&number))
}

/// Index of `lo`: the first interface of every network namespace.
const LO: u32 = 1;

/// The routing table that is looked at first, and says what is at home here (rtnetlink(7), `RT_TABLE_LOCAL`).
const TABLE_LOCAL: u8 = 255;
