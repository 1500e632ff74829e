//! One question: forwarded, answered or refused here; and the dnstap tap of a resolver that is not ours.
//!
//! Must not know connections, nor how packets came here.

mod cache;
mod config;
mod exchange;
mod forwarder;
mod limits;
mod lookup;
mod stream;
pub mod tap;
mod upstream;

pub use config::{Denial, DnsConfig, OnMiss, TapAddress, TapConfig, Upstream};
pub use forwarder::Forwarder;
pub use upstream::system::nameservers as system_nameservers;
pub use upstream::{Asking, Pool, Resolve, StartError, UpstreamError};

#[cfg(test)]
mod tests;
