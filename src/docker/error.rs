//! What can go wrong between us and the Docker daemon, and what to do about it.
//!
//! The library's own errors end here: what they say is cut, because some of it is a stranger's text. Must not know
//! what a failure means for policy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as Said;

/// Why nothing can be said of networks and containers. None of these is a "yes" for anybody.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nothing at that path.
    #[error("there is no Docker socket at {}", .socket.display())]
    NoSocket {
        /// As configured.
        socket: PathBuf,
    },
    /// The socket is somebody else's.
    #[error("this process may not use the Docker socket {}", .socket.display())]
    NoPermission {
        /// As configured.
        socket: PathBuf,
    },
    /// A socket that a daemon left behind, or does not serve yet.
    #[error("nobody listens at the Docker socket {}", .socket.display())]
    NotListening {
        /// As configured.
        socket: PathBuf,
    },
    /// The kernel refused the connection.
    #[error("the Docker socket {} cannot be opened", .socket.display())]
    Connect {
        /// As configured.
        socket: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// What answers has no idea of Docker's interface.
    #[error("what answers at {} is not Docker: {said}", .socket.display())]
    NotDocker {
        /// As configured.
        socket: PathBuf,
        /// What was wrong.
        said: String,
    },
    /// A daemon from before the fields that we read.
    #[error("Docker speaks version {found} of its interface, {needed} is the oldest that will do")]
    TooOld {
        /// The newest it speaks.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// No answer in time.
    #[error("Docker did not {action} within {} s", .after.as_secs())]
    Timeout {
        /// What was asked.
        action: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// Docker said no.
    #[error("Docker refused to {action} (status {status}): {said}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its words, cut.
        said: String,
    },
    /// An answer that would fill the memory.
    #[error("Docker was asked to {action} and answers with more than {limit} bytes")]
    TooMuch {
        /// What was asked.
        action: &'static str,
        /// How many it may be.
        limit: u64,
    },
    /// The connection ended before the answer did.
    #[error("Docker was asked to {action} and hung up")]
    HungUp {
        /// What was asked.
        action: &'static str,
    },
    /// An answer that cannot be read.
    #[error("Docker was asked to {action} and answers what cannot be read: {said}")]
    Garbled {
        /// What was asked.
        action: &'static str,
        /// What was wrong, cut.
        said: String,
    },
}

impl DockerError {
    /// Returns the next step for the operator, if there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSocket { socket } => format!(
                "start Docker (`systemctl start docker`), or name its socket: docker.socket, or DOCKER_HOST=unix://...; \
                 in a container: -v {0}:{0}:ro",
                socket.display()
            ),
            Self::NoPermission { socket } => format!(
                "run as root, or as a member of the group that owns it (`ls -l {}`); that group can do all that root can",
                socket.display()
            ),
            Self::NotListening { .. } => {
                "start Docker: `systemctl start docker`; `journalctl -u docker` says why it ended".to_owned()
            }
            Self::NotDocker { socket, .. } => format!(
                "`curl --unix-socket {} http://docker/version` shows what answers there",
                socket.display()
            ),
            Self::TooOld { .. } => "install Docker 20.10 or newer".to_owned(),
            Self::Timeout { .. } => {
                "`docker ps` hangs too? then restart Docker; `journalctl -u docker` says what holds it up".to_owned()
            }
            Self::TooMuch { .. } => {
                "a container with huge labels? `docker ps --no-trunc --format '{{.ID}} {{.Labels}}' | wc -c` counts"
                    .to_owned()
            }
            Self::Connect { .. } | Self::Refused { .. } | Self::HungUp { .. } | Self::Garbled { .. } => return None,
        })
    }

    /// Whether Docker says that there is no such thing.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// What the library says, in our words.
    pub(super) fn from_library(action: &'static str, socket: &Path, limit: u64, error: Said) -> Self {
        if let Said::DockerResponseServerError { status_code, message } = &error {
            return Self::Refused { action, status: *status_code, said: cut(message) };
        }
        if matches!(error, Said::RequestTimeoutError) {
            return Self::Timeout { action, after: super::api::PATIENCE };
        }
        let said = cut(&error.to_string());
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        // A wrapper shows the sources of what it wraps, not the thing itself.
        if let Said::IOError { err } = &error {
            cause = Some(err);
        } else if let Said::HyperResponseError { err } = &error {
            cause = Some(err);
        }
        while let Some(this) = cause {
            let hung_up = |hyper: &hyper::Error| {
                hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled()
            };
            if this.downcast_ref::<hyper::Error>().is_some_and(hung_up) {
                return Self::HungUp { action };
            }
            let io = this.downcast_ref::<io::Error>();
            if io.is_some_and(|io| is_end(io.kind())) {
                return Self::HungUp { action };
            }
            // What an error of the kernel carries inside is not among its sources either.
            cause = match io.and_then(io::Error::get_ref) {
                Some(inner) if inner.is::<TooMuch>() => return Self::TooMuch { action, limit },
                Some(inner) => Some(inner),
                None => this.source(),
            };
        }
        if let Said::IOError { err } = error {
            Self::from_io(socket, err)
        } else {
            Self::Garbled { action, said }
        }
    }

    fn from_io(socket: &Path, error: io::Error) -> Self {
        let socket = socket.to_owned();
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound {
            Self::NoSocket { socket }
        } else if kind == io::ErrorKind::PermissionDenied {
            Self::NoPermission { socket }
        } else if kind == io::ErrorKind::ConnectionRefused {
            Self::NotListening { socket }
        } else {
            Self::Connect { socket, source: error }
        }
    }
}

fn is_end(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// The first line of what somebody said, as long as a person reads.
fn cut(said: &str) -> String {
    let line = said.lines().next().unwrap_or("");
    line.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

/// More bytes than an answer may have: what a bounded connection says when it is read on.
#[derive(Debug, thiserror::Error)]
#[error("more bytes than an answer may have")]
pub(super) struct TooMuch;

/// Characters of somebody's words that are kept.
const MAX_SAID: usize = 200;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn refused(kind: io::ErrorKind) -> DockerError {
        let err = io::Error::from(kind);
        DockerError::from_library("list networks", Path::new("/run/docker.sock"), 1, Said::IOError { err })
    }

    #[test]
    fn a_socket_that_may_not_be_used_is_told_from_one_that_is_not_there() {
        let denied = refused(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.to_string(), "this process may not use the Docker socket /run/docker.sock");
        assert!(denied.hint().unwrap().contains("`ls -l /run/docker.sock`"));
        assert_eq!(
            refused(io::ErrorKind::NotFound).to_string(),
            "there is no Docker socket at /run/docker.sock"
        );
        let other = refused(io::ErrorKind::InvalidInput);
        assert!(matches!(other, DockerError::Connect { .. }) && other.hint().is_none(), "{other:?}");
    }

    #[test]
    fn a_strangers_words_are_cut_to_a_line() {
        let message = format!("no such thing: \u{1b}[31m{}\nsecond line", "x".repeat(5000));
        let said = Said::DockerResponseServerError { status_code: 404, message };
        let error = DockerError::from_library("inspect a container", Path::new("/run/docker.sock"), 1, said);
        assert!(error.is_gone());
        let told = error.to_string();
        assert!(told.len() < 300 && !told.contains(char::is_control), "{told}");
    }
}
