//! Reads what a client says of itself, and keeps every byte for the server.
//!
//! Cannot fail: whatever happens is a claim. Must not know what any claim is worth.

use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::facts::{Claim, Fault, Named, Protocol, Via};
use crate::wire::Look;
use crate::wire::http::{Head, HeadReader};
use crate::wire::http_body::Request;
use crate::wire::tls::{Hello, HelloReader};

/// Bytes asked for at first: a hello with a post-quantum key share and a browser's extensions fits.
const FIRST_READ: usize = 2048;

/// What was heard of a client before it was judged.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Every byte received so far, to be sent to the server once.
    pub(super) bytes: Vec<u8>,
    /// What the client seems to speak, also when it speaks it badly: the language of a refusal.
    pub(super) spoke: Option<Protocol>,
    /// Where the first HTTP request's head ends, and how its body does.
    pub(super) request: Option<Request>,
}

/// Readers that have not said yet that the bytes are foreign to them.
enum Readers {
    Tls(HelloReader),
    Http(HeadReader),
    Neither,
}

impl Heard {
    /// Listens until there is a claim, at most until the deadline, until `cut` fires, and up to `limit` bytes.
    ///
    /// May be dropped at any await: what was received stays in `bytes`.
    pub(super) async fn listen(
        &mut self,
        client: &TcpStream,
        limit: usize,
        deadline: Instant,
        cut: &CancellationToken,
    ) -> Claim {
        let mut readers = Readers::Tls(HelloReader::default());
        loop {
            let received = tokio::select! {
                received = self.receive(client, limit) => received,
                () = sleep_until(deadline) => return Claim::Silent,
                () = cut.cancelled() => return Claim::Silent,
            };
            if !matches!(received, Ok(1..)) {
                // The client closed or was cut off.
                return Claim::Silent;
            }
            if let Some(claim) = self.look(&mut readers) {
                return claim;
            }
            if self.bytes.len() >= limit {
                return Claim::Garbled(Fault::TooBig);
            }
        }
    }

    /// Receives what is there. The buffer grows with what came, not with what was announced.
    async fn receive(&mut self, client: &TcpStream, limit: usize) -> io::Result<usize> {
        loop {
            client.readable().await?;
            let room = limit.saturating_sub(self.bytes.len());
            if self.bytes.capacity() == self.bytes.len() {
                self.bytes.reserve_exact(self.bytes.len().max(FIRST_READ).min(room));
            }
            let mut spare = bytes::BufMut::limit(&mut self.bytes, room);
            match client.try_read_buf(&mut spare) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    fn look(&mut self, readers: &mut Readers) -> Option<Claim> {
        if let Readers::Tls(reader) = readers {
            match reader.look(&self.bytes) {
                Look::Foreign => *readers = Readers::Http(HeadReader::default()),
                Look::More => {
                    self.spoke = Some(Protocol::Tls);
                    return None;
                }
                Look::Got(hello) => {
                    self.spoke = Some(Protocol::Tls);
                    return Some(claim_of_hello(hello));
                }
                Look::Bad(fault) => {
                    self.spoke = Some(Protocol::Tls);
                    return Some(Claim::Garbled(fault));
                }
            }
        }
        if let Readers::Http(reader) = readers {
            match reader.look(&self.bytes) {
                Look::Foreign => {
                    self.spoke = None;
                    *readers = Readers::Neither;
                }
                Look::More => {
                    self.spoke = Some(Protocol::Http);
                    return None;
                }
                Look::Got(head) => {
                    self.spoke = Some(Protocol::Http);
                    let (claim, request) = claim_of_head(&self.bytes, head);
                    self.request = request;
                    return Some(claim);
                }
                Look::Bad(fault) => {
                    self.spoke = Some(Protocol::Http);
                    return Some(Claim::Garbled(fault));
                }
            }
        }
        Some(Claim::Nameless(None))
    }
}

/// Turns a hello into a claim.
pub(super) fn claim_of_hello(hello: Hello) -> Claim {
    match hello.name {
        Some(name) => Claim::Named(Named { name, protocol: Protocol::Tls, via: Via::Sni, ech: hello.ech }),
        None => Claim::Nameless(Some(Protocol::Tls)),
    }
}

/// Turns a request head into a claim; without a sound extent there is none but `Garbled`.
pub(super) fn claim_of_head(received: &[u8], head: Head) -> (Claim, Option<Request>) {
    let request = match Request::read(&head, received) {
        Ok(request) => Some(request),
        Err(fault) => return (Claim::Garbled(fault), None),
    };
    let claim = match head.name {
        Some(name) => Claim::Named(Named { name, protocol: Protocol::Http, via: Via::Host, ech: false }),
        None => Claim::Nameless(Some(Protocol::Http)),
    };
    (claim, request)
}
