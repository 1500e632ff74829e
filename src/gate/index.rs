//! How the leases and clients of a shard are found.
//!
//! Tables of numbers; a hash only narrows the search, whole keys are compared.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};

use crate::facts::{Client, Name};

use super::chains::{fold, spread};
use super::lease::{Holder, Lease, octets};
use super::shard::Shard;
use super::slab::{Links, List, Slot};

impl Shard {
    pub(super) fn slot(&self, client: Client, name: &Name, address: IpAddr) -> Option<Slot> {
        self.slot_at(self.holder(client)?, name, octets(address))
    }

    /// Finds a name's lease among those of a client at an address. Most are alone there.
    pub(super) fn slot_at(&self, holder: Slot, name: &Name, address: Ipv6Addr) -> Option<Slot> {
        let newest = self.newest_peer(holder, address)?;
        let lease = self.leases.get(newest)?;
        if self.is_for(lease, name) {
            return Some(newest);
        }
        lease.peers.next?;
        let hash = self.key_hash(holder, name, address);
        let same = |slot: &Slot| {
            self.leases.get(*slot).is_some_and(|lease| {
                lease.hash == hash && lease.is_at(holder, address) && self.is_for(lease, name)
            })
        };
        self.by_key.find(spread(hash), same).copied()
    }

    fn is_for(&self, lease: &Lease, name: &Name) -> bool {
        self.chains.name(lease.chain, lease.told.place()) == Some(name)
    }

    pub(super) fn key_hash(&self, holder: Slot, name: &Name, address: Ipv6Addr) -> u32 {
        fold(self.hasher.hash_one((holder, u128::from(address), name.as_str())))
    }

    pub(super) fn peer_hash(&self, holder: Slot, address: Ipv6Addr) -> u64 {
        self.hasher.hash_one((holder, u128::from(address)))
    }

    pub(super) fn newest_peer(&self, holder: Slot, address: Ipv6Addr) -> Option<Slot> {
        let same = |slot: &Slot| self.leases.get(*slot).is_some_and(|lease| lease.is_at(holder, address));
        self.by_address.find(self.peer_hash(holder, address), same).copied()
    }

    /// Makes a lease the newest of its client at its address. The one that was is found by its name from here on: so
    /// are all but the newest.
    pub(super) fn link_peer(&mut self, slot: Slot, holder: Slot, address: Ipv6Addr) {
        let hash = self.peer_hash(holder, address);
        let Self { leases, by_address, hasher, .. } = self;
        let same = |slot: &Slot| leases.get(*slot).is_some_and(|lease| lease.is_at(holder, address));
        if let Some(newest) = by_address.find_mut(hash, same) {
            let before = std::mem::replace(newest, slot);
            let mut list = List { front: Some(before), back: None };
            list.push_front(leases, slot, Lease::peers);
            self.key(before);
        } else {
            by_address.insert_unique(hash, slot, |slot| {
                leases.get(*slot).map_or(0, |l| hasher.hash_one((l.client, u128::from(l.address))))
            });
        }
    }

    /// Has a lease found by its name, if it is not yet. It stays so until it is removed.
    fn key(&mut self, slot: Slot) {
        let Self { leases, by_key, .. } = self;
        let hash_of = |slot: &Slot| spread(leases.get(*slot).map_or(0, |lease| lease.hash));
        let hash = hash_of(&slot);
        if by_key.find(hash, |other| *other == slot).is_none() {
            by_key.insert_unique(hash, slot, hash_of);
        }
    }

    pub(super) fn unlink_peer(&mut self, slot: Slot, holder: Slot, address: Ipv6Addr) {
        let hash = self.peer_hash(holder, address);
        let Self { leases, by_address, .. } = self;
        let mut list = List::default();
        let newest = leases.get(slot).is_some_and(|lease| lease.peers.prev.is_none());
        list.unlink(leases, slot, Lease::peers);
        if newest && let Ok(mut entry) = by_address.find_entry(hash, |other| *other == slot) {
            match list.front {
                Some(next) => *entry.get_mut() = next,
                None => drop(entry.remove()),
            }
        }
    }

    pub(super) fn holder(&self, client: Client) -> Option<Slot> {
        let same = |slot: &Slot| self.clients.get(*slot).is_some_and(|holder| holder.client == client);
        self.by_client.find(self.hasher.hash_one(client), same).copied()
    }

    /// Finds or makes a client's entry; a newcomer becomes the one answered last.
    pub(super) fn holder_for(&mut self, client: Client) -> Option<Slot> {
        if let Some(slot) = self.holder(client) {
            if self.clients.get(slot).is_some_and(|holder| !holder.proven) {
                self.newcomers.unlink(&mut self.clients, slot, Holder::newcomers);
                self.newcomers.push_front(&mut self.clients, slot, Holder::newcomers);
            }
            return Some(slot);
        }
        let holder = Holder {
            client,
            leases: 0,
            pinned: 0,
            proven: false,
            ages: List::default(),
            newcomers: Links::default(),
        };
        let slot = self.clients.insert(holder)?;
        let Self { clients, hasher, .. } = self;
        self.by_client.insert_unique(hasher.hash_one(client), slot, |slot| {
            clients.get(*slot).map_or(0, |holder| hasher.hash_one(holder.client))
        });
        self.newcomers.push_front(&mut self.clients, slot, Holder::newcomers);
        Some(slot)
    }

    pub(super) fn forget_if_empty(&mut self, slot: Slot) {
        let Some(holder) = self.clients.get(slot) else { return };
        if holder.leases > 0 || self.writing == Some(slot) {
            return;
        }
        let (hash, proven) = (self.hasher.hash_one(holder.client), holder.proven);
        if let Ok(entry) = self.by_client.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        if !proven {
            self.newcomers.unlink(&mut self.clients, slot, Holder::newcomers);
        }
        self.clients.remove(slot);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::Duration;

    use foldhash::quality::RandomState;

    use super::super::LedgerConfig;
    use super::super::shard::Answer;
    use super::*;
    use crate::facts::{Address, Source, Tick};

    #[test]
    fn only_what_is_behind_a_newer_lease_has_a_second_entry_and_no_entry_outlives_its_lease() {
        let config = LedgerConfig {
            min_ttl: Duration::from_secs(5),
            grace: Duration::ZERO,
            max_leases: 100,
            max_leases_per_client: 100,
        };
        let mut shard = Shard::new(config, RandomState::default());
        let client = Client::at("192.0.2.1".parse().unwrap());
        let (shared, own) = ("198.51.100.1".parse().unwrap(), "198.51.100.2".parse().unwrap());
        let names = ["a.example", "b.example", "c.example"].map(|name| Name::parse(name).unwrap());
        let at = Tick::default();
        let mut see = |name: &Name, ip: IpAddr| {
            let addresses = [Address { ip, ttl_secs: 60 }];
            let chain = std::slice::from_ref(name);
            let source = Source::Forwarder;
            shard.record(
                &Answer { client, chain, kept: 1, by_address: 0, addresses: &addresses, source, at },
                at,
            );
            shard.by_key.len()
        };
        assert_eq!((see(&names[0], own), see(&names[0], own), see(&names[0], shared)), (0, 0, 0));
        assert_eq!((see(&names[1], shared), see(&names[2], shared)), (1, 2));
        // Each becomes the newest in its turn.
        for name in names.iter().cycle().take(30) {
            assert!(see(name, shared) <= 3);
        }
        for name in &names {
            assert!(shard.slot(client, name, shared).is_some(), "{name}");
            assert_eq!(shard.slot(client, name, own).is_some(), *name == names[0], "{name}");
        }
        // The newest first: the others are found as before.
        for (gone, name) in names.iter().enumerate().rev() {
            let slot = shard.slot(client, name, shared).unwrap();
            shard.remove(slot);
            let found = names.iter().filter(|name| shard.slot(client, name, shared).is_some()).count();
            assert_eq!(found, gone);
        }
        assert_eq!((shard.by_key.len(), shard.by_address.len(), shard.total), (0, 1, 1));
    }
}
