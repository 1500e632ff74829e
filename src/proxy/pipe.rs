//! Carries an open flow both ways until it ends.
//!
//! Half-closes and resets are passed on as they came, slow receivers slow their senders, and HTTP requests and
//! TLS hellos pass one judged name at a time. Must not know how the flow came to be allowed.

mod judging;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::facts::Claim;
use crate::record::Ending;
use crate::sys::{clock, socket};

use super::ended::Ended;
use super::later::Later;
use super::standing::{Refusal, Standing};
use super::stream::{BulkRoom, End, Stream};

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
#[derive(Debug)]
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
    /// A later request was refused; responses under way are delivered first.
    refused: Option<Refusal>,
    head_since: Option<Instant>,
    /// It ended by itself: neither side is to be reset.
    in_order: bool,
    error: Option<Arc<str>>,
}

/// What one round of work came to.
enum Turn {
    Moved,
    Blocked,
    Over(Ending),
}

/// Rounds without waiting before other flows of this worker get their turn.
const ROUNDS: u32 = 16;

impl<'a> Pipe<'a> {
    /// Joins two sockets. `first` are the bytes that were read from the client before it was judged.
    pub(super) fn new(
        client: &'a TcpStream,
        server: &'a TcpStream,
        first: Vec<u8>,
        later: Option<Box<Later>>,
        standing: &'a mut Standing,
        (bounds, bulk): (Bounds, &'a BulkRoom),
    ) -> Self {
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
            refused: None,
            head_since: None,
            in_order: false,
            error: None,
        }
    }

    /// Carries bytes until the flow ends, the policy no longer allows it, or `cut` fires.
    pub(super) async fn run(&mut self, mut changes: watch::Receiver<u64>, cut: &CancellationToken) -> Ended {
        let ending = self.carry(&mut changes, cut).await;
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

    async fn carry(&mut self, changes: &mut watch::Receiver<u64>, cut: &CancellationToken) -> Ending {
        let mut active = Instant::now();
        let mut rounds = 0;
        let mut watching = true;
        if self.is_revoked(changes) {
            return Ending::Revoked;
        }
        loop {
            match self.turn() {
                Turn::Over(ending) => return ending,
                Turn::Moved if rounds < ROUNDS => {
                    rounds += 1;
                    active = Instant::now();
                    // A policy change is heard between rounds too, or a busy flow would outlive it.
                    if self.is_revoked(changes) {
                        return Ending::Revoked;
                    }
                    continue;
                }
                Turn::Moved => {
                    rounds = 0;
                    if cut.is_cancelled() {
                        return Ending::Drained;
                    }
                    tokio::task::yield_now().await;
                    continue;
                }
                Turn::Blocked => rounds = 0,
            }
            self.up.rest();
            self.down.rest();
            let idle_at = active + self.patience();
            let head_at = self.head_since.map(|since| since + self.bounds.head);
            tokio::select! {
                () = self.movement() => {}
                changed = changes.changed(), if watching => {
                    watching = changed.is_ok();
                    if watching && !self.standing.holds(clock::now()) {
                        return Ending::Revoked;
                    }
                }
                () = cut.cancelled() => return Ending::Drained,
                () = sleep_until(head_at.unwrap_or(idle_at).min(idle_at)) => {
                    if Instant::now() >= idle_at {
                        return self.refused.as_ref().map_or(Ending::Idle, Refusal::ending);
                    }
                    self.judge(Claim::Silent);
                    active = Instant::now();
                }
            }
        }
    }

    /// Whether the policy has changed, and no longer allows the flow.
    fn is_revoked(&self, changes: &mut watch::Receiver<u64>) -> bool {
        if !changes.has_changed().unwrap_or(false) {
            return false;
        }
        changes.mark_unchanged();
        !self.standing.holds(clock::now())
    }

    /// Returns how long the flow may lie still. Where the client is not read any more after a refusal, that it
    /// left shows only by the clock.
    fn patience(&self) -> Duration {
        if !self.hears_client() { self.bounds.head.min(self.bounds.idle) } else { self.bounds.idle }
    }

    /// Does all that can be done without waiting.
    fn turn(&mut self) -> Turn {
        let mut moved = false;
        if self.takes_from_client() {
            moved |= self.up.read(self.client, self.bulk).is_some();
        }
        if let Some(End::Reset(error)) = &self.up.end {
            self.error = Some(error.to_string().into());
            return Turn::Over(Ending::ClientReset);
        }
        self.admit();
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
            moved |= self.hears_client() && self.up.pass_end(self.server);
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
        moved |= self.hears_client() && self.down.pass_end(self.client);
        if self.up.finished && self.down.finished {
            self.in_order = true;
            return Turn::Over(Ending::Closed);
        }
        if moved { Turn::Moved } else { Turn::Blocked }
    }

    /// Reads from the server once; returns whether anything came.
    fn hear_server(&mut self) -> bool {
        if !self.down.wants(usize::MAX) {
            return false;
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

    fn takes_from_client(&self) -> bool {
        let judged_at_once = if self.later.is_some() { self.bounds.head_bytes } else { usize::MAX };
        self.hears_client() && !self.server_deaf && self.up.wants(judged_at_once)
    }

    /// Waits until one of the sockets can do what is wanted of it, or fails.
    async fn movement(&mut self) {
        let mut client = Interest::ERROR;
        if self.takes_from_client() {
            client |= Interest::READABLE;
        }
        if self.down.is_pending() {
            client |= Interest::WRITABLE;
        }
        let mut server = (!self.server_failed).then_some(Interest::ERROR);
        if self.down.wants(usize::MAX) {
            server = Some(server.map_or(Interest::READABLE, |wanted| wanted | Interest::READABLE));
        }
        if self.up.is_pending() && !self.server_deaf {
            server = Some(server.map_or(Interest::WRITABLE, |wanted| wanted | Interest::WRITABLE));
        }
        let failed_before = self.server_failed;
        tokio::select! {
            ready = self.client.ready(client) => {
                if ready.is_ok_and(|ready| ready.is_error()) {
                    let error = self.client.take_error().ok().flatten();
                    self.up.end = Some(End::Reset(error.unwrap_or_else(|| std::io::ErrorKind::ConnectionReset.into())));
                }
            }
            ready = ready_if(self.server, server) => {
                self.server_failed = failed_before || ready.is_ok_and(|ready| ready.is_error());
            }
        }
    }
}

async fn ready_if(socket: &TcpStream, interest: Option<Interest>) -> std::io::Result<tokio::io::Ready> {
    match interest {
        Some(interest) => socket.ready(interest).await,
        None => std::future::pending().await,
    }
}
