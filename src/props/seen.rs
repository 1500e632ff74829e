//! What a play's Internet saw: every connection with its bytes, every question. "Nothing arrived" is
//! measured here.
//!
//! Must not know what should have arrived.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// One connection to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: SocketAddr,
    pub(crate) from: SocketAddr,
    /// Bytes that came, as on the wire.
    pub(crate) bytes: usize,
    /// The first [`KEPT`] of them.
    pub(crate) head: Vec<u8>,
    /// The Host of each request that came whole.
    pub(crate) hosts: Vec<String>,
}

impl Arrival {
    pub(crate) fn new(at: SocketAddr, from: SocketAddr) -> Self {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        Self { at, from, bytes: 0, head: Vec::new(), hosts: Vec::new() }
    }
}

/// Bytes of one connection that are kept.
const KEPT: usize = 128 << 10;

/// One question to a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) at: SocketAddr,
    /// In lower case.
    pub(crate) name: String,
}

/// Everything that came, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) questions: Vec<Question>,
}

/// A place in the notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) arrivals: usize,
    pub(crate) questions: usize,
}

/// The notes, shared by all servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Notes>>);

/// Writes down one connection.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    seen: Seen,
    index: usize,
}

impl Seen {
    pub(crate) fn arrived(&self, at: SocketAddr, from: SocketAddr) -> Visit {
        let mut notes = self.0.lock();
        notes.arrivals.push(Arrival::new(at, from));
        Visit { seen: self.clone(), index: notes.arrivals.len() - 1 }
    }

    pub(crate) fn asked(&self, at: SocketAddr, name: String) {
        self.0.lock().questions.push(Question { at, name });
    }

    pub(crate) fn mark(&self) -> Mark {
        let notes = self.0.lock();
        Mark { arrivals: notes.arrivals.len(), questions: notes.questions.len() }
    }

    /// What came since a mark. Later bytes of an older connection belong to before.
    pub(crate) fn since(&self, mark: Mark) -> Notes {
        let notes = self.0.lock();
        Notes {
            arrivals: notes.arrivals.get(mark.arrivals..).unwrap_or(&[]).to_vec(),
            questions: notes.questions.get(mark.questions..).unwrap_or(&[]).to_vec(),
        }
    }
}

impl Visit {
    pub(crate) fn bytes(&self, came: &[u8]) {
        self.note(|arrival| {
            arrival.bytes += came.len();
            let room = KEPT.saturating_sub(arrival.head.len()).min(came.len());
            arrival.head.extend(came.iter().take(room));
        });
    }

    pub(crate) fn request(&self, host: &str) {
        self.note(|arrival| arrival.hosts.push(host.to_owned()));
    }

    fn note(&self, write: impl FnOnce(&mut Arrival)) {
        if let Some(arrival) = self.seen.0.lock().arrivals.get_mut(self.index) {
            write(arrival);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_bytes_of_an_old_connection_are_not_new() {
        let seen = Seen::default();
        let at = SocketAddr::from(([203, 0, 113, 10], 443));
        let visit = seen.arrived(at, at);
        let mark = seen.mark();
        visit.bytes(&[0; 24]);
        assert_eq!(seen.since(mark), Notes::default());
        seen.arrived(at, at).request("good.example.com");
        let notes = seen.since(mark);
        let hosts = vec!["good.example.com".to_owned()];
        assert_eq!(notes.arrivals, [Arrival { hosts, ..Arrival::new(at, at) }]);
        assert_eq!(seen.since(Mark::default()).arrivals.first().map(|first| first.bytes), Some(24));
    }
}
