//! What DNS was seen to say to one client.
//!
//! An observation is evidence, not permission. It does not know whether any rule allows its names.

use std::net::IpAddr;

use super::{Client, Name, Tick};

/// Who saw the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The built-in forwarder, before it replied.
    Forwarder,
    /// A dnstap frame of the operator's resolver.
    Dnstap,
    /// Our own look-up of the claimed name.
    Resolved,
    /// The operator's own word, for ports of this host: no answer was seen.
    Granted,
}

impl Source {
    /// Returns the spelling used in the audit log (`namegate.evidence.source`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarder => "forwarder",
            Self::Dnstap => "dnstap",
            Self::Resolved => "resolved",
            Self::Granted => "granted",
        }
    }
}

/// One address of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// Canonical form.
    pub ip: IpAddr,
    /// Seconds: the smallest TTL on the way from the question to this record. A value over 2^31 - 1
    /// counts as zero (RFC 2181 section 8).
    pub ttl_secs: u32,
}

/// One answer: for this client, these names lead to these addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Who was answered.
    pub client: Client,
    /// The owner names on the CNAME chain, in order: the asked name first, at least one.
    pub chain: Vec<Name>,
    /// The A and AAAA records at the end of the chain.
    pub addresses: Vec<Address>,
    /// Who saw it.
    pub source: Source,
    /// When it was seen.
    pub at: Tick,
}
