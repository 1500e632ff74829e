//! What stands on every stage: a certificate authority, doors that write down what comes in by them, a folder that
//! is gone afterwards.
//!
//! Must not know which play is given.

mod authority;
mod door;
mod resolver;
mod scratch;
mod seen;
mod stub;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

pub(crate) use authority::Authority;
pub(crate) use door::{Counted, listen, serve};
pub(crate) use resolver::{Resolver, Zone};
pub(crate) use scratch::Scratch;
#[cfg(test)]
pub(crate) use seen::Question;
pub(crate) use seen::{Arrival, Mark, Notes, Seen, Visit};
pub(crate) use stub::{over_tcp, over_udp, query};

/// Why a stage cannot be furnished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder.
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
    /// A server has no place.
    #[error("the stage's Internet cannot be at {address}")]
    Listen {
        /// Its address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}
