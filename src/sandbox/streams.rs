//! Standard input, output and error of the command: as they are, unless they could be turned into a way out.
//!
//! A socket is one: whoever holds it can connect it elsewhere, in the network namespace that it was made in. The
//! command gets a pipe in its place, and threads outside carry the bytes. Must not know what the bytes are.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};

use crate::sys::descriptors::{self, Kind, Stream};

/// What becomes of the three streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    carried: Vec<Carried>,
    silenced: Vec<Stream>,
}

#[derive(Debug)]
struct Carried {
    stream: Stream,
    socket: OwnedFd,
    reader: PipeReader,
    writer: PipeWriter,
}

/// Threads that carry bytes.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    output: Vec<JoinHandle<()>>,
}

impl Streams {
    /// Looks at the streams of this process.
    pub(super) fn look() -> io::Result<Self> {
        let mut streams = Self::default();
        for stream in Stream::ALL {
            let Ok(descriptor) = stream.duplicate() else { continue };
            match descriptors::kind(descriptor.as_fd())? {
                Kind::Plain | Kind::Device => {}
                Kind::Socket => {
                    let (reader, writer) = io::pipe()?;
                    streams.carried.push(Carried { stream, socket: descriptor, reader, writer });
                }
                Kind::Other => streams.silenced.push(stream),
            }
        }
        Ok(streams)
    }

    /// Inside: returns what must stay open until the pipes are in place.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.carried
            .iter()
            .flat_map(|carried| [carried.socket.as_fd(), carried.reader.as_fd(), carried.writer.as_fd()])
    }

    /// Inside: puts the pipes in place.
    pub(super) fn put_in_place(self) -> io::Result<()> {
        for Carried { stream, reader, writer, .. } in &self.carried {
            let end = match stream {
                Stream::Input => reader.as_fd(),
                Stream::Output | Stream::Error => writer.as_fd(),
            };
            descriptors::replace(*stream, end)?;
        }
        for stream in self.silenced {
            descriptors::silence(stream)?;
        }
        Ok(())
    }

    /// Outside: starts carrying.
    pub(super) fn carry(self) -> Carriers {
        let mut carriers = Carriers::default();
        for Carried { stream, socket, reader, writer } in self.carried {
            let socket = File::from(socket);
            match stream {
                Stream::Input => {
                    drop(reader);
                    // Nobody waits for it: it may be reading when the command is over.
                    std::thread::spawn(move || carry(socket, writer));
                }
                Stream::Output | Stream::Error => {
                    drop(writer);
                    carriers.output.push(std::thread::spawn(move || carry(reader, socket)));
                }
            }
        }
        carriers
    }
}

impl Carriers {
    /// Waits until all that the command wrote has been passed on.
    pub(super) fn finish(self) {
        for carrier in self.output {
            // One that panicked has nothing left to pass on.
            let _ = carrier.join();
        }
    }
}

/// Carries until one side ends. Whoever shares a socket may have made it non-blocking: then this waits all the same.
fn carry(mut from: impl Read + AsFd, mut to: impl Write + AsFd) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if is_worth_waiting(&error) => {
                wait(from.as_fd(), PollFlags::IN);
                continue;
            }
            Err(_) => return,
        };
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if is_worth_waiting(&error) => wait(to.as_fd(), PollFlags::OUT),
                Err(_) => return,
            }
        }
    }
}

fn is_worth_waiting(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn wait(descriptor: BorrowedFd<'_>, what: PollFlags) {
    // Whatever it says, the next attempt tells.
    let _ = poll(&mut [PollFd::from_borrowed_fd(descriptor, what)], None);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn nothing_is_lost_where_a_socket_does_not_block() {
        let (mut source, near) = UnixStream::pair().unwrap();
        let (far, mut sink) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let carrier = std::thread::spawn(move || {
            carry(File::from(OwnedFd::from(near)), File::from(OwnedFd::from(far)))
        });
        let sent: Vec<u8> = (0..3_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
        let copy = sent.clone();
        let writer = std::thread::spawn(move || source.write_all(&copy).unwrap());
        let mut got = Vec::new();
        sink.read_to_end(&mut got).unwrap();
        writer.join().unwrap();
        carrier.join().unwrap();
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    }
}
