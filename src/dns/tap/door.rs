//! Where senders come in: unix sockets with a mode, a group and a check of the peer's user; TCP with a
//! check of the peer's address.
//!
//! It does not know what a sender says.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::unistd::Group;
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::dns::config::{TapAddress, TapConfig};
use crate::facts::canonical;

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
                let (listener, file) = listen_unix(path, config)?;
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

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Between bind and listen nobody can connect: mode and group are in force before the first sender.
fn listen_unix(path: &Path, config: &TapConfig) -> Result<(UnixListener, SocketFile), TapError> {
    let group = config.socket_group.as_deref().map(find_group).transpose()?;
    make_room(path)?;
    let broken = |source| TapError::Unix { path: path.to_owned(), source };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(broken)?;
    socket.bind(&SockAddr::unix(path).map_err(broken)?).map_err(broken)?;
    let file = SocketFile::of(path).map_err(broken)?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group).map_err(broken)?;
    }
    fs::set_permissions(path, Permissions::from_mode(config.socket_mode)).map_err(broken)?;
    socket.listen(BACKLOG).map_err(broken)?;
    socket.set_nonblocking(true).map_err(broken)?;
    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket)).map_err(broken)?;
    Ok((listener, file))
}

fn find_group(name: &str) -> Result<u32, TapError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(TapError::Group { group: name.to_owned() }),
    }
}

/// Removes a socket file that an earlier process left behind. One that answers, or that refuses for any
/// other reason than that nobody listens, belongs to somebody.
fn make_room(path: &Path) -> Result<(), TapError> {
    let broken = |source| TapError::Unix { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(broken(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(TapError::NotSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(broken)?;
    // A full backlog must not hold up the start.
    probe.set_nonblocking(true).map_err(broken)?;
    match probe.connect(&SockAddr::unix(path).map_err(broken)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(broken)
        }
        Ok(()) | Err(_) => Err(TapError::InUse { path: path.to_owned() }),
    }
}

/// Owns a socket file: removes it, unless another one stands in its place by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (found.dev(), found.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the dnstap socket");
        }
    }
}

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
