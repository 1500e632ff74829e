//! Kernel pipes for bytes that go from one socket to the other without a copy (splice(2)).
//!
//! A pipe is attached only while bytes are under way: empty ones lie in a pool, a few for each thread. One that still
//! holds bytes is never used for another connection. Must not know what the bytes are.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe is to hold, bytes: the most that an unprivileged user may ask for by default.
const SIZE: usize = 1 << 20;

/// A smaller one moves less at once than a read does. Once a user has many pipes the kernel makes only such
/// (`fs.pipe-user-pages-soft`).
const LEAST: usize = 1 << 16;

/// Pipes of this process in all: what all of them may hold is within an unprivileged user's share (64 MiB), with room
/// left for other processes of that user.
const MOST: usize = 48;

/// Empty pipes that a thread keeps.
const KEPT: usize = 8;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

impl Drop for Ends {
    fn drop(&mut self) {
        IN_USE.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ends {
    fn make() -> Option<Self> {
        let taken = IN_USE
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < MOST).then_some(open + 1));
        taken.ok()?;
        let Ok((out, into)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            IN_USE.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let ends = Self { out, into };
        if fcntl_setpipe_size(&ends.into, SIZE).is_err()
            && !fcntl_getpipe_size(&ends.into).is_ok_and(|size| size >= LEAST)
        {
            return None;
        }
        Some(ends)
    }
}

/// A pipe of one direction of one connection.
#[derive(Debug)]
pub struct KernelPipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    held: usize,
}

impl KernelPipe {
    /// Takes an empty pipe; `None` when there are too many, or the kernel gives none that is worth it.
    pub fn take() -> Option<Self> {
        let pooled = POOL.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let ends = pooled.or_else(Ends::make)?;
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Returns the bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves what a socket has received into the pipe, which must be empty: as much as fits and no more than `most`,
    /// once. Zero is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `Unsupported` when this system does not let sockets be spliced; else what the
    /// kernel says.
    pub fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::BADF)?;
        // An empty pipe has room, so that it is the socket which would block.
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let moved = from.try_io(Interest::READABLE, || {
            splice(from, None, &ends.into, None, SIZE.min(most), flags).map_err(|errno| match errno {
                Errno::NOSYS | Errno::PERM | Errno::INVAL => io::ErrorKind::Unsupported.into(),
                other => io::Error::from(other),
            })
        })?;
        self.held += moved;
        Ok(moved)
    }

    /// Sends what is in the pipe, once; returns how many bytes the kernel took.
    ///
    /// # Errors
    /// `WouldBlock` when it takes none now; else what the kernel says.
    pub fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(Errno::BADF)?;
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let held = self.held;
        let moved = to.try_io(Interest::WRITABLE, || Ok(splice(&ends.out, None, to, None, held, flags)?))?;
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

impl Drop for KernelPipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else { return };
        // A thread that ends has no pool any more: the pipe is closed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(ends);
            }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (one, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_and_a_pipe_that_holds_some_is_not_used_again() {
        let (mut sender, from) = pair().await;
        let (to, mut receiver) = pair().await;
        to.writable().await.unwrap();
        let mut pipe = KernelPipe::take().unwrap();
        sender.write_all(b"through").await.unwrap();
        from.readable().await.unwrap();
        assert_eq!(pipe.fill(&from, SIZE).unwrap(), 7);
        assert_eq!(pipe.drain(&to).unwrap(), 7);
        let mut got = [0; 7];
        receiver.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"through");
        assert_eq!(pipe.fill(&from, SIZE).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(pipe);
        assert_eq!(POOL.with(|pool| pool.borrow().len()), 1, "kept");
        let mut pipe = KernelPipe::take().unwrap();
        sender.write_all(b"secret").await.unwrap();
        from.readable().await.unwrap();
        assert_eq!(pipe.fill(&from, SIZE).unwrap(), 6);
        drop(pipe);
        assert_eq!(POOL.with(|pool| pool.borrow().len()), 0, "closed with its bytes");
        drop(sender);
        let mut pipe = KernelPipe::take().unwrap();
        from.readable().await.unwrap();
        assert_eq!((pipe.fill(&from, SIZE).unwrap(), pipe.held()), (0, 0), "the end");
    }
}
