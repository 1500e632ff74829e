//! What a connection says of itself: the outcome of sniffing, which cannot fail.
//!
//! A claim is not a verdict. Every way of not having a name is its own kind of claim.

use std::fmt;

use super::Name;

/// The application protocol a name was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TLS over TCP.
    Tls,
    /// HTTP/1.0 or HTTP/1.1 in clear text.
    Http,
    /// HTTP/2 with prior knowledge.
    H2,
    /// QUIC.
    Quic,
    /// PostgreSQL with TLS after an SSLRequest.
    Postgres,
}

impl Protocol {
    /// Every protocol that carries a name, in configuration order.
    pub const ALL: [Self; 5] = [Self::Tls, Self::Http, Self::H2, Self::Quic, Self::Postgres];

    /// Returns the spelling used in configuration and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::H2 => "h2",
            Self::Quic => "quic",
            Self::Postgres => "postgres",
        }
    }
}

/// Where in the protocol the name stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// TLS `server_name` extension.
    Sni,
    /// HTTP/1 Host field or absolute-form target.
    Host,
    /// HTTP/2 `:authority`.
    Authority,
    /// `server_name` inside a QUIC Initial.
    Quic,
    /// No name was read: the address alone was judged.
    Address,
}

impl Via {
    /// Returns the spelling used in the audit log (`namegate.via`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::Host => "host",
            Self::Authority => "authority",
            Self::Quic => "quic",
            Self::Address => "address",
        }
    }
}

/// Exactly one name was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The name, canonical.
    pub name: Name,
    /// What it was read from.
    pub protocol: Protocol,
    /// Where it stood.
    pub via: Via,
    /// Whether an Encrypted Client Hello extension is there, GREASE included: the two cannot be told apart.
    pub ech: bool,
}

/// What a connection says it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// One name.
    Named(Named),
    /// Well-formed, but without a name that a rule could match; the protocol where it is known.
    Nameless(Option<Protocol>),
    /// Broken, ambiguous or over a limit.
    Garbled(Fault),
    /// The client said nothing, or not enough, before the deadline or before it closed.
    Silent,
}

impl Claim {
    /// Returns the name where there is one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Self::Named(named) => Some(&named.name),
            Self::Nameless(_) | Self::Garbled(_) | Self::Silent => None,
        }
    }

    /// Returns the protocol where it is known.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Named(named) => Some(named.protocol),
            Self::Nameless(protocol) => *protocol,
            Self::Garbled(_) | Self::Silent => None,
        }
    }
}

/// What is wrong with bytes that a parser refused. One code each, stable, shown in the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// More bytes than the limit without a result.
    TooBig,
    /// A length field contradicts the bytes around it.
    Length,
    /// A TLS record that has no place before or inside a ClientHello.
    Record,
    /// A handshake message that is not a ClientHello, or bytes after it.
    Handshake,
    /// A hello whose fields break the protocol.
    Hello,
    /// Two `server_name` extensions, two names in one, or two Host fields.
    TwoNames,
    /// The name itself is broken.
    Name,
    /// A request line that breaks RFC 9112 section 3.
    RequestLine,
    /// A header field that breaks RFC 9112 section 5: bare LF or CR, folding, space before the colon.
    HeaderField,
    /// Host and absolute-form target disagree.
    HostMismatch,
    /// Message framing that two servers would read in two ways (RFC 9112 section 6).
    Framing,
    /// A PostgreSQL request for encryption of another length, with bytes that did not wait for its answer, or
    /// something else in its place.
    Startup,
    /// An HTTP/2 frame that has no place where it stands (RFC 9113 sections 4 to 6).
    Frame,
    /// An HTTP/2 field block that does not decompress (RFC 7541).
    FieldBlock,
    /// A DNS message that does not parse, or says what it may not.
    Dns,
    /// A dnstap frame or payload that does not parse.
    Dnstap,
}

impl Fault {
    /// Returns the stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooBig => "too_big",
            Self::Length => "length",
            Self::Record => "record",
            Self::Handshake => "handshake",
            Self::Hello => "hello",
            Self::TwoNames => "two_names",
            Self::Name => "name",
            Self::RequestLine => "request_line",
            Self::HeaderField => "header_field",
            Self::HostMismatch => "host_mismatch",
            Self::Framing => "framing",
            Self::Startup => "startup",
            Self::Frame => "frame",
            Self::FieldBlock => "field_block",
            Self::Dns => "dns",
            Self::Dnstap => "dnstap",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
