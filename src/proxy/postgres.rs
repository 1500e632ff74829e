//! What the gate says in the place of a PostgreSQL server, and to it.
//!
//! A driver says hello only after the server's `S`. The server may not be dialled before the name is judged, so
//! the gate gives that answer, and has the server keep the promise once the flow is let through. Must not know
//! names.

use std::io;

use tokio::net::TcpStream;

use crate::wire::postgres::SSL_REQUEST;

/// The answer to a request for encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// `S`: the hello may come.
    Tls,
    /// `N`: not by GSSAPI; the client asks for TLS next, or goes on in clear text.
    NoGss,
}

impl Answer {
    const fn byte(self) -> u8 {
        match self {
            Self::Tls => b'S',
            Self::NoGss => b'N',
        }
    }

    /// Says it. May be dropped at any await: then it was not said.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) async fn say(self, client: &TcpStream) -> io::Result<()> {
        send(client, &[self.byte()]).await
    }
}

/// Has the server agree to what its client was promised. What it says after its one byte is left unread.
///
/// # Errors
/// The server is gone, or does not speak TLS here.
pub(super) async fn ask_for_tls(server: &TcpStream) -> io::Result<()> {
    send(server, &SSL_REQUEST).await?;
    let mut answer = [0];
    loop {
        server.readable().await?;
        match server.try_read(&mut answer) {
            Ok(1..) if answer == [Answer::Tls.byte()] => return Ok(()),
            Ok(1..) => return Err(io::Error::other("the server does not agree to TLS")),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends the first bytes of a direction, which are too few to be taken in part: its buffer is empty.
async fn send(to: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    loop {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
