//! The demo's Internet: web servers on every address of the map, a true resolver, and an attacker with one of his
//! own. All write down what comes.
//!
//! Must not know what the gate lets through.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::props::{Counted, Resolver, Seen, Visit, Zone, listen, serve};

use super::Error;
use super::map::Map;

/// Running servers; dropped, they are gone.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seen: Seen,
    _servers: JoinSet<()>,
}

impl World {
    /// Opens every server before it returns. Needs the addresses to be local, and port 53 to be permitted.
    pub(super) async fn open(map: &Map, tls: Arc<ServerConfig>) -> Result<Self, Error> {
        let (seen, mut servers) = (Seen::default(), JoinSet::new());
        let tls = TlsAcceptor::from(tls);
        for host in map.servers() {
            let at = map.http_at(host);
            servers.spawn(serve(listen(at).await?, at, seen.clone(), greet));
            let (at, tls) = (map.https_at(host), tls.clone());
            servers.spawn(serve(listen(at).await?, at, seen.clone(), move |stream: Counted| {
                let tls = tls.clone();
                async move {
                    let visit = stream.visit.clone();
                    greet_as(tls.accept(stream).await?, &visit, at).await
                }
            }));
        }
        let (truth, itself) = (*map, map.attacker);
        // The attacker's name server says that every name is at his own address.
        let truth: Zone = Arc::new(move |owner, name, kind| Some(given(owner, kind, truth.truth(name)?)));
        let rogue: Zone = Arc::new(move |owner, _, kind| Some(given(owner, kind, (300, itself))));
        for (host, zone) in [(map.resolver, truth), (map.attacker, rogue)] {
            Resolver::open(map.dns_at(host), zone, seen.clone()).await?.serve_in(&mut servers);
        }
        Ok(Self { seen, _servers: servers })
    }
}

/// The one address that a name has.
fn given(owner: &Name, kind: RecordType, (ttl, address): (u32, Ipv4Addr)) -> Vec<Record> {
    let record = || Record::from_rdata(owner.clone(), ttl, RData::A(A(address)));
    (kind == RecordType::A).then(record).into_iter().collect()
}

async fn greet(stream: Counted) -> io::Result<()> {
    let (visit, at) = (stream.visit.clone(), stream.at);
    greet_as(stream, &visit, at).await
}

/// Longest request head that is read.
const MAX_HEAD: usize = 16 * 1024;

/// Answers each request with where it came to and what Host it carried, until the client has enough.
async fn greet_as(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    visit: &Visit,
    at: SocketAddr,
) -> io::Result<()> {
    let mut request = Vec::new();
    while request.len() < MAX_HEAD {
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = request.drain(..end + 4).collect();
            let host = host(&String::from_utf8_lossy(&head));
            visit.request(&host);
            let body = page(at, &host);
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(reply.as_bytes()).await?;
            stream.flush().await?;
        } else if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// The one page of every server.
pub(super) fn page(at: SocketAddr, host: &str) -> String {
    format!("hello from {} to {host}", at.ip())
}

fn host(head: &str) -> String {
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim().to_ascii_lowercase())
    };
    head.lines().find_map(field).unwrap_or_default()
}
