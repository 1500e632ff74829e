//! Interfaces, forwarding, sockets and name servers.
//!
//! Must not judge.

use crate::doctor::facts::{Forwarding, LookupService, Lookups, Seen, Service};
use crate::settings::Settings;
use crate::sys::host::{self, Link};
use crate::sys::interfaces::{self, Interface};
use crate::sys::{listeners, switches};

use super::told;

pub(super) async fn interfaces() -> Seen<Vec<Interface>> {
    interfaces::interfaces().await.map_err(|error| told(&error))
}

pub(super) async fn links(settings: Option<&Settings>) -> Seen<Vec<(String, Option<Link>)>> {
    let mut links = Vec::new();
    for name in settings.iter().flat_map(|settings| &settings.capture.interfaces) {
        links.push((name.clone(), host::link(name).await.map_err(|error| told(&error))?));
    }
    Ok(links)
}

/// Whether packets are routed that enter by the captured interfaces. The kernel asks each interface for IPv4
/// (`IN_DEV_FORWARD`), and for IPv6 the switch of all, or since Linux 6.17 one of each interface.
pub(super) fn forwarding(settings: Option<&Settings>) -> Vec<Forwarding> {
    let is_on = |name: &str| switches::is_on(name).map_err(|error| told(&error));
    let captured = settings.iter().flat_map(|settings| &settings.capture.interfaces);
    let look = |interface: &String| Forwarding {
        interface: interface.clone(),
        ipv4: is_on(&format!("net/ipv4/conf/{interface}/forwarding")),
        ipv6: match is_on("net/ipv6/conf/all/forwarding") {
            Ok(false) => is_on(&format!("net/ipv6/conf/{interface}/force_forwarding")),
            seen => seen,
        },
    };
    captured.map(look).collect()
}

pub(super) fn services() -> Seen<Vec<Service>> {
    let waiting = listeners::listeners().map_err(|error| told(&error))?;
    let inodes: Vec<u64> = waiting.iter().map(|one| one.inode).collect();
    let holders = listeners::holders(&inodes);
    let service = |one: &listeners::Listener| Service {
        transport: one.transport,
        address: one.address,
        holder: holders.get(&one.inode).cloned(),
    };
    Ok(waiting.iter().map(service).collect())
}

/// The line of nsswitch.conf(5), and sockets that do not go through port 53.
pub(super) fn lookups() -> Lookups {
    let line = match std::fs::read_to_string("/etc/nsswitch.conf") {
        Ok(text) => Ok(text
            .lines()
            .find_map(|line| line.trim().strip_prefix("hosts:"))
            .unwrap_or("")
            .trim()
            .to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(told(&error)),
    };
    let there = |service: &LookupService| std::path::Path::new(service.socket()).exists();
    Lookups { line, services: LookupService::ALL.into_iter().filter(there).collect() }
}

/// The servers that libc asks: the first three (resolv.conf(5)).
pub(super) fn name_servers() -> Seen<Vec<std::net::IpAddr>> {
    let text = std::fs::read_to_string("/etc/resolv.conf").map_err(|error| told(&error))?;
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?.parse().ok()
    });
    Ok(servers.take(3).collect())
}
