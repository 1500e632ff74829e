//! How a play's servers take connections: each is written down before a byte of it is read, and every byte
//! as it comes.
//!
//! Must not know what is spoken over them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Error;
use super::seen::{Seen, Visit};

pub(crate) async fn listen(at: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(at).await.map_err(|source| Error::Listen { address: at, source })
}

/// How long one visitor may stay.
const VISIT: Duration = Duration::from_secs(15);

/// How long a listener out of descriptors waits for some.
const BREATH: Duration = Duration::from_millis(20);

/// Accepts for ever; each connection is written down before a byte of it is read.
pub(crate) async fn serve<F: Future<Output = io::Result<()>> + Send + 'static>(
    listener: TcpListener,
    at: SocketAddr,
    seen: Seen,
    talk: impl Fn(Counted) -> F,
) {
    let mut visitors = JoinSet::new();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        while visitors.try_join_next().is_some() {}
        // A listener on every address says where a visitor really came to.
        let at = stream.local_addr().map_or(at, |at| SocketAddr::new(at.ip().to_canonical(), at.port()));
        let stream = Counted { stream, at, visit: seen.arrived(at, from) };
        visitors.spawn(timeout(VISIT, talk(stream)));
    }
}

/// A connection whose bytes are counted as they come.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    pub(crate) at: SocketAddr,
    pub(crate) visit: Visit,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        self.visit.bytes(into.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
