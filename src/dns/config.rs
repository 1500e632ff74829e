//! What the DNS corridor is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::facts::Name;

/// What a missing lease leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMiss {
    /// Denial.
    Deny,
    /// A look-up of our own.
    Resolve,
}

/// How a denied question is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Denial {
    /// RCODE 5.
    #[default]
    Refused,
    /// RCODE 3, for stub resolvers that stop searching on REFUSED.
    NxDomain,
}

/// A resolver that we ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// The `nameserver` lines of `/etc/resolv.conf`, UDP with TCP as needed.
    System,
    /// `udp://ADDR[:PORT]`, TCP when truncated.
    Udp(SocketAddr),
    /// `tcp://ADDR[:PORT]`.
    Tcp(SocketAddr),
    /// `tls://ADDR[:PORT]#NAME`: RFC 7858; the certificate must be for NAME.
    Tls(SocketAddr, Name),
    /// `https://ADDR[:PORT]/PATH#NAME`: RFC 8484; the certificate must be for NAME.
    Https(SocketAddr, Name, String),
}

/// The forwarder.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Asked in order; the next one when one fails.
    pub upstreams: Vec<Upstream>,
    /// Extra CA certificates (PEM) trusted for `tls://` and `https://`.
    pub ca_file: Option<PathBuf>,
    /// Query types that are forwarded, as numbers.
    pub types: Vec<u16>,
    /// How denied names are answered.
    pub denial: Denial,
    /// For one upstream to answer.
    pub timeout: Duration,
    /// Answers that are kept until their TTLs run out; 0: none.
    pub cache: usize,
    /// Questions under way at once; more are dropped.
    pub max_inflight: usize,
    /// Questions under way at once for one client.
    pub max_inflight_per_client: usize,
    /// Questions of one client in a second, and at once.
    pub questions_per_second: u32,
    /// Names that one client had not asked for lately, in a minute, and at once.
    pub new_names_per_minute: u32,
    /// Whether AAAA is answered NODATA (this host has no IPv6 route).
    pub no_ipv6: bool,
}

/// Where a dnstap sender connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapAddress {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `tcp:ADDR:PORT`.
    Tcp(SocketAddr),
}

/// The dnstap tap.
#[derive(Debug, Clone)]
pub struct TapConfig {
    /// Empty: no tap.
    pub listen: Vec<TapAddress>,
    /// Peers that may connect over TCP; empty: loopback only.
    pub allow_from: Vec<IpNet>,
    /// Permission bits of the unix socket.
    pub socket_mode: u32,
    /// Group of the unix socket.
    pub socket_group: Option<String>,
    /// Users that may send over the unix socket, by uid; empty: whoever the mode lets in.
    pub allow_uids: Vec<u32>,
    /// Senders connected at once.
    pub max_senders: usize,
}
