//! What the table said so far, and which addresses are one host's by it.
//!
//! Pure: told what was seen and when. Must not know netlink.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::facts::{Siblings, Tick};

/// The address of one host on an Ethernet-like link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkAddress([u8; 6]);

impl LinkAddress {
    /// Reads 6 octets that name one station: not all zero, and not a group (IEEE 802-2014 section 8.2).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let octets: [u8; 6] = bytes.try_into().ok()?;
        let group = octets[0] & 1 != 0;
        (octets != [0; 6] && !group).then_some(Self(octets))
    }
}

/// One entry of a dump.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) interface: u32,
    pub(super) address: IpAddr,
    pub(super) seen: Seen,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Seen {
    /// It answers here.
    At(LinkAddress),
    /// It does not answer any more.
    Gone,
}

/// The entries of all dumps that still count, and what follows from them.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// Where each address was last seen, and when.
    known: HashMap<(u32, IpAddr), (LinkAddress, Tick)>,
    /// Of those who have any.
    siblings: HashMap<IpAddr, Siblings>,
    read_at: Option<Tick>,
}

impl Mirror {
    /// Takes in a whole dump of these interfaces; what was known of others counts no more.
    pub(super) fn update(&mut self, interfaces: &[u32], sights: Vec<Sight>, now: Tick) {
        let mut dump = HashMap::with_capacity(sights.len().min(MAX_KNOWN));
        for Sight { interface, address, seen } in sights {
            match seen {
                Seen::Gone => {
                    self.known.remove(&(interface, address));
                }
                Seen::At(link) if dump.len() < MAX_KNOWN => {
                    dump.insert((interface, address), (link, now));
                }
                Seen::At(_) => {}
            }
        }
        for ((interface, address), (link, seen_at)) in std::mem::take(&mut self.known) {
            let counts = interfaces.contains(&interface) && now.since(seen_at) < REMEMBERED;
            if counts && dump.len() < MAX_KNOWN {
                dump.entry((interface, address)).or_insert((link, seen_at));
            }
        }
        self.known = dump;
        self.siblings = siblings(
            self.known.iter().map(|((interface, address), (link, _))| (*interface, *link, *address)),
        );
        self.read_at = Some(now);
    }

    /// Returns the other addresses of the host at this one.
    pub(super) fn siblings(&self, address: IpAddr) -> Siblings {
        self.siblings.get(&address).copied().unwrap_or_default()
    }

    /// Returns when the table was last read.
    pub(super) fn read_at(&self) -> Option<Tick> {
        self.read_at
    }
}

/// Says of every address that has siblings which they are.
fn siblings(table: impl Iterator<Item = (u32, LinkAddress, IpAddr)>) -> HashMap<IpAddr, Siblings> {
    let mut hosts: HashMap<(u32, LinkAddress), Vec<IpAddr>> = HashMap::new();
    let mut places: HashMap<IpAddr, usize> = HashMap::new();
    for (interface, link, address) in table {
        hosts.entry((interface, link)).or_default().push(address);
        *places.entry(address).or_default() += 1;
    }
    let mut found = HashMap::new();
    for addresses in hosts.into_values() {
        let is_one_host = addresses.iter().filter(|address| address.is_ipv4()).count() <= 1;
        if !is_one_host || addresses.len() > MAX_ADDRESSES {
            continue;
        }
        // An address on two links is two hosts', and leases do not tell them apart.
        let own = |address: &IpAddr| places.get(address) == Some(&1);
        for address in addresses.iter().filter(|address| own(address)) {
            let others = addresses.iter().filter(|other| *other != address && own(other));
            let others: Siblings = others.copied().collect();
            if !others.is_empty() {
                found.insert(*address, others);
            }
        }
    }
    found
}

/// Addresses of one host: one IPv4, one link-local, and IPv6 ones of two prefixes with privacy addresses.
const MAX_ADDRESSES: usize = 8;
/// How long an address counts that the kernel has let go of.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Addresses that are kept: about ten megabytes, and many times the kernel's own limit (`gc_thresh3`, 1,024 for
/// each family).
const MAX_KNOWN: usize = 65_536;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn link(last: u8) -> LinkAddress {
        LinkAddress::parse(&[2, 0, 0, 0, 0, last]).unwrap()
    }

    /// Entries as `interface/link/address`; link 0: gone.
    fn dump(text: &str) -> Vec<Sight> {
        let entries = text.split_whitespace().map(|entry| {
            let mut parts = entry.splitn(3, '/');
            let mut number = || parts.next().unwrap().parse::<u8>().unwrap();
            let (interface, last) = (number(), number());
            let seen = if last == 0 { Seen::Gone } else { Seen::At(link(last)) };
            Sight { interface: interface.into(), address: parts.next().unwrap().parse().unwrap(), seen }
        });
        entries.collect()
    }

    fn kin(mirror: &Mirror, address: &str) -> String {
        let found = mirror.siblings(address.parse().unwrap());
        found.iter().map(|client| client.to_string()).collect::<Vec<_>>().join(" ")
    }

    fn at(secs: u64) -> Tick {
        Tick::default().after(Duration::from_secs(secs))
    }

    #[test]
    fn who_is_whose_sibling() {
        for (what, table, asked, expected) in [
            ("both families", "1/1/10.0.0.2 1/1/2001:db8::2", "2001:db8::2", "10.0.0.2"),
            ("the other way round", "1/1/10.0.0.2 1/1/2001:db8::2", "10.0.0.2", "2001:db8::2"),
            (
                "several ipv6 addresses",
                "1/1/fe80::2 1/1/fd00::2 1/1/2001:db8::2",
                "fd00::2",
                "2001:db8::2 fe80::2",
            ),
            ("another host", "1/1/10.0.0.2 1/2/2001:db8::2", "2001:db8::2", ""),
            ("another link", "1/1/10.0.0.2 2/1/2001:db8::2", "2001:db8::2", ""),
            ("not in the table", "1/1/10.0.0.2 1/1/2001:db8::2", "2001:db8::3", ""),
            ("two ipv4 addresses", "1/1/10.0.0.2 1/1/10.0.0.3 1/1/2001:db8::2", "2001:db8::2", ""),
            ("two ipv4 addresses, asked by one", "1/1/10.0.0.2 1/1/10.0.0.3", "10.0.0.2", ""),
            ("one address on two links", "1/1/10.0.0.2 1/1/fe80::2 2/2/fe80::2", "fe80::2", ""),
            ("a sibling on two links", "1/1/10.0.0.2 1/1/fe80::2 2/2/fe80::2", "10.0.0.2", ""),
            (
                "eight addresses",
                "1/1/10.0.0.2 1/1/::2 1/1/::3 1/1/::4 1/1/::5 1/1/::6 1/1/::7 1/1/fd00::8",
                "fd00::8",
                "10.0.0.2 ::2 ::3 ::4",
            ),
            (
                "nine addresses",
                "1/1/10.0.0.2 1/1/::2 1/1/::3 1/1/::4 1/1/::5 1/1/::6 1/1/::7 1/1/::8 1/1/::9",
                "10.0.0.2",
                "",
            ),
        ] {
            let mut mirror = Mirror::default();
            mirror.update(&[1, 2], dump(table), at(0));
            assert_eq!(kin(&mirror, asked), expected, "{what}");
        }
    }

    #[test]
    fn what_the_kernel_lets_go_of_counts_ten_minutes_unless_it_says_otherwise() {
        for (what, later, secs, expected) in [
            ("forgotten", "1/1/2001:db8::2", 599, "10.0.0.2"),
            ("forgotten long ago", "1/1/2001:db8::2", 600, ""),
            ("failed", "1/1/2001:db8::2 1/0/10.0.0.2", 1, ""),
            ("taken over", "1/1/2001:db8::2 1/2/10.0.0.2", 1, ""),
            ("a second ipv4 address", "1/1/2001:db8::2 1/1/10.0.0.3", 1, ""),
            ("the interface is gone", "2/1/2001:db8::2", 1, ""),
        ] {
            let mut mirror = Mirror::default();
            mirror.update(&[1], dump("1/1/10.0.0.2 1/1/2001:db8::2"), at(0));
            let interfaces = if what == "the interface is gone" { [2] } else { [1] };
            mirror.update(&interfaces, dump(later), at(secs));
            assert_eq!(kin(&mirror, "2001:db8::2"), expected, "{what}");
        }
    }

    #[test]
    fn a_table_without_end_is_cut() {
        let sight = |at: u32| Sight {
            interface: 1,
            address: IpAddr::V4(at.into()),
            seen: Seen::At(link(u8::try_from(at % 250).unwrap() + 1)),
        };
        let mut mirror = Mirror::default();
        mirror.update(&[1], (0..100_000).map(sight).collect(), at(0));
        mirror.update(&[1], (100_000..200_000).map(sight).collect(), at(1));
        assert_eq!(mirror.known.len(), MAX_KNOWN);
    }

    #[test]
    fn only_the_address_of_one_station_is_a_link_address() {
        for bytes in [&[][..], &[0; 6], &[255; 6], &[1, 0, 94, 0, 0, 1], &[2, 0, 0, 0, 1], &[2; 20], &[0; 4]]
        {
            assert_eq!(LinkAddress::parse(bytes), None, "{bytes:?}");
        }
    }
}
