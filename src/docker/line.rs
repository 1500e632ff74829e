//! One HTTP exchange over Docker's socket, on a connection of its own that never gives more bytes than it may.
//!
//! The library reads a whole answer into memory, whatever its length; this is what bounds it. Must not know what is
//! asked.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use http::header::HOST;
use http::{HeaderValue, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::api::PATIENCE;
use super::error::TooMuch;

/// A connection that is made when something is asked, and ends with its owner.
#[derive(Debug)]
pub(super) struct Line {
    socket: PathBuf,
    /// What stands before each path: the version of the interface.
    prefix: String,
    limit: u64,
    left: Arc<AtomicU64>,
    answered: Notify,
    driver: Mutex<Option<JoinHandle<()>>>,
}

impl Line {
    pub(super) fn new(socket: PathBuf, prefix: String, limit: u64) -> Arc<Self> {
        let left = Arc::new(AtomicU64::new(limit));
        Arc::new(Self { socket, prefix, limit, left, answered: Notify::new(), driver: Mutex::default() })
    }

    /// Returns the library on this line.
    pub(super) fn client(self: &Arc<Self>) -> Result<Docker, Error> {
        let line = Arc::clone(self);
        let transport = move |request| {
            let line = Arc::clone(&line);
            async move { line.exchange(request).await }
        };
        Docker::connect_with_custom_transport(
            transport,
            Some("http://docker"),
            PATIENCE.as_secs(),
            API_DEFAULT_VERSION,
        )
    }

    /// Waits for the head of an answer.
    pub(super) async fn answered(&self) {
        self.answered.notified().await;
    }

    /// Lets as many bytes come as at the beginning.
    pub(super) fn refill(&self) {
        self.left.store(self.limit, Ordering::Relaxed);
    }

    async fn exchange(&self, mut request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let stream = UnixStream::connect(&self.socket).await?;
        let bounded = Bounded { stream, left: Arc::clone(&self.left) };
        let (mut sender, connection) = http1::handshake(TokioIo::new(bounded)).await?;
        let asked = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("{}{asked}", self.prefix).parse::<Uri>()?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
        // Answers come while somebody drives the connection. That ends with this line, or with the answer.
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to Docker ended");
            }
        });
        *self.driver.lock() = Some(driver);
        let head = sender.send_request(request).await?;
        self.answered.notify_one();
        Ok(head)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.get_mut() {
            driver.abort();
        }
    }
}

/// A stream that fails when it has given as much as it may.
#[derive(Debug)]
struct Bounded {
    stream: UnixStream,
    left: Arc<AtomicU64>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let came = (buffer.filled().len() - before) as u64;
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(came));
        Poll::Ready(taken.map(|_| ()).map_err(|_| io::Error::other(TooMuch)))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
