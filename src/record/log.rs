//! The log: a bounded queue in front of one writer thread.
//!
//! Recording counts an event and queues it; it does not know how a line is spelled nor where it goes.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::facts::{Moment, Tick};

use super::repeats::{self, Fate, Repeats};
use super::writer::{Missing, Order, Outlet, Writer};
use super::{Event, FileSink, Gap, Metrics, Sink};

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to; reopened on SIGHUP.
    File(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The corridor waits: complete, slower.
    #[default]
    Block,
    /// The line is dropped and counted in a `gap` event.
    Shed,
}

/// Where and how to record.
#[derive(Debug, Clone)]
pub struct RecordConfig {
    /// Empty: counters only.
    pub to: Vec<Target>,
    /// Stance on a full queue.
    pub when_full: WhenFull,
    /// Events the queue holds; at least one.
    pub queue: usize,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The target cannot be opened.
    #[error("cannot open audit log {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The writer cannot be started.
    #[error("cannot start the writer of the audit log")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Hears every event that has a line, in the order of the log, on the writer's own thread.
///
/// Whatever it does, the log waits for it: it may fold and say a word, and must not wait for anybody.
pub type Listener = Box<dyn FnMut(&Event) + Send>;

/// A handle on the log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    metrics: Arc<Metrics>,
    repeats: Mutex<Repeats>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// To the writer.
    Queue {
        orders: mpsc::Sender<Order>,
        when_full: WhenFull,
        shed: Arc<Mutex<Missing>>,
        done: watch::Receiver<bool>,
    },
    /// Into memory.
    Memory(Arc<Mutex<Vec<Event>>>),
    /// Counted only.
    Nowhere,
}

/// What a [`Log::memory`] recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorded {
    /// Returns the events so far, in the order of recording.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// Takes the events out.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }
}

impl Log {
    /// Opens the targets and starts the writer thread.
    ///
    /// # Errors
    /// [`LogError`] names the target that cannot be opened; none is written to then.
    pub fn open(config: &RecordConfig) -> Result<Self, LogError> {
        Self::open_with(config, None)
    }

    /// As [`Log::open`], and a listener hears every event, also where there is no target at all.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_with(config: &RecordConfig, listener: Option<Listener>) -> Result<Self, LogError> {
        let mut sinks: Vec<(String, Box<dyn Sink>)> = Vec::with_capacity(config.to.len());
        for target in &config.to {
            let sink = match target {
                Target::Stdout => FileSink::stdout(),
                Target::File(path) => FileSink::append(path),
            };
            let sink = sink.map_err(|source| LogError::Open { path: target.to_string().into(), source })?;
            sinks.push((target.to_string(), Box::new(sink)));
        }
        Self::start(sinks, listener, config.when_full, config.queue)
    }

    /// Starts a writer thread in front of sinks, each with a name for messages; without sinks, only counts.
    ///
    /// # Errors
    /// [`LogError::Thread`].
    pub fn to_sinks(
        sinks: Vec<(String, Box<dyn Sink>)>,
        when_full: WhenFull,
        queue: usize,
    ) -> Result<Self, LogError> {
        Self::start(sinks, None, when_full, queue)
    }

    fn start(
        sinks: Vec<(String, Box<dyn Sink>)>,
        listener: Option<Listener>,
        when_full: WhenFull,
        queue: usize,
    ) -> Result<Self, LogError> {
        let metrics = Arc::new(Metrics::default());
        if sinks.is_empty() && listener.is_none() {
            return Ok(Self { inner: Arc::new(Inner::new(metrics, Way::Nowhere)) });
        }
        let (orders, receiver) = mpsc::channel(queue.max(1));
        let (done, done_seen) = watch::channel(false);
        let shed = Arc::new(Mutex::new(Missing::default()));
        let writer = Writer {
            orders: receiver,
            outlets: sinks.into_iter().map(|(name, sink)| Outlet::new(name, sink)).collect(),
            listener,
            shed: Arc::clone(&shed),
            metrics: Arc::clone(&metrics),
            done,
        };
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(|| writer.run())
            .map_err(|source| LogError::Thread { source })?;
        let way = Way::Queue { orders, when_full, shed, done: done_seen };
        Ok(Self { inner: Arc::new(Inner::new(metrics, way)) })
    }

    /// Makes a log that keeps its events in memory, and the handle to read them: for the tests of whatever
    /// records. It grows without a bound.
    pub fn memory() -> (Self, Recorded) {
        let events = Arc::new(Mutex::new(Vec::new()));
        let recorded = Recorded { events: Arc::clone(&events) };
        let inner = Inner::new(Arc::default(), Way::Memory(events));
        (Self { inner: Arc::new(inner) }, recorded)
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Records an event: counts it, and queues its line. Waits only when the queue is full and `when_full = "block"`.
    ///
    /// Of refusals over a limit only one a second for each client and limit has a line, which tells of the others; see
    /// [`Log::tell_repeats`].
    ///
    /// An event whose recording is given up while it waits, or that comes after [`Log::close`], is counted
    /// as lost.
    pub fn record(&self, event: Event) -> impl Future<Output = ()> + Send {
        self.inner.metrics.count(&event);
        self.queue(self.inner.line_now(event))
    }

    /// Writes what is owed of refusals that were put off and are not followed by another.
    pub async fn tell_repeats(&self, now: Tick) {
        self.settle(Some(now)).await;
    }

    async fn settle(&self, now: Option<Tick>) {
        let due = self.inner.repeats.lock().due(now);
        for event in due {
            self.queue(Some(event)).await;
        }
    }

    async fn queue(&self, mut line: Option<Event>) {
        match &self.inner.way {
            Way::Queue { orders, when_full: WhenFull::Block, .. } => {
                let Some(at) = line.as_ref().map(Event::at) else { return };
                let waiting = Waiting { inner: &self.inner, at };
                if let (Ok(room), Some(event)) = (orders.reserve().await, line.take()) {
                    std::mem::forget(waiting);
                    room.send(Order::Line(event));
                }
            }
            Way::Queue { orders, when_full: WhenFull::Shed, .. } => {
                let Some(event) = line.take() else { return };
                match orders.try_send(Order::Line(event)) {
                    Ok(()) => {}
                    Err(TrySendError::Full(order) | TrySendError::Closed(order)) => {
                        if let Order::Line(event) = order {
                            self.inner.lost(event.at());
                        }
                    }
                }
            }
            Way::Memory(events) => events.lock().extend(line),
            Way::Nowhere => {}
        }
    }

    /// Waits until an event could be recorded. At once, where a full queue sheds.
    pub async fn has_room(&self) {
        if let Way::Queue { orders, when_full: WhenFull::Block, .. } = &self.inner.way {
            // A writer that is gone holds nobody up.
            let _ = orders.reserve().await;
        }
    }

    /// Starts every target anew, for whoever moved the files away. Lines recorded before go to the old ones.
    ///
    /// # Errors
    /// [`LogError::Open`]: this target goes on with its old file; the others are reopened.
    pub async fn reopen(&self) -> Result<(), LogError> {
        let Way::Queue { orders, .. } = &self.inner.way else { return Ok(()) };
        let (reply, outcome) = oneshot::channel();
        // A writer that is gone has nothing to reopen.
        if orders.send(Order::Reopen(reply)).await.is_err() {
            return Ok(());
        }
        match outcome.await {
            Ok(Err((name, source))) => Err(LogError::Open { path: name.into(), source }),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Writes out what is queued and stops the writer; the listener has heard everything then.
    pub async fn close(&self) {
        self.settle(None).await;
        let Way::Queue { orders, done, .. } = &self.inner.way else { return };
        // An error means that the writer is on its way out already.
        let _ = orders.send(Order::Close).await;
        let _ = done.clone().wait_for(|done| *done).await;
    }
}

impl Inner {
    fn new(metrics: Arc<Metrics>, way: Way) -> Self {
        Self { metrics, repeats: Mutex::default(), way }
    }

    /// Returns the event where it is to be written: it has a line, and no later one tells of it.
    fn line_now(&self, event: Event) -> Option<Event> {
        if !repeats::concerns(&event) {
            return (event.has_line() || matches!(self.way, Way::Memory(_))).then_some(event);
        }
        let fate = self.repeats.lock().take(event);
        match fate {
            Fate::Line(event) => Some(event),
            Fate::Told => None,
            Fate::Lost(at) => {
                self.lost(at);
                None
            }
        }
    }

    /// Counts a line that will not be written, and wakes the writer: there may be no event behind it.
    fn lost(&self, at: Moment) {
        self.metrics.count(&Event::Gap(Gap { at, since: at, lines: 1 }));
        if let Way::Queue { orders, shed, .. } = &self.way {
            shed.lock().add(1, at, at);
            // A full queue means that the writer has yet to look.
            let _ = orders.try_send(Order::Wake);
        }
    }
}

/// A corridor that waits for room. Dropped before there is any, its line is lost.
#[derive(Debug)]
struct Waiting<'a> {
    inner: &'a Inner,
    at: Moment,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inner.lost(self.at);
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
