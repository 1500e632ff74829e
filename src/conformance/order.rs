//! What a client is told to do, and what came of it: one JSON object a line, both ways.
//!
//! Must not know why it is done, nor what should come of it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// One thing to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum Order {
    /// Ask a name server; the reply comes back as it is.
    Ask { server: SocketAddr, tcp: bool, name: String, qtype: u16 },
    /// Fetch pages over TLS, with a real handshake.
    Tls(Tls),
    /// Say these very bytes over TCP.
    Tcp(Tcp),
    /// Send a datagram and wait a moment for one.
    Udp { to: SocketAddr, bytes: Vec<u8> },
    /// Send packets of an IP protocol; for [`WHOLE_PACKETS`] they have their IPv4 header with them.
    Raw { protocol: u8, to: IpAddr, packets: Vec<Vec<u8>> },
    /// Listen on a port, and count what comes.
    Listen { port: u16 },
    /// Say how many bytes came to what listens.
    Count,
    /// Say which TCP ports are listened on in this network namespace.
    Ports,
}

/// `IPPROTO_RAW` (raw(7)).
pub(super) const WHOLE_PACKETS: u8 = 255;

/// Pages over TLS.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tls {
    /// `None` is never sent: it is for `Default`.
    pub(super) to: Option<SocketAddr>,
    /// The name in the hello; `None`: none.
    pub(super) sni: Option<String>,
    /// Whose certificate is expected, and whose page is wanted.
    pub(super) host: String,
    /// Bytes of the hello in one TLS record at most; 0: as the library does it.
    pub(super) record: usize,
    /// Bytes of the hello in one TCP segment at most; 0: all at once.
    pub(super) segment: usize,
    /// Bytes by which ALPN makes the hello longer, as a post-quantum key share does.
    pub(super) padding: usize,
    /// A pause before each request, milliseconds; one request each.
    pub(super) requests: Vec<u64>,
    /// What is said in clear before the handshake, which then waits for one byte: PostgreSQL's SSLRequest.
    pub(super) before: Vec<u8>,
    /// The certificate (PEM) of the authority to trust.
    pub(super) trust: String,
}

/// Bytes over TCP.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tcp {
    /// `None` is never sent: it is for `Default`.
    pub(super) to: Option<SocketAddr>,
    pub(super) parts: Vec<Part>,
    /// So many pages are waited for; 0: until it is quiet.
    pub(super) pages: usize,
    /// Keep the connection open for an order to come.
    pub(super) keep: bool,
    /// Go on with the connection that was kept.
    pub(super) resume: bool,
}

/// Bytes that are written at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    /// A pause before them, milliseconds.
    pub(super) pause: u64,
    /// Whether something must have been heard before them.
    pub(super) hear: bool,
}

impl Order {
    /// Milliseconds that it pauses in all.
    pub(super) fn pauses(&self) -> u64 {
        match self {
            Self::Tls(tls) => tls.requests.iter().sum(),
            Self::Tcp(tcp) => tcp.parts.iter().map(|part| part.pause).sum(),
            Self::Ask { .. }
            | Self::Udp { .. }
            | Self::Raw { .. }
            | Self::Listen { .. }
            | Self::Count
            | Self::Ports => 0,
        }
    }
}

/// What came of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Bytes that were heard; inside of TLS, what was in it.
    pub(super) heard: Vec<u8>,
    /// How it ended, in words.
    pub(super) end: String,
    /// Ports that are listened on.
    pub(super) ports: Vec<u16>,
    /// Bytes that came.
    pub(super) count: usize,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.heard).into_owned()
    }
}

/// What every page begins and ends with.
pub(super) const GREETING: &str = "hello from ";
pub(super) const FAREWELL: &str = ", bye";

/// How many pages were heard to their end.
pub(super) fn pages(heard: &[u8]) -> usize {
    heard.windows(FAREWELL.len()).filter(|window| *window == FAREWELL.as_bytes()).count()
}
