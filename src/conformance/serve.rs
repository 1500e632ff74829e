//! How the world's servers talk: pages over HTTP/1, HTTP/2 and TLS, a greeting on port 25, a database that takes TLS.
//!
//! They are lenient, as the worst of real ones are. Must not know what the filter lets through.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::props::{Authority, Counted};

use super::craft::SSL_REQUEST;
use super::map::AT_RETRYING;
use super::order::{FAREWELL, GREETING};

/// Answers each request in clear.
pub(super) async fn web(stream: Counted) -> io::Result<()> {
    let at = stream.at.ip().to_string();
    greet(stream, &at).await
}

/// The same inside of TLS.
pub(super) async fn secured(stream: Counted, authority: Arc<Authority>) -> io::Result<()> {
    let retries = stream.at.ip() == AT_RETRYING;
    let config = if retries { &authority.retrying } else { &authority.server };
    over_tls(stream, config).await
}

/// Says so at once.
pub(super) async fn mail(mut stream: Counted) -> io::Result<()> {
    let greeting = format!("220 {GREETING}{}{FAREWELL}\r\n", stream.at.ip());
    stream.write_all(greeting.as_bytes()).await?;
    let mut word = [0; 64];
    while stream.read(&mut word).await? > 0 {}
    Ok(())
}

/// Agrees to TLS where it is asked for, as PostgreSQL does.
pub(super) async fn database(mut stream: Counted, authority: Arc<Authority>) -> io::Result<()> {
    let mut request = [0; SSL_REQUEST.len()];
    stream.read_exact(&mut request).await?;
    if request != SSL_REQUEST {
        return Ok(());
    }
    stream.write_all(b"S").await?;
    over_tls(stream, &authority.server).await
}

/// Takes whatever comes, and greets for it.
pub(super) async fn swallow(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut bytes = [0; 512];
    while stream.read(&mut bytes).await? > 0 {
        stream.write_all(format!("{GREETING}somewhere{FAREWELL}").as_bytes()).await?;
    }
    Ok(())
}

async fn over_tls(stream: Counted, config: &Arc<ServerConfig>) -> io::Result<()> {
    let at = stream.at.ip().to_string();
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    greet(acceptor.accept(stream).await?, &at).await
}

/// Agrees to WebSocket, for the key that the suite's client sends (RFC 6455 section 4.2.2).
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: lHhTNW+IvBSlSY+CtJ9FCE7axNU=\r\n\r\n";

/// Longest request head that is read.
const MAX_HEAD: usize = 16 << 10;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Answers each request with where it came to and what Host it carried, until the client has enough.
async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin, at: &str) -> io::Result<()> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_HEAD {
        if bytes.starts_with(PREFACE) {
            return two(stream, bytes.split_off(PREFACE.len()), at).await;
        }
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
        let Some(end) = end.filter(|_| !bytes.starts_with(b"PRI ")) else {
            if stream.read_buf(&mut bytes).await? == 0 {
                break;
            }
            continue;
        };
        let head: Vec<u8> = bytes.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("expect:") == Some("100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let host = field("host:").unwrap_or_default().to_owned();
        let upgrade = field("upgrade:") == Some("websocket") && host.starts_with("also.");
        let length = field("content-length:").and_then(|length| length.parse().ok());
        let chunked = field("transfer-encoding:").is_some_and(|coding| coding.contains("chunked"));
        skip_body(&mut stream, &mut bytes, if chunked { None } else { Some(length.unwrap_or(0)) }).await?;
        if upgrade {
            stream.write_all(SWITCHING).await?;
            return swallow(stream).await;
        }
        let body = format!("{GREETING}{at} to {host}{FAREWELL}");
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(reply.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Reads a body past: of a length, or of chunks to the last one.
async fn skip_body(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    length: Option<usize>,
) -> io::Result<()> {
    loop {
        let end = match length {
            Some(length) => Some(length).filter(|length| bytes.len() >= *length),
            None if bytes.starts_with(b"0\r\n\r\n") => Some(5),
            None => bytes.windows(7).position(|last| last == b"\r\n0\r\n\r\n").map(|end| end + 7),
        };
        if let Some(end) = end {
            bytes.drain(..end);
            return Ok(());
        }
        if bytes.len() > MAX_HEAD || stream.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Speaks as much HTTP/2 as one request needs (RFC 9113).
async fn two(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut bytes: Vec<u8>,
    at: &str,
) -> io::Result<()> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const ACK: u8 = 1;
    stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await?;
    loop {
        let length = match bytes.get(..3) {
            Some(length) => length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            None => 0,
        };
        if bytes.len() < 9 + length {
            if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            continue;
        }
        let frame: Vec<u8> = bytes.drain(..9 + length).collect();
        match frame.as_slice() {
            [_, _, _, SETTINGS, flags, ..] if flags & ACK == 0 => {
                stream.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]).await?;
            }
            [_, _, _, HEADERS, _, a, b, c, d, ..] => {
                let id = [*a, *b, *c, *d];
                // `:status: 200` is index 8 (RFC 7541 appendix A); END_HEADERS, then DATA with END_STREAM.
                let body = format!("{GREETING}{at}{FAREWELL}");
                let length = u8::try_from(body.len()).unwrap_or(0);
                let headers = [&[0, 0, 1, HEADERS, 4][..], &id, &[0x88]].concat();
                let data = [&[0, 0, length, 0, 1][..], &id, body.as_bytes()].concat();
                stream.write_all(&[headers, data].concat()).await?;
            }
            _ => {}
        }
    }
}
