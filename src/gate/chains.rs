//! CNAME chains, each stored once however many leases came from it.
//!
//! Counted by hand: a lease is one number, not a pointer. Must not know clients or addresses.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::facts::Name;

use super::slab::{Slab, Slot};

/// The chains of one shard.
#[derive(Debug, Default)]
pub(super) struct Chains {
    entries: Slab<Chain>,
    table: HashTable<Slot>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Chain {
    names: Arc<[Name]>,
    holders: u32,
    hash: u32,
}

impl Chains {
    /// Finds or stores a chain and holds it once; `None` when nothing more can be stored.
    pub(super) fn hold(&mut self, names: &[Name]) -> Option<Slot> {
        let hash = fold(self.hasher.hash_one(names));
        let Self { entries, table, .. } = self;
        let same = |slot: &Slot| entries.get(*slot).is_some_and(|chain| *chain.names == *names);
        if let Some(slot) = table.find(spread(hash), same).copied() {
            return self.hold_again(slot).then_some(slot);
        }
        let slot = entries.insert(Chain { names: names.into(), holders: 1, hash })?;
        table.insert_unique(spread(hash), slot, |slot| {
            spread(entries.get(*slot).map_or(0, |chain| chain.hash))
        });
        Some(slot)
    }

    /// Holds a chain once more; `false` when it is not there or held too often.
    pub(super) fn hold_again(&mut self, slot: Slot) -> bool {
        let Some(chain) = self.entries.get_mut(slot) else { return false };
        let Some(holders) = chain.holders.checked_add(1) else { return false };
        chain.holders = holders;
        true
    }

    /// Lets go once; the last holder removes the chain.
    pub(super) fn release(&mut self, slot: Slot) {
        let Some(chain) = self.entries.get_mut(slot) else { return };
        chain.holders -= 1;
        if chain.holders > 0 {
            return;
        }
        if let Ok(entry) = self.table.find_entry(spread(chain.hash), |other| *other == slot) {
            entry.remove();
        }
        self.entries.remove(slot);
    }

    pub(super) fn names(&self, slot: Slot) -> Option<&Arc<[Name]>> {
        self.entries.get(slot).map(|chain| &chain.names)
    }

    /// Returns the name at one place of a chain.
    pub(super) fn name(&self, slot: Slot, place: usize) -> Option<&Name> {
        self.entries.get(slot)?.names.get(place)
    }
}

/// Shortens a hash to what an entry keeps of it.
pub(super) fn fold(hash: u64) -> u32 {
    let bytes = hash.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        ^ u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])
}

/// Widens a kept hash again: the table reads its upper seven and its lower bits.
pub(super) fn spread(hash: u32) -> u64 {
    (u64::from(hash) << 32) | u64::from(hash)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn equal_chains_are_one_entry_until_the_last_holder_lets_go() {
        let chain =
            |texts: &[&str]| -> Vec<Name> { texts.iter().map(|text| Name::parse(text).unwrap()).collect() };
        let mut chains = Chains::default();
        let first = chains.hold(&chain(&["www.example.com", "edge.example.net"])).unwrap();
        let again = chains.hold(&chain(&["www.example.com", "edge.example.net"])).unwrap();
        let other = chains.hold(&chain(&["www.example.com"])).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(chains.name(first, 1).unwrap().as_str(), "edge.example.net");
        chains.release(first);
        assert!(chains.names(first).is_some());
        chains.release(first);
        assert!(chains.names(first).is_none());
        assert!(chains.name(other, 0).is_some());
        let back = chains.hold(&chain(&["www.example.com", "edge.example.net"])).unwrap();
        assert_eq!(chains.names(back).unwrap().len(), 2);
    }
}
