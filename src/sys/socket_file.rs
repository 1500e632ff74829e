//! Unix sockets that others find by a path: with a mode, a group, and an owner that removes the file.
//!
//! A file that an earlier process left behind is replaced; anything else in its place is left alone. Must not know
//! what is said over the socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Permission bits of the file.
    pub mode: u32,
    /// Its group, by name or number; `None`: the one that the system gives it.
    pub group: Option<String>,
}

/// Why there is no socket at a path.
#[derive(Debug, thiserror::Error)]
pub enum SocketFileError {
    /// No such group.
    #[error("no group is named {group}")]
    Group {
        /// As configured.
        group: String,
    },
    /// Another process listens there.
    #[error("another process listens on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is in the way, and is left alone.
    #[error("{} is not a socket", path.display())]
    NotSocket {
        /// The file.
        path: PathBuf,
    },
    /// The socket cannot be made, or not be given its mode and group.
    #[error("cannot listen on {}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Listens at a path, without blocking. The file goes when the second value does.
///
/// Between bind and listen nobody can connect: mode and group are in force before the first who comes.
///
/// # Errors
/// [`SocketFileError`]; a file that was made stays behind only where the process may not remove it.
pub fn listen(path: &Path, access: &Access) -> Result<(UnixListener, SocketFile), SocketFileError> {
    let group = access.group.as_deref().map(find_group).transpose()?;
    make_room(path)?;
    let broken = |source| SocketFileError::System { path: path.to_owned(), source };
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(broken)?;
    socket.bind(&SockAddr::unix(path).map_err(broken)?).map_err(broken)?;
    let file = SocketFile::of(path).map_err(broken)?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group).map_err(broken)?;
    }
    fs::set_permissions(path, Permissions::from_mode(access.mode)).map_err(broken)?;
    socket.listen(BACKLOG).map_err(broken)?;
    socket.set_nonblocking(true).map_err(broken)?;
    Ok((socket.into(), file))
}

fn find_group(name: &str) -> Result<u32, SocketFileError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(SocketFileError::Group { group: name.to_owned() }),
    }
}

/// Removes a socket file that an earlier process left behind. One that answers, or that refuses for any
/// other reason than that nobody listens, belongs to somebody.
fn make_room(path: &Path) -> Result<(), SocketFileError> {
    let broken = |source| SocketFileError::System { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(broken(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketFileError::NotSocket { path: path.to_owned() });
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
        Ok(()) | Err(_) => Err(SocketFileError::InUse { path: path.to_owned() }),
    }
}

/// Owns a socket file: removes it, unless another one stands in its place by then.
#[derive(Debug)]
pub struct SocketFile {
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
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a socket");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn for_owner() -> Access {
        Access { mode: 0o600, group: None }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_anything_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the file outlives its listener");
        let (listener, file) = listen(&path, &for_owner()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, &for_owner()), Err(SocketFileError::InUse { .. })));
        drop(listener);
        drop(file);
        assert!(!path.exists(), "the file goes with its owner");
        fs::write(&path, "kept").unwrap();
        assert!(matches!(listen(&path, &for_owner()), Err(SocketFileError::NotSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        let strangers = Access { mode: 0o660, group: Some("no such group".to_owned()) };
        assert!(matches!(listen(&path, &strangers), Err(SocketFileError::Group { .. })));
    }

    #[test]
    fn a_socket_that_took_the_place_of_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let (_listener, file) = listen(&path, &for_owner()).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
