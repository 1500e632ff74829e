//! A part of the ledger under one lock: all leases of some clients.
//!
//! A lease is found by (client, address), and beside others there by its name too; whole keys are compared, a
//! hash alone is never trusted. Must not know rules, locks or clocks.

use std::net::IpAddr;
use std::task::Waker;
use std::time::Duration;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::facts::{Address, Client, Name, Source, Tick, canonical};

use super::chains::{Chains, spread};
use super::lease::{Fresh, Holder, Lease, MAX_TTL, Told, ends, octets};
use super::slab::{Links, List, Slab, Slot};
use super::watch::Waiting;
use super::{Evidence, LedgerConfig};

/// One answer for one client, already reduced to what may be kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) client: Client,
    /// At most [`MAX_CHAIN`] names.
    pub(super) chain: &'a [Name],
    /// Bit `n`: the n-th name of the chain gets leases.
    pub(super) kept: u32,
    /// Bit `n`: the n-th name of the chain is one of an address rule.
    pub(super) by_address: u32,
    pub(super) addresses: &'a [Address],
    pub(super) source: Source,
    pub(super) at: Tick,
}

/// What a look-up found.
#[derive(Debug)]
pub(super) enum Found {
    /// A lease that counts, held once for the caller.
    Live(Evidence, Slot),
    /// One that has ended.
    Expired(Evidence),
    /// Nothing.
    Never,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) leases: Slab<Lease>,
    /// By (client, name, address): the leases that are, or were, behind a newer one. A table of all would cost each
    /// lease ten bytes more.
    pub(super) by_key: HashTable<Slot>,
    /// The newest lease of each (client, address); the others are linked behind it.
    pub(super) by_address: HashTable<Slot>,
    pub(super) clients: Slab<Holder>,
    pub(super) by_client: HashTable<Slot>,
    pub(super) chains: Chains,
    pub(super) waiting: Waiting,
    pub(super) hasher: RandomState,
    pub(super) config: LedgerConfig,
    pub(super) total: usize,
    /// Leases that still counted when they gave way to others.
    pub(super) evicted: u64,
    /// Clients that never had a flow allowed, the one answered last in front.
    pub(super) newcomers: List,
    pub(super) newcomer_leases: usize,
    pub(super) victim_hand: Option<Slot>,
    pub(super) sweep_hand: Option<Slot>,
    /// The latest instant that anybody named.
    latest: Tick,
    /// The client that an answer is being written for: it stays even without leases.
    pub(super) writing: Option<Slot>,
}

impl Shard {
    /// Makes an empty shard; the sizes in `config` are those of this shard.
    pub(super) fn new(config: LedgerConfig, hasher: RandomState) -> Self {
        Self {
            leases: Slab::default(),
            by_key: HashTable::new(),
            by_address: HashTable::new(),
            clients: Slab::default(),
            by_client: HashTable::new(),
            chains: Chains::default(),
            waiting: Waiting::default(),
            hasher,
            config,
            total: 0,
            evicted: 0,
            newcomers: List::default(),
            newcomer_leases: 0,
            victim_hand: None,
            sweep_hand: None,
            latest: Tick::default(),
            writing: None,
        }
    }

    /// Writes an answer; returns whom to wake once the lock is let go.
    pub(super) fn record(&mut self, answer: &Answer<'_>, now: Tick) -> Vec<Waker> {
        let mut wake = Vec::new();
        self.latest = self.latest.max(now);
        // Each write pays for a little more sweeping than it makes necessary.
        self.sweep(now, (2 + 2 * answer.addresses.len() * answer.chain.len()).min(SWEEP_PER_ANSWER));
        let Some(holder) = self.holder_for(answer.client) else { return wake };
        let Some(chain) = self.chains.hold(answer.chain) else {
            self.forget_if_empty(holder);
            return wake;
        };
        self.writing = Some(holder);
        for (place, name) in answer.chain.iter().enumerate().take(MAX_CHAIN) {
            if answer.kept & (1 << place) == 0 {
                continue;
            }
            for address in answer.addresses {
                let ip = canonical(address.ip);
                let told = Told::new(address.ttl_secs, answer.source, place);
                let life_ms = self.life_ms(told);
                if ends(answer.at, life_ms) <= now {
                    continue;
                }
                let fresh = Fresh { ip, answered_at: answer.at, life_ms, chain, told };
                if self.write(holder, name, &fresh, now) && !self.waiting.is_empty() {
                    let by_address = answer.by_address & (1 << place) != 0;
                    self.waiting.written(answer.client, name, ip, by_address, &mut wake);
                }
            }
        }
        self.writing = None;
        self.chains.release(chain);
        self.forget_if_empty(holder);
        wake
    }

    /// Looks a lease up; a live one is held once (see [`Shard::unpin`]). `proves`: the flow shows that
    /// the client's address is real.
    pub(super) fn find(
        &mut self,
        client: Client,
        name: &Name,
        address: IpAddr,
        proves: bool,
        now: Tick,
    ) -> Found {
        self.latest = self.latest.max(now);
        let Some(slot) = self.slot(client, name, address) else { return Found::Never };
        let Some(lease) = self.leases.get(slot) else { return Found::Never };
        let (live, evidence) = (lease.is_live(now), self.evidence(lease));
        match evidence {
            Some(evidence) if live => {
                self.pin(slot, proves);
                Found::Live(evidence, slot)
            }
            Some(evidence) => Found::Expired(evidence),
            None => Found::Never,
        }
    }

    /// Judges the leases of a client at an address, newest first and at most [`MAX_PEERS`], and returns
    /// the one with the highest rank; among equals the newest.
    pub(super) fn best_at<R: Ord>(
        &mut self,
        client: Client,
        address: IpAddr,
        now: Tick,
        mut rank: impl FnMut(&Name, bool) -> Option<R>,
    ) -> Option<(R, Evidence, Slot)> {
        self.latest = self.latest.max(now);
        let holder = self.holder(client)?;
        let mut next = self.newest_peer(holder, octets(address));
        let mut best: Option<(R, Slot)> = None;
        for _ in 0..MAX_PEERS {
            let Some(slot) = next else { break };
            let lease = self.leases.get(slot)?;
            next = lease.peers.next;
            let name = self.chains.name(lease.chain, lease.told.place())?;
            if let Some(rank) = rank(name, lease.is_live(now))
                && best.as_ref().is_none_or(|(highest, _)| rank > *highest)
            {
                best = Some((rank, slot));
            }
        }
        let (rank, slot) = best?;
        Some((rank, self.evidence(self.leases.get(slot)?)?, slot))
    }

    /// Whether a lease counted when the shard was last told the time.
    pub(super) fn is_live(&self, client: Client, name: &Name, address: IpAddr) -> bool {
        self.slot(client, name, address)
            .and_then(|slot| self.leases.get(slot))
            .is_some_and(|lease| lease.is_live(self.latest))
    }

    /// Holds a lease: it does not end and is not evicted.
    pub(super) fn pin(&mut self, slot: Slot, proves: bool) {
        let Some(lease) = self.leases.get_mut(slot) else { return };
        let (client, first) = (lease.client, lease.pins == 0);
        lease.pins += 1;
        // Its place in the queue is only seen to when somebody has to give way.
        lease.told.mark_used();
        let Some(holder) = self.clients.get_mut(client) else { return };
        holder.pinned += usize::from(first);
        if proves && !holder.proven {
            holder.proven = true;
            self.newcomer_leases -= holder.leases;
            self.newcomers.unlink(&mut self.clients, client, Holder::newcomers);
        }
    }

    /// Lets go of a lease that was held once.
    pub(super) fn unpin(&mut self, slot: Slot) {
        let Some(lease) = self.leases.get_mut(slot) else { return };
        lease.pins -= 1;
        if lease.pins > 0 {
            return;
        }
        if let Some(holder) = self.clients.get_mut(lease.client) {
            holder.pinned -= 1;
        }
    }

    /// Calls `each` for every lease, ended ones included.
    pub(super) fn for_each(&self, mut each: impl FnMut(Client, &Name, IpAddr, Evidence, u32)) {
        for lease in self.leases.iter() {
            if let (Some(holder), Some(name), Some(evidence)) = (
                self.clients.get(lease.client),
                self.chains.name(lease.chain, lease.told.place()),
                self.evidence(lease),
            ) {
                each(holder.client, name, canonical(IpAddr::V6(lease.address)), evidence, lease.pins);
            }
        }
    }

    /// Writes one lease; `false` when there is no room.
    fn write(&mut self, holder: Slot, name: &Name, fresh: &Fresh, now: Tick) -> bool {
        let address = octets(fresh.ip);
        if let Some(slot) = self.slot_at(holder, name, address) {
            self.join(slot, fresh);
            return true;
        }
        if !self.make_room(holder, now) || !self.chains.hold_again(fresh.chain) {
            return false;
        }
        let lease = Lease {
            address,
            answered_at: fresh.answered_at,
            life_ms: fresh.life_ms,
            hash: self.key_hash(holder, name, address),
            chain: fresh.chain,
            client: holder,
            told: fresh.told,
            pins: 0,
            age: Links::default(),
            peers: Links::default(),
        };
        let Some(slot) = self.leases.insert(lease) else {
            self.chains.release(fresh.chain);
            return false;
        };
        self.link_peer(slot, holder, address);
        self.total += 1;
        if let Some(entry) = self.clients.get_mut(holder) {
            entry.leases += 1;
            entry.ages.push_front(&mut self.leases, slot, Lease::age);
            if !entry.proven {
                self.newcomer_leases += 1;
            }
        }
        true
    }

    /// Joins a later answer to a lease. The answer that ends last is the evidence; nothing shortens.
    fn join(&mut self, slot: Slot, fresh: &Fresh) {
        let Some(lease) = self.leases.get_mut(slot) else { return };
        let (holder, address) = (lease.client, lease.address);
        if ends(fresh.answered_at, fresh.life_ms) >= lease.ends() && self.chains.hold_again(fresh.chain) {
            let old = std::mem::replace(&mut lease.chain, fresh.chain);
            lease.answered_at = fresh.answered_at;
            lease.life_ms = fresh.life_ms;
            lease.told = fresh.told;
            self.chains.release(old);
        }
        if let Some(entry) = self.clients.get_mut(holder) {
            entry.ages.unlink(&mut self.leases, slot, Lease::age);
            entry.ages.push_front(&mut self.leases, slot, Lease::age);
        }
        self.unlink_peer(slot, holder, address);
        self.link_peer(slot, holder, address);
    }

    /// Removes an unpinned lease from everywhere.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(lease) = self.leases.get(slot).copied() else { return };
        self.unlink_peer(slot, lease.client, lease.address);
        if let Ok(entry) = self.by_key.find_entry(spread(lease.hash), |other| *other == slot) {
            entry.remove();
        }
        self.chains.release(lease.chain);
        if let Some(holder) = self.clients.get_mut(lease.client) {
            holder.ages.unlink(&mut self.leases, slot, Lease::age);
            holder.leases -= 1;
            if !holder.proven {
                self.newcomer_leases -= 1;
            }
        }
        self.leases.remove(slot);
        self.total -= 1;
        self.forget_if_empty(lease.client);
    }

    fn evidence(&self, lease: &Lease) -> Option<Evidence> {
        Some(Evidence {
            source: lease.told.source(),
            answered_at: lease.answered_at,
            ttl_secs: lease.told.ttl_secs(),
            expires_at: lease.ends(),
            chain: self.chains.names(lease.chain)?.clone(),
        })
    }

    /// Milliseconds that a lease lasts from its answer.
    fn life_ms(&self, told: Told) -> u32 {
        let ttl = Duration::from_secs(told.ttl_secs().into()).min(MAX_TTL).max(self.config.min_ttl);
        u32::try_from(ttl.saturating_add(self.config.grace).as_millis()).unwrap_or(u32::MAX)
    }
}

/// Names of a chain that count: resolvers give up after 8 to 16.
pub(super) const MAX_CHAIN: usize = 16;
/// Places swept before an answer is written, at most.
const SWEEP_PER_ANSWER: usize = 256;
/// Leases at one address that a look-up without a name considers.
const MAX_PEERS: usize = 64;
