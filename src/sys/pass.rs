//! Messages with descriptors between two processes that share a socket (`SCM_RIGHTS`, unix(7)).
//!
//! Must not know what they say.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// One end of a pair. A message arrives whole or not at all.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
}

/// A message.
#[derive(Debug)]
pub struct Parcel {
    /// What it says.
    pub bytes: Vec<u8>,
    /// What came with it, closed at exec(2).
    pub descriptors: Vec<OwnedFd>,
}

/// The largest message, bytes.
pub const LARGEST: usize = 4096;
/// The most descriptors in one message: as the kernel has it (`SCM_MAX_FD`).
pub const MOST_DESCRIPTORS: usize = 253;

impl Line {
    /// Makes a pair; neither end survives exec(2).
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: near }, Self { socket: far }))
    }

    /// Sends a message, waiting for room.
    ///
    /// # Errors
    /// The other end is gone, or the message is too large.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives a message, waiting for one; `None`: the other end is gone.
    ///
    /// # Errors
    /// A message that was too large, or what the system says. [`io::ErrorKind::WouldBlock`] where the socket was
    /// made non-blocking.
    pub fn receive(&self) -> io::Result<Option<Parcel>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; LARGEST];
        let got = loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                got => break got?,
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                descriptors.extend(sent);
            }
        }
        if got.bytes == 0 {
            return Ok(None);
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::other("a message was cut"));
        }
        bytes.truncate(got.bytes);
        Ok(Some(Parcel { bytes, descriptors }))
    }

    /// Makes receiving fail instead of wait.
    ///
    /// # Errors
    /// Those of the system.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, true)?)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_what_it_carries_and_an_end_is_an_end() {
        let (near, far) = Line::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        near.send(b"take this", &[writer.as_fd()]).unwrap();
        drop((near, writer));
        let parcel = far.receive().unwrap().unwrap();
        assert_eq!(parcel.bytes, b"take this");
        let [end] = <[OwnedFd; 1]>::try_from(parcel.descriptors).unwrap();
        std::fs::File::from(end).write_all(b"hello").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(far.receive().unwrap().is_none());
    }
}
