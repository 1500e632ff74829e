//! Answers: which names lead to which addresses, by the chain that starts at the question alone.
//!
//! It does not know who asked, nor whether the answer is wanted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::facts::{Address, Fault, Name, Scope, canonical, scope};

use super::query::Question;
use super::read::{self, Header, IN, Malformed, Records, Section, WireName};
use super::{qtype, rcode};

/// What an answer says to its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question it answers.
    pub question: Question,
    /// Response code, extended bits included.
    pub rcode: u16,
    /// Owner names on the CNAME chain that starts at the question, the asked name first.
    pub chain: Vec<Name>,
    /// A and AAAA records at the end of that chain, each with the smallest TTL on the way.
    pub addresses: Vec<Address>,
}

/// Reads a response. Records that are not on the chain count for nothing.
///
/// # Errors
/// [`Fault::Dns`] when the message does not parse, is no response, or its question is none that
/// [`super::question`] would take.
pub fn answer(message: &[u8]) -> Result<Answer, Fault> {
    survey(message).map(|survey| survey.answer)
}

/// Longest CNAME chain that is followed; longer ones lead nowhere. Resolvers give up at 8 to 17.
const CHAIN: usize = 16;

/// All that one walk over a response tells.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) answer: Answer,
    /// Offset behind the question section.
    pub(super) body: usize,
    /// Addresses that are not public, anywhere in the message.
    pub(super) closed: usize,
    /// Whether the additional section holds addresses.
    pub(super) extra: bool,
    /// Whether there is service binding data.
    pub(super) service: bool,
    /// Whether a TTL is over 2^31 - 1.
    pub(super) long_ttl: bool,
    /// Where the EDNS record stands.
    pub(super) edns: Option<Range<usize>>,
}

/// A record that can be part of a chain.
struct Link {
    owner: WireName,
    ttl: u32,
    leads: Leads,
}

#[expect(clippy::large_enum_variant, reason = "lives for one walk, and most answers hold a few")]
enum Leads {
    To(WireName),
    Home(IpAddr),
}

pub(super) fn survey(message: &[u8]) -> Result<Survey, Fault> {
    read_all(message).map_err(|Malformed| Fault::Dns)
}

fn read_all(message: &[u8]) -> Result<Survey, Malformed> {
    let header = Header::read(message)?;
    if !header.is_response() || header.opcode() != 0 {
        return Err(Malformed);
    }
    let asked = read::asked(message, header)?;
    if asked.class != IN {
        return Err(Malformed);
    }
    let question =
        Question { id: header.id, name: asked.name.to_name().ok_or(Malformed)?, qtype: asked.qtype };
    let mut survey = Survey {
        answer: Answer { question, rcode: header.rcode(), chain: Vec::new(), addresses: Vec::new() },
        body: asked.end,
        closed: 0,
        extra: false,
        service: false,
        long_ttl: false,
        edns: None,
    };
    let mut links = Vec::new();
    for record in Records::new(message, header, asked.end) {
        survey.look_at(message, &record?, &mut links)?;
    }
    let first = survey.answer.question.name.clone();
    let (chain, addresses) = follow(asked.name, first, &links);
    survey.answer.chain = chain;
    if survey.answer.rcode == rcode::NOERROR {
        survey.answer.addresses = addresses;
    }
    Ok(survey)
}

impl Survey {
    fn look_at(
        &mut self,
        message: &[u8],
        record: &read::Record,
        links: &mut Vec<Link>,
    ) -> Result<(), Malformed> {
        if record.rtype == qtype::OPT {
            if self.edns.is_some() || record.section != Section::Additional || !record.owner.is_root() {
                return Err(Malformed);
            }
            self.edns = Some(record.start..record.data.end);
            self.answer.rcode |= u16::try_from(record.ttl >> 24).unwrap_or(0) << 4;
            return Ok(());
        }
        self.long_ttl |= record.ttl > LONGEST_TTL;
        if record.class != IN {
            return Ok(());
        }
        let data = message.get(record.data.clone()).ok_or(Malformed)?;
        let leads = match record.rtype {
            qtype::A => Leads::Home(Ipv4Addr::from(<[u8; 4]>::try_from(data).map_err(|_| Malformed)?).into()),
            qtype::AAAA => {
                Leads::Home(Ipv6Addr::from(<[u8; 16]>::try_from(data).map_err(|_| Malformed)?).into())
            }
            qtype::CNAME => {
                let (target, end) = WireName::read(message, record.data.start)?;
                if end != record.data.end {
                    return Err(Malformed);
                }
                Leads::To(target)
            }
            qtype::SVCB | qtype::HTTPS => {
                self.service = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if let Leads::Home(address) = leads {
            self.closed += usize::from(scope(address) != Scope::Public);
            self.extra |= record.section == Section::Additional;
        }
        if record.section == Section::Answer {
            let ttl = if record.ttl > LONGEST_TTL { 0 } else { record.ttl };
            links.push(Link { owner: record.owner, ttl, leads });
        }
        Ok(())
    }
}

/// Largest TTL that counts as such (RFC 2181 section 8), seconds.
const LONGEST_TTL: u32 = 0x7fff_ffff;

/// Walks from the question to the addresses. A loop, a fork, an overlong chain and a name that is none
/// all lead nowhere: the names so far remain, the addresses do not.
fn follow(asked: WireName, first: Name, links: &[Link]) -> (Vec<Name>, Vec<Address>) {
    let (mut at, mut least, mut chain) = (asked, u32::MAX, vec![first]);
    loop {
        let here = || links.iter().filter(|link| link.owner == at);
        let mut aliases = here().filter_map(|link| match link.leads {
            Leads::To(target) => Some((target, link.ttl)),
            Leads::Home(_) => None,
        });
        let Some((target, ttl)) = aliases.next() else {
            let addresses = here().filter_map(|link| match link.leads {
                Leads::Home(ip) => Some(Address { ip: canonical(ip), ttl_secs: link.ttl.min(least) }),
                Leads::To(_) => None,
            });
            let addresses = addresses.collect();
            return (chain, addresses);
        };
        let forked = aliases.next().is_some();
        let Some(name) = target.to_name() else { return (chain, Vec::new()) };
        if forked || chain.len() > CHAIN || chain.contains(&name) {
            return (chain, Vec::new());
        }
        chain.push(name);
        (at, least) = (target, least.min(ttl));
    }
}
