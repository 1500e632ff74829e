//! One sender from its handshake to its end: frames in, observations and events out.
//!
//! It does not know where the connection came from, nor who else sends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::facts::{Fault, FlowId, Moment, Tick};
use crate::gate::Reason;
use crate::record::{DnsEvent, Event, Origin, TapEvent, TapRefusal, TapTally, TapWhat};
use crate::sys;
use crate::wire::Look;
use crate::wire::dnstap::{self, Told};
use crate::wire::frames::{Control, Session, Step};

use super::Shared;

/// Hears one sender out and records how it began and ended.
pub(super) async fn hear<S: AsyncRead + AsyncWrite + Unpin>(stream: S, label: Arc<str>, shared: &Shared) {
    let mut sender = Sender {
        stream,
        label,
        shared,
        session: Session::default(),
        buffer: BytesMut::new(),
        tally: TapTally::default(),
        deadline: Some(Instant::now() + HANDSHAKE),
    };
    let end = sender.listen().await;
    if sender.session.is_started() {
        sender.tally.fault = end.fault();
        sender.tell(TapWhat::Disconnected(sender.tally)).await;
        return;
    }
    let why = match end {
        End::Late => TapRefusal::Silent,
        End::Broken(fault) => TapRefusal::Handshake(fault),
        // Gone before it had begun, of its own will or ours.
        End::Done | End::Gone | End::Cancelled => return,
    };
    sender.tell(TapWhat::Refused { why, times: 1 }).await;
}

/// What ends a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It said so.
    Done,
    /// It closed or reset the connection.
    Gone,
    /// It took too long.
    Late,
    /// Its frames cannot be told apart any more, or it speaks another protocol.
    Broken(Fault),
    /// The tap shuts down.
    Cancelled,
}

impl End {
    fn fault(self) -> Option<Fault> {
        match self {
            Self::Broken(fault) => Some(fault),
            // Half a frame, and then nothing.
            Self::Late => Some(Fault::Length),
            Self::Done | Self::Gone | Self::Cancelled => None,
        }
    }
}

/// For the handshake, beginning to end.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// For the rest of a frame that has begun; between frames a sender may be silent as long as it likes.
const FRAME: Duration = Duration::from_secs(30);

/// For the last answer to a sender that is done. unbound closes without reading it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes asked for at once.
const CHUNK: usize = 16 * 1024;

/// Frames handled before other tasks get their turn: some 100 us.
const TURN: u32 = 32;

struct Sender<'a, S> {
    stream: S,
    label: Arc<str>,
    shared: &'a Shared,
    session: Session,
    buffer: BytesMut,
    tally: TapTally,
    /// For the whole handshake, or for the rest of a frame that has begun.
    deadline: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<'_, S> {
    async fn listen(&mut self) -> End {
        loop {
            if let Some(end) = self.drain().await {
                return end;
            }
            if self.session.is_started() && !self.buffer.is_empty() && self.deadline.is_none() {
                self.deadline = Some(Instant::now() + FRAME);
            }
            self.buffer.reserve(CHUNK);
            let read = self.stream.read_buf(&mut self.buffer);
            let read = async {
                match self.deadline {
                    Some(deadline) => timeout_at(deadline, read).await,
                    None => Ok(read.await),
                }
            };
            let read = tokio::select! {
                biased;
                () = self.shared.cancel.cancelled() => return End::Cancelled,
                read = read => read,
            };
            match read {
                Ok(Ok(0) | Err(_)) => return End::Gone,
                Ok(Ok(_)) => {}
                Err(_) => return End::Late,
            }
        }
    }

    /// Handles every whole frame that is there.
    async fn drain(&mut self) -> Option<End> {
        let mut turn = 0_u32;
        loop {
            let (step, used) = match self.session.step(&self.buffer) {
                Look::More => return None,
                Look::Got((step, used)) => (Todo::from(step), used),
                Look::Foreign => return Some(End::Broken(Fault::Dnstap)),
                Look::Bad(fault) => return Some(End::Broken(fault)),
            };
            let mut frame = self.buffer.split_to(used).freeze();
            if self.session.is_started() {
                // The next frame has its own time.
                self.deadline = None;
            }
            match step {
                Todo::Accept => match timeout(HANDSHAKE, self.reply(Control::Accept)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Some(End::Gone),
                    Err(_) => return Some(End::Late),
                },
                Todo::Started => self.tell(TapWhat::Connected).await,
                Todo::Data(length) => {
                    let payload = frame.split_off(used.saturating_sub(length));
                    self.payload(payload).await;
                }
                Todo::Stopped(finish) => {
                    if finish {
                        // It may be gone already, and owes us nothing.
                        let _ = timeout(FAREWELL, self.reply(Control::Finish)).await;
                    }
                    return Some(End::Done);
                }
            }
            turn = turn.saturating_add(1);
            if turn.is_multiple_of(TURN) {
                if self.shared.cancel.is_cancelled() {
                    return Some(End::Cancelled);
                }
                tokio::task::yield_now().await;
            }
        }
    }

    async fn reply(&mut self, control: Control) -> io::Result<()> {
        self.stream.write_all(&control.encode()).await?;
        self.stream.flush().await
    }

    async fn payload(&mut self, payload: Bytes) {
        self.tally.frames = self.tally.frames.saturating_add(1);
        let told = match dnstap::decode(payload) {
            Look::Got(tapped) => tapped.told(),
            Look::Bad(fault) => Look::Bad(fault),
            Look::Foreign | Look::More => Look::Foreign,
        };
        match told {
            Look::Got(told) => {
                self.tally.answers = self.tally.answers.saturating_add(1);
                self.answer(told).await;
            }
            Look::Bad(fault) => {
                self.tally.bad = self.tally.bad.saturating_add(1);
                self.tell(TapWhat::BadFrame(fault)).await;
            }
            Look::Foreign | Look::More => self.tell(TapWhat::Ignored).await,
        }
    }

    /// The ledger first, then the log.
    async fn answer(&mut self, told: Told) {
        let now = sys::clock::now();
        let at = given_at(&told, now);
        // What was said to the one who had the address before is nobody's.
        let Some(client) = self.shared.gate.client_then(told.address, at) else { return };
        if let Some(observation) = told.observation(client, at) {
            self.shared.gate.observe(&observation, now);
        }
        let Told { address, client_port, server, transport, answer, .. } = told;
        let verdict = self.shared.gate.question(client, &answer.question.name, now);
        // The resolver has answered already: a denial here is what would have been.
        let (reason, would) = match verdict.reason {
            passed if passed.lets_pass() => (passed, verdict.would),
            denied => (Reason::ObservedOnly, Some(denied)),
        };
        let event = DnsEvent {
            id: FlowId(rand::random()),
            client,
            origin: Origin { container: self.shared.gate.container(client), process: None },
            source: SocketAddr::new(address, client_port.unwrap_or(0)),
            server,
            transport,
            at: now,
            name: Some(answer.question.name),
            qtype: Some(answer.question.qtype),
            reason,
            would,
            rule: verdict.rule,
            rcode: Some(answer.rcode),
            chain: answer.chain,
            addresses: answer.addresses.iter().map(|address| address.ip).collect(),
            stripped: 0,
            tapped: true,
            over: None,
        };
        self.shared.log.record(Event::Dns(event)).await;
    }

    async fn tell(&self, what: TapWhat) {
        let event = TapEvent { at: sys::clock::now(), sender: Arc::clone(&self.label), what };
        self.shared.log.record(Event::Tap(event)).await;
    }
}

/// A [`Step`] that does not borrow the buffer.
enum Todo {
    Accept,
    Started,
    /// The length of the payload, at the end of its frame.
    Data(usize),
    Stopped(bool),
}

impl From<Step<'_>> for Todo {
    fn from(step: Step<'_>) -> Self {
        match step {
            Step::Accept => Self::Accept,
            Step::Started => Self::Started,
            Step::Data(data) => Self::Data(data.len()),
            Step::Stopped(finish) => Self::Stopped(finish),
        }
    }
}

/// When the answer was given. A sender may deliver an hour late, out of its queue: the lease counts from the
/// answer, not from the delivery. A time that lies ahead is now.
fn given_at(told: &Told, now: Moment) -> Tick {
    let age = told.at.and_then(|at| now.wall.duration_since(at).ok()).unwrap_or_default();
    let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    Tick::from_nanos(now.tick.nanos().saturating_sub(age))
}
