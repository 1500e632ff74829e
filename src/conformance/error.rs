//! Why the suite cannot be run.

use std::io;

use crate::props;
use crate::sandbox::Diagnosis;

/// Why the suite cannot be run. That a filter fails it is no error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificates, or a server has no place.
    #[error(transparent)]
    Props(#[from] props::Error),
    /// No namespaces of the suite's own.
    #[error("a network for the suite cannot be made")]
    Namespaces(#[source] io::Error),
    /// `unshare`, of util-linux, cannot be run.
    #[error("cannot run unshare")]
    Unshare(#[source] io::Error),
    /// The script that makes the network failed.
    #[error("the suite's network cannot be brought up: {said}")]
    Topology {
        /// What it said.
        said: String,
    },
    /// Datagrams, or packets of other protocols, cannot be listened for.
    #[error("the suite's Internet cannot take what is no connection")]
    Stray {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No event loop.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// The program does not know where it is itself.
    #[error("cannot find this program")]
    Program(#[source] io::Error),
    /// A client cannot be started, or does not answer.
    #[error("cannot talk to a client")]
    Client(#[source] io::Error),
    /// The filter cannot be started at all.
    #[error("cannot start the filter")]
    Filter(#[source] io::Error),
    /// The filter was not ready in time, or ended.
    #[error("the filter was not ready in time; it said: {said}")]
    NotReady {
        /// The end of what it said.
        said: String,
    },
    /// Told to stop by SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// No trial has the name that was asked for.
    #[error("there is no trial `{name}`")]
    NoTrial {
        /// The name.
        name: String,
    },
}

impl Error {
    /// Returns the next step, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Namespaces(error) => Some(Diagnosis::of_refusal(error).hint()),
            Self::Unshare(_) => Some("install util-linux".to_owned()),
            Self::Topology { .. } => Some("ip (iproute2) and nsenter (util-linux) are needed".to_owned()),
            Self::NotReady { .. } => Some(
                "--ready says when it is: a command, a port such as :8443, or a time such as 2s".to_owned(),
            ),
            Self::NoTrial { .. } => Some("without --only, the table has the names".to_owned()),
            Self::Props(_)
            | Self::Stray { .. }
            | Self::Runtime(_)
            | Self::Program(_)
            | Self::Client(_)
            | Self::Interrupted
            | Self::Filter(_) => None,
        }
    }
}
