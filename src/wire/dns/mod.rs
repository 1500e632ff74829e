//! DNS messages: questions read, answers understood, edited and restored, refusals written (RFC 1035, RFC 6891).
//!
//! Reading is a walk over the slice that allocates next to nothing; only an answer that has to be edited
//! goes through a full decoder. It does not know which names are allowed, nor who asked.

mod answer;
mod edit;
mod lifetime;
mod query;
mod read;
mod reply;
mod write;

pub use answer::{Answer, answer};
pub use lifetime::Lifetime;
pub use query::{Edns, Query, QueryFault, Question, query, question};
pub use reply::{Reply, reply};
pub use write::{Ask, Echo, Spelling, echo, format_error, refusal};

/// Query types that the forwarder tells apart (IANA DNS parameters).
pub mod qtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Alias.
    pub const CNAME: u16 = 5;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// Service binding (RFC 9460).
    pub const SVCB: u16 = 64;
    /// Service binding of HTTPS (RFC 9460).
    pub const HTTPS: u16 = 65;
}

/// Response codes that the forwarder sends or acts on (RFC 1035 section 4.1.1, RFC 6891 section 9).
pub mod rcode {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The query was not understood.
    pub const FORMERR: u16 = 1;
    /// The server failed.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// The kind of query is not supported.
    pub const NOTIMP: u16 = 4;
    /// Refused by policy.
    pub const REFUSED: u16 = 5;
    /// The EDNS version is not supported.
    pub const BADVERS: u16 = 16;
}

/// Extended DNS Error codes (RFC 8914 section 4).
pub mod ede {
    /// Blocked by the operator of the server.
    pub const BLOCKED: u16 = 15;
    /// The upstream could not be reached or did not answer.
    pub const NETWORK_ERROR: u16 = 23;
}

#[cfg(test)]
mod tests;
