//! How many things may be under way at once, in all and for one client, and how many one client may begin in a second.
//!
//! It does not know what the things are.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::facts::{Client, Limit, Tick};
use crate::rate::{Budgets, Rate};

/// Counts what is under way.
#[derive(Debug)]
pub(super) struct Limits {
    all: usize,
    one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Clients without anything under way are not here.
    by_client: HashMap<Client, usize>,
}

/// Counts what is under way, and what is begun.
#[derive(Debug)]
pub(super) struct Admission {
    begun: Budgets,
    /// Refusals that are told: what is refused in a flood must cost less than what is served.
    told: Budgets,
    under_way: Arc<Limits>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// That for all clients together.
    All,
    /// That for this client.
    One,
}

/// Why something may not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) limit: Limit,
    /// Whether the client is told: where it is its own doing, and not without end.
    pub(super) tell: bool,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    limits: Arc<Limits>,
    client: Client,
}

impl Admission {
    /// Puts a budget in front of limits.
    pub(super) fn new(per_second: u32, under_way: Arc<Limits>) -> Self {
        let budgets = |per_second| Budgets::new(Rate::per_second(per_second), MAX_CLIENTS);
        Self { begun: budgets(per_second), told: budgets(TOLD), under_way }
    }

    /// Takes a place for a client.
    pub(super) fn take(&self, client: Client, now: Tick) -> Result<Place, Over> {
        if !self.begun.take(client, now) {
            return Err(Over { limit: Limit::Questions, tell: self.told.take(client, now) });
        }
        let under_way = |full| Over { limit: Limit::QuestionsUnderWay, tell: full == Full::One };
        self.under_way.take(client).map_err(under_way)
    }
}

impl Limits {
    pub(super) fn new(all: usize, one: usize) -> Arc<Self> {
        Arc::new(Self { all, one, taken: Mutex::default() })
    }

    /// Takes a place for a client. Its own limit is named first: a client that floods is told, others
    /// are not blamed. Where half of all places are taken, each client may have a few only: those who have many take
    /// no more from those who have none.
    pub(super) fn take(self: &Arc<Self>, client: Client) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        let own = taken.by_client.get(&client).copied().unwrap_or(0);
        let scarce = self.one < self.all && taken.all >= self.all / 2;
        let one = if scarce { (self.one / FEW).max(1) } else { self.one };
        if own >= one {
            return Err(Full::One);
        }
        if taken.all >= self.all {
            return Err(Full::All);
        }
        taken.all += 1;
        taken.by_client.insert(client, own + 1);
        Ok(Place { limits: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.limits.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.by_client.get_mut(&self.client) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

/// Which part of its limit a client may have where places are scarce.
const FEW: usize = 16;

/// Refusals of questions that one client is told in a second.
const TOLD: u32 = 200;

/// Clients with a budget of their own, in some 1 MiB each time.
pub(super) const MAX_CLIENTS: usize = 16_384;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_client_at_its_limit_leaves_room_for_others_and_places_come_back() {
        let client = |last: u8| Client::at([192, 0, 2, last].into());
        let limits = Limits::new(4, 2);
        let first = limits.take(client(1)).unwrap();
        let second = limits.take(client(1)).unwrap();
        assert_eq!(limits.take(client(1)).unwrap_err(), Full::One);
        let third = limits.take(client(2)).unwrap();
        assert_eq!(limits.take(client(2)).unwrap_err(), Full::One, "places are scarce");
        let fourth = limits.take(client(3)).unwrap();
        assert_eq!(limits.take(client(4)).unwrap_err(), Full::All);
        drop(first);
        let again = limits.take(client(4)).unwrap();
        drop((second, third, fourth, again));
        assert!(limits.taken.lock().by_client.is_empty());
        assert_eq!(limits.taken.lock().all, 0);
    }

    #[test]
    fn a_few_addresses_do_not_hold_every_place() {
        let client =
            |number: u16| Client::at(std::net::Ipv4Addr::from(0xc000_0000 + u32::from(number)).into());
        let limits = Limits::new(1024, 64);
        let mut held = Vec::new();
        for number in 0..16 {
            held.extend((0..64).map_while(|_| limits.take(client(number)).ok()));
        }
        assert!(held.len() < 600, "{}", held.len());
        for number in 16..100 {
            held.push(limits.take(client(number)).unwrap());
        }
        let alone = Limits::new(64, 64);
        let all: Vec<_> = (0..64).map_while(|_| alone.take(client(1)).ok()).collect();
        assert_eq!(all.len(), 64, "where there is one client it may have all");
    }
}
