//! The kernel's neighbour table (ARP, NDP): which addresses on a captured link are one host's.
//!
//! Read on demand, never by the packet. What cannot be told for certain is no answer. Must not know what follows
//! from two addresses being one host's.

mod mirror;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use parking_lot::RwLock;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use crate::facts::{Siblings, Tick, canonical};

use super::clock;
use super::netlink::{Netlink, os_error};

pub use mirror::LinkAddress;
use mirror::{Mirror, Seen, Sight};

/// Which other addresses a client of the captured links has.
#[derive(Debug)]
pub struct Neighbours {
    /// Empty: nobody has another address.
    interfaces: RwLock<Vec<String>>,
    mirror: RwLock<Mirror>,
    reading: Mutex<Reading>,
    waiting: Semaphore,
}

/// The last dump that was tried.
#[derive(Debug, Default)]
struct Reading {
    began: Option<Tick>,
    next: Option<Instant>,
    failed: bool,
}

impl Neighbours {
    /// Follows the tables of these interfaces, by their names in the network namespace of the process.
    pub fn new(interfaces: Vec<String>) -> Self {
        Self::with(interfaces, Mirror::default())
    }

    /// Follows the tables of these interfaces from now on.
    pub fn follow(&self, interfaces: Vec<String>) {
        *self.interfaces.write() = interfaces;
    }

    /// Knows nobody: every address is a client of its own.
    pub fn none() -> Self {
        Self::new(Vec::new())
    }

    /// Knows a table that never changes, and asks no kernel.
    pub fn fixed(hosts: impl IntoIterator<Item = (LinkAddress, Vec<IpAddr>)>) -> Self {
        let hosts = hosts.into_iter();
        let sights = hosts.flat_map(|(link, addresses)| {
            addresses.into_iter().map(move |address| Sight { interface: 1, address, seen: Seen::At(link) })
        });
        let mut mirror = Mirror::default();
        mirror.update(&[1], sights.collect(), Tick::default());
        Self::with(Vec::new(), mirror)
    }

    fn with(interfaces: Vec<String>, mirror: Mirror) -> Self {
        Self {
            interfaces: RwLock::new(interfaces),
            mirror: RwLock::new(mirror),
            reading: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Returns the other addresses of the host at this address by what was read within the last 2 seconds. Costs
    /// nothing; when these do not help, [`Neighbours::siblings`] may know more.
    pub fn known(&self, address: IpAddr) -> Siblings {
        let mirror = self.mirror.read();
        let fresh = mirror.read_at().is_some_and(|at| clock::tick().since(at) < FRESH);
        if fresh || self.interfaces.read().is_empty() {
            mirror.siblings(canonical(address))
        } else {
            Siblings::default()
        }
    }

    /// Returns the other addresses of the host at this address: those with the same link-layer address on the
    /// same link. None where that is not certain: the address is not in the table or on several links, the
    /// link-layer address stands for several IPv4 addresses (a router, proxy ARP) or for more than 8 in all.
    ///
    /// The table is read anew, at most 20 times a second however many ask: those who ask meanwhile wait for the
    /// next time, and beyond 64 of them make do with what is known.
    pub async fn siblings(&self, address: IpAddr) -> Siblings {
        let asked = clock::tick();
        if !self.interfaces.read().is_empty()
            && let Ok(_place) = self.waiting.try_acquire()
        {
            let mut reading = self.reading.lock().await;
            if reading.began.is_none_or(|began| began < asked) {
                self.read(&mut reading).await;
            }
        }
        self.known(address)
    }

    /// Reads the kernel's table as soon as it is time for it.
    async fn read(&self, reading: &mut Reading) {
        if let Some(next) = reading.next {
            sleep_until(next).await;
        }
        let began = clock::tick();
        // Whoever asks may stop waiting at any await: the next one keeps the distance all the same.
        reading.next = Some(Instant::now() + BETWEEN);
        let interfaces = self.interfaces.read().clone();
        let dumped = match timeout(PATIENCE, dump(&interfaces)).await {
            Ok(dumped) => dumped,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        (reading.began, reading.next) = (Some(began), Some(Instant::now() + BETWEEN));
        match dumped {
            Ok((captured, sights)) => {
                self.mirror.write().update(&captured, sights, began);
                reading.failed = false;
            }
            // Once, not twenty times a second.
            Err(error) if !reading.failed => {
                tracing::warn!(%error, "cannot read the neighbour table: a client is known by one address only");
                reading.failed = true;
            }
            Err(_) => {}
        }
    }
}

/// Reads what the kernel knows of both families; returns the links that are there, and their entries.
async fn dump(interfaces: &[String]) -> io::Result<(Vec<u32>, Vec<Sight>)> {
    // Anew each time: a link may come back under another index.
    let index = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).ok();
    let captured: Vec<u32> = interfaces.iter().filter_map(index).collect();
    let netlink = Netlink::open()?;
    let mut messages = std::pin::pin!(netlink.handle().neighbours().get().execute());
    let mut sights = Vec::new();
    while let Some(message) = messages.try_next().await.map_err(os_error)? {
        if captured.contains(&message.header.ifindex) {
            sights.extend(sight(&message));
        }
    }
    Ok((captured, sights))
}

/// What one entry of the table says; `None`: nothing.
fn sight(message: &NeighbourMessage) -> Option<Sight> {
    let (mut address, mut link, mut quiet) = (None, None, None);
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(destination) = attribute {
            address = match destination {
                NeighbourAddress::Inet(four) => Some(IpAddr::V4(*four)),
                NeighbourAddress::Inet6(six) => Some(IpAddr::V6(*six)),
                NeighbourAddress::Other(_) | _ => None,
            };
        } else if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            link = LinkAddress::parse(bytes);
        } else if let NeighbourAttribute::CacheInfo(info) = attribute {
            quiet = Some(Duration::from_secs(u64::from(info.confirmed.min(info.updated) / USER_HZ)));
        }
    }
    let found = link.map(Seen::At);
    let seen = match message.header.state {
        NeighbourState::Failed => Some(Seen::Gone),
        NeighbourState::Stale if quiet.is_some_and(|quiet| quiet >= QUIET) => Some(Seen::Gone),
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent => found,
        // Being asked for, never asked for, or unknown: no host has answered.
        NeighbourState::Incomplete
        | NeighbourState::Noarp
        | NeighbourState::None
        | NeighbourState::Other(_)
        | _ => None,
    };
    Some(Sight { interface: message.header.ifindex, address: canonical(address?), seen: seen? })
}

/// How long what was read is good.
const FRESH: Duration = Duration::from_secs(2);
/// From one dump to the next.
const BETWEEN: Duration = Duration::from_millis(50);
/// For one dump; a thousand entries take about a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who may wait for the next dump at once: a flood of made-up sources must not fill the corridors.
const MAX_WAITING: usize = 64;
/// A stale entry that nobody confirmed for so long says nothing: no lease is older. The kernel keeps it as long as
/// the table is small (`gc_thresh1`), and hosts change their privacy addresses daily.
const QUIET: Duration = Duration::from_secs(86_400);
/// Ticks a second of the ages that the kernel tells (`USER_HZ`), on every architecture but Alpha.
const USER_HZ: u32 = 100;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
