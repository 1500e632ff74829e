//! The writer thread: takes events off the queue, many at once, and writes each target's lines in one go.
//!
//! A listener hears each event as well. What cannot be written is counted and told in the log itself once it
//! can be written again. Time is what the events carry. It does not know who records, nor what a full queue leads to.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::facts::{Moment, Tick};

use super::log::Listener;
use super::metrics::Metrics;
use super::sink::Sink;
use super::{Event, Gap, line};

/// What the queue carries.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every order is a line")]
pub(super) enum Order {
    /// Write the event's line.
    Line(Event),
    /// Look at the count of shed lines: there may be no event behind them.
    Wake,
    /// Start every sink anew; the first failure is the answer.
    Reopen(oneshot::Sender<Result<(), (String, io::Error)>>),
    /// Write what is queued, take nothing more.
    Close,
}

/// Lines lost so far and not yet told.
#[derive(Debug, Clone, Default)]
pub(super) struct Missing(Option<Gap>);

impl Missing {
    /// Adds lines of events between two instants.
    pub(super) fn add(&mut self, lines: u64, first: Moment, last: Moment) {
        if lines == 0 {
            return;
        }
        let gap = self.0.get_or_insert(Gap { at: last, since: first, lines: 0 });
        gap.lines = gap.lines.saturating_add(lines);
        gap.at = last;
    }

    fn merge(&mut self, other: &Self) {
        if let Some(gap) = &other.0 {
            self.add(gap.lines, gap.since, gap.at);
        }
    }

    fn take(&mut self) -> Self {
        Self(self.0.take())
    }
}

/// A line that was cut in the middle. It is finished before anything else is written, so that no line is
/// ever broken; a new file gets it whole.
#[derive(Debug, Default)]
struct Torn {
    line: Vec<u8>,
    written: usize,
}

impl Torn {
    fn rest(&self) -> &[u8] {
        self.line.get(self.written..).unwrap_or_default()
    }
}

/// One target: a sink and what it still owes.
#[derive(Debug)]
pub(super) struct Outlet {
    name: String,
    sink: Box<dyn Sink>,
    torn: Torn,
    missing: Missing,
    complained: Option<Tick>,
}

impl Outlet {
    /// Names a sink for messages.
    pub(super) fn new(name: String, sink: Box<dyn Sink>) -> Self {
        Self { name, sink, torn: Torn::default(), missing: Missing::default(), complained: None }
    }

    /// Writes a batch behind what is owed. What the sink does not take is lost and counted.
    fn write(&mut self, batch: &Batch, metrics: &Metrics) {
        if self.torn.rest().is_empty() && self.missing.0.is_none() {
            if let Err(failure) = write_all(&mut *self.sink, &batch.lines) {
                self.lose(&batch.lines, 0, &failure, batch, metrics);
            }
            return;
        }
        let mut bytes = self.torn.rest().to_vec();
        let torn_end = bytes.len();
        if let Some(gap) = &self.missing.0 {
            line::write(&Event::Gap(gap.clone()), &mut bytes);
        }
        let gap_end = bytes.len();
        bytes.extend_from_slice(&batch.lines);
        match write_all(&mut *self.sink, &bytes) {
            Ok(()) => {
                self.torn = Torn::default();
                self.missing = Missing::default();
                if self.complained.take().is_some() {
                    tracing::info!(target = %self.name, "audit log can be written again");
                }
            }
            Err(failure) => {
                let torn = std::mem::take(&mut self.torn);
                // With a byte of the gap line out, the line is told or torn; else it is owed as before.
                if failure.written > torn_end {
                    self.missing = Missing::default();
                }
                self.lose(&bytes, gap_end, &failure, batch, metrics);
                if failure.written < torn_end {
                    let written = torn.written.saturating_add(failure.written);
                    self.torn = Torn { written, ..torn };
                }
            }
        }
    }

    /// Keeps the line that was cut and counts the lines behind it as lost. Bytes before `ours` are no lines
    /// of this batch.
    fn lose(&mut self, bytes: &[u8], ours: usize, failure: &Failure, batch: &Batch, metrics: &Metrics) {
        let (out, rest) = bytes.split_at_checked(failure.written).unwrap_or((bytes, &[]));
        let begun = out.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at.saturating_add(1));
        let begun = out.get(begun..).unwrap_or_default();
        let mut told = failure.written;
        if !begun.is_empty() {
            let end =
                rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at.saturating_add(1));
            let line = [begun, rest.get(..end).unwrap_or_default()].concat();
            told = told.saturating_add(end);
            self.torn = Torn { line, written: begun.len() };
        }
        let lost = count_lines(bytes.get(told.max(ours)..).unwrap_or_default());
        if let (Some(first), Some(last)) = (batch.first, batch.last)
            && lost > 0
        {
            self.missing.add(lost, first, last);
            metrics.count(&Event::Gap(Gap { at: last, since: first, lines: lost }));
        }
        self.complain(failure, batch.last);
    }

    /// Says that the promise of a whole log is broken, once a minute.
    fn complain(&mut self, failure: &Failure, at: Option<Moment>) {
        let now = at.map_or(Tick::default(), |at| at.tick);
        if self.complained.is_none_or(|last| now.since(last) >= Duration::from_secs(60)) {
            self.complained = Some(now);
            tracing::error!(target = %self.name, error = %failure.cause, "audit log cannot be written, lines are lost");
        }
    }

    fn reopen(&mut self) -> Result<(), (String, io::Error)> {
        self.sink.reopen().map_err(|error| (self.name.clone(), error))?;
        self.torn.written = 0;
        Ok(())
    }
}

/// Lines to write and the instants of the first and the last event among them.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    first: Option<Moment>,
    last: Option<Moment>,
}

impl Batch {
    fn push(&mut self, event: &Event) {
        line::write(event, &mut self.lines);
        self.first = self.first.or(Some(event.at()));
        self.last = Some(event.at());
    }

    fn clear(&mut self) {
        self.lines.clear();
        // One batch of huge events must not keep its memory for ever.
        self.lines.shrink_to(KEEP);
        self.first = None;
        self.last = None;
    }
}

#[derive(Debug)]
struct Failure {
    written: usize,
    cause: io::Error,
}

/// The thread's state.
pub(super) struct Writer {
    /// The other end of the queue.
    pub(super) orders: mpsc::Receiver<Order>,
    /// The targets.
    pub(super) outlets: Vec<Outlet>,
    /// Hears each event before its line is written.
    pub(super) listener: Option<Listener>,
    /// Lines that were shed before they got into the queue.
    pub(super) shed: Arc<Mutex<Missing>>,
    /// Counts what is lost here.
    pub(super) metrics: Arc<Metrics>,
    /// Set once everything is written out.
    pub(super) done: watch::Sender<bool>,
}

/// Events taken off the queue at once.
const AT_ONCE: usize = 512;

/// Bytes of line buffer that are kept between batches.
const KEEP: usize = 1 << 20;

/// Rest after a batch that emptied the queue. A busy gate wakes the thread some hundred times a second, not at every
/// event.
const REST: Duration = Duration::from_millis(5);

impl Writer {
    /// Writes until the log is closed or nobody holds it any more.
    pub(super) fn run(mut self) {
        let mut taken = Vec::with_capacity(AT_ONCE);
        let mut batch = Batch::default();
        while self.orders.blocking_recv_many(&mut taken, AT_ONCE) > 0 {
            let is_behind = taken.len() == AT_ONCE;
            for order in taken.drain(..) {
                match order {
                    Order::Line(event) => self.take(&event, &mut batch),
                    Order::Wake => {}
                    Order::Reopen(reply) => {
                        self.flush(&mut batch);
                        let _ = reply.send(self.reopen());
                    }
                    Order::Close => self.orders.close(),
                }
            }
            self.flush(&mut batch);
            if !is_behind && !self.orders.is_closed() {
                thread::park_timeout(REST);
            }
        }
        // A line shed while the last batch was written has no event behind it.
        self.flush(&mut batch);
        self.done.send_replace(true);
    }

    fn take(&mut self, event: &Event, batch: &mut Batch) {
        if let Some(listener) = &mut self.listener {
            listener(event);
        }
        if !self.outlets.is_empty() {
            batch.push(event);
        }
    }

    fn flush(&mut self, batch: &mut Batch) {
        let shed = self.shed.lock().take();
        if let (Some(listener), Some(gap)) = (&mut self.listener, &shed.0) {
            listener(&Event::Gap(gap.clone()));
        }
        for outlet in &mut self.outlets {
            outlet.write(batch, &self.metrics);
            if shed.0.is_some() {
                outlet.missing.merge(&shed);
                outlet.write(&Batch::default(), &self.metrics);
            }
        }
        batch.clear();
    }

    fn reopen(&mut self) -> Result<(), (String, io::Error)> {
        let mut outcome = Ok(());
        for outlet in &mut self.outlets {
            let this = outlet.reopen();
            if outcome.is_ok() {
                outcome = this;
            }
        }
        outcome
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

/// How often a sink that would block is tried again, 5 ms apart: a pipe whose other owner made it
/// non-blocking is slow, not broken.
const PATIENCE: u32 = 200;

fn write_all(sink: &mut dyn Sink, bytes: &[u8]) -> Result<(), Failure> {
    let mut written = 0;
    let mut patience = PATIENCE;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match sink.write(rest) {
            Ok(0) => return Err(Failure { written, cause: io::ErrorKind::WriteZero.into() }),
            Ok(count) => written = written.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && patience > 0 => {
                patience -= 1;
                thread::park_timeout(Duration::from_millis(5));
            }
            Err(cause) => return Err(Failure { written, cause }),
        }
    }
    Ok(())
}
