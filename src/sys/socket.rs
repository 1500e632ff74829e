//! TCP sockets with the options that the corridors need.
//!
//! Must not know what is carried over them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that wait for `accept`: the most that the kernel's default `somaxconn` grants.
const BACKLOG: i32 = 4096;

/// A listener could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Listens for connections that TPROXY or a local route brings here, whatever their destination.
///
/// Needs `CAP_NET_ADMIN` or `CAP_NET_RAW` over the network namespace.
///
/// # Errors
/// [`ListenError`] names the address that is taken or not permitted.
pub fn listen_transparent(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listen = || {
        let socket = stream_socket(address)?;
        match address {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
        open(socket, address)
    };
    listen().map_err(|source| ListenError { address, source })
}

/// Listens on this address alone; an IPv6 address takes no IPv4 clients.
///
/// # Errors
/// [`ListenError`] names the address that is taken or not permitted.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    stream_socket(address)
        .and_then(|socket| open(socket, address))
        .map_err(|source| ListenError { address, source })
}

/// Listens on this port of every address, for redirected connections: both families on one socket,
/// IPv4 alone on a host where IPv6 is switched off.
///
/// # Errors
/// [`ListenError`] names the address that is taken or not permitted.
pub fn listen_everywhere(port: u16) -> Result<TcpListener, ListenError> {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listen = || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_only_v6(false)?;
        open(socket, both)
    };
    match listen() {
        Ok(listener) => Ok(listener),
        Err(source) if lacks_ipv6(&source) => self::listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        Err(source) => Err(ListenError { address: both, source }),
    }
}

/// Opens one more listener like this one on the same address; the kernel shares connections out among them.
///
/// The first was alone when it opened, so an address that somebody else has is still an error there. From here on
/// processes of the same user, and no others, could join them.
///
/// # Errors
/// What the kernel says.
pub fn listen_beside(first: &TcpListener) -> io::Result<TcpListener> {
    let one = SockRef::from(first);
    let address = first.local_addr()?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match address {
        SocketAddr::V4(_) => {
            if one.ip_transparent_v4()? {
                socket.set_ip_transparent_v4(true)?;
            }
        }
        SocketAddr::V6(_) => {
            socket.set_only_v6(one.only_v6()?)?;
            if one.ip_transparent_v6()? {
                socket.set_ip_transparent_v6(true)?;
            }
        }
    }
    one.set_reuse_port(true)?;
    socket.set_reuse_port(true)?;
    open(socket, address)
}

/// Makes closing the socket a reset (`SO_LINGER` of zero): the peer hears that it was cut off, and no
/// unsent byte stays behind.
///
/// # Errors
/// What the kernel says.
pub fn reset_on_close(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Closes the sending direction: the peer reads an end of stream.
///
/// # Errors
/// `ENOTCONN` when the peer has gone.
pub fn finish(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).shutdown(Shutdown::Write)
}

/// Sends every write at once: no Nagle delay. Accepted connections inherit it from their listener.
///
/// # Errors
/// What the kernel says.
pub fn send_at_once(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_tcp_nodelay(true)
}

/// Has a silent peer probed, so that a dead one is found: after a minute, every quarter of one.
///
/// # Errors
/// What the kernel says.
pub fn keep_alive(stream: &impl AsFd) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(
        &TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)),
    )
}

fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn open(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the error says that this host has no IPv6 at all.
pub fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_taken_port_is_an_error_that_names_the_address() {
        let first = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = first.local_addr().unwrap();
        let error = listen(address).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn listeners_beside_each_other_share_connections_and_keep_their_address_from_others() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(first) = listen(address.parse().unwrap()) else { continue };
            let address = first.local_addr().unwrap();
            let second = listen_beside(&first).unwrap();
            assert_eq!(second.local_addr().unwrap(), address);
            send_at_once(&first).unwrap();
            send_at_once(&second).unwrap();
            let source = listen(address).unwrap_err().source;
            assert_eq!(source.kind(), io::ErrorKind::AddrInUse, "{address}");
            let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
            let taken = |listener: &TcpListener| {
                std::iter::from_fn(|| listener.accept().ok())
                    .map(|(stream, _)| assert!(SockRef::from(&stream).tcp_nodelay().unwrap(), "inherited"))
                    .count()
            };
            let (one, two) = (taken(&first), taken(&second));
            assert_eq!(one + two, clients.len());
            assert!(one > 0 && two > 0, "{one} and {two}");
        }
    }

    #[test]
    fn one_listener_takes_clients_of_both_families() {
        let listener = listen_everywhere(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn a_listener_on_the_ipv6_loopback_leaves_the_port_free_for_ipv4() {
        let Ok(six) = listen(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))) else { return };
        let port = six.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }

    #[test]
    fn a_transparent_listener_opens_or_says_that_it_is_not_permitted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            match listen_transparent(address.parse().unwrap()) {
                Ok(listener) => {
                    let socket = SockRef::from(&listener);
                    let v4 = listener.local_addr().unwrap().is_ipv4();
                    let set = if v4 { socket.ip_transparent_v4() } else { socket.ip_transparent_v6() };
                    assert!(set.unwrap(), "{address}");
                }
                Err(error) => {
                    assert_eq!(
                        error.source.kind(),
                        io::ErrorKind::PermissionDenied,
                        "{error}: {}",
                        error.source
                    );
                }
            }
        }
    }
}
