//! Pages over TLS, as a program fetches them; the hello may be cut into pieces.
//!
//! Must not know whose servers these are.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::craft;
use super::super::order::{Answer, Tls, pages};
use super::in_a_moment;

pub(super) async fn fetch(order: &Tls, answer: &mut Answer) -> io::Result<()> {
    let to = order.to.ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = in_a_moment(TcpStream::connect(to)).await?;
    stream.set_nodelay(true)?;
    if !order.before.is_empty() {
        stream.write_all(&order.before).await?;
        in_a_moment(stream.read_u8()).await?;
    }
    let name = order.sni.as_ref().unwrap_or(&order.host);
    let name = ServerName::try_from(name.clone()).map_err(io::Error::other)?;
    let cut = Cut { stream, record: order.record, segment: order.segment, hello: Hello::Awaited };
    let mut stream = TlsConnector::from(Arc::new(client(order)?)).connect(name, cut).await?;
    for (index, pause) in order.requests.iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        stream.write_all(&craft::get(&order.host)).await?;
        stream.flush().await?;
        while pages(&answer.heard) <= index {
            if stream.read_buf(&mut answer.heard).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

fn client(order: &Tls) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(order.trust.as_bytes()).map_err(io::Error::other)?;
    roots.add(authority).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.enable_sni = order.sni.is_some();
    config.alpn_protocols = vec![vec![b'p'; ALPN_NAME]; order.padding / (ALPN_NAME + 1)];
    Ok(config)
}

/// Bytes of one made-up protocol name: 255 at most (RFC 7301 section 3.1).
const ALPN_NAME: usize = 199;

/// A connection whose first flight goes out in pieces.
#[derive(Debug)]
struct Cut {
    stream: TcpStream,
    record: usize,
    segment: usize,
    hello: Hello,
}

/// What became of the first flight.
#[derive(Debug)]
enum Hello {
    Awaited,
    /// Recut bytes, how many are written, and how many of the original they stand for.
    Leaving(Vec<u8>, usize, usize),
    Gone,
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if matches!(this.hello, Hello::Awaited) {
            let recut = if this.record == 0 { from.to_vec() } else { craft::recut(from, this.record) };
            this.hello = Hello::Leaving(recut, 0, from.len());
        }
        let Hello::Leaving(bytes, written, stands_for) = &mut this.hello else {
            return Pin::new(&mut this.stream).poll_write(cx, from);
        };
        while let Some(rest) = bytes.get(*written..).filter(|rest| !rest.is_empty()) {
            let most = if this.segment == 0 { rest.len() } else { this.segment.min(rest.len()) };
            let piece = rest.get(..most).unwrap_or(rest);
            *written += ready!(Pin::new(&mut this.stream).poll_write(cx, piece))?;
        }
        let all = *stands_for;
        this.hello = Hello::Gone;
        Poll::Ready(Ok(all))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}
