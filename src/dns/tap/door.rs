//! Where senders come in: unix sockets with a mode, a group and a check of the peer's user; TCP with a
//! check of the peer's address.
//!
//! It does not know what a sender says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::dns::config::{TapAddress, TapConfig};
use crate::facts::canonical;
use crate::sys::socket_file::{self, Access, SocketFile, SocketFileError};

use super::TapError;

/// One listening socket and who may come in by it.
#[derive(Debug)]
pub(super) enum Door {
    /// A unix socket.
    Unix { listener: UnixListener, uids: Vec<u32>, _file: SocketFile },
    /// A TCP socket.
    Tcp { listener: TcpListener, allow: Vec<IpNet> },
}

/// Somebody who connected.
#[derive(Debug)]
pub(super) struct Visitor {
    /// The connection.
    pub(super) stream: Stream,
    /// Who, for the log.
    pub(super) label: Arc<str>,
    /// Whether it may send.
    pub(super) allowed: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl Door {
    /// Listens on one address.
    pub(super) fn bind(address: &TapAddress, config: &TapConfig) -> Result<Self, TapError> {
        match address {
            TapAddress::Unix(path) => {
                let access = Access { mode: config.socket_mode, group: config.socket_group.clone() };
                let (listener, file) = socket_file::listen(path, &access)?;
                let listener = UnixListener::from_std(listener)
                    .map_err(|source| SocketFileError::System { path: path.clone(), source })?;
                Ok(Self::Unix { listener, uids: config.allow_uids.clone(), _file: file })
            }
            TapAddress::Tcp(address) => {
                let broken = |source| TapError::Tcp { address: *address, source };
                let listener = std::net::TcpListener::bind(address).map_err(broken)?;
                listener.set_nonblocking(true).map_err(broken)?;
                let listener = TcpListener::from_std(listener).map_err(broken)?;
                Ok(Self::Tcp { listener, allow: config.allow_from.clone() })
            }
        }
    }

    /// Returns the address, where it is TCP.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { listener, .. } => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// Waits for the next one who connects.
    pub(super) async fn accept(&self) -> io::Result<Visitor> {
        match self {
            Self::Unix { listener, uids, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let pid = peer.pid().map_or_else(String::new, |pid| format!(",pid={pid}"));
                Ok(Visitor {
                    label: format!("unix:uid={}{pid}", peer.uid()).into(),
                    allowed: uids.is_empty() || uids.contains(&peer.uid()),
                    stream: Stream::Unix(stream),
                })
            }
            Self::Tcp { listener, allow } => {
                let (stream, peer) = listener.accept().await?;
                // Without it a sender whose machine died would keep its place for ever.
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
                SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
                Ok(Visitor {
                    label: format!("tcp:{peer}").into(),
                    allowed: may_come(peer.ip(), allow),
                    stream: Stream::Tcp(stream),
                })
            }
        }
    }
}

/// Whether an address is among those that may send: loopback where none are named. Loopback is no
/// exception where some are.
fn may_come(peer: IpAddr, allow: &[IpNet]) -> bool {
    let peer = canonical(peer);
    match allow {
        [] => peer.is_loopback(),
        nets => nets.iter().any(|net| net.contains(&peer)),
    }
}

/// Silence after which a TCP sender is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn strangers_may_not_send_and_a_list_replaces_loopback() {
        let nets: Vec<IpNet> = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()];
        for (peer, alone, listed) in [
            ("127.0.0.1", true, false),
            ("127.9.9.9", true, false),
            ("::1", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("172.18.0.5", false, false),
            ("192.0.2.7", false, true),
            ("::ffff:192.0.2.7", false, true),
            ("2001:db8::5", false, true),
            ("2001:db8:1::5", false, false),
        ] {
            let peer = peer.parse().unwrap();
            assert_eq!((may_come(peer, &[]), may_come(peer, &nets)), (alone, listed), "{peer}");
        }
    }
}
