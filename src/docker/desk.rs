//! Where the corridors ask for a fresh look, and wait for it.
//!
//! Those who ask meanwhile wait for the same look. Must not know what a look is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

/// The side of those who ask.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    desk: Arc<Desk>,
    ended: watch::Receiver<u64>,
}

/// The side of who looks.
#[derive(Debug)]
pub(super) struct Attendant {
    desk: Arc<Desk>,
    ended: watch::Sender<u64>,
}

#[derive(Debug)]
struct Desk {
    /// How many looks have begun.
    begun: AtomicU64,
    wanted: Notify,
    waiting: Semaphore,
}

pub(super) fn desk() -> (Asker, Attendant) {
    let waiting = Semaphore::new(MAX_WAITING);
    let desk = Arc::new(Desk { begun: AtomicU64::new(0), wanted: Notify::new(), waiting });
    let (sender, receiver) = watch::channel(0);
    (Asker { desk: Arc::clone(&desk), ended: receiver }, Attendant { desk, ended: sender })
}

impl Asker {
    /// Waits for the end of a look that begins after this call, and says whether there was one.
    pub(super) async fn fresh(&self) -> bool {
        let Ok(_place) = self.desk.waiting.try_acquire() else { return false };
        let begun = self.desk.begun.load(Ordering::SeqCst);
        self.desk.wanted.notify_one();
        let mut ended = self.ended.clone();
        // Nobody looks any more, or the look takes too long: what is known must do.
        matches!(timeout(MAX_WAIT, ended.wait_for(|&number| number > begun)).await, Ok(Ok(_)))
    }
}

impl Attendant {
    /// A look begins; returns its number.
    pub(super) fn begin(&self) -> u64 {
        self.desk.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The look of that number ended, well or not.
    pub(super) fn end(&self, number: u64) {
        self.ended.send_replace(number);
    }

    /// Waits until somebody asks.
    pub(super) async fn wanted(&self) {
        self.desk.wanted.notified().await;
    }
}

/// Who may wait for the next look at once: a flood of made-up sources must not fill the corridors.
const MAX_WAITING: usize = 64;
/// For a look.
const MAX_WAIT: Duration = Duration::from_secs(2);
