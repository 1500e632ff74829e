//! The client's direction of an HTTP/2 connection: frame by frame, every request before it passes.
//!
//! Reads strictly: what a server would refuse, or two servers could read in two ways, is refused here. Must not
//! know what becomes of a request.

use std::borrow::Cow;

use super::fields::{self, Fields};
use super::hpack::Decoder;
use super::uploads::Uploads;
use super::{
    ACK, CONTINUATION, DATA, DEFAULT_MAX_FRAME, END_HEADERS, END_STREAM, FRAME_HEADER, Frame,
    HEADER_TABLE_SIZE, HEADERS, MAX_FRAME_SIZE, PADDED, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM,
    SETTINGS,
};
use crate::facts::{Fault, Name};

/// What stands first in the bytes that have not passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// So many bytes may pass.
    Pass(usize),
    /// So many bytes, trailers that were read, may pass. Reading them can cost as much as a request.
    Trailers(usize),
    /// So many bytes are of a stream that is not to go on.
    Drop(usize),
    /// So many bytes acknowledge SETTINGS of the server; they count as passed.
    Ack(usize),
    /// So many bytes end a stream; they count as passed.
    Reset(usize, u32),
    /// A request, to be let through by [`ClientFrames::approve`] or refused by [`ClientFrames::close`].
    Request(Request),
    /// Nothing that follows can be read.
    Bad(Fault),
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `:authority` or Host, port taken off; `None`: neither, or an address literal.
    pub name: Option<Name>,
    /// The stream it opens.
    pub stream: u32,
    /// HEAD: the response has no body.
    pub head_only: bool,
    /// Bytes of its frames.
    pub len: usize,
}

/// Follows the frames of a client.
#[derive(Debug, Default)]
pub struct ClientFrames {
    at: At,
    /// The stream that was opened last.
    last: u32,
    decoder: Decoder,
    max_frame: MaxFrame,
    mode: Mode,
    uploads: Uploads,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Reading,
    /// No stream beyond `last` is to go on, and no header block any more.
    Closing,
    /// Frames are told apart, and no more.
    Blind,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Preface,
    /// SETTINGS must come.
    Settings,
    Frame,
    /// So many bytes of a frame are to come.
    Inside(usize, Fate),
    /// This waits to be approved or refused.
    Judged(Request),
    /// It was found that nothing more can be read.
    Broken(Fault),
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Pass,
    Drop,
}

/// Bytes of a header block. Servers stop between 8 KiB and 1 MiB.
const MAX_BLOCK: usize = 64 * 1024;
/// Frames of a header block after the first; four of the size that every server takes hold the longest.
const MAX_CONTINUATIONS: usize = 16;

/// Longest payload that the server takes, as far as it said.
#[derive(Debug, Clone, Copy)]
struct MaxFrame(usize);

impl Default for MaxFrame {
    fn default() -> Self {
        Self(DEFAULT_MAX_FRAME)
    }
}

impl ClientFrames {
    /// Says what stands first. Bytes that passed, or were dropped, are not to be shown again; all others are, with
    /// more behind them. Cost is linear in the bytes, however they are cut.
    pub fn next(&mut self, bytes: &[u8]) -> Step {
        self.step(bytes).unwrap_or_else(|fault| {
            self.at = At::Broken(fault);
            Step::Bad(fault)
        })
    }

    /// The request that was shown may pass.
    pub fn approve(&mut self) {
        match std::mem::take(&mut self.at) {
            At::Judged(request) => {
                self.last = request.stream;
                self.at = At::Inside(request.len, Fate::Pass);
            }
            at @ (At::Preface | At::Settings | At::Frame | At::Inside(..) | At::Broken(_)) => self.at = at,
        }
    }

    /// The request that was shown is not to pass, nor any later one: the server has not seen what the client's
    /// compression remembers from its head. Streams that were opened before go on. Returns the last of them.
    pub fn close(&mut self) -> u32 {
        self.set(Mode::Closing);
        self.last
    }

    /// Nothing is judged any more: every frame passes.
    pub fn go_blind(&mut self) {
        self.set(Mode::Blind);
    }

    /// The server told of this setting (RFC 9113 section 6.5.2). The client may not have heard of it yet, so
    /// what was allowed before stays allowed.
    pub fn server_set(&mut self, setting: u16, value: u32) {
        let value = usize::try_from(value).unwrap_or(usize::MAX);
        match setting {
            MAX_FRAME_SIZE => self.max_frame.0 = self.max_frame.0.max(value),
            HEADER_TABLE_SIZE => self.decoder.allow(value),
            _ => {}
        }
    }

    /// The server takes no more of this stream.
    pub fn server_reset(&mut self, stream: u32) {
        self.uploads.forget(stream);
    }

    fn set(&mut self, mode: Mode) {
        if matches!(self.at, At::Judged(_) | At::Broken(_)) {
            self.at = At::Frame;
        }
        self.mode = mode;
    }

    fn step(&mut self, bytes: &[u8]) -> Result<Step, Fault> {
        match &mut self.at {
            At::Preface => {
                if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) {
                    return Ok(Step::More);
                }
                if !bytes.starts_with(PREFACE) {
                    return Err(Fault::Frame);
                }
                self.at = At::Settings;
                Ok(Step::Pass(PREFACE.len()))
            }
            At::Inside(left, fate) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                let step = match (taken, *fate) {
                    (0, _) => Step::More,
                    (_, Fate::Pass) => Step::Pass(taken),
                    (_, Fate::Drop) => Step::Drop(taken),
                };
                if *left == 0 {
                    self.at = At::Frame;
                }
                Ok(step)
            }
            At::Judged(request) => Ok(Step::Request(request.clone())),
            At::Broken(fault) => Err(*fault),
            At::Settings | At::Frame => match Frame::read(bytes) {
                Some(frame) if self.mode == Mode::Blind => Ok(self.unread(frame, bytes)),
                Some(frame) => self.frame(frame, bytes),
                None => Ok(Step::More),
            },
        }
    }

    fn frame(&mut self, frame: Frame, bytes: &[u8]) -> Result<Step, Fault> {
        if frame.len > self.max_frame.0 {
            return Err(Fault::TooBig);
        }
        // The reserved bit means nothing to most servers, and something to those that forget it.
        if frame.stream > i32::MAX.unsigned_abs() {
            return Err(Fault::Frame);
        }
        if matches!(self.at, At::Settings) {
            if frame.kind != SETTINGS || frame.has(ACK) {
                return Err(Fault::Frame);
            }
            self.at = At::Frame;
        }
        if self.mode == Mode::Closing && frame.stream > self.last {
            return Ok(self.inside(frame, bytes, Fate::Drop));
        }
        let is_idle = frame.stream > self.last;
        match frame.kind {
            HEADERS if self.mode == Mode::Closing => Err(Fault::Frame),
            HEADERS => self.headers(frame, bytes),
            DATA if frame.stream == 0 || is_idle => Err(Fault::Frame),
            DATA => self.data(frame, bytes),
            RST_STREAM if frame.stream == 0 || is_idle || frame.len != 4 => Err(Fault::Frame),
            RST_STREAM if bytes.len() < FRAME_HEADER + 4 => Ok(Step::More),
            RST_STREAM => {
                self.uploads.forget(frame.stream);
                Ok(Step::Reset(FRAME_HEADER + 4, frame.stream))
            }
            SETTINGS if frame.stream != 0 || !frame.len.is_multiple_of(6) => Err(Fault::Frame),
            SETTINGS if frame.has(ACK) && frame.len != 0 => Err(Fault::Frame),
            SETTINGS if frame.has(ACK) => Ok(Step::Ack(FRAME_HEADER)),
            PUSH_PROMISE | CONTINUATION => Err(Fault::Frame),
            _ => Ok(self.inside(frame, bytes, Fate::Pass)),
        }
    }

    fn unread(&mut self, frame: Frame, bytes: &[u8]) -> Step {
        self.at = At::Frame;
        if frame.kind == SETTINGS && frame.has(ACK) && frame.len == 0 {
            return Step::Ack(FRAME_HEADER);
        }
        self.inside(frame, bytes, Fate::Pass)
    }

    /// Goes over a frame as its bytes come.
    fn inside(&mut self, frame: Frame, bytes: &[u8], fate: Fate) -> Step {
        let len = FRAME_HEADER + frame.len;
        let taken = bytes.len().min(len);
        if taken < len {
            self.at = At::Inside(len - taken, fate);
        }
        match fate {
            Fate::Pass => Step::Pass(taken),
            Fate::Drop => Step::Drop(taken),
        }
    }

    /// Counts against a length that was announced: a server that writes HTTP/1 onwards may believe it.
    fn data(&mut self, frame: Frame, bytes: &[u8]) -> Result<Step, Fault> {
        let mut content = frame.len;
        if frame.has(PADDED) {
            let padding = match bytes.get(FRAME_HEADER) {
                Some(&padding) => usize::from(padding),
                None if frame.len > 0 => return Ok(Step::More),
                None => return Err(Fault::Frame),
            };
            content = frame.len.checked_sub(1 + padding).ok_or(Fault::Frame)?;
        }
        self.uploads.take(frame.stream, content)?;
        if frame.has(END_STREAM) {
            self.uploads.end(frame.stream)?;
        }
        Ok(self.inside(frame, bytes, Fate::Pass))
    }

    fn headers(&mut self, frame: Frame, bytes: &[u8]) -> Result<Step, Fault> {
        // Clients open odd streams (RFC 9113 section 5.1.1); zero is none.
        if frame.stream.is_multiple_of(2)
            || frame.flags & !(END_STREAM | END_HEADERS | PADDED | PRIORITY) != 0
        {
            return Err(Fault::Frame);
        }
        let Some(Block { bytes: block, len }) = block(frame, bytes, self.max_frame.0)? else {
            return Ok(Step::More);
        };
        let ends = frame.has(END_STREAM);
        if frame.stream <= self.last {
            if !ends {
                return Err(Fault::Frame);
            }
            self.decoder.decode(&block, fields::take_trailer)?;
            self.uploads.end(frame.stream)?;
            self.at = At::Frame;
            return Ok(Step::Trailers(len));
        }
        let mut fields = Fields::default();
        self.decoder.decode(&block, |name, value| fields.take(name, value))?;
        let said = fields.conclude()?;
        if let Some(length) = said.length {
            self.uploads.begin(frame.stream, length)?;
            if ends {
                self.uploads.end(frame.stream)?;
            }
        }
        let request = Request { name: said.name, stream: frame.stream, head_only: said.head_only, len };
        self.at = At::Judged(request.clone());
        Ok(Step::Request(request))
    }
}

/// A header block.
struct Block<'a> {
    /// Joined.
    bytes: Cow<'a, [u8]>,
    /// How far its frames reach.
    len: usize,
}

/// Joins the header block that starts with this frame; `None`: more bytes are needed (RFC 9113
/// sections 6.2 and 6.10).
fn block(first: Frame, bytes: &[u8], max_frame: usize) -> Result<Option<Block<'_>>, Fault> {
    let Some(payload) = bytes.get(FRAME_HEADER..FRAME_HEADER + first.len) else { return Ok(None) };
    let opening = fragment(first, payload)?;
    let mut len = opening.len();
    let mut at = FRAME_HEADER + first.len;
    let mut ended = first.has(END_HEADERS);
    // Joined once all of it is here, or bytes that come one by one would be copied again for each.
    let mut continuations = Vec::new();
    while !ended {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(frame) = Frame::read(rest) else { return Ok(None) };
        if frame.kind != CONTINUATION || frame.stream != first.stream || frame.flags & !END_HEADERS != 0 {
            return Err(Fault::Frame);
        }
        len += frame.len;
        if continuations.len() == MAX_CONTINUATIONS || frame.len > max_frame || len > MAX_BLOCK {
            return Err(Fault::TooBig);
        }
        let Some(payload) = rest.get(FRAME_HEADER..FRAME_HEADER + frame.len) else { return Ok(None) };
        continuations.push(payload);
        at += FRAME_HEADER + frame.len;
        ended = frame.has(END_HEADERS);
    }
    if len > MAX_BLOCK {
        return Err(Fault::TooBig);
    }
    let mut block = Cow::Borrowed(opening);
    for payload in continuations {
        block.to_mut().extend_from_slice(payload);
    }
    Ok(Some(Block { bytes: block, len: at }))
}

/// Takes padding and priority off the payload of HEADERS.
fn fragment(frame: Frame, payload: &[u8]) -> Result<&[u8], Fault> {
    let mut rest = payload;
    if frame.has(PADDED) {
        let (&padding, after) = rest.split_first().ok_or(Fault::Frame)?;
        let len = after.len().checked_sub(usize::from(padding)).ok_or(Fault::Frame)?;
        rest = after.get(..len).unwrap_or_default();
    }
    if frame.has(PRIORITY) {
        let (dependency, after) = rest.split_first_chunk::<4>().ok_or(Fault::Frame)?;
        // A stream that depends on itself is an error of the stream alone (RFC 7540 section 5.3.1).
        if u32::from_be_bytes(*dependency) & 0x7fff_ffff == frame.stream {
            return Err(Fault::Frame);
        }
        rest = after.get(1..).ok_or(Fault::Frame)?;
    }
    Ok(rest)
}
