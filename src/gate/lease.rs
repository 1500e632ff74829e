//! What one shard stores: the lease, packed into a cache line, and the client that holds it.
//!
//! Must not know how either is found or when it is thrown out.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::facts::{Client, Source, Tick};

use super::slab::{Links, List, Slot};

/// One lease: 64 bytes, which the size test holds it to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) address: Ipv6Addr,
    pub(super) answered_at: Tick,
    pub(super) life_ms: u32,
    pub(super) hash: u32,
    pub(super) chain: Slot,
    pub(super) client: Slot,
    pub(super) told: Told,
    pub(super) pins: u32,
    /// Neighbours by age among the leases of the client.
    pub(super) age: Links,
    /// Neighbours among the leases of the client at this address.
    pub(super) peers: Links,
}

/// The leases of one client.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) client: Client,
    pub(super) leases: usize,
    /// Whether a flow of it was ever allowed: its address is not made up.
    pub(super) proven: bool,
    /// Those of them that open flows hold.
    pub(super) pinned: usize,
    /// All its leases, the one written last in front.
    pub(super) ages: List,
    pub(super) newcomers: Links,
}

impl Lease {
    pub(super) fn ends(&self) -> Tick {
        ends(self.answered_at, self.life_ms)
    }

    /// Whether it counts: not ended, or held by an open flow.
    pub(super) fn is_live(&self, now: Tick) -> bool {
        self.pins > 0 || now < self.ends()
    }

    /// How long ago it ended, if it did and no flow holds it.
    pub(super) fn ended_for(&self, now: Tick) -> Option<Duration> {
        (!self.is_live(now)).then(|| now.since(self.ends()))
    }

    pub(super) fn is_at(&self, holder: Slot, address: Ipv6Addr) -> bool {
        self.client == holder && self.address == address
    }

    pub(super) fn age(&mut self) -> &mut Links {
        &mut self.age
    }

    pub(super) fn peers(&mut self) -> &mut Links {
        &mut self.peers
    }
}

impl Holder {
    /// Whether it has a lease that no open flow holds.
    pub(super) fn can_give(&self) -> bool {
        self.pinned < self.leases
    }

    pub(super) fn newcomers(&mut self) -> &mut Links {
        &mut self.newcomers
    }
}

/// One lease about to be written.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) ip: IpAddr,
    pub(super) answered_at: Tick,
    pub(super) life_ms: u32,
    pub(super) chain: Slot,
    pub(super) told: Told,
}

/// Whether it was used (1 bit), TTL (24 bits), source (2 bits) and place in the chain (5 bits) in one word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told(u32);

impl Told {
    pub(super) fn new(ttl_secs: u32, source: Source, place: usize) -> Self {
        // RFC 2181 section 8: a TTL with the upper bit set is zero.
        let ttl_secs = if ttl_secs > i32::MAX.unsigned_abs() { 0 } else { ttl_secs.min(TTL_MASK) };
        let source = match source {
            Source::Forwarder => 0,
            Source::Dnstap => 1,
            Source::Resolved => 2,
            Source::Granted => 3,
        };
        Self(ttl_secs << 7 | source << 5 | u32::try_from(place).unwrap_or(0))
    }

    pub(super) fn ttl_secs(self) -> u32 {
        (self.0 >> 7) & TTL_MASK
    }

    pub(super) fn source(self) -> Source {
        match (self.0 >> 5) & 0b11 {
            0 => Source::Forwarder,
            1 => Source::Dnstap,
            2 => Source::Resolved,
            _ => Source::Granted,
        }
    }

    /// Notes that the lease allowed a flow.
    pub(super) fn mark_used(&mut self) {
        self.0 |= 1 << 31;
    }

    /// Takes the note back and returns whether it was there.
    pub(super) fn take_used(&mut self) -> bool {
        let used = self.0 & (1 << 31) != 0;
        self.0 &= !(1 << 31);
        used
    }

    pub(super) fn place(self) -> usize {
        usize::try_from(self.0 & 0b1_1111).unwrap_or(0)
    }
}

/// The largest TTL that is kept, half a year.
const TTL_MASK: u32 = (1 << 24) - 1;

pub(super) fn ends(answered_at: Tick, life_ms: u32) -> Tick {
    answered_at.after(Duration::from_millis(life_ms.into()))
}

/// IPv4 in its mapped form, which no canonical address has for itself.
pub(super) fn octets(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    }
}

/// A TTL above a day counts as a day (as unbound's `cache-max-ttl`).
pub(super) const MAX_TTL: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::super::shard::MAX_CHAIN;
    use super::*;

    #[test]
    fn a_lease_takes_one_cache_line() {
        assert_eq!(size_of::<Option<Lease>>(), 64);
    }

    #[test]
    fn what_was_told_survives_packing() {
        for source in [Source::Forwarder, Source::Dnstap, Source::Resolved, Source::Granted] {
            for (ttl, kept) in
                [(0, 0), (300, 300), (86_400, 86_400), (1 << 31, 0), (u32::MAX, 0), (1 << 30, TTL_MASK)]
            {
                let told = Told::new(ttl, source, MAX_CHAIN - 1);
                assert_eq!((told.ttl_secs(), told.source(), told.place()), (kept, source, MAX_CHAIN - 1));
            }
        }
    }
}
