//! Servers for the tests of the encrypted upstreams: TLS and HTTP/2 on loopback, with a throw-away authority.
//!
//! It does not know what is tested.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hickory_proto::op::Message;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tests::{ANY, answered, config, framed, put};
use super::{Pool, Upstream};
use crate::facts::Name;

/// What a server says to a question. `None`: it does not answer.
pub(super) type Says = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// A server, and what it saw.
pub(super) struct Far {
    pub(super) address: SocketAddr,
    pub(super) authority: tempfile::NamedTempFile,
    pub(super) seen: Arc<Seen>,
}

#[derive(Default)]
pub(super) struct Seen {
    connections: AtomicUsize,
    questions: AtomicUsize,
    pub(super) names: Mutex<Vec<Option<String>>>,
    pub(super) authorities: Mutex<Vec<String>>,
}

/// How many questions a connection takes before the server closes it.
#[derive(Clone, Copy)]
pub(super) struct Patience(pub(super) usize);

pub(super) const LASTING: Patience = Patience(usize::MAX);

/// A certificate authority's file, and a server with a certificate for `dns.example.net` from it.
fn authority(alpn: &[u8]) -> (tempfile::NamedTempFile, TlsAcceptor) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["dns.example.net".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![alpn.to_vec()];
    (ca_file, TlsAcceptor::from(Arc::new(server)))
}

async fn accept(listener: &TcpListener, tls: &TlsAcceptor, seen: &Seen) -> Option<TlsStream<TcpStream>> {
    let (stream, _) = listener.accept().await.unwrap();
    let stream = tls.accept(stream).await.ok()?;
    seen.connections.fetch_add(1, Ordering::SeqCst);
    seen.names.lock().push(stream.get_ref().1.server_name().map(str::to_owned));
    Some(stream)
}

pub(super) async fn dot(patience: Patience, says: Says) -> Far {
    let (authority, tls) = authority(b"dot");
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let far = Far { address, authority, seen: Arc::clone(&seen) };
    tokio::spawn(async move {
        loop {
            let Some(mut stream) = accept(&listener, &tls, &seen).await else { continue };
            let (says, seen) = (Arc::clone(&says), Arc::clone(&seen));
            tokio::spawn(async move {
                for _ in 0..patience.0 {
                    let Some(query) = framed(&mut stream).await else { return };
                    seen.questions.fetch_add(1, Ordering::SeqCst);
                    if let Some(answer) = says(&query) {
                        put(&mut stream, &answer).await;
                    }
                }
            });
        }
    });
    far
}

pub(super) async fn doh(patience: Patience, says: Says) -> Far {
    let (authority, tls) = authority(b"h2");
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let far = Far { address, authority, seen: Arc::clone(&seen) };
    tokio::spawn(async move {
        loop {
            let Some(stream) = accept(&listener, &tls, &seen).await else { continue };
            tokio::spawn(serve_h2(stream, patience, Arc::clone(&says), Arc::clone(&seen)));
        }
    });
    far
}

async fn serve_h2(stream: TlsStream<TcpStream>, patience: Patience, says: Says, seen: Arc<Seen>) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut left = patience.0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        seen.questions.fetch_add(1, Ordering::SeqCst);
        seen.authorities.lock().push(request.uri().authority().unwrap().to_string());
        tokio::spawn(respond_h2(request, respond, Arc::clone(&says)));
        left -= 1;
        if left == 0 {
            connection.graceful_shutdown();
        }
    }
}

async fn respond_h2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    says: Says,
) {
    let (head, mut body) = request.into_parts();
    let fine = head.uri.path() == "/dns-query"
        && head.method == http::Method::POST
        && head.headers.get("content-type").is_some_and(|kind| kind == "application/dns-message");
    let mut query = Vec::new();
    while let Some(chunk) = body.data().await {
        query.extend_from_slice(&chunk.unwrap());
    }
    let Some(answer) = says(&query) else { return std::future::pending().await };
    let response = http::Response::builder()
        .status(if fine { 200 } else { 404 })
        .header("content-type", "application/dns-message")
        .body(())
        .unwrap();
    let mut send = respond.send_response(response, false).unwrap();
    send.send_data(Bytes::from(answer), true).unwrap();
}

pub(super) fn says(say: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Says {
    Arc::new(say)
}

pub(super) fn address() -> Says {
    says(|query| Some(answered(query, 1)))
}

/// A response to the question, with what `fill` adds.
pub(super) fn response(query: &[u8], fill: impl Fn(&mut Message)) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.recursion_available = true;
    message.queries.clone_from(&query.queries);
    fill(&mut message);
    message.to_vec().unwrap()
}

impl Far {
    pub(super) fn tls(&self, name: &str) -> Upstream {
        Upstream::Tls(self.address, Name::parse(name).unwrap())
    }

    pub(super) fn https(&self, path: &str) -> Upstream {
        Upstream::Https(self.address, Name::parse("dns.example.net").unwrap(), path.to_owned())
    }

    /// A pool that believes this server's authority.
    pub(super) fn pool(&self, upstreams: Vec<Upstream>) -> Pool {
        let mut config = config(upstreams);
        config.ca_file = Some(self.authority.path().to_path_buf());
        Pool::new(&config).unwrap()
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(super) fn questions(&self) -> usize {
        self.seen.questions.load(Ordering::SeqCst)
    }
}
