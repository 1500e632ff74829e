//! Why the demo cannot be played.

use std::io;

use crate::props;
use crate::sandbox::Diagnosis;
use crate::settings;

/// Why the demo cannot be played. That the gate fails it is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder for the audit log, no certificates, or a server of the demo's Internet has no place.
    #[error(transparent)]
    Props(#[from] props::Error),
    /// What leads to the clients is no pipe.
    #[error("cannot talk to the clients")]
    Pipe(#[source] io::Error),
    /// No event loop, or no signals.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// No network of the demo's own.
    #[error("a network for the demo cannot be made")]
    Namespaces(#[source] io::Error),
    /// The network cannot be used.
    #[error("the demo's network cannot be brought up")]
    Network(#[source] io::Error),
    /// The program does not know where it is itself.
    #[error("cannot find this program")]
    Program(#[source] io::Error),
    /// No process for the gate.
    #[error("cannot start the gate")]
    Fork(#[source] io::Error),
    /// The gate's configuration cannot be written.
    #[error("cannot write the gate's configuration")]
    Write(#[source] io::Error),
    /// The gate's configuration is refused.
    #[error("the gate's configuration is refused")]
    Policy(#[source] settings::Error),
    /// Told to stop by SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Returns the next step, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Namespaces(error) => Some(Diagnosis::of_refusal(error).hint()),
            Self::Props(_)
            | Self::Pipe(_)
            | Self::Runtime(_)
            | Self::Network(_)
            | Self::Program(_)
            | Self::Fork(_)
            | Self::Write(_)
            | Self::Policy(_)
            | Self::Interrupted => None,
        }
    }
}
