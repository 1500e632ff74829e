//! Why the demo cannot be played.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the demo cannot be played. That the gate fails it is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder for the audit log.
    #[error("cannot make the folder {}", path.display())]
    Scratch {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No throw-away certificates.
    #[error("cannot make certificates")]
    Certificate(#[from] rcgen::Error),
    /// Certificates that no server takes.
    #[error("cannot serve TLS")]
    Tls(#[from] rustls::Error),
    /// A server of the demo's Internet has no place.
    #[error("the demo's Internet cannot be at {address}")]
    Listen {
        /// Its address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What leads to the clients is no pipe.
    #[error("cannot talk to the clients")]
    Pipe(#[source] io::Error),
    /// No event loop, or no signals.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// Told to stop by SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}
