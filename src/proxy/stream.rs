//! One direction of a carried connection: what was received, how much of it may pass, how much has.
//!
//! Must not know why bytes are released or kept back.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sys::socket;

/// Bytes under way in one direction before reading stops: back-pressure for a sender whose receiver is slow.
const CHUNK: usize = 16 * 1024;
/// The same for a direction that has proved bulky: fewer, longer reads and writes.
const LARGEST_CHUNK: usize = 256 * 1024;

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
    /// `start..released` may be sent, `released..` waits to be judged.
    buffer: Vec<u8>,
    start: usize,
    released: usize,
    /// Beyond the first chunk: the direction proved bulky, and there was room for it.
    extra: Option<OwnedSemaphorePermit>,
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
        Self { buffer: bytes, ..Self::default() }
    }

    /// Returns the bytes that wait to be judged.
    pub(super) fn unjudged(&self) -> &[u8] {
        self.buffer.get(self.released..).unwrap_or_default()
    }

    /// Whether released bytes wait for the receiver.
    pub(super) fn is_pending(&self) -> bool {
        self.released > self.start
    }

    /// Lets the next bytes pass.
    pub(super) fn release(&mut self, len: usize) {
        self.released = self.released.saturating_add(len).min(self.buffer.len());
    }

    /// Lets everything pass that was received.
    pub(super) fn release_all(&mut self) {
        self.released = self.buffer.len();
    }

    /// Throws away what was not released.
    pub(super) fn drop_unjudged(&mut self) {
        self.buffer.truncate(self.released);
    }

    /// Throws away the next bytes that were not released.
    pub(super) fn drop_next(&mut self, len: usize) {
        let end = self.released.saturating_add(len).min(self.buffer.len());
        self.buffer.drain(self.released..end);
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
        (self.start, self.released) = (0, 0);
    }

    /// Whether more is to be read: the sender goes on, and there is room for what may pass and for what
    /// is to be judged.
    pub(super) fn wants(&self, judged_at_once: usize) -> bool {
        self.end.is_none()
            && self.released - self.start < self.chunk()
            && self.unjudged().len() < judged_at_once
    }

    /// Reads once; returns the bytes that are new. What the sender did at the end is kept in `end`.
    pub(super) fn read(&mut self, from: &TcpStream, bulk: &BulkRoom) -> Option<&[u8]> {
        self.make_room();
        let before = self.buffer.len();
        match from.try_read_buf(&mut self.buffer) {
            Ok(0) => self.end = Some(End::Finished),
            Ok(read) if read >= self.chunk() => self.grow(bulk),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => self.end = Some(End::Reset(error)),
        }
        self.buffer.get(before..)
    }

    /// Sends once what may pass; returns whether anything moved.
    ///
    /// # Errors
    /// The receiver is gone.
    pub(super) fn write(&mut self, to: &TcpStream) -> io::Result<bool> {
        let Some(pending) = self.buffer.get(self.start..self.released).filter(|bytes| !bytes.is_empty())
        else {
            return Ok(false);
        };
        match to.try_write(pending) {
            Ok(sent) => {
                self.start += sent;
                self.carried += sent as u64;
                if self.start == self.buffer.len() {
                    self.buffer.clear();
                    (self.start, self.released) = (0, 0);
                }
                Ok(sent > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Passes the end of stream on once every byte before it was sent; returns whether it did.
    pub(super) fn pass_end(&mut self, to: &TcpStream) -> bool {
        if self.finished || self.start < self.buffer.len() || !matches!(self.end, Some(End::Finished)) {
            return false;
        }
        // Fails only when the receiver is gone, which shows on its own direction.
        let _ = socket::finish(to);
        self.finished = true;
        true
    }

    /// Gives the buffer back while nothing is in it: an idle connection owns none.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.buffer = Vec::new();
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
        self.buffer.reserve(self.chunk());
    }
}
