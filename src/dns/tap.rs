//! The dnstap tap: evidence from a resolver that is not ours.
//!
//! Takes any number of senders at once, within a bound. A bad frame costs that frame or that sender, never
//! the receiver; a lost one costs delay, never a wrong allow. It does not know how frames are spelled.

mod door;
mod sender;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::facts::Tick;
use crate::gate::Gate;
use crate::record::{Event, Log, TapEvent, TapRefusal, TapWhat};
use crate::sys;
use crate::sys::socket_file::SocketFileError;

use super::config::TapConfig;
use door::{Door, Stream, Visitor};

/// Why the tap cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The unix socket.
    #[error(transparent)]
    Unix(#[from] SocketFileError),
    /// The TCP address cannot be listened on.
    #[error("cannot listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The bound sockets. Socket files go with it.
#[derive(Debug)]
pub struct Tap {
    doors: Vec<Door>,
    max_senders: usize,
}

impl Tap {
    /// Binds every address of the configuration. Must be called within a runtime.
    ///
    /// A socket file that nobody listens on is replaced; anything else in its place is left alone.
    ///
    /// # Errors
    /// [`TapError`]; nothing stays bound then.
    pub fn bind(config: &TapConfig) -> Result<Self, TapError> {
        let doors = config.listen.iter().map(|address| Door::bind(address, config));
        Ok(Self { doors: doors.collect::<Result<_, _>>()?, max_senders: config.max_senders })
    }

    /// Whether there is anything to listen on.
    pub fn listens(&self) -> bool {
        !self.doors.is_empty()
    }

    /// Returns the TCP addresses that are listened on: the gate must know them as its own.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.doors.iter().filter_map(Door::tcp_address).collect()
    }

    /// Takes senders until `cancel`, then leaves once every sender is let go and the socket files are gone.
    pub async fn serve(self, gate: Arc<Gate>, log: Log, cancel: CancellationToken) {
        let tasks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.max_senders));
        for door in self.doors {
            let shared = Shared { gate: Arc::clone(&gate), log: log.clone(), cancel: cancel.clone() };
            let places = Arc::clone(&places);
            tasks.spawn(attend(door, shared, places, tasks.clone()));
        }
        cancel.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }
}

/// What every sender's task holds.
#[derive(Debug, Clone)]
struct Shared {
    gate: Arc<Gate>,
    log: Log,
    cancel: CancellationToken,
}

/// Opens one door to whoever may come in.
async fn attend(door: Door, shared: Shared, places: Arc<Semaphore>, tasks: TaskTracker) {
    let mut refused = Refusals::default();
    loop {
        let visitor = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            visitor = door.accept() => visitor,
        };
        let Visitor { stream, label, allowed } = match visitor {
            Ok(visitor) => visitor,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a dnstap sender");
                pause(&shared.cancel).await;
                continue;
            }
        };
        if !allowed {
            refused.tell(&shared.log, label, TapRefusal::NotAllowed).await;
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refused.tell(&shared.log, label, TapRefusal::TooMany).await;
            continue;
        };
        let shared = shared.clone();
        tasks.spawn(async move {
            match stream {
                Stream::Unix(stream) => sender::hear(stream, label, &shared).await,
                Stream::Tcp(stream) => sender::hear(stream, label, &shared).await,
            }
            drop(place);
        });
    }
}

/// Waits a little where accepting fails, as it does when descriptors run out.
async fn pause(cancel: &CancellationToken) {
    // Either way the loop looks again.
    let _ = tokio::time::timeout(Duration::from_millis(100), cancel.cancelled()).await;
}

/// Refusals not told yet: whoever is refused a thousand times a second does not write as many lines.
#[derive(Debug, Default)]
struct Refusals {
    pending: u64,
    told: Option<Tick>,
}

impl Refusals {
    const EVERY: Duration = Duration::from_secs(1);

    async fn tell(&mut self, log: &Log, sender: Arc<str>, why: TapRefusal) {
        let at = sys::clock::now();
        self.pending = self.pending.saturating_add(1);
        if self.told.is_some_and(|told| at.tick.since(told) < Self::EVERY) {
            return;
        }
        let times = std::mem::take(&mut self.pending);
        self.told = Some(at.tick);
        log.record(Event::Tap(TapEvent { at, sender, what: TapWhat::Refused { why, times } })).await;
    }
}

#[cfg(test)]
#[path = "tap/tests.rs"]
mod tests;
