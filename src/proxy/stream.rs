//! One direction of a carried connection: what was received, how much of it may pass, how much has.
//!
//! Must not know why bytes are released or kept back.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sys::pipes::KernelPipe;
use crate::sys::{socket, transfer};

/// Bytes under way in one direction before reading stops: back-pressure for a sender whose receiver is slow.
const CHUNK: usize = 16 * 1024;
/// The same for a direction that has proved bulky and must be read: fewer, longer reads and writes.
const LARGEST_CHUNK: usize = 256 * 1024;
/// Buffers that a thread keeps: one would do for messages that are sent on at once.
const KEPT: usize = 8;

thread_local! {
    /// Buffers of the flows of this thread, lent while bytes are in them.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Memory that all bulky directions share, so that many of them cost no more than a few do.
#[derive(Debug, Clone)]
pub(super) struct BulkRoom(Arc<Semaphore>);

impl BulkRoom {
    /// Makes room for so many bytes in all.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / CHUNK)))
    }

    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let chunks = u32::try_from(bytes / CHUNK).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(chunks).ok()
    }
}

/// How a direction ended at its sender.
#[derive(Debug)]
pub(super) enum End {
    /// End of stream.
    Finished,
    /// Cut off.
    Reset(io::Error),
}

/// Bytes from one socket to the other.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// `start..released` may be sent; what follows, behind the hole, waits to be judged.
    buffer: Vec<u8>,
    start: usize,
    released: usize,
    /// Bytes behind `released` that were thrown away and are still there. None outside a round of judging.
    hole: usize,
    /// Beyond the first chunk: the direction proved bulky, and there was room for it.
    extra: Option<OwnedSemaphorePermit>,
    /// The last read filled its buffer, or a kernel pipe with as much.
    bulky: bool,
    /// Carries what need not be read, while bytes are in it.
    pipe: Option<KernelPipe>,
    /// What the sender did last.
    pub(super) end: Option<End>,
    /// The end of stream was passed on.
    pub(super) finished: bool,
    /// Bytes that the receiver's socket took.
    pub(super) carried: u64,
}

impl Stream {
    /// Starts with bytes that were received already and not judged yet.
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        let mut stream = Self::default();
        stream.buffer = bytes;
        stream
    }

    /// Returns the bytes that wait to be judged.
    pub(super) fn unjudged(&self) -> &[u8] {
        self.buffer.get(self.released + self.hole..).unwrap_or_default()
    }

    /// Whether released bytes wait for the receiver.
    pub(super) fn is_pending(&self) -> bool {
        self.released > self.start || self.pipe.is_some()
    }

    /// Lets the next bytes pass.
    pub(super) fn release(&mut self, len: usize) {
        let len = len.min(self.unjudged().len());
        if self.hole > 0 {
            let from = self.released + self.hole;
            self.buffer.copy_within(from..from + len, self.released);
        }
        self.released += len;
    }

    /// Lets everything pass that was received.
    pub(super) fn release_all(&mut self) {
        self.close_hole();
        self.released = self.buffer.len();
    }

    /// Throws away what was not released.
    pub(super) fn drop_unjudged(&mut self) {
        self.buffer.truncate(self.released);
        self.hole = 0;
    }

    /// Throws away the next bytes that were not released. They go when the hole is closed: each byte moves once,
    /// however small the pieces.
    pub(super) fn drop_next(&mut self, len: usize) {
        self.hole += len.min(self.unjudged().len());
    }

    /// Ends a round of judging.
    pub(super) fn close_hole(&mut self) {
        let hole = std::mem::take(&mut self.hole);
        if hole > 0 {
            self.buffer.drain(self.released..self.released + hole);
        }
    }

    /// Puts words of our own, that may pass, before the last `behind` bytes of those that may;
    /// not after the end of stream was passed on.
    pub(super) fn put_in(&mut self, words: Vec<u8>, behind: usize) {
        if self.finished {
            return;
        }
        let at = self.buffer.len().saturating_sub(behind).max(self.start);
        self.released += words.len();
        self.buffer.splice(at..at, words);
    }

    /// Throws away everything.
    pub(super) fn clear(&mut self) {
        self.buffer = Vec::new();
        self.pipe = None;
        (self.start, self.released, self.hole) = (0, 0, 0);
    }

    /// Whether more is to be read: the sender goes on, and there is room for what may pass and for what
    /// is to be judged.
    pub(super) fn wants(&self, judged_at_once: usize) -> bool {
        self.end.is_none()
            && self.pipe.is_none()
            && self.released - self.start < self.chunk()
            && self.unjudged().len() < judged_at_once
    }

    /// Reads once; returns the bytes that are new. What the sender did at the end is kept in `end`.
    pub(super) fn read(&mut self, from: &TcpStream, bulk: &BulkRoom) -> Option<&[u8]> {
        self.make_room();
        let before = self.buffer.len();
        match transfer::receive(from, &mut self.buffer) {
            Ok(0) => self.end = Some(End::Finished),
            Ok(read) => {
                self.bulky = read >= self.chunk();
                if self.bulky {
                    self.grow(bulk);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => self.end = Some(End::Reset(error)),
        }
        self.buffer.get(before..)
    }

    /// Whether so many bytes, which need not be read, are worth a kernel pipe.
    pub(super) fn is_worth_a_pipe(&self, mute: u64) -> bool {
        self.bulky && self.buffer.is_empty() && mute >= CHUNK as u64
    }

    /// Moves at most so many bytes that need not be read into a kernel pipe, once; returns how many, and whether
    /// anything was heard. `None`: there is no pipe to be had.
    pub(super) fn pour(&mut self, from: &TcpStream, mute: u64) -> Option<(usize, bool)> {
        let mut pipe = KernelPipe::take()?;
        match pipe.fill(from, usize::try_from(mute).unwrap_or(usize::MAX)) {
            Ok(0) => self.end = Some(End::Finished),
            Ok(moved) => {
                // Below a chunk, reading costs less.
                self.bulky = moved >= CHUNK;
                self.pipe = Some(pipe);
                return Some((moved, true));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some((0, false)),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return None,
            Err(error) => self.end = Some(End::Reset(error)),
        }
        Some((0, true))
    }

    /// Sends once what may pass; returns whether anything moved.
    ///
    /// # Errors
    /// The receiver is gone.
    pub(super) fn write(&mut self, to: &TcpStream) -> io::Result<bool> {
        let sent = if let Some(pipe) = &mut self.pipe {
            pipe.drain(to)
        } else {
            let pending = self.buffer.get(self.start..self.released).filter(|bytes| !bytes.is_empty());
            let Some(pending) = pending else { return Ok(false) };
            transfer::transmit(to, pending)
        };
        match sent {
            Ok(sent) => {
                self.sent(sent);
                Ok(sent > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sent(&mut self, bytes: usize) {
        self.carried += bytes as u64;
        if let Some(pipe) = &self.pipe {
            if pipe.held() == 0 {
                self.pipe = None;
            }
            return;
        }
        self.start += bytes;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            (self.start, self.released) = (0, 0);
        }
    }

    /// Passes the end of stream on once every byte before it was sent; returns whether it did. `last`: the other
    /// direction has ended, so the socket will be closed at once, which tells the receiver as well.
    pub(super) fn pass_end(&mut self, to: &TcpStream, last: bool) -> bool {
        if self.finished
            || self.pipe.is_some()
            || self.start < self.buffer.len()
            || !matches!(self.end, Some(End::Finished))
        {
            return false;
        }
        if !last {
            // Fails only when the receiver is gone, which shows on its own direction.
            let _ = socket::finish(to);
        }
        self.finished = true;
        true
    }

    /// Gives the buffer back while nothing is in it: an idle connection owns none.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            give_back(std::mem::take(&mut self.buffer));
            self.extra = None;
        }
    }

    /// How much may be under way.
    fn chunk(&self) -> usize {
        CHUNK + self.extra.as_ref().map_or(0, |extra| extra.num_permits() * CHUNK)
    }

    /// Doubles what may be under way, where there is room.
    fn grow(&mut self, bulk: &BulkRoom) {
        let chunk = self.chunk();
        if chunk >= LARGEST_CHUNK {
            return;
        }
        if let Some(more) = bulk.take(chunk) {
            match &mut self.extra {
                Some(extra) => extra.merge(more),
                None => self.extra = Some(more),
            }
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.released -= self.start;
            self.start = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() < CHUNK {
            self.buffer = lend();
        }
        self.buffer.reserve(self.chunk());
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.buffer));
    }
}

fn lend() -> Vec<u8> {
    let kept = BUFFERS.try_with(|buffers| buffers.borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| Vec::with_capacity(CHUNK))
}

/// Keeps a buffer of the usual size for the next flow; what it held is gone.
fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() != CHUNK {
        return;
    }
    buffer.clear();
    // A thread that ends keeps nothing.
    let _ = BUFFERS.try_with(|buffers| {
        let mut buffers = buffers.borrow_mut();
        if buffers.len() < KEPT {
            buffers.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thrown_away_leaves_the_rest_in_order() {
        let mut stream = Stream::with(b"aaXbYYcc".to_vec());
        stream.release(2);
        stream.drop_next(1);
        assert_eq!(stream.unjudged(), b"bYYcc");
        stream.release(1);
        stream.drop_next(2);
        assert_eq!(stream.unjudged(), b"cc");
        stream.close_hole();
        assert_eq!((stream.buffer.as_slice(), stream.released), (&b"aabcc"[..], 3));
        stream.drop_next(100);
        stream.close_hole();
        assert_eq!(stream.buffer, b"aab");
    }

    /// Two bytes kept, seven thrown away, over and over: each byte moves once. Were the rest moved for each piece,
    /// this would take minutes.
    #[test]
    fn small_pieces_thrown_away_cost_no_more_than_their_bytes() {
        let len = 16 << 20;
        let mut stream = Stream::with(vec![0; len]);
        for _ in 0..len / 9 {
            stream.release(2);
            stream.drop_next(7);
        }
        stream.close_hole();
        assert_eq!(stream.released, len / 9 * 2);
        assert_eq!(stream.buffer.len(), len - len / 9 * 7);
    }
}
