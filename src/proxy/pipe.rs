//! Carries an open flow both ways until it ends.
//!
//! Half-closes and resets are passed on as they came, slow receivers slow their senders, and HTTP requests and
//! TLS hellos pass one judged name at a time. Must not know how the flow came to be allowed.

mod judging;
mod waiting;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::record::{Decided, Ending, Event, Log};
use crate::sys::{clock, socket};

use super::bell::{Rung, Seat};
use super::ended::Ended;
use super::later::Later;
use super::standing::{Refusal, Standing};
use super::stream::{BulkRoom, End, Stream};
use waiting::Alarm;

/// Deadlines and sizes of a carried flow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// No byte either way.
    pub(super) idle: Duration,
    /// From the first byte of a later request head to its last; and no byte either way after a refusal.
    pub(super) head: Duration,
    /// Bytes of a later request head.
    pub(super) head_bytes: usize,
}

/// An open flow.
pub(super) struct Pipe<'a> {
    client: &'a TcpStream,
    server: &'a TcpStream,
    up: Stream,
    down: Stream,
    /// `None`: bytes pass as they are.
    later: Option<Box<Later>>,
    standing: &'a mut Standing,
    bounds: Bounds,
    bulk: &'a BulkRoom,
    /// The server takes no more; what it still says is delivered.
    server_deaf: bool,
    /// The kernel reported an error on the server's socket; reading will tell which.
    server_failed: bool,
    client_alarm: Option<Alarm<'a>>,
    server_alarm: Option<Alarm<'a>>,
    /// A later request was refused; responses under way are delivered first.
    refused: Option<Refusal>,
    /// When bytes last moved.
    active: Instant,
    /// It lasts: its peers are probed from here on. Until then, when that is.
    lasts: Result<(), Instant>,
    head_since: Option<Instant>,
    /// A kernel pipe was filled in this round.
    poured: bool,
    /// It ended by itself: neither side is to be reset.
    in_order: bool,
    error: Option<Arc<str>>,
}

/// What one round of work came to.
enum Turn {
    Moved,
    Blocked,
    /// The log is to hear of a name before more passes.
    Owing,
    Over(Ending),
}

/// Rounds without waiting before other flows of this worker get their turn.
const ROUNDS: u32 = 16;
/// What a round counts for in which a kernel pipe was filled: up to 1 MiB.
const ROUNDS_OF_PIPE: u32 = 4;

/// A flow that is open for so long is worth the calls that have dead peers found.
const LASTING: Duration = Duration::from_secs(10);

impl<'a> Pipe<'a> {
    /// Joins two sockets. `first` are the bytes that were read from the client before it was judged.
    pub(super) fn new(
        (client, server): (&'a TcpStream, &'a TcpStream),
        (first, later): (Vec<u8>, Option<Box<Later>>),
        standing: &'a mut Standing,
        (bounds, bulk): (Bounds, &'a BulkRoom),
    ) -> Self {
        let now = Instant::now();
        Self {
            client,
            server,
            up: Stream::with(first),
            down: Stream::default(),
            later,
            standing,
            bounds,
            bulk,
            server_deaf: false,
            server_failed: false,
            client_alarm: None,
            server_alarm: None,
            refused: None,
            active: now,
            lasts: Err(now + LASTING),
            head_since: None,
            poured: false,
            in_order: false,
            error: None,
        }
    }

    /// Carries bytes until the flow ends, the policy no longer allows it, or the bell says that it is over.
    pub(super) async fn run(&mut self, mut seat: Seat, log: &Log) -> Ended {
        let mut clock = pin!(sleep_until(self.active + LASTING));
        let ending = loop {
            let ending = poll_fn(|cx| self.poll(cx, &mut seat, clock.as_mut())).await;
            if self.standing.owes_lines() {
                Box::pin(tell(log, self.standing.lines())).await;
            }
            if let Some(ending) = ending {
                break ending;
            }
        };
        if !self.in_order {
            // Both sides hear that they were cut off. An error here means that one is gone already.
            let _ = socket::reset_on_close(self.client);
            let _ = socket::reset_on_close(self.server);
        }
        Ended {
            ending,
            sent: self.up.carried,
            received: self.down.carried,
            error: self.error.take(),
            untold: self.untold(),
        }
    }

    /// Ready with an ending, or with none when the log is to hear something first.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        seat: &mut Seat,
        mut clock: Pin<&mut Sleep>,
    ) -> Poll<Option<Ending>> {
        let mut rounds = 0;
        loop {
            // Between rounds too, or a busy flow would outlive its rule.
            match seat.heard() {
                Some(Rung::Over) => return Poll::Ready(Some(Ending::Drained)),
                Some(Rung::Change) if !self.standing.holds(clock::now()) => {
                    return Poll::Ready(Some(Ending::Revoked));
                }
                Some(Rung::Change) | None => {}
            }
            match self.turn() {
                Turn::Over(ending) => return Poll::Ready(Some(ending)),
                Turn::Owing => return Poll::Ready(None),
                Turn::Moved if rounds < ROUNDS => {
                    rounds += if std::mem::take(&mut self.poured) { ROUNDS_OF_PIPE } else { 1 };
                    continue;
                }
                Turn::Moved => {
                    self.active = Instant::now();
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Turn::Blocked => {}
            }
            if rounds > 0 {
                self.active = Instant::now();
            }
            self.up.rest();
            self.down.rest();
            seat.listen(cx.waker());
            if self.poll_movement(cx).is_ready() {
                rounds += 1;
                continue;
            }
            match self.poll_clock(cx, clock.as_mut()) {
                Poll::Ready(Some(ending)) => return Poll::Ready(Some(ending)),
                Poll::Ready(None) => {}
                Poll::Pending if seat.has_news() => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self) -> Turn {
        let mut moved = false;
        if self.takes_from_client() {
            moved |= self.hear_client();
        }
        if let Some(End::Reset(error)) = &self.up.end {
            self.error = Some(error.to_string().into());
            return Turn::Over(Ending::ClientReset);
        }
        moved |= self.admit();
        if self.standing.owes_lines() {
            return Turn::Owing;
        }
        if !self.server_deaf {
            match self.up.write(self.server) {
                Ok(sent) => moved |= sent,
                Err(error) => {
                    self.error = Some(error.to_string().into());
                    self.server_deaf = true;
                    self.up.clear();
                    moved = true;
                }
            }
            moved |= self.hears_client() && self.up.pass_end(self.server, self.down.finished);
        }
        moved |= self.hear_server();
        match self.down.write(self.client) {
            Ok(sent) => moved |= sent,
            Err(error) => {
                self.error = Some(error.to_string().into());
                return Turn::Over(Ending::ClientReset);
            }
        }
        if let Some(ending) = self.ended() {
            return Turn::Over(ending);
        }
        moved |= self.hears_client() && self.down.pass_end(self.client, self.up.finished);
        if self.up.finished && self.down.finished {
            self.in_order = true;
            return Turn::Over(Ending::Closed);
        }
        if moved { Turn::Moved } else { Turn::Blocked }
    }

    /// Reads from the client once, or moves what need not be read; returns whether anything came.
    fn hear_client(&mut self) -> bool {
        let (mute, _) = self.mute();
        if self.up.is_worth_a_pipe(mute)
            && let Some((moved, heard)) = self.up.pour(self.client, mute)
        {
            self.poured = true;
            if let Some(later) = &mut self.later {
                later.skip(moved, 0);
            }
            return heard;
        }
        self.up.read(self.client, self.bulk).is_some()
    }

    /// The same from the server.
    fn hear_server(&mut self) -> bool {
        if !self.down.wants(usize::MAX) {
            return false;
        }
        let (_, mute) = self.mute();
        if self.down.is_worth_a_pipe(mute)
            && let Some((moved, heard)) = self.down.pour(self.server, mute)
        {
            self.poured = true;
            if let Some(later) = &mut self.later {
                later.skip(0, moved);
            }
            return heard;
        }
        let Some(new) = self.down.read(self.server, self.bulk) else { return false };
        let behind = self.later.as_mut().and_then(|later| later.answered(new));
        self.down.release_all();
        if let Some(behind) = behind {
            self.say_aside(behind);
        }
        true
    }

    /// Whether this round ended the flow, other than by two ends of stream.
    fn ended(&mut self) -> Option<Ending> {
        if let Some(ending) = self.ended_refused() {
            return Some(ending);
        }
        if self.down.is_pending() {
            return None;
        }
        match &self.down.end {
            Some(End::Reset(error)) => {
                self.error.get_or_insert_with(|| error.to_string().into());
                self.refused = None;
                Some(Ending::ServerReset)
            }
            Some(End::Finished) if self.server_deaf => {
                self.refused = None;
                self.in_order = true;
                let _ = socket::finish(self.client);
                Some(Ending::ServerReset)
            }
            Some(End::Finished) | None => None,
        }
    }

    /// After a refusal: whether all that was allowed before it is done. What is left in `refused` is still
    /// to be told to the client.
    fn ended_refused(&mut self) -> Option<Ending> {
        let (refusal, later) = (self.refused.as_ref()?, self.later.as_ref()?);
        let ending = refusal.ending();
        if later.is_in_body() {
            // The server waits for a body that never comes, and so would the client for its answer.
            self.refused = None;
            return Some(ending);
        }
        if (self.up.is_pending() && !self.server_deaf) || self.down.is_pending() {
            return None;
        }
        if later.may_answer() {
            self.in_order = true;
            return Some(ending);
        }
        if later.is_lost() && !self.up.finished {
            // Only its end of stream tells where the last response ends.
            let _ = socket::finish(self.server);
            self.up.finished = true;
        }
        if matches!(self.down.end, Some(End::Finished)) {
            let _ = socket::finish(self.client);
            self.refused = None;
            self.in_order = true;
            return Some(ending);
        }
        None
    }

    /// Returns how many of the next bytes need not be read, of the client's and of the server's.
    fn mute(&self) -> (u64, u64) {
        self.later.as_ref().map_or((u64::MAX, u64::MAX), |later| later.mute())
    }

    fn takes_from_client(&self) -> bool {
        let judged_at_once = if self.later.is_some() { self.bounds.head_bytes } else { usize::MAX };
        self.hears_client() && !self.server_deaf && self.up.wants(judged_at_once)
    }
}

async fn tell(log: &Log, lines: Vec<Decided>) {
    for line in lines {
        log.record(Event::Decided(line)).await;
    }
}
