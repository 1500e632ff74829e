//! How many connections one client may have, and what each flow is called.
//!
//! Must not know what is refused to a client that is over the limit.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::facts::{Client, FlowId};

/// Open connections by client. Holds no more entries than there are open connections.
#[derive(Debug)]
pub(super) struct Clients {
    max: usize,
    open: Mutex<HashMap<Client, usize>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    clients: Arc<Clients>,
    client: Client,
}

impl Clients {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::new(HashMap::new()) })
    }

    /// Takes a place for one more connection; `None`: the client has as many as it may.
    pub(super) fn enter(self: &Arc<Self>, client: Client) -> Option<Place> {
        let mut open = self.open.lock();
        let count = open.get(&client).copied().unwrap_or(0);
        if count >= self.max {
            return None;
        }
        open.insert(client, count + 1);
        Some(Place { clients: Arc::clone(self), client })
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_client_over_its_limit_takes_nothing_from_another() {
        let clients = Clients::new(2);
        let one = Client::at("192.0.2.1".parse().unwrap());
        let two = Client::at("192.0.2.2".parse().unwrap());
        let held = [clients.enter(one).unwrap(), clients.enter(one).unwrap()];
        assert!(clients.enter(one).is_none());
        assert!(clients.enter(two).is_some());
        drop(held);
        assert!(clients.open.lock().is_empty(), "no entry outlives its connections");
        assert!(clients.enter(one).is_some());
    }

    #[test]
    fn flow_identifiers_differ() {
        let ids = FlowIds::new();
        assert_ne!(ids.next(), ids.next());
    }
}
