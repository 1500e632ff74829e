//! The listener and its few connections: one question each, within a deadline.
//!
//! Must not know what is asked or answered.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::record::Log;
use crate::sys::socket::{self, ListenError};
use crate::sys::socket_file::{self, SocketFile, SocketFileError};

use super::desk::Desk;
use super::token::Token;
use super::{AdminConfig, Status, TokenError};

/// Tells how the gate is; called at each question, and must not wait.
pub type Facts = Arc<dyn Fn() -> Status + Send + Sync>;

/// Why nobody can ask.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The unix socket.
    #[error(transparent)]
    Unix(#[from] SocketFileError),
    /// The address.
    #[error(transparent)]
    Tcp(#[from] ListenError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The runtime does not take the listener.
    #[error("cannot adopt the admin listener")]
    Runtime {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The bound socket. A socket file goes with it.
#[derive(Debug)]
pub struct Admin {
    door: Door,
    token: Option<Token>,
}

#[derive(Debug)]
enum Door {
    Unix { listener: UnixListener, _file: SocketFile },
    Tcp(TcpListener),
}

type Stream = Either<UnixStream, TcpStream>;

impl Admin {
    /// Binds as configured. Must be called within a runtime.
    ///
    /// # Errors
    /// [`AdminError`]; nothing stays bound then.
    pub fn bind(config: &AdminConfig) -> Result<Self, AdminError> {
        let adopt = |source| AdminError::Runtime { source };
        match config {
            AdminConfig::Unix { path, access } => {
                let (listener, file) = socket_file::listen(path, access)?;
                let listener = UnixListener::from_std(listener).map_err(adopt)?;
                Ok(Self { door: Door::Unix { listener, _file: file }, token: None })
            }
            AdminConfig::Tcp { address, token_file } => {
                let token = Some(Token::read(token_file)?);
                let listener = TcpListener::from_std(socket::listen(*address)?).map_err(adopt)?;
                Ok(Self { door: Door::Tcp(listener), token })
            }
        }
    }

    /// Returns the address, where it is TCP: the gate must know it as its own.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.door {
            Door::Tcp(listener) => listener.local_addr().ok(),
            Door::Unix { .. } => None,
        }
    }

    /// Answers until `cancel`.
    pub async fn serve(self, facts: Facts, log: Log, cancel: CancellationToken) {
        let desk = Arc::new(Desk { facts, log, token: self.token });
        let tasks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Some(Ok(place)) = cancel.run_until_cancelled(Arc::clone(&places).acquire_owned()).await {
            match cancel.run_until_cancelled(self.door.accept()).await {
                Some(Ok(stream)) => {
                    let (desk, cancel) = (Arc::clone(&desk), cancel.clone());
                    tasks.spawn(async move {
                        cancel.run_until_cancelled(talk(stream, desk)).await;
                        drop(place);
                    });
                }
                // Descriptors may have run out, or the visitor was gone already.
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot accept on the admin socket");
                    cancel.run_until_cancelled(sleep(PAUSE)).await;
                }
                None => break,
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

impl Door {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Either::Right(stream)),
        }
    }
}

/// One connection: one question, one answer. A body is never read.
async fn talk(stream: Stream, desk: Arc<Desk>) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(&request)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a question on the admin socket was not understood"),
        Err(_) => tracing::debug!("a question on the admin socket took too long"),
    }
}

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 32;
/// For the head of a question.
const HEADER_DEADLINE: Duration = Duration::from_secs(2);
/// For question and answer.
const DEADLINE: Duration = Duration::from_secs(4);
/// Bytes of a head; hyper takes no smaller bound than 8 KiB.
const LARGEST_HEAD: usize = 8_192;
/// After `accept` failed.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
