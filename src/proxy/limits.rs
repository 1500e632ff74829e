//! How many connections one client may have, and begin in a second, and what each flow is called.
//!
//! Must not know what is refused to a client that is over the limit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::facts::{Client, FlowId, Limit, Tick};
use crate::rate::{Budgets, Rate};

/// Open connections by client, and budgets of new ones. Holds no more entries than there are open connections, and
/// [`MAX_CLIENTS`] budgets.
#[derive(Debug)]
pub(super) struct Clients {
    max: usize,
    new: Budgets,
    open: Mutex<HashMap<Client, usize>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    client: Client,
}

impl Clients {
    pub(super) fn new(max: usize, per_second: u32) -> Arc<Self> {
        let new = Budgets::new(Rate::per_second(per_second), MAX_CLIENTS);
        Arc::new(Self { max, new, open: Mutex::new(HashMap::new()) })
    }

    /// Takes a place for one more connection, or says which limit has been reached.
    pub(super) fn enter(self: &Arc<Self>, client: Client, now: Tick) -> Result<Place, Limit> {
        if !self.new.take(client, now) {
            return Err(Limit::NewConnections);
        }
        let mut open = self.open.lock();
        let count = open.get(&client).copied().unwrap_or(0);
        if count >= self.max {
            return Err(Limit::OpenConnections);
        }
        open.insert(client, count + 1);
        Ok(Place { clients: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock();
        if let Entry::Occupied(mut entry) = open.entry(self.client) {
            if *entry.get() > 1 {
                *entry.get_mut() -= 1;
            } else {
                entry.remove();
            }
        }
    }
}

/// Gives out flow identifiers: a random start, then one more each time, so that they differ within a
/// process and in all likelihood between processes.
#[derive(Debug)]
pub(super) struct FlowIds(AtomicU64);

impl FlowIds {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(rand::random()))
    }

    pub(super) fn next(&self) -> FlowId {
        FlowId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Clients with a budget of their own, in some 1 MiB.
const MAX_CLIENTS: usize = 16_384;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_client_over_its_limit_takes_nothing_from_another() {
        let clients = Clients::new(2, 5);
        let at = |millis: u64| Tick::from_nanos(millis * 1_000_000);
        let enter = |client| clients.enter(client, at(0));
        let one = Client::at("192.0.2.1".parse().unwrap());
        let two = Client::at("192.0.2.2".parse().unwrap());
        let held = [enter(one).unwrap(), enter(one).unwrap()];
        assert_eq!(enter(one).unwrap_err(), Limit::OpenConnections);
        assert!(enter(two).is_ok());
        drop(held);
        assert!(clients.open.lock().is_empty(), "no entry outlives its connections");
        assert!(enter(one).is_ok() && enter(one).is_ok());
        assert_eq!(enter(one).unwrap_err(), Limit::NewConnections);
        assert!(enter(two).is_ok());
        assert!(clients.enter(one, at(200)).is_ok());
    }

    #[test]
    fn flow_identifiers_differ() {
        let ids = FlowIds::new();
        assert_ne!(ids.next(), ids.next());
    }
}
