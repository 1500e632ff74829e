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
        if self.chains.name(lease.chain, lease.told.place()) == Some(name) {
            return Some(newest);
        }
        lease.peers.next?;
        let hash = self.key_hash(holder, name, address);
        let same = |slot: &Slot| {
            self.leases.get(*slot).is_some_and(|lease| {
                lease.hash == hash
                    && lease.is_at(holder, address)
                    && self.chains.name(lease.chain, lease.told.place()) == Some(name)
            })
        };
        self.by_key.find(spread(hash), same).copied()
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
