//! Whether a connection still carries answers, or only looks open.
//!
//! It does not know what kind of connection it is.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts the questions in a row that were given up.
#[derive(Debug, Default)]
pub(super) struct Pulse(AtomicU32);

/// So many unanswered questions in a row mean that the connection is dead. One may be a slow name.
const LOST: u32 = 3;

impl Pulse {
    /// Whether the connection should be replaced.
    pub(super) fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LOST
    }

    /// Begins to wait for an answer. Dropped without one, it counts.
    pub(super) fn listen(&self) -> Listening<'_> {
        Listening { pulse: self, heard: false }
    }

    /// Starts anew, with a new connection.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A question under way.
pub(super) struct Listening<'a> {
    pulse: &'a Pulse,
    heard: bool,
}

impl Listening<'_> {
    /// Says that the connection spoke, whatever it said.
    pub(super) fn heard(mut self) {
        self.heard = true;
        self.pulse.reset();
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if !self.heard {
            self.pulse.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
