//! Storage that hands out small stable numbers, and doubly linked lists threaded through it.
//!
//! Grows chunk by chunk, so a million entries are never moved and half the memory never waits unused.
//! Must not know what it stores.

use std::num::NonZeroU32;

/// The number of an entry. Stays valid until the entry is removed, then may be handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot(NonZeroU32);

impl Slot {
    fn from_index(index: usize) -> Option<Self> {
        u32::try_from(index + 1).ok().and_then(NonZeroU32::new).map(Self)
    }

    fn index(self) -> usize {
        usize::try_from(self.0.get() - 1).unwrap_or(usize::MAX)
    }
}

/// Entries by number.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<Slot>,
    slots: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), slots: 0 }
    }
}

impl<T> Slab<T> {
    /// Stores a value; `None` when no number is left.
    pub(super) fn insert(&mut self, value: T) -> Option<Slot> {
        if let Some(slot) = self.free.pop() {
            *self.place(slot)? = Some(value);
            return Some(slot);
        }
        let slot = Slot::from_index(self.slots)?;
        if self.slots.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.last_mut()?.push(Some(value));
        self.slots += 1;
        Some(slot)
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<T> {
        let value = self.place(slot)?.take()?;
        self.free.push(slot);
        Some(value)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        let index = slot.index();
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.place(slot)?.as_mut()
    }

    /// Returns the number after `slot` in a round over all places, taken or not.
    pub(super) fn next_in_round(&self, slot: Option<Slot>) -> Option<Slot> {
        let next = slot.map_or(0, |slot| slot.index() + 1);
        Slot::from_index(next).filter(|_| next < self.slots).or_else(|| {
            // Back to the first place, if there is one.
            Slot::from_index(0).filter(|_| self.slots > 0)
        })
    }

    /// Returns how many places there are, taken or not.
    pub(super) fn places(&self) -> usize {
        self.slots
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flatten()
    }

    fn place(&mut self, slot: Slot) -> Option<&mut Option<T>> {
        let index = slot.index();
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }
}

/// The two neighbours of an entry in one list.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Links {
    pub(super) prev: Option<Slot>,
    pub(super) next: Option<Slot>,
}

/// The two ends of a list threaded through a slab.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct List {
    pub(super) front: Option<Slot>,
    pub(super) back: Option<Slot>,
}

impl List {
    pub(super) fn push_front<T>(&mut self, slab: &mut Slab<T>, slot: Slot, links: fn(&mut T) -> &mut Links) {
        let old = self.front;
        if let Some(entry) = slab.get_mut(slot) {
            *links(entry) = Links { prev: None, next: old };
        }
        match old.and_then(|old| slab.get_mut(old)) {
            Some(entry) => links(entry).prev = Some(slot),
            None => self.back = Some(slot),
        }
        self.front = Some(slot);
    }

    pub(super) fn push_back<T>(&mut self, slab: &mut Slab<T>, slot: Slot, links: fn(&mut T) -> &mut Links) {
        let old = self.back;
        if let Some(entry) = slab.get_mut(slot) {
            *links(entry) = Links { prev: old, next: None };
        }
        match old.and_then(|old| slab.get_mut(old)) {
            Some(entry) => links(entry).next = Some(slot),
            None => self.front = Some(slot),
        }
        self.back = Some(slot);
    }

    /// Takes an entry out; it must be in this list.
    pub(super) fn unlink<T>(&mut self, slab: &mut Slab<T>, slot: Slot, links: fn(&mut T) -> &mut Links) {
        let Some(Links { prev, next }) = slab.get_mut(slot).map(|entry| std::mem::take(links(entry))) else {
            return;
        };
        match prev.and_then(|prev| slab.get_mut(prev)) {
            Some(entry) => links(entry).next = next,
            None => self.front = next,
        }
        match next.and_then(|next| slab.get_mut(next)) {
            Some(entry) => links(entry).prev = prev,
            None => self.back = prev,
        }
    }
}

/// Entries a chunk: small enough that an idle shard costs little, large enough that chunks are few.
const CHUNK: usize = 128;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn links(entry: &mut (u32, Links)) -> &mut Links {
        &mut entry.1
    }

    fn order(list: List, slab: &Slab<(u32, Links)>) -> Vec<u32> {
        let mut seen = Vec::new();
        let mut at = list.front;
        while let Some(entry) = at.and_then(|slot| slab.get(slot)) {
            seen.push(entry.0);
            at = entry.1.next;
        }
        let mut back = Vec::new();
        let mut at = list.back;
        while let Some(entry) = at.and_then(|slot| slab.get(slot)) {
            back.push(entry.0);
            at = entry.1.prev;
        }
        back.reverse();
        assert_eq!(seen, back);
        seen
    }

    #[test]
    fn numbers_are_reused_and_a_round_visits_every_place() {
        let mut slab = Slab::default();
        let slots: Vec<Slot> = (0..1000).map(|value| slab.insert(value).unwrap()).collect();
        assert_eq!(slab.remove(slots[500]), Some(500));
        assert_eq!(slab.remove(slots[500]), None);
        assert_eq!(slab.get(slots[500]), None);
        assert_eq!(slab.insert(7), Some(slots[500]));
        assert_eq!(slab.places(), 1000);
        let mut at = None;
        for slot in &slots {
            at = slab.next_in_round(at);
            assert_eq!(at, Some(*slot));
        }
        assert_eq!(slab.next_in_round(at), Some(slots[0]));
        assert_eq!(Slab::<u32>::default().next_in_round(None), None);
    }

    #[test]
    fn lists_keep_their_order_through_every_kind_of_removal() {
        let mut slab = Slab::default();
        let slots: Vec<Slot> = (0..5).map(|value| slab.insert((value, Links::default())).unwrap()).collect();
        let mut list = List::default();
        for slot in &slots {
            list.push_front(&mut slab, *slot, links);
        }
        assert_eq!(order(list, &slab), [4, 3, 2, 1, 0]);
        for (gone, left) in [(2, &[4, 3, 1, 0][..]), (4, &[3, 1, 0]), (0, &[3, 1])] {
            list.unlink(&mut slab, slots[gone], links);
            assert_eq!(order(list, &slab), left);
        }
        list.push_back(&mut slab, slots[2], links);
        assert_eq!(order(list, &slab), [3, 1, 2]);
        for gone in [1, 3, 2] {
            list.unlink(&mut slab, slots[gone], links);
        }
        assert_eq!(order(list, &slab), [0; 0]);
        assert!(list.front.is_none() && list.back.is_none());
    }
}
