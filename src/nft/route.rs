//! Policy routing around the ruleset: the way home of marked packets, and a fence behind the table.
//!
//! Home is `ip rule add fwmark 0x4e47 lookup 231` with `ip route add local default dev lo table 231`: without it
//! a marked packet is dropped, never routed. A fence is `ip rule add iif NAME prohibit`: should the table be
//! flushed on a host that forwards, its captured traffic stops instead of leaking. All in-process. Nothing
//! but these is added, changed or removed.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::error::NftError;
use super::ruleset::MARK;
use crate::sys::netlink::{Netlink, os_error};

/// The routing table of marked packets. Below 256, so that every tool can name it.
pub const ROUTE_TABLE: u8 = 231;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One thing that policy routing is to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// Marked packets are for this host.
    Home,
    /// Packets of this interface are not routed.
    Fence(String),
}

/// What policy routing does, of ours. A host may have no IPv6: then those pieces are not among them.
pub type Steering = BTreeSet<(Family, Piece)>;

/// Adds what is not there yet, and says what of it there is now.
pub(super) async fn add(pieces: Vec<Piece>) -> Result<Steering, NftError> {
    let netlink = open()?;
    let mut steering = Steering::new();
    for family in FAMILIES {
        let there = rules(&netlink, family).await?;
        for piece in &pieces {
            let ruled = there.iter().any(|(known, _)| known == piece);
            match add_piece(&netlink, family, piece, ruled).await {
                Ok(()) => {
                    steering.insert((family, piece.clone()));
                }
                Err(NftError::Netlink { source, .. }) if family == Family::V6 && is_without_ipv6(&source) => {
                    tracing::debug!(%source, "this host has no ipv6 to steer");
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(steering)
}

/// Removes these pieces, or all of ours, also what an earlier run left; says what was there.
pub(super) async fn remove(pieces: Option<Vec<Piece>>) -> Result<Steering, NftError> {
    let netlink = open()?;
    let mut had = Steering::new();
    let meant = |piece: &Piece| pieces.as_ref().is_none_or(|pieces| pieces.contains(piece));
    for family in FAMILIES {
        for (piece, message) in rules(&netlink, family).await? {
            if meant(&piece) {
                let gone = netlink.handle().rule().del(message).execute().await.map_err(os_error);
                unless(gone, libc::ENOENT, "remove a routing rule")?;
                had.insert((family, piece));
            }
        }
        if meant(&Piece::Home) && routes(&netlink, family).await?.iter().any(is_home) {
            let gone = netlink.handle().route().del(home(family)).execute().await.map_err(os_error);
            unless(gone, libc::ESRCH, "remove a route")?;
            had.insert((family, Piece::Home));
        }
    }
    Ok(had)
}

/// Says what there is of ours; a rule home without its route is none.
pub(super) async fn present() -> Result<Steering, NftError> {
    let netlink = open()?;
    let mut steering = Steering::new();
    for family in FAMILIES {
        let routed = routes(&netlink, family).await?.iter().any(is_home);
        let rules = rules(&netlink, family).await?.into_iter().map(|(piece, _)| piece);
        steering.extend(rules.filter(|piece| routed || *piece != Piece::Home).map(|piece| (family, piece)));
    }
    Ok(steering)
}

async fn add_piece(netlink: &Netlink, family: Family, piece: &Piece, ruled: bool) -> Result<(), NftError> {
    if *piece == Piece::Home {
        let there = routes(netlink, family).await?;
        if !there.iter().all(is_home) {
            return Err(NftError::RoutingTable { table: ROUTE_TABLE });
        }
        if there.is_empty() {
            let added = netlink.handle().route().add(home(family)).execute().await.map_err(os_error);
            unless(added, libc::EEXIST, "add a local route on lo")?;
        }
    }
    if ruled {
        return Ok(());
    }
    let rule = netlink.handle().rule().add();
    let mut rule = match piece {
        Piece::Home => rule.fw_mark(MARK).table_id(u32::from(ROUTE_TABLE)).priority(HOME_PRIORITY),
        Piece::Fence(name) => rule.input_interface(name).priority(FENCE_PRIORITY),
    };
    match piece {
        Piece::Home => rule = rule.action(RuleAction::ToTable),
        Piece::Fence(_) => {
            rule = rule.action(RuleAction::Prohibit).table_id(0);
            rule.message_mut().attributes.push(RuleAttribute::Protocol(SIGNATURE));
        }
    }
    let added = match family {
        Family::V4 => rule.v4().execute().await,
        Family::V6 => rule.v6().execute().await,
    };
    unless(added.map_err(os_error), libc::EEXIST, "add a routing rule")
}

/// Our rules: those that send our mark to our table, at whatever priority, and those we signed.
async fn rules(netlink: &Netlink, family: Family) -> Result<Vec<(Piece, RuleMessage)>, NftError> {
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    let mut dump = std::pin::pin!(netlink.handle().rule().get(version).execute());
    let mut ours = Vec::new();
    while let Some(rule) = dump.try_next().await.map_err(os_error).or_else(none_if_absent).map_err(list)? {
        if let Some(piece) = piece_of(&rule) {
            ours.push((piece, rule));
        }
    }
    Ok(ours)
}

fn piece_of(rule: &RuleMessage) -> Option<Piece> {
    let has = |attribute| rule.attributes.contains(&attribute);
    let to_table = rule.header.action == RuleAction::ToTable && rule.header.table == ROUTE_TABLE;
    if to_table && has(RuleAttribute::FwMark(MARK)) {
        return Some(Piece::Home);
    }
    if rule.header.action != RuleAction::Prohibit || !has(RuleAttribute::Protocol(SIGNATURE)) {
        return None;
    }
    let mut attributes = rule.attributes.iter();
    attributes.find_map(|attribute| {
        if let RuleAttribute::Iifname(name) = attribute { Some(Piece::Fence(name.clone())) } else { None }
    })
}

/// All routes of our table, whosever they are.
async fn routes(netlink: &Netlink, family: Family) -> Result<Vec<RouteMessage>, NftError> {
    let mut wanted = home(family);
    wanted.attributes.clear();
    wanted.header.kind = RouteType::Unspec;
    wanted.header.protocol = RouteProtocol::Unspec;
    wanted.header.scope = RouteScope::Universe;
    let mut dump = std::pin::pin!(netlink.handle().route().get(wanted).execute());
    let mut found = Vec::new();
    while let Some(route) = dump.try_next().await.map_err(os_error).or_else(none_if_absent).map_err(list)? {
        if route.header.table == ROUTE_TABLE {
            found.push(route);
        }
    }
    Ok(found)
}

fn is_home(route: &RouteMessage) -> bool {
    route.header.kind == RouteType::Local
        && route.header.destination_prefix_length == 0
        && route.attributes.contains(&RouteAttribute::Oif(LOOPBACK))
}

/// `local default dev lo table 231`.
fn home(family: Family) -> RouteMessage {
    let mut message = match family {
        Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().output_interface(LOOPBACK).build(),
        Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().output_interface(LOOPBACK).build(),
    };
    message.header.table = ROUTE_TABLE;
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    message
}

fn open() -> Result<Netlink, NftError> {
    Netlink::open().map_err(|source| NftError::Netlink { action: "open a netlink socket", source })
}

fn list(source: io::Error) -> NftError {
    NftError::Netlink { action: "list rules and routes", source }
}

/// A table that no route was ever in does not exist, nor do the tables of an absent address family.
fn none_if_absent<T>(error: io::Error) -> io::Result<Option<T>> {
    let absent = error.raw_os_error() == Some(libc::ENOENT) || is_without_ipv6(&error);
    if absent { Ok(None) } else { Err(error) }
}

/// Passes over the one refusal that says the work is done already.
fn unless(result: io::Result<()>, done: i32, action: &'static str) -> Result<(), NftError> {
    match result {
        Err(error) if error.raw_os_error() == Some(done) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(NftError::NoPrivilege),
        other => other.map_err(|source| NftError::Netlink { action, source }),
    }
}

/// How a kernel without IPv6, or with `disable_ipv6`, says so.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES | libc::ENODEV))
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Before everybody's: a VPN's rule for the rest of the world must not take marked packets.
const HOME_PRIORITY: u32 = 100;

/// After the way home, before every table but `local` (0): packets for this host itself still arrive.
const FENCE_PRIORITY: u32 = 101;

/// Tells our fences from other people's rules (`ip rule show` prints `proto 78`, "N"); nobody's in
/// `rtnetlink.h` nor in iproute2's list.
const SIGNATURE: RouteProtocol = RouteProtocol::Other(78);

/// `LOOPBACK_IFINDEX`, the same in every network namespace.
const LOOPBACK: u32 = 1;
