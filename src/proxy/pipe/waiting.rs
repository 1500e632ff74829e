//! What a flow waits for when nothing moves: its sockets, and its clock.
//!
//! Must not know what is judged, nor what bytes are.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::facts::Claim;
use crate::proxy::standing::Refusal;
use crate::proxy::stream::End;
use crate::record::Ending;
use crate::sys::socket;

use super::Pipe;

/// Ready when the kernel reports an error on a socket that is neither read from nor written to. On the heap: it is
/// seldom needed.
pub(super) type Alarm<'a> = Pin<Box<dyn Future<Output = io::Result<Ready>> + Send + 'a>>;

impl Pipe<'_> {
    /// Does what the clock asks for, and says whether that ends the flow.
    pub(super) fn poll_clock(
        &mut self,
        cx: &mut Context<'_>,
        mut clock: Pin<&mut Sleep>,
    ) -> Poll<Option<Ending>> {
        let idle_at = self.active + self.patience();
        if self.up.is_pending() && self.head_since.is_some() {
            // It is the server's turn: the client's time does not run.
            self.head_since = Some(Instant::now());
        }
        let head_at = self.head_since.map(|since| since + self.bounds.head);
        let due = [head_at, self.lasts.err()].into_iter().flatten().fold(idle_at, Instant::min);
        // A deadline that moved on is found out when the old one is reached: most flows move all the time.
        if due < clock.deadline() {
            clock.as_mut().reset(due);
        }
        loop {
            if clock.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= due {
                break;
            }
            clock.as_mut().reset(due);
        }
        let now = Instant::now();
        if now >= idle_at {
            return Poll::Ready(Some(self.refused.as_ref().map_or(Ending::Idle, Refusal::ending)));
        }
        if head_at.is_some_and(|head_at| now >= head_at) {
            self.judge(Claim::Silent);
            self.active = now;
        }
        if self.lasts.is_err_and(|from| now >= from) {
            self.lasts = Ok(());
            // Without the probes a dead peer is found by the clock.
            let _ = socket::keep_alive(self.client);
            let _ = socket::keep_alive(self.server);
        }
        Poll::Ready(None)
    }

    /// Returns how long the flow may lie still. Where the client is not read any more after a refusal, that it
    /// left shows only by the clock.
    fn patience(&self) -> Duration {
        if !self.hears_client() { self.bounds.head.min(self.bounds.idle) } else { self.bounds.idle }
    }

    /// Ready when one of the sockets can do what is wanted of it, or fails.
    pub(super) fn poll_movement(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (reads, writes) = (self.takes_from_client(), self.down.is_pending());
        let mut ready = reads && self.client.poll_read_ready(cx).is_ready();
        ready |= writes && self.client.poll_write_ready(cx).is_ready();
        if reads || writes {
            self.client_alarm = None;
        } else if let Some(failed) = poll_alarm(&mut self.client_alarm, self.client, cx) {
            ready = true;
            if failed {
                let error = self.client.take_error().ok().flatten();
                self.up.end =
                    Some(End::Reset(error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())));
            }
        }
        let reads = self.down.wants(usize::MAX);
        let writes = self.up.is_pending() && !self.server_deaf;
        ready |= reads && self.server.poll_read_ready(cx).is_ready();
        ready |= writes && self.server.poll_write_ready(cx).is_ready();
        if reads || writes {
            self.server_alarm = None;
        } else if !self.server_failed
            && let Some(failed) = poll_alarm(&mut self.server_alarm, self.server, cx)
        {
            ready = true;
            self.server_failed = failed;
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Returns whether the socket failed, when there is a sign of it.
fn poll_alarm<'a>(
    alarm: &mut Option<Alarm<'a>>,
    socket: &'a TcpStream,
    cx: &mut Context<'_>,
) -> Option<bool> {
    let waiting = alarm.get_or_insert_with(|| Box::pin(socket.ready(Interest::ERROR)));
    let Poll::Ready(sign) = waiting.as_mut().poll(cx) else { return None };
    *alarm = None;
    Some(sign.is_ok_and(|sign| sign.is_error()))
}
