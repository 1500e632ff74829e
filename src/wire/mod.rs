//! Bytes in, facts out: total functions over slices.
//!
//! A parser never panics, never indexes, never allocates by a length that a stranger sent, and knows
//! neither policy nor sockets.
#![deny(clippy::indexing_slicing)]

pub mod dns;
pub mod dnstap;
pub mod frames;
pub mod h2;
mod host;
pub mod http;
pub mod http_body;
pub mod http_requests;
pub mod http_response;
pub mod postgres;
pub mod tls;
pub mod tls_retry;

use crate::facts::Fault;

/// The four answers of a parser. "Not mine", "not yet", "nothing in it" and "broken" are never mixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look<T> {
    /// More bytes are needed.
    More,
    /// Parsed.
    Got(T),
    /// Another protocol.
    Foreign,
    /// This protocol, but to be refused.
    Bad(Fault),
}
