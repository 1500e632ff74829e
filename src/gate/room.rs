//! Who has to give way when a shard is full, and how ended leases leave.
//!
//! The rule. A client at its own limit loses its own leases: one that has ended, else the one written
//! longest ago and not used since. In a full shard, clients that never had a flow allowed (their addresses may be made up)
//! together keep a quarter; what they hold beyond it goes first, from the one answered longest ago.
//! Within the quarter they and the proven clients take from the proven client with the most leases. A
//! lease that an open flow holds never goes.
//! Must not know names or answers.

use std::time::Duration;

use crate::facts::Tick;

use super::lease::Lease;
use super::shard::Shard;
use super::slab::Slot;

impl Shard {
    /// Makes room for one more lease of a client; `false` when everything that could go is held.
    pub(super) fn make_room(&mut self, holder: Slot, now: Tick) -> bool {
        let mine = self.clients.get(holder).map_or(0, |entry| entry.leases);
        if mine >= self.config.max_leases_per_client && !self.evict_from(holder, now) {
            return false;
        }
        self.total < self.config.max_leases
            || self.victim(holder).is_some_and(|victim| self.evict_from(victim, now))
    }

    /// Throws out one lease of a client: an ended one among the oldest, else the oldest that no flow
    /// holds. One that allowed a flow since it was last looked at goes round once more.
    fn evict_from(&mut self, holder: Slot, now: Tick) -> bool {
        for _ in 0..SECOND_CHANCES {
            let Some(entry) = self.clients.get_mut(holder).filter(|entry| entry.can_give()) else {
                return false;
            };
            let Some(oldest) = entry.ages.back else { return false };
            let Some(lease) = self.leases.get_mut(oldest) else { return false };
            if !lease.is_live(now) || !(lease.told.take_used() || lease.pins > 0) {
                break;
            }
            entry.ages.unlink(&mut self.leases, oldest, Lease::age);
            entry.ages.push_front(&mut self.leases, oldest, Lease::age);
        }
        let mut next = self.clients.get(holder).and_then(|entry| entry.ages.back);
        let mut chosen = None;
        for _ in 0..OLDEST_SEEN {
            let Some((slot, lease)) = next.and_then(|slot| Some((slot, self.leases.get(slot)?))) else {
                break;
            };
            if !lease.is_live(now) {
                chosen = Some(slot);
                break;
            }
            if lease.pins == 0 {
                chosen = chosen.or(Some(slot));
            }
            next = lease.age.prev;
        }
        if let Some(slot) = chosen {
            let live = self.leases.get(slot).is_some_and(|lease| lease.is_live(now));
            self.evicted += u64::from(live);
            self.remove(slot);
        }
        chosen.is_some()
    }

    /// Chooses the client that gives way in a full shard.
    fn victim(&mut self, writer: Slot) -> Option<Slot> {
        let reserve = (self.config.max_leases / NEWCOMERS_SHARE).max(1);
        if self.newcomer_leases < reserve
            && let Some(largest) = self.largest_proven(writer)
        {
            return Some(largest);
        }
        let newcomer = self.newcomer_with_leases();
        newcomer.or_else(|| self.largest_proven(writer))
    }

    /// Returns the newcomer answered longest ago that has something to give.
    fn newcomer_with_leases(&self) -> Option<Slot> {
        let mut next = self.newcomers.back;
        for _ in 0..CLIENTS_SEEN {
            let slot = next?;
            let entry = self.clients.get(slot)?;
            if entry.can_give() {
                return Some(slot);
            }
            next = entry.newcomers.prev;
        }
        None
    }

    /// Returns the proven client with the most leases among the writer and the next places of a round,
    /// if any has a lease to give.
    fn largest_proven(&mut self, writer: Slot) -> Option<Slot> {
        let weight = |shard: &Self, slot: Slot| {
            let entry = shard.clients.get(slot)?;
            (entry.proven && entry.can_give()).then_some((entry.leases, slot))
        };
        let mut largest = weight(self, writer);
        for _ in 0..CLIENTS_SEEN.min(self.clients.places()) {
            self.victim_hand = self.clients.next_in_round(self.victim_hand);
            let Some(seen) = self.victim_hand.and_then(|slot| weight(self, slot)) else { continue };
            if largest.is_none_or(|(leases, _)| seen.0 > leases) {
                largest = Some(seen);
            }
        }
        largest.map(|(_, slot)| slot)
    }

    /// Looks at up to `steps` places of the store, going round: leases that ended go to the end of their
    /// client's queue, those that ended long ago are forgotten. Returns how many were forgotten.
    pub(super) fn sweep(&mut self, now: Tick, steps: usize) -> usize {
        let mut forgotten = 0;
        for _ in 0..steps.min(self.leases.places()) {
            self.sweep_hand = self.leases.next_in_round(self.sweep_hand);
            let Some(slot) = self.sweep_hand else { break };
            let Some(lease) = self.leases.get(slot) else { continue };
            let (client, Some(ended_for)) = (lease.client, lease.ended_for(now)) else { continue };
            if ended_for >= REMEMBERED {
                self.remove(slot);
                forgotten += 1;
            } else if let Some(holder) = self.clients.get_mut(client) {
                holder.ages.unlink(&mut self.leases, slot, Lease::age);
                holder.ages.push_back(&mut self.leases, slot, Lease::age);
            }
        }
        forgotten
    }
}

/// How long an ended lease is remembered, so that its client hears `lease_expired` and not that the
/// address was never seen.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// The part of a full shard that clients without an allowed flow may keep: one in this many.
const NEWCOMERS_SHARE: usize = 4;
/// Leases that go round once more before one is thrown out regardless.
const SECOND_CHANCES: usize = 64;
/// Oldest leases searched for one that has ended.
const OLDEST_SEEN: usize = 8;
/// Clients compared in search of the largest.
const CLIENTS_SEEN: usize = 64;
