//! Look-ups of our own, for flows that came without evidence (`on_miss = "resolve"`).
//!
//! It does not know flows: a client, a name and an address family are all it is told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::facts::{Client, Name, Source};
use crate::sys::clock;
use crate::wire::dns::{self, Answer, Ask, qtype};

use super::exchange::Corridor;
use super::limits::Limits;

type Key = (Name, u16);
type Cell = Arc<OnceCell<Option<Answer>>>;

/// Asks for names that were claimed, each once at a time however many wait.
#[derive(Debug)]
pub(super) struct Lookups {
    corridor: Arc<Corridor>,
    limits: Arc<Limits>,
    under_way: Mutex<HashMap<Key, Cell>>,
}

impl Lookups {
    /// The limits bound those who wait, and so what is under way.
    pub(super) fn new(corridor: Arc<Corridor>) -> Self {
        let limits = Limits::new(corridor.config.max_inflight, corridor.config.max_inflight_per_client);
        Self { corridor, limits, under_way: Mutex::default() }
    }

    /// Asks for the name's addresses of the destination's family, and writes what comes into the ledger for
    /// this client. Ready when it is there, or nothing came. A name that the client may not ask for does
    /// not travel upstream this way either.
    pub(super) async fn look(&self, client: Client, name: Name, destination: IpAddr) {
        let Ok(_place) = self.limits.take(client) else {
            tracing::debug!(%client, %name, "look-up refused: too many under way");
            return;
        };
        let now = clock::now();
        if !self.corridor.gate.question(client, &name, now).reason.lets_pass() {
            return;
        }
        // A claimed name that travels says as much as one that is asked for.
        if !self.corridor.names.take(client, &name, now.tick) {
            tracing::debug!(%client, %name, "look-up refused: too many new names");
            return;
        }
        let qtype = if destination.is_ipv4() { qtype::A } else { qtype::AAAA };
        let Some(answer) = self.shared((name, qtype)).await else { return };
        self.corridor.observe(client, answer, Source::Resolved, clock::now());
    }

    async fn shared(&self, key: Key) -> Option<Answer> {
        let cell = Arc::clone(self.under_way.lock().entry(key.clone()).or_default());
        let _leave = Leave { lookups: self, key: &key, cell: &cell };
        // Whoever is first asks; should it be cancelled, the next one does.
        cell.get_or_init(|| self.ask(&key)).await.clone()
    }

    async fn ask(&self, (name, qtype): &Key) -> Option<Answer> {
        let bytes = match self.corridor.ask(&Ask::new(name.clone(), *qtype)).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::debug!(%name, %error, "look-up failed");
                return None;
            }
        };
        let answer = dns::answer(&bytes).ok()?;
        (answer.question.name == *name && answer.question.qtype == *qtype).then_some(answer)
    }
}

/// Takes the shared look-up out when it is answered, or when the last one stops waiting: the next one asks
/// anew.
struct Leave<'a> {
    lookups: &'a Lookups,
    key: &'a Key,
    cell: &'a Cell,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let mut under_way = self.lookups.under_way.lock();
        // One reference in the map, one in the caller.
        let done = self.cell.initialized() || Arc::strong_count(self.cell) <= 2;
        if done && under_way.get(self.key).is_some_and(|there| Arc::ptr_eq(there, self.cell)) {
            under_way.remove(self.key);
        }
    }
}
