//! What the demo's Internet saw: every connection with its bytes, every question. "Nothing arrived" is
//! measured here.
//!
//! Must not know what should have arrived.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// One connection to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: SocketAddr,
    /// Bytes that came, as on the wire.
    pub(super) bytes: usize,
    /// The Host of each request that came whole.
    pub(super) hosts: Vec<String>,
}

/// One question to a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) at: SocketAddr,
    /// In lower case.
    pub(super) name: String,
}

/// Everything that came, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) questions: Vec<Question>,
}

/// A place in the notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) arrivals: usize,
    pub(super) questions: usize,
}

/// The notes, shared by all servers.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Notes>>);

/// Writes down one connection.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    seen: Seen,
    index: usize,
}

impl Seen {
    pub(super) fn arrived(&self, at: SocketAddr) -> Visit {
        let mut notes = self.0.lock();
        notes.arrivals.push(Arrival { at, bytes: 0, hosts: Vec::new() });
        Visit { seen: self.clone(), index: notes.arrivals.len() - 1 }
    }

    pub(super) fn asked(&self, at: SocketAddr, name: String) {
        self.0.lock().questions.push(Question { at, name });
    }

    pub(super) fn mark(&self) -> Mark {
        let notes = self.0.lock();
        Mark { arrivals: notes.arrivals.len(), questions: notes.questions.len() }
    }

    /// What came since a mark. Later bytes of an older connection belong to before.
    pub(super) fn since(&self, mark: Mark) -> Notes {
        let notes = self.0.lock();
        Notes {
            arrivals: notes.arrivals.get(mark.arrivals..).unwrap_or(&[]).to_vec(),
            questions: notes.questions.get(mark.questions..).unwrap_or(&[]).to_vec(),
        }
    }
}

impl Visit {
    pub(super) fn bytes(&self, count: usize) {
        self.note(|arrival| arrival.bytes += count);
    }

    pub(super) fn request(&self, host: &str) {
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
        let visit = seen.arrived(at);
        let mark = seen.mark();
        visit.bytes(24);
        assert_eq!(seen.since(mark), Notes::default());
        seen.arrived(at).request("good.example.com");
        let notes = seen.since(mark);
        assert_eq!(notes.arrivals, [Arrival { at, bytes: 0, hosts: vec!["good.example.com".to_owned()] }]);
        assert_eq!(seen.since(Mark::default()).arrivals.first().map(|first| first.bytes), Some(24));
    }
}
