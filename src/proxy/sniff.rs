//! Reads what a client says of itself, and keeps every byte for the server.
//!
//! Cannot fail: whatever happens is a claim. Must not know what any claim is worth.

use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::facts::{Claim, Fault, FlowId, Name, Named, Protocol, Via};
use crate::gate::Reason;
use crate::sys::transfer;
use crate::wire::Look;
use crate::wire::h2::GREETING;
use crate::wire::http::HeadReader;
use crate::wire::http_body::Request;
use crate::wire::http_requests::claim_of_head;
use crate::wire::postgres::{self, Opening};
use crate::wire::tls::{Hello, HelloReader};

use super::postgres::Answer;
use super::refuse::Refusing;
use super::streams::Streams;

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
    /// What a PostgreSQL client was told in the server's place, last. The request is not among `bytes` any more.
    pub(super) answered: Option<Answer>,
    /// What it is to be told next.
    owed: Option<Answer>,
    /// An HTTP/2 connection, as far as it was followed.
    pub(super) streams: Option<Box<Streams>>,
}

/// Readers that have not said yet that the bytes are foreign to them.
enum Readers {
    Tls(HelloReader),
    Postgres,
    /// HTTP/2 by its first bytes, or else HTTP/1.
    AnyHttp,
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
                biased;
                received = self.receive(client, limit) => received,
                () = sleep_until(deadline) => return Claim::Silent,
                () = cut.cancelled() => return Claim::Silent,
            };
            if !matches!(received, Ok(1..)) {
                // The client closed or was cut off.
                return Claim::Silent;
            }
            if let Some(claim) = self.look(&mut readers, limit) {
                return claim;
            }
            if self.bytes.len() >= limit {
                return Claim::Garbled(Fault::TooBig);
            }
        }
    }

    /// Whether a request was read to its end.
    pub(super) fn has_read(&self) -> bool {
        self.request.is_some() || self.streams.as_ref().is_some_and(|streams| streams.judged().is_some())
    }

    /// Describes a refusal to this client.
    pub(super) fn refusing<'a>(&self, reason: Reason, name: Option<&'a Name>, flow: FlowId) -> Refusing<'a> {
        let judged = self.streams.as_ref().and_then(|streams| streams.judged());
        let is_head_only = self.request.is_some_and(|request| request.head_only);
        Refusing {
            spoke: self.spoke,
            head_only: judged.map_or(is_head_only, |request| request.head_only),
            stream: judged.map(|request| request.stream),
            unopened: self.streams.as_ref().is_some_and(|streams| streams.is_ungreeted()),
            reason,
            name,
            flow,
        }
    }

    /// Receives what is there. The buffer grows with what came, not with what was announced.
    async fn receive(&mut self, client: &TcpStream, limit: usize) -> io::Result<usize> {
        if let Some(answer) = self.owed {
            answer.say(client).await?;
            (self.answered, self.owed) = (self.owed, None);
            self.bytes.clear();
        }
        self.greet(client).await?;
        loop {
            client.readable().await?;
            let room = limit.saturating_sub(self.bytes.len());
            if self.bytes.capacity() == self.bytes.len() {
                self.bytes.reserve_exact(self.bytes.len().max(FIRST_READ).min(room));
            }
            match transfer::receive(client, &mut self.bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    /// Speaks first in the place of an HTTP/2 server, to a client that has said no name yet: some wait for that.
    async fn greet(&mut self, client: &TcpStream) -> io::Result<()> {
        let Some(streams) = self.streams.as_mut().filter(|streams| streams.is_ungreeted()) else {
            return Ok(());
        };
        loop {
            client.writable().await?;
            match client.try_write(&GREETING) {
                Ok(sent) if sent == GREETING.len() => {
                    streams.greeted();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                // Nothing was sent on this socket before: it has room for more than this.
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            }
        }
    }

    fn look(&mut self, readers: &mut Readers, limit: usize) -> Option<Claim> {
        if let Some(streams) = &mut self.streams {
            return streams.opening(&mut self.bytes);
        }
        if let Readers::Tls(reader) = readers {
            match reader.look(&self.bytes) {
                Look::Foreign if self.answered.is_some() => return Some(Claim::Garbled(Fault::Startup)),
                Look::Foreign => *readers = Readers::Postgres,
                Look::More => {
                    self.spoke = Some(Protocol::Tls);
                    return None;
                }
                Look::Got(hello) => {
                    self.spoke = Some(Protocol::Tls);
                    return Some(claim_of_hello(hello, self.hello_protocol()));
                }
                Look::Bad(fault) => {
                    self.spoke = Some(Protocol::Tls);
                    return Some(Claim::Garbled(fault));
                }
            }
        }
        if let Readers::Postgres = readers {
            match postgres::look(&self.bytes) {
                Look::Foreign if self.answered.is_some() => return Some(Claim::Garbled(Fault::Startup)),
                Look::Foreign => {
                    self.spoke = None;
                    *readers = Readers::AnyHttp;
                }
                Look::More => {
                    self.spoke = Some(Protocol::Postgres);
                    return None;
                }
                Look::Got(opening) => return self.open_postgres(opening, readers),
                Look::Bad(fault) => return Some(Claim::Garbled(fault)),
            }
        }
        if matches!(readers, Readers::AnyHttp) {
            self.spoke = Some(Protocol::Http);
            if Streams::speaks(&self.bytes)? {
                self.spoke = Some(Protocol::H2);
                return self.streams.insert(Box::new(Streams::new(limit))).opening(&mut self.bytes);
            }
            *readers = Readers::Http(HeadReader::default());
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

    /// Owes a PostgreSQL client an answer, if it asks for encryption. GSSAPI is asked for once.
    fn open_postgres(&mut self, opening: Opening, readers: &mut Readers) -> Option<Claim> {
        self.spoke = Some(Protocol::Postgres);
        match opening {
            Opening::Tls => {
                // From the answer on, a refusal is an alert.
                self.spoke = Some(Protocol::Tls);
                self.owed = Some(Answer::Tls);
                *readers = Readers::Tls(HelloReader::default());
            }
            Opening::Gss if self.answered.is_none() => self.owed = Some(Answer::NoGss),
            Opening::Gss => return Some(Claim::Garbled(Fault::Startup)),
            Opening::Plain => return Some(Claim::Nameless(Some(Protocol::Postgres))),
        }
        None
    }

    /// What a hello is part of.
    fn hello_protocol(&self) -> Protocol {
        match self.answered {
            Some(Answer::Tls) => Protocol::Postgres,
            Some(Answer::NoGss) | None => Protocol::Tls,
        }
    }
}

/// Turns a hello into a claim: of TLS, or of the protocol that led to it.
pub(super) fn claim_of_hello(hello: Hello, protocol: Protocol) -> Claim {
    match hello.name {
        Some(name) => Claim::Named(Named { name, protocol, via: Via::Sni, ech: hello.ech }),
        None => Claim::Nameless(Some(protocol)),
    }
}
