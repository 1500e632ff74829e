//! A flow: who wants to reach what.
//!
//! It does not know what name the client will claim, nor what the verdict is.

use std::fmt;
use std::net::SocketAddr;

use super::{Client, Tick, canonical};

/// Identifies one flow in the audit log and in what its client is told: 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Transport protocol of a flow or a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Returns the lower-case name, as in ECS `network.transport`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One captured connection before anything of it was read. Addresses are canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Unique within the life of the process, random across lives.
    pub id: FlowId,
    /// Who asks.
    pub source: SocketAddr,
    /// Where the client wanted to go, before the redirection.
    pub destination: SocketAddr,
    /// TCP or UDP.
    pub transport: Transport,
    /// When it was accepted.
    pub at: Tick,
    client: Client,
}

impl Flow {
    /// Describes a flow; both addresses are brought to canonical form.
    pub fn new(
        id: FlowId,
        source: SocketAddr,
        destination: SocketAddr,
        transport: Transport,
        at: Tick,
    ) -> Self {
        let plain = |socket: SocketAddr| SocketAddr::new(canonical(socket.ip()), socket.port());
        let client = Client::at(source.ip());
        Self { id, source: plain(source), destination: plain(destination), transport, at, client }
    }

    /// Returns the client that the flow is judged as: the one at its source, unless [`Flow::seen_as`] said
    /// otherwise.
    pub fn client(&self) -> Client {
        self.client
    }

    /// Returns the same flow, to be judged as this client's. The source stays what it is.
    #[must_use]
    pub fn seen_as(&self, client: Client) -> Self {
        Self { client, ..*self }
    }
}
