//! Frame Streams as dnstap senders speak it: a handshake of control frames, then data frames.
//!
//! After the specification of fstrm (farsightsec/fstrm, `control.h`): four bytes of length, big endian,
//! then so many bytes of data; the length zero announces a control frame, so an empty data frame cannot
//! be. It does not know what a data frame holds.

use super::Look;
use crate::facts::Fault;

/// The one content type that is taken.
pub const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";

/// Longest control frame, bytes (fstrm `FSTRM_CONTROL_FRAME_LENGTH_MAX`).
pub const MAX_CONTROL: usize = 512;

/// Longest data frame, bytes: a DNS message of 64 KiB twice over.
pub const MAX_DATA: usize = 128 * 1024;

/// Longest content type, bytes (fstrm `FSTRM_CONTROL_FIELD_CONTENT_TYPE_LENGTH_MAX`).
const MAX_CONTENT_TYPE: usize = 256;

/// The only control field there is.
const FIELD_CONTENT_TYPE: u32 = 1;

/// The kinds of control frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    /// Receiver: go on.
    Accept,
    /// Sender: data follows.
    Start,
    /// Sender: no more data.
    Stop,
    /// Sender: I have these content types.
    Ready,
    /// Receiver: all was read.
    Finish,
}

impl Control {
    const fn number(self) -> u32 {
        match self {
            Self::Accept => 1,
            Self::Start => 2,
            Self::Stop => 3,
            Self::Ready => 4,
            Self::Finish => 5,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [Self::Accept, Self::Start, Self::Stop, Self::Ready, Self::Finish]
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    /// Spells a control frame, with the content type of dnstap where the kind carries one.
    pub fn encode(self) -> Vec<u8> {
        let fields = match self {
            Self::Accept | Self::Start | Self::Ready => {
                let field = [FIELD_CONTENT_TYPE.to_be_bytes(), length_bytes(CONTENT_TYPE)].concat();
                [&field, CONTENT_TYPE].concat()
            }
            Self::Stop | Self::Finish => Vec::new(),
        };
        let body = [&self.number().to_be_bytes()[..], &fields].concat();
        [&[0; 4][..], &length_bytes(&body), &body].concat()
    }
}

fn length_bytes(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A control frame, and whether dnstap is among the content types it names.
    Control {
        /// Which.
        kind: Control,
        /// Whether the content type is named.
        dnstap: bool,
    },
    /// A data frame; never empty.
    Data(&'a [u8]),
}

/// Reads the frame at the start of `bytes` and tells how many bytes it takes.
///
/// A length over the limit is refused before its bytes are waited for.
pub fn frame(bytes: &[u8]) -> Look<(Frame<'_>, usize)> {
    let Some((length, rest)) = word(bytes) else { return Look::More };
    if length == 0 {
        return control(rest);
    }
    if length > MAX_DATA {
        return Look::Bad(Fault::TooBig);
    }
    match rest.split_at_checked(length) {
        Some((data, _)) => Look::Got((Frame::Data(data), length.saturating_add(4))),
        None => Look::More,
    }
}

/// Reads a control frame behind its escape.
fn control(bytes: &[u8]) -> Look<(Frame<'_>, usize)> {
    let Some((length, rest)) = word(bytes) else { return Look::More };
    if length > MAX_CONTROL {
        return Look::Bad(Fault::TooBig);
    }
    if length < 4 {
        return Look::Bad(Fault::Length);
    }
    let Some((body, _)) = rest.split_at_checked(length) else { return Look::More };
    let Some((number, mut fields)) = word(body) else { return Look::Bad(Fault::Length) };
    let Some(kind) = u32::try_from(number).ok().and_then(Control::from_number) else {
        return Look::Bad(Fault::Dnstap);
    };
    let (mut dnstap, mut named) = (false, 0_usize);
    while !fields.is_empty() {
        let Some((value, rest)) = field(fields) else { return Look::Bad(Fault::Length) };
        let Some(value) = value else { return Look::Bad(Fault::Dnstap) };
        dnstap |= value == CONTENT_TYPE;
        named = named.saturating_add(1);
        fields = rest;
    }
    let most = match kind {
        Control::Ready | Control::Accept => usize::MAX,
        Control::Start => 1,
        Control::Stop | Control::Finish => 0,
    };
    if named > most {
        return Look::Bad(Fault::Dnstap);
    }
    Look::Got((Frame::Control { kind, dnstap }, length.saturating_add(8)))
}

/// Takes one field off; without a value, it is of an unknown kind or over its limit.
fn field(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (kind, rest) = word(bytes)?;
    let (length, rest) = word(rest)?;
    let (value, rest) = rest.split_at_checked(length)?;
    let known = u32::try_from(kind) == Ok(FIELD_CONTENT_TYPE) && length <= MAX_CONTENT_TYPE;
    Some((known.then_some(value), rest))
}

fn word(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_be_bytes(*word)).unwrap_or(usize::MAX), rest))
}

/// What a receiver has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Answer with [`Control::Accept`].
    Accept,
    /// The handshake is done.
    Started,
    /// One payload.
    Data(&'a [u8]),
    /// The sender is done; `true`: it waits for [`Control::Finish`].
    Stopped(bool),
}

/// The receiver's side of one connection: what may come next.
///
/// A sender begins with READY and waits for ACCEPT (bidirectional), or begins with START as files do
/// (unidirectional).
#[derive(Debug, Clone, Copy, Default)]
pub struct Session {
    state: State,
    bidirectional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Greeting,
    Accepted,
    Started,
    Stopped,
}

impl Session {
    /// Takes the next frame at the start of `bytes` and tells how many bytes it takes.
    ///
    /// `Foreign`: the first bytes are no control frame. `Bad` ends the session: framing is lost. A sender
    /// that does not name the content type of dnstap is refused.
    pub fn step<'a>(&mut self, bytes: &'a [u8]) -> Look<(Step<'a>, usize)> {
        if self.state == State::Greeting && bytes.iter().take(4).any(|&byte| byte != 0) {
            return Look::Foreign;
        }
        let (frame, used) = match frame(bytes) {
            Look::Got(got) => got,
            Look::More => return Look::More,
            Look::Foreign => return Look::Foreign,
            Look::Bad(fault) => return Look::Bad(fault),
        };
        let step = match (self.state, frame) {
            (State::Greeting, Frame::Control { kind: Control::Ready, dnstap: true }) => {
                self.bidirectional = true;
                self.state = State::Accepted;
                Step::Accept
            }
            (State::Greeting | State::Accepted, Frame::Control { kind: Control::Start, dnstap: true }) => {
                self.state = State::Started;
                Step::Started
            }
            (State::Started, Frame::Data(data)) => Step::Data(data),
            (State::Started, Frame::Control { kind: Control::Stop, .. }) => {
                self.state = State::Stopped;
                Step::Stopped(self.bidirectional)
            }
            (
                State::Greeting | State::Accepted | State::Started | State::Stopped,
                Frame::Control { .. } | Frame::Data(_),
            ) => return Look::Bad(Fault::Dnstap),
        };
        Look::Got((step, used))
    }

    /// Whether the handshake is done.
    pub fn is_started(&self) -> bool {
        matches!(self.state, State::Started | State::Stopped)
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
