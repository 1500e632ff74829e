//! dnstap payloads: who was told what by a DNS server.
//!
//! After `dnstap.proto` (dnstap.info). A message is read whole or refused; it does not know who sent it,
//! nor whether anybody may.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::Message;

use super::Look;
use super::dns::{self, Answer};
use crate::facts::{Client, Fault, Observation, Source, Tick, Transport, canonical};

/// What kind of message was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An authoritative server was asked.
    AuthQuery,
    /// An authoritative server answered.
    AuthResponse,
    /// A resolver asked an authoritative server.
    ResolverQuery,
    /// A resolver was answered by an authoritative server.
    ResolverResponse,
    /// A resolver was asked by a client.
    ClientQuery,
    /// A resolver answered a client.
    ClientResponse,
    /// Another kind, by its number.
    Other(i32),
}

impl Kind {
    fn from_number(number: i32) -> Self {
        match number {
            1 => Self::AuthQuery,
            2 => Self::AuthResponse,
            3 => Self::ResolverQuery,
            4 => Self::ResolverResponse,
            5 => Self::ClientQuery,
            6 => Self::ClientResponse,
            other => Self::Other(other),
        }
    }

    /// Whether the response went to whoever asked the server that logged it.
    ///
    /// That is `ClientResponse`, and `AuthResponse` for clients that ask an authoritative server (knot,
    /// nsd) themselves. When a resolver asks it, the client is that resolver, and the lease opens nothing
    /// for anyone else. A `ResolverResponse` names the resolver as the asking side, and what it was told
    /// is not what the client will be told: it counts for nothing.
    pub const fn tells_the_client(self) -> bool {
        match self {
            Self::ClientResponse | Self::AuthResponse => true,
            Self::AuthQuery
            | Self::ResolverQuery
            | Self::ResolverResponse
            | Self::ClientQuery
            | Self::Other(_) => false,
        }
    }
}

/// What carried question and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// DNS over TLS.
    Dot,
    /// DNS over HTTPS.
    Doh,
    /// DNSCrypt over UDP.
    DnscryptUdp,
    /// DNSCrypt over TCP.
    DnscryptTcp,
    /// DNS over QUIC.
    Doq,
}

impl Carrier {
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::Udp,
            2 => Self::Tcp,
            3 => Self::Dot,
            4 => Self::Doh,
            5 => Self::DnscryptUdp,
            6 => Self::DnscryptTcp,
            7 => Self::Doq,
            _ => return None,
        })
    }

    /// Returns what it runs over.
    pub const fn transport(self) -> Transport {
        match self {
            Self::Udp | Self::DnscryptUdp | Self::Doq => Transport::Udp,
            Self::Tcp | Self::Dot | Self::Doh | Self::DnscryptTcp => Transport::Tcp,
        }
    }
}

/// One decoded message. Whatever the sender left out is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tapped {
    /// What was logged.
    pub kind: Kind,
    /// What carried it, where known.
    pub carrier: Option<Carrier>,
    /// Who asked.
    pub query_address: Option<IpAddr>,
    /// From which port.
    pub query_port: Option<u16>,
    /// Who was asked.
    pub response_address: Option<IpAddr>,
    /// At which port.
    pub response_port: Option<u16>,
    /// When the question was seen, by the sender's clock.
    pub query_time: Option<SystemTime>,
    /// When the answer was given, by the sender's clock.
    pub response_time: Option<SystemTime>,
    /// The question as on the wire.
    pub query_message: Option<Bytes>,
    /// The answer as on the wire.
    pub response_message: Option<Bytes>,
    /// The server's name for itself.
    pub identity: Option<Bytes>,
    /// The server's version.
    pub version: Option<Bytes>,
}

/// An answer that went to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who was answered, canonical.
    pub address: IpAddr,
    /// From which port it had asked, where known.
    pub client_port: Option<u16>,
    /// The server it had asked, where known.
    pub server: Option<IpAddr>,
    /// What carried it; UDP where the sender does not say.
    pub transport: Transport,
    /// When, by the sender's clock.
    pub at: Option<SystemTime>,
    /// What it was told.
    pub answer: Answer,
}

/// Reads the payload of one data frame.
///
/// `Foreign`: a dnstap payload of another type than MESSAGE. `Bad`: it does not parse, or a field says what
/// cannot be: an address of neither 4 nor 16 bytes or of another family than stated, a port over 65535, a
/// second of more than 10^9 nanoseconds. `More` never: a frame is whole.
pub fn decode(frame: Bytes) -> Look<Tapped> {
    let Ok(envelope) = Envelope::decode(frame) else { return Look::Bad(Fault::Dnstap) };
    match envelope.kind {
        Some(MESSAGE) => {}
        Some(_) => return Look::Foreign,
        None => return Look::Bad(Fault::Dnstap),
    }
    envelope
        .message
        .and_then(|body| body.read(envelope.identity, envelope.version))
        .map_or(Look::Bad(Fault::Dnstap), Look::Got)
}

impl Tapped {
    /// Reads the answer that the client got.
    ///
    /// `Foreign`: the message tells of none. `Bad`: nobody can say to whom it went, or it does not parse.
    pub fn told(&self) -> Look<Told> {
        if !self.kind.tells_the_client() {
            return Look::Foreign;
        }
        let Some(message) = &self.response_message else { return Look::Foreign };
        let Some(address) = self.query_address else { return Look::Bad(Fault::Dnstap) };
        match dns::answer(message) {
            Ok(answer) => Look::Got(Told {
                address: canonical(address),
                client_port: self.query_port,
                server: self.response_address,
                transport: self.carrier.map_or(Transport::Udp, Carrier::transport),
                at: self.response_time,
                answer,
            }),
            Err(fault) => Look::Bad(fault),
        }
    }
}

impl Told {
    /// Returns what the answer is evidence of, given to this client at this instant. `None`: it gave no address, or it
    /// was an error, whose records no client uses.
    pub fn observation(&self, client: Client, at: Tick) -> Option<Observation> {
        if self.answer.rcode != 0 || self.answer.addresses.is_empty() {
            return None;
        }
        Some(Observation {
            client,
            chain: self.answer.chain.clone(),
            addresses: self.answer.addresses.clone(),
            source: Source::Dnstap,
            at,
        })
    }
}

/// `Dnstap.Type.MESSAGE`.
const MESSAGE: i32 = 1;

/// `SocketFamily.INET`.
const INET: i32 = 1;

/// `SocketFamily.INET6`.
const INET6: i32 = 2;

/// `dnstap.Dnstap`.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(bytes = "bytes", optional, tag = "1")]
    identity: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    version: Option<Bytes>,
    #[prost(message, optional, tag = "14")]
    message: Option<Body>,
    #[prost(int32, optional, tag = "15")]
    kind: Option<i32>,
}

/// `dnstap.Message`, enumerations as their numbers.
#[derive(Clone, PartialEq, Message)]
struct Body {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    family: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    carrier: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    query_address: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    response_address: Option<Bytes>,
    #[prost(uint32, optional, tag = "6")]
    query_port: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    response_port: Option<u32>,
    #[prost(uint64, optional, tag = "8")]
    query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    query_time_nsec: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    query_message: Option<Bytes>,
    #[prost(uint64, optional, tag = "12")]
    response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    response_time_nsec: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "14")]
    response_message: Option<Bytes>,
}

impl Body {
    /// Checks every field; `None`: one says what cannot be.
    fn read(self, identity: Option<Bytes>, version: Option<Bytes>) -> Option<Tapped> {
        let family = self.family;
        let address = |bytes: Option<Bytes>| match bytes {
            Some(bytes) => read_address(&bytes, family).map(Some),
            None => Some(None),
        };
        let port = |port: Option<u32>| port.map(u16::try_from).transpose().ok();
        Some(Tapped {
            kind: Kind::from_number(self.kind?),
            carrier: self.carrier.and_then(Carrier::from_number),
            query_address: address(self.query_address)?,
            query_port: port(self.query_port)?,
            response_address: address(self.response_address)?,
            response_port: port(self.response_port)?,
            query_time: read_time(self.query_time_sec, self.query_time_nsec)?,
            response_time: read_time(self.response_time_sec, self.response_time_nsec)?,
            query_message: self.query_message,
            response_message: self.response_message,
            identity,
            version,
        })
    }
}

fn read_address(bytes: &[u8], family: Option<i32>) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
    let six = <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
    match family {
        Some(INET) => four.ok(),
        Some(INET6) => six.ok(),
        Some(_) => None,
        None => four.or(six).ok(),
    }
}

/// `Some(None)`: not stated. `None`: stated, but no time.
fn read_time(secs: Option<u64>, nanos: Option<u32>) -> Option<Option<SystemTime>> {
    let Some(secs) = secs else { return Some(None) };
    let nanos = nanos.unwrap_or(0);
    if nanos >= 1_000_000_000 {
        return None;
    }
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(secs, nanos)).map(Some)
}

#[cfg(test)]
#[path = "dnstap_tests.rs"]
mod tests;
