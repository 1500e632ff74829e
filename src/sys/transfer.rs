//! Bytes from and to a socket of the runtime, in as few calls as can be.
//!
//! A call that moves less than it could tells that the socket is drained, or full; it is not asked again before it says
//! so itself. Must not know what the bytes are.

use std::io;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Receives into the spare room of the buffer, once. Zero is the end of the stream, or a buffer without room.
///
/// # Errors
/// `WouldBlock` when nothing is there; else what the kernel says.
pub fn receive(from: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    let mut received = 0;
    let outcome = from.try_io(Interest::READABLE, || {
        (_, received) = recv(from, spare_capacity(buffer), RecvFlags::empty())?;
        if received > 0 && received < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if received > 0 { Ok(received) } else { outcome.map(|()| 0) }
}

/// Sends once; returns how many bytes the kernel took.
///
/// # Errors
/// `WouldBlock` when it takes none now; else what the kernel says.
pub fn transmit(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    let outcome = to.try_io(Interest::WRITABLE, || {
        sent = send(to, bytes, SendFlags::NOSIGNAL)?;
        if sent < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    if sent > 0 { Ok(sent) } else { outcome.map(|()| 0) }
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
    async fn a_drained_socket_wakes_for_what_comes_later() {
        let (mut far, near) = pair().await;
        let mut buffer = Vec::with_capacity(64);
        for word in ["one", "two", "three"] {
            far.write_all(word.as_bytes()).await.unwrap();
            near.readable().await.unwrap();
            buffer.clear();
            assert_eq!(receive(&near, &mut buffer).unwrap(), word.len());
            assert_eq!(buffer, word.as_bytes());
            let empty = receive(&near, &mut buffer).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
        // Bytes and the end at once: both are heard without a new sign.
        far.write_all(b"last").await.unwrap();
        far.shutdown().await.unwrap();
        near.readable().await.unwrap();
        buffer.clear();
        assert_eq!(receive(&near, &mut buffer).unwrap(), 4);
        loop {
            near.readable().await.unwrap();
            match receive(&near, &mut buffer) {
                Ok(read) => break assert_eq!(read, 0),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[tokio::test]
    async fn a_full_socket_wakes_when_there_is_room_again() {
        let (near, mut far) = pair().await;
        let bytes = vec![7; 1 << 20];
        let mut sent = 0;
        near.writable().await.unwrap();
        let full = loop {
            match transmit(&near, &bytes) {
                Ok(taken) => sent += taken,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let mut back = vec![0; sent];
        let (read, ready) = tokio::join!(far.read_exact(&mut back), near.writable());
        assert_eq!((read.unwrap(), ready.is_ok()), (sent, true));
        assert!(transmit(&near, &bytes).unwrap() > 0);
        drop(far);
        let gone = loop {
            near.writable().await.unwrap();
            match transmit(&near, &bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(gone.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{gone}");
    }
}
