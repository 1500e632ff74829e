//! Names that a client had not asked for before, by the minute: how much a client can say in names.
//!
//! What was asked lately is remembered for all clients together in one table of a fixed size, as keyed hashes. One that
//! is pushed out counts as new when it comes again: that costs its client a token and nobody else anything. Must not
//! know which names are allowed.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

use parking_lot::Mutex;

use crate::facts::{Client, Name, Tick};

use super::budgets::{Budgets, Rate};

/// A budget of new names for each client.
pub struct NewNames {
    budgets: Budgets,
    hasher: RandomState,
    /// The names of each line, the one asked last in front; zero: none.
    lately: Mutex<Box<[Line]>>,
}

/// One line of the processor's cache.
type Line = [u64; 8];

impl NewNames {
    /// Makes budgets for at most so many clients at a time.
    pub fn new(rate: Rate, max_clients: usize) -> Self {
        Self {
            budgets: Budgets::new(rate, max_clients),
            hasher: RandomState::new(),
            lately: Mutex::new(vec![Line::default(); LINES].into_boxed_slice()),
        }
    }

    /// Lets a client ask for a name; `false`: the name is new and the client has no token left. What is refused stays
    /// new.
    pub fn take(&self, client: Client, name: &Name, now: Tick) -> bool {
        let hash = self.hasher.hash_one((client, name)).max(1);
        let place = usize::try_from(hash % LINES as u64).unwrap_or(0);
        let mut lately = self.lately.lock();
        let Some(line) = lately.get_mut(place) else { return false };
        let known = line.iter().position(|other| *other == hash);
        if known.is_none() && !self.budgets.take(client, now) {
            return false;
        }
        let from = known.unwrap_or(line.len() - 1);
        if let Some(up_to) = line.get_mut(..=from) {
            up_to.rotate_right(1);
        }
        if let Some(first) = line.first_mut() {
            *first = hash;
        }
        true
    }
}

impl fmt::Debug for NewNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewNames").field("budgets", &self.budgets).finish_non_exhaustive()
    }
}

/// With eight names each: 131,072 names in 1 MiB, of which the kernel gives what is used.
const LINES: usize = 16_384;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const ONE: Client = Client::User(1);
    const TWO: Client = Client::User(2);

    fn name(number: usize) -> Name {
        Name::parse(format!("a{number}.b.example.com")).unwrap()
    }

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(1_000_000_000_000 + millis * 1_000_000)
    }

    #[test]
    fn new_names_cost_and_known_ones_do_not() {
        let names = NewNames::new(Rate::per_minute(60), 16);
        let granted =
            |client, now| (0..1_000).filter(|number| names.take(client, &name(*number), now)).count();
        assert_eq!(granted(ONE, at(0)), 60);
        assert_eq!(granted(ONE, at(0)), 60, "the same ones, again and again");
        assert_eq!(granted(TWO, at(0)), 60, "what one client asked is new for another");
        assert_eq!(granted(ONE, at(1_000)), 61, "one more a second");
    }

    #[test]
    fn a_client_that_floods_does_not_make_anothers_names_new() {
        let names = NewNames::new(Rate::per_minute(600), 16);
        let others: Vec<Name> = (0..300).map(name).collect();
        assert!(others.iter().all(|name| names.take(TWO, name, at(0))));
        let told = (0..1_000_000).filter(|number| names.take(ONE, &name(*number), at(0))).count();
        assert_eq!(told, 600);
        // Its own names are all still known: only 300 tokens are left, and none is taken.
        for _ in 0..10 {
            assert!(others.iter().all(|name| names.take(TWO, name, at(0))));
        }
    }

    #[test]
    fn what_is_pushed_out_is_new_again_and_the_table_does_not_grow() {
        let names = NewNames::new(Rate::per_second(1_000_000), 16);
        for number in 0..300_000 {
            assert!(names.take(ONE, &name(number), at(0)));
        }
        let kept = names.lately.lock().iter().flatten().filter(|hash| **hash != 0).count();
        assert!(kept <= 8 * LINES && kept > 7 * LINES, "{kept}");
    }
}
