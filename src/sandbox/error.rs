//! Why a command cannot be run in a sandbox, with the exit code and the next step.
//!
//! Must not know how it is printed.

use std::io;
use std::path::PathBuf;

use super::diagnosis::Diagnosis;
use super::layers::Layer;

/// Why there is no sandbox, or no command in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Namespaces cannot be made.
    #[error("{0}")]
    Namespaces(Diagnosis),
    /// A layer that the promise needs cannot be had.
    #[error("the sandbox lacks a layer that it needs: {}: {why}", layer.code())]
    Breach {
        /// Which.
        layer: Layer,
        /// Why.
        why: String,
    },
    /// A step of the building failed.
    #[error("the sandbox cannot be built: {what}: {why}")]
    Build {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// It did not become ready, or ended without a word.
    #[error("the sandbox {0}")]
    Gone(&'static str),
    /// What was to stay reachable is not there.
    #[error("{} is not {kind}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What it should be.
        kind: &'static str,
    },
    /// The program cannot be run.
    #[error("cannot run {program}")]
    Command {
        /// Which.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system refuses something to the supervisor.
    #[error("the system refused to {action}")]
    System {
        /// What was asked.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Returns the exit code: 127 and 126 for the command as env(1) has it, 2 for usage, 3 for the system.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Command { .. } => 126,
            Self::Missing { .. } => 2,
            Self::Namespaces(_)
            | Self::Breach { .. }
            | Self::Build { .. }
            | Self::Gone(_)
            | Self::System { .. } => 3,
        }
    }

    /// Returns the next step, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Namespaces(diagnosis) => Some(diagnosis.hint()),
            Self::Breach { .. } => Some(
                "--best-effort goes on without it, and says so; the command may then find a way out"
                    .to_owned(),
            ),
            Self::Build { .. }
            | Self::Gone(_)
            | Self::Missing { .. }
            | Self::Command { .. }
            | Self::System { .. } => None,
        }
    }
}

/// Wraps an error of the system with what was asked.
pub(super) fn refused(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { action, source }
}
