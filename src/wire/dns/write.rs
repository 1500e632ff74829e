//! Messages of our own: queries for an upstream, refusals for a client.
//!
//! It does not know why something is refused, nor where a query goes.

use crate::facts::Name;

use super::qtype;
use super::query::{Query, Question};
use super::read::{self, HEADER, Header, WireName};

/// A question for an upstream. Nothing else that the client sent travels on: not its id, its spelling,
/// nor its EDNS options. Nor the CD bit: an answer is evidence, and who is judged by it may not switch
/// off the upstream's validation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ask {
    /// The asked name.
    pub name: Name,
    /// Query type, as on the wire.
    pub qtype: u16,
    /// Whether DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// Whether the AD bit is understood.
    pub authentic_data: bool,
}

/// Random bits that choose the case of each letter ("0x20"): an answer that repeats them was not guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelling(pub [u8; 32]);

impl Spelling {
    /// All letters in lower case.
    pub const PLAIN: Self = Self([0; 32]);

    fn is_upper(&self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }
}

impl Ask {
    /// Asks for a name, no more.
    pub fn new(name: Name, qtype: u16) -> Self {
        Self { name, qtype, dnssec_ok: false, authentic_data: false }
    }

    /// Asks what a client asked.
    pub fn of(query: &Query<'_>) -> Self {
        Self {
            name: query.question.name.clone(),
            qtype: query.question.qtype,
            dnssec_ok: query.edns.is_some_and(|edns| edns.dnssec_ok),
            authentic_data: query.authentic_data,
        }
    }

    /// Writes the query. Without `edns` it is one that servers from before RFC 6891 understand.
    pub fn encode(&self, id: u16, spelling: &Spelling, edns: bool) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + self.name.as_str().len() + 2 + 4 + 11);
        let flags = 0x0100 | bit(self.authentic_data, 0x0020);
        push_header(&mut message, id, flags, 1, u16::from(edns));
        let mut index = 0;
        for label in self.name.labels() {
            message.push(u8::try_from(label.len()).unwrap_or(0));
            for byte in label.bytes() {
                let upper = spelling.is_upper(index);
                message.push(if upper { byte.to_ascii_uppercase() } else { byte });
                index += 1;
            }
        }
        message.push(0);
        message.extend(self.qtype.to_be_bytes());
        message.extend(read::IN.to_be_bytes());
        if edns {
            push_edns(&mut message, 0, self.dnssec_ok, &[]);
        }
        message
    }
}

fn bit(set: bool, mask: u16) -> u16 {
    if set { mask } else { 0 }
}

/// The UDP size that we offer, bytes (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

fn push_header(message: &mut Vec<u8>, id: u16, flags: u16, questions: u16, additionals: u16) {
    for field in [id, flags, questions, 0, 0, additionals] {
        message.extend(field.to_be_bytes());
    }
}

fn push_edns(message: &mut Vec<u8>, rcode_high: u8, dnssec_ok: bool, options: &[u8]) {
    message.push(0);
    message.extend(qtype::OPT.to_be_bytes());
    message.extend(PAYLOAD.to_be_bytes());
    message.extend([rcode_high, 0]);
    message.extend(bit(dnssec_ok, 0x8000).to_be_bytes());
    message.extend(u16::try_from(options.len()).unwrap_or(0).to_be_bytes());
    message.extend(options);
}

/// How well a response repeats the question it should answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Id, name, spelling, type and class.
    Exact,
    /// All but the spelling.
    OtherCase,
    /// Something else, or no response at all.
    Foreign,
}

/// Compares a response with the query it should answer.
pub fn echo(response: &[u8], query: &[u8]) -> Echo {
    let section = |message: &[u8]| -> Option<(Header, WireName, std::ops::Range<usize>)> {
        let header = Header::read(message).ok()?;
        let asked = read::asked(message, header).ok()?;
        Some((header, asked.name, HEADER..asked.end))
    };
    let (Some((theirs, their_name, there)), Some((ours, our_name, here))) =
        (section(response), section(query))
    else {
        return Echo::Foreign;
    };
    if !theirs.is_response() || theirs.opcode() != 0 || theirs.id != ours.id || their_name != our_name {
        return Echo::Foreign;
    }
    let (Some(there), Some(here)) = (response.get(there), query.get(here)) else { return Echo::Foreign };
    if there == here {
        return Echo::Exact;
    }
    // The names are equal but for case; type and class are the last four bytes.
    if there.last_chunk::<4>() == here.last_chunk::<4>() { Echo::OtherCase } else { Echo::Foreign }
}

/// Writes an answer without records. The extended error goes along where the client speaks EDNS; its
/// text is cut to what fits into `limit` bytes.
pub fn refusal(query: &Query<'_>, code: u16, error: Option<(u16, &str)>, limit: usize) -> Vec<u8> {
    let Query { question: Question { id, .. }, section, .. } = query;
    let mut message = Vec::with_capacity(limit.min(512));
    let flags =
        0x8080 | bit(query.recursion_desired, 0x0100) | bit(query.checking_disabled, 0x0010) | (code & 0xf);
    push_header(&mut message, *id, flags, 1, u16::from(query.edns.is_some()));
    message.extend(*section);
    if let Some(edns) = query.edns {
        let room = limit.saturating_sub(message.len() + 11);
        let mut option = Vec::new();
        if let Some((info, text)) = error.filter(|_| room >= 6) {
            let mut end = text.len().min(room - 6);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let text = text.get(..end).unwrap_or("");
            option.extend(EDE.to_be_bytes());
            option.extend(u16::try_from(text.len() + 2).unwrap_or(2).to_be_bytes());
            option.extend(info.to_be_bytes());
            option.extend(text.as_bytes());
        }
        let high = u8::try_from(code >> 4).unwrap_or(0);
        push_edns(&mut message, high, edns.dnssec_ok, &option);
    }
    message
}

/// EDNS option code of an Extended DNS Error (RFC 8914 section 2).
const EDE: u16 = 15;

/// Writes the answer to a message whose question cannot be used: a header and a code. `None`: not even
/// that may be sent, the message being a response or no message.
pub fn format_error(message: &[u8], code: u16) -> Option<Vec<u8>> {
    let header = Header::read(message).ok().filter(|header| !header.is_response())?;
    let mut reply = Vec::with_capacity(HEADER + 11);
    let flags = 0x8080 | header.opcode() << 11 | bit(header.recursion_desired(), 0x0100) | (code & 0xf);
    let extended = code > 0xf;
    push_header(&mut reply, header.id, flags, 0, u16::from(extended));
    if extended {
        push_edns(&mut reply, u8::try_from(code >> 4).unwrap_or(0), false, &[]);
    }
    Some(reply)
}
