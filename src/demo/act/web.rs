//! Pages over HTTP and TLS, as a program fetches them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::order::request;
use super::{Answer, Heard};

pub(super) async fn https(
    to: SocketAddr,
    sni: Option<&str>,
    host: &str,
    trust: &str,
    heard: &mut Answer,
) -> io::Result<()> {
    let mut config = client(trust)?;
    config.enable_sni = sni.is_some();
    let name = ServerName::try_from(sni.unwrap_or(host).to_owned()).map_err(io::Error::other)?;
    let stream = connect(to, heard).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    fetch(&mut stream, host, true, heard).await
}

pub(super) async fn http(to: SocketAddr, hosts: &[String], heard: &mut Answer) -> io::Result<()> {
    let mut stream = connect(to, heard).await?;
    for (index, host) in hosts.iter().enumerate() {
        fetch(&mut stream, host, index + 1 == hosts.len(), heard).await?;
        if heard.heard != Heard::Passed {
            break;
        }
    }
    Ok(())
}

async fn connect(to: SocketAddr, heard: &mut Answer) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    heard.port = stream.local_addr()?.port();
    Ok(stream)
}

fn client(trust: &str) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(trust.as_bytes()).map_err(io::Error::other)?;
    roots.add(authority).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Fetches one page over a connection, and tells what it was.
async fn fetch(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    last: bool,
    heard: &mut Answer,
) -> io::Result<()> {
    // A page that came before says nothing of this one.
    (heard.heard, heard.detail) = (Heard::Timeout, "nothing in time".to_owned());
    stream.write_all(request(host, last).as_bytes()).await?;
    stream.flush().await?;
    let (status, body) = response(stream).await?;
    heard.detail = body;
    heard.heard = match status {
        200 => {
            heard.pages += 1;
            Heard::Passed
        }
        403 => {
            let field = |name: &str| {
                let line = heard.detail.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                line.map(str::to_owned)
            };
            (heard.reason, heard.flow) = (field("namegate"), field("flow"));
            Heard::Forbidden
        }
        other => {
            heard.detail = format!("HTTP {other}");
            Heard::Other
        }
    };
    Ok(())
}

/// Longest response that is read, bytes.
const MAX_RESPONSE: usize = 16 * 1024;

/// Reads one response with its length given: status and body.
async fn response(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u16, String)> {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_RESPONSE {
        if let Some(found) = whole(&bytes)? {
            return Ok(found);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

/// `None`: there is more to come.
fn whole(bytes: &[u8]) -> io::Result<Option<(u16, String)>> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(body.get(..length).map(|body| (status, body.to_owned())))
}
