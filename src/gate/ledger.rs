//! What DNS said, to whom, and for how long it counts.
//!
//! Leases of one client live in one shard, behind one lock that is held for a look-up or a write and
//! never longer. Must not know rules, sockets or clocks.

use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};

use crate::facts::{Client, Name, Tick};

use super::Evidence;
use super::shard::{Answer, Found, Shard};
use super::slab::Slot;

pub use super::watch::Watch;

/// Sizes and times of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct LedgerConfig {
    /// Floor of a TTL.
    pub min_ttl: Duration,
    /// Added to every TTL: applications cache longer than TTLs say.
    pub grace: Duration,
    /// Leases in all.
    pub max_leases: usize,
    /// Leases of one client.
    pub max_leases_per_client: usize,
}

/// One entry of the ledger, as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub client: Client,
    /// The name that may be claimed.
    pub name: Name,
    /// The address that may be dialled.
    pub address: IpAddr,
    /// The answer behind it; it has ended when `expires_at` is past and no flow is open.
    pub evidence: Evidence,
    /// Open flows that keep it alive.
    pub flows: u32,
}

/// All leases, and those who wait for one.
pub struct Ledger {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

/// What the ledger says to one (client, name, address).
#[derive(Debug)]
pub(super) enum Look {
    /// A lease; the pin keeps it.
    Live(Evidence, Pin),
    /// A lease that has ended.
    Expired(Evidence),
    /// Nothing was ever seen, or it is forgotten.
    Never,
}

/// How a judged lease ranks, and whether it is to be held.
pub(super) trait Rank: Ord {
    /// Whether this outcome opens a flow that keeps the lease alive.
    fn holds(&self) -> bool;
}

impl Ledger {
    /// Makes an empty ledger. The bound in all is split evenly over the shards; there are as many, up to
    /// 16, as leave room for four full clients in each.
    pub(super) fn new(config: LedgerConfig) -> Arc<Self> {
        let full_clients = config.max_leases / config.max_leases_per_client.max(1);
        let shards = 1 << (full_clients / 4).clamp(1, MAX_SHARDS).ilog2();
        let of_shard = LedgerConfig { max_leases: config.max_leases / shards, ..config };
        let hasher = RandomState::default();
        let shards = (0..shards).map(|_| Mutex::new(Shard::new(of_shard, RandomState::default()))).collect();
        Arc::new(Self { shards, hasher })
    }

    /// Writes an answer, then wakes those who waited for it.
    pub(super) fn record(&self, answer: &Answer<'_>, now: Tick) {
        let wake = self.shard(answer.client).record(answer, now);
        for waker in wake {
            waker.wake();
        }
    }

    /// Looks up one lease. `proves`: the flow shows that the client's address is not made up.
    pub(super) fn find(
        self: &Arc<Self>,
        client: Client,
        name: &Name,
        address: IpAddr,
        proves: bool,
        now: Tick,
    ) -> Look {
        match self.shard(client).find(client, name, address, proves, now) {
            Found::Live(evidence, slot) => Look::Live(evidence, self.held(client, slot)),
            Found::Expired(evidence) => Look::Expired(evidence),
            Found::Never => Look::Never,
        }
    }

    /// Judges what a client has at an address, and returns the best with its evidence; see
    /// [`Shard::best_at`].
    pub(super) fn best_at<R: Rank>(
        self: &Arc<Self>,
        client: Client,
        address: IpAddr,
        proves: bool,
        now: Tick,
        rank: impl FnMut(&Name, bool) -> Option<R>,
    ) -> Option<(R, Evidence, Option<Pin>)> {
        let mut shard = self.shard(client);
        let (rank, evidence, slot) = shard.best_at(client, address, now, rank)?;
        if !rank.holds() {
            return Some((rank, evidence, None));
        }
        shard.pin(slot, proves);
        drop(shard);
        Some((rank, evidence, Some(self.held(client, slot))))
    }

    /// Forgets what ended long ago, looking at up to `budget` places in all; see [`super::Gate::sweep`].
    pub(super) fn sweep(&self, now: Tick, budget: usize) -> usize {
        let each = budget.div_ceil(self.shards.len());
        let mut forgotten = 0;
        for shard in &self.shards {
            let mut left = each.min(shard.lock().leases.places());
            while left > 0 {
                let steps = left.min(SWEEP_STEPS);
                forgotten += shard.lock().sweep(now, steps);
                left -= steps;
            }
        }
        forgotten
    }

    /// Returns how many leases there are, ended ones that are still remembered included.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().total).sum()
    }

    /// Returns how many leases gave way to others while they still counted.
    pub(super) fn evicted(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().evicted).sum()
    }

    /// Copies every lease, shard by shard.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let mut all = Vec::new();
        for shard in &self.shards {
            shard.lock().for_each(|client, name, address, evidence, flows| {
                all.push(Lease { client, name: name.clone(), address, evidence, flows });
            });
        }
        all
    }

    /// Locks the shard of a client.
    pub(super) fn shard(&self, client: Client) -> MutexGuard<'_, Shard> {
        self.lock(self.place(client))
    }

    fn place(&self, client: Client) -> u32 {
        let hash = self.hasher.hash_one(client);
        // The number of shards is a power of two and at most 16.
        u32::try_from(hash % (self.shards.len() as u64)).unwrap_or(0)
    }

    #[expect(clippy::indexing_slicing, reason = "places come from `place`, which stays below the length")]
    fn lock(&self, place: u32) -> MutexGuard<'_, Shard> {
        self.shards[place as usize].lock()
    }

    fn held(self: &Arc<Self>, client: Client, lease: Slot) -> Pin {
        Pin { place: self.place(client), lease, ledger: self.clone() }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

/// Keeps a lease alive while a flow that it allowed is open.
pub struct Pin {
    ledger: Arc<Ledger>,
    place: u32,
    lease: Slot,
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").finish_non_exhaustive()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.ledger.lock(self.place).unpin(self.lease);
    }
}

/// Shards at most: a lock is held for some 100 ns, and the fewer there are, the more chains are shared.
const MAX_SHARDS: usize = 16;
/// Places looked at under one lock: some 10 us.
const SWEEP_STEPS: usize = 256;
