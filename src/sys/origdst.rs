//! Where a captured connection wanted to go before the kernel brought it here.
//!
//! Must not know who installed the capture, nor what becomes of the connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::SockRef;

/// How the kernel brought a connection to our listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// TPROXY or a local route: the socket itself carries the original destination.
    Transparent,
    /// REDIRECT (NAT): connection tracking keeps the original destination.
    Redirected,
}

/// Returns the address that the client dialled.
///
/// A connection that was not redirected was made to our own listener: its answer is that listener's
/// address, which the gate refuses as its own.
///
/// # Errors
/// What the kernel says: `ENOTCONN` when the client is gone already.
pub fn original_destination(stream: &impl AsFd, capture: Capture) -> io::Result<SocketAddr> {
    let local = SockRef::from(stream)
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    let tracked = match capture {
        Capture::Transparent => return Ok(local),
        Capture::Redirected if is_four(local.ip()) => {
            // On a dual-stack socket too: IPPROTO_IPV6 answers ENOENT for a mapped client.
            sockopt::ip_original_dst(stream).map(SocketAddr::V4)
        }
        Capture::Redirected => sockopt::ipv6_original_dst(stream).map(SocketAddr::V6),
    };
    match tracked {
        Ok(destination) => Ok(destination),
        // No NAT for this connection, no entry any more, or no connection tracking at all.
        Err(Errno::NOENT | Errno::NOPROTOOPT | Errno::OPNOTSUPP) => Ok(local),
        Err(other) => Err(other.into()),
    }
}

fn is_four(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(six) => six.to_ipv4_mapped().is_some(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_that_nobody_redirected_was_made_to_the_listener_itself() {
        for (bind, dial) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let port = listener.local_addr().unwrap().port();
            let _client = TcpStream::connect((dial, port)).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            for capture in [Capture::Transparent, Capture::Redirected] {
                let found = original_destination(&accepted, capture).unwrap();
                assert_eq!(found, accepted.local_addr().unwrap(), "{bind} {capture:?}");
            }
        }
    }
}
