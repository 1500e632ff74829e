//! Those whom we ask: in order, the next one when one fails.
//!
//! It does not know who wants to know, nor what becomes of the answer.

mod datagram;
mod pulse;
mod secure;
mod stream;
pub(super) mod system;
mod trust;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_resolver::net::NetError;
use tokio::time::timeout;

use crate::facts::Tick;
use crate::sys::clock;
use crate::wire::dns::{Ask, rcode};

use super::{DnsConfig, Upstream};
use datagram::Relay;
use secure::Secure;
use stream::Lane;

/// A question under way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, UpstreamError>> + Send + 'a>>;

/// Answers questions.
pub trait Resolve: Send + Sync + fmt::Debug {
    /// Asks; the answer is a whole message, its question the asked one but for id and spelling.
    fn ask<'a>(&'a self, ask: &'a Ask) -> Asking<'a>;
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nothing came before the deadline.
    #[error("upstream did not answer in time")]
    Timeout,
    /// The system said no.
    #[error("upstream cannot be reached")]
    Io(#[source] io::Error),
    /// The connection ended before the answer.
    #[error("upstream closed the connection")]
    Closed,
    /// The answer is no DNS message, or one to another question.
    #[error("answer of the upstream is broken")]
    Garbled,
    /// TLS, HTTP or the answer's form failed.
    #[error("exchange with the upstream failed")]
    Exchange(#[source] NetError),
    /// Too many questions wait on one connection.
    #[error("too many questions wait for the upstream")]
    Busy,
    /// There is nobody to ask.
    #[error("no upstream is configured")]
    Nobody,
}

/// Why upstreams could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `system` was asked for, but the system names no server.
    #[error("no usable nameserver line in {0}")]
    NoNameserver(PathBuf),
    /// A file holds no certificate, or a broken one.
    #[error("no certificates can be read from {0}")]
    Certificates(PathBuf),
    /// The system's CA certificates were not found, and no `ca_file` is given.
    #[error("no CA certificates found on this system")]
    NoRoots,
    /// A certificate cannot be for this name.
    #[error("{0} cannot be the name of a certificate")]
    ServerName(String),
    /// A path that cannot stand in a request.
    #[error("{0} is no usable path")]
    Path(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The configured upstreams.
#[derive(Debug)]
pub struct Pool {
    members: Vec<Member>,
    timeout: Duration,
}

#[derive(Debug)]
struct Member {
    kind: Kind,
    /// Rests until then, in nanoseconds since boot.
    rests_until: AtomicU64,
}

#[derive(Debug)]
enum Kind {
    Datagram(Box<Relay>),
    Stream(Lane),
    Secure(Box<Secure>),
}

/// How long an upstream that failed is asked only when the others fail too.
const REST: Duration = Duration::from_secs(5);

impl Pool {
    /// Sets up the upstreams; reads resolver configuration and certificates, connects to nobody.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(config: &DnsConfig) -> Result<Self, StartError> {
        let mut kinds = Vec::new();
        for upstream in &config.upstreams {
            match upstream {
                Upstream::System => {
                    let servers = system::nameservers()?;
                    kinds.extend(
                        servers.into_iter().map(|server| Kind::Datagram(Box::new(Relay::new(server)))),
                    );
                }
                Upstream::Udp(server) => kinds.push(Kind::Datagram(Box::new(Relay::new(*server)))),
                Upstream::Tcp(server) => kinds.push(Kind::Stream(Lane::new(*server))),
                Upstream::Tls(server, name) => {
                    let tls = trust::client(config.ca_file.as_deref(), b"dot")?;
                    kinds.push(Kind::Secure(Box::new(Secure::tls(*server, tls, name, config.timeout)?)));
                }
                Upstream::Https(server, name, path) => {
                    let tls = trust::client(config.ca_file.as_deref(), b"h2")?;
                    let https = Secure::https(*server, tls, name, path, config.timeout)?;
                    kinds.push(Kind::Secure(Box::new(https)));
                }
            }
        }
        let members = kinds.into_iter().map(|kind| Member { kind, rests_until: AtomicU64::new(0) });
        Ok(Self { members: members.collect(), timeout: config.timeout })
    }

    async fn ask_in_order(&self, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        let now = clock::tick();
        let (awake, resting): (Vec<_>, Vec<_>) = self.members.iter().partition(|member| member.is_awake(now));
        let mut refused = None;
        let mut failure = UpstreamError::Nobody;
        let likely = awake.len();
        for (index, member) in awake.into_iter().chain(resting).enumerate() {
            // A poor answer now is better than to wait for one that is probably dead.
            if index >= likely && refused.is_some() {
                break;
            }
            let answer = timeout(self.timeout, member.kind.ask(ask)).await;
            match answer.unwrap_or(Err(UpstreamError::Timeout)) {
                Ok(answer) => {
                    member.wake();
                    if !is_servers_fault(&answer) {
                        return Ok(answer);
                    }
                    refused.get_or_insert(answer);
                }
                Err(error) => {
                    tracing::debug!(upstream = %member.kind, %error, "upstream failed");
                    if !matches!(error, UpstreamError::Busy) {
                        member.rest(clock::tick());
                    }
                    failure = error;
                }
            }
        }
        refused.ok_or(failure)
    }
}

/// Whether another server might do better than the one that said this.
fn is_servers_fault(answer: &[u8]) -> bool {
    let code = answer.get(3).map_or(0, |flags| u16::from(flags & 0xf));
    matches!(code, rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED)
}

impl Resolve for Pool {
    fn ask<'a>(&'a self, ask: &'a Ask) -> Asking<'a> {
        Box::pin(self.ask_in_order(ask))
    }
}

impl Member {
    fn is_awake(&self, now: Tick) -> bool {
        now.nanos() >= self.rests_until.load(Ordering::Relaxed)
    }

    fn rest(&self, now: Tick) {
        self.rests_until.store(now.after(REST).nanos(), Ordering::Relaxed);
    }

    fn wake(&self) {
        self.rests_until.store(0, Ordering::Relaxed);
    }
}

impl Kind {
    async fn ask(&self, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        match self {
            Self::Datagram(relay) => relay.ask(ask).await,
            Self::Stream(lane) => lane.ask(ask).await,
            Self::Secure(secure) => secure.ask(ask).await,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagram(relay) => write!(f, "udp://{}", relay.server()),
            Self::Stream(lane) => lane.fmt(f),
            Self::Secure(secure) => secure.fmt(f),
        }
    }
}

#[cfg(test)]
mod secure_far;
#[cfg(test)]
mod secure_tests;
#[cfg(test)]
mod tests;
