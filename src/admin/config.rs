//! What the admin socket is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::sys::socket_file::Access;

/// Where it listens, and who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminConfig {
    /// At a path; the file's mode and group say who may ask.
    Unix {
        /// The socket.
        path: PathBuf,
        /// Who may connect.
        access: Access,
    },
    /// At a loopback address, which any user of this host can reach: so with a token.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Holds the token.
        token_file: PathBuf,
    },
}
