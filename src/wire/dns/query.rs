//! Queries: what a client asks, and how it wants to hear the answer.
//!
//! It does not know whether the question may be asked.

use crate::facts::{Fault, Name};

use super::super::Look;
use super::qtype;
use super::read::{self, HEADER, Header, IN, Records, Section};

/// The one question of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Message id.
    pub id: u16,
    /// The asked name.
    pub name: Name,
    /// Query type, as on the wire.
    pub qtype: u16,
}

/// What the client says of itself by EDNS (RFC 6891 section 6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Largest UDP message it takes, bytes, as sent.
    pub payload: u16,
    /// Whether it wants DNSSEC records (RFC 3225).
    pub dnssec_ok: bool,
}

/// A query, read. What the answer has to repeat stays borrowed.
#[derive(Debug, Clone)]
pub struct Query<'m> {
    /// The question.
    pub question: Question,
    /// The question section byte for byte: the spelling that the client will compare.
    pub section: &'m [u8],
    /// The RD bit.
    pub recursion_desired: bool,
    /// The CD bit (RFC 4035 section 3.2.2).
    pub checking_disabled: bool,
    /// The AD bit: the client understands it in the answer (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// `None`: no EDNS, so none in the answer (RFC 6891 section 7).
    pub edns: Option<Edns>,
}

impl Query<'_> {
    /// Returns the largest answer that the client takes over UDP, bytes.
    ///
    /// Never over 1232 (DNS flag day 2020): larger ones would be cut into fragments on the way.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(Self::PLAIN, |edns| usize::from(edns.payload).clamp(Self::PLAIN, Self::UNCUT))
    }

    /// Largest UDP message without EDNS (RFC 1035 section 2.3.4), bytes.
    const PLAIN: usize = 512;
    /// Largest UDP message that passes any IPv6 path whole, bytes.
    const UNCUT: usize = 1232;
}

/// Why a message is not a query that can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryFault {
    /// No header, or a response: nothing may be sent back, or two servers answer each other for ever.
    NoQuery,
    /// Counts, lengths or records contradict the bytes.
    Malformed,
    /// Another operation than QUERY.
    Opcode,
    /// Another class than IN.
    Class,
    /// The asked name is no host name.
    Name,
    /// An EDNS version that does not exist (RFC 6891 section 6.1.3).
    Version,
}

/// Reads a query with all that its answer depends on.
///
/// # Errors
/// [`QueryFault`]. Refusing is the safe mistake.
pub fn query(message: &[u8]) -> Result<Query<'_>, QueryFault> {
    let header = Header::read(message).map_err(|_| QueryFault::NoQuery)?;
    if header.is_response() {
        return Err(QueryFault::NoQuery);
    }
    if header.opcode() != 0 {
        return Err(QueryFault::Opcode);
    }
    if header.answers != 0 || header.authorities != 0 {
        return Err(QueryFault::Malformed);
    }
    let asked = read::asked(message, header).map_err(|_| QueryFault::Malformed)?;
    let mut edns = None;
    for record in Records::new(message, header, asked.end) {
        let record = record.map_err(|_| QueryFault::Malformed)?;
        if record.rtype != qtype::OPT {
            continue;
        }
        if edns.is_some() || record.section != Section::Additional || !record.owner.is_root() {
            return Err(QueryFault::Malformed);
        }
        if (record.ttl >> 16) & 0xff != 0 {
            return Err(QueryFault::Version);
        }
        edns = Some(Edns { payload: record.class, dnssec_ok: record.ttl & 0x8000 != 0 });
    }
    if asked.class != IN {
        return Err(QueryFault::Class);
    }
    let name = asked.name.to_name().ok_or(QueryFault::Name)?;
    Ok(Query {
        question: Question { id: header.id, name, qtype: asked.qtype },
        section: message.get(HEADER..asked.end).ok_or(QueryFault::Malformed)?,
        recursion_desired: header.recursion_desired(),
        checking_disabled: header.checking_disabled(),
        authentic_data: header.authentic_data(),
        edns,
    })
}

/// Reads a query: exactly one question, class IN, opcode QUERY, QR clear.
///
/// Never asks for more: a DNS message comes whole, by datagram or by length prefix.
pub fn question(message: &[u8]) -> Look<Question> {
    match query(message) {
        Ok(query) => Look::Got(query.question),
        Err(_) => Look::Bad(Fault::Dns),
    }
}
