//! How long an answer may be told again, and what its TTLs are by then.
//!
//! It does not know who asks, nor what time it is.

use super::answer::survey;
use super::read::{Header, IN, Malformed, Records, Section, u32_at};
use super::{qtype, rcode};

/// The TTLs of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// The smallest of them, seconds; never 0.
    pub seconds: u32,
    /// Where each stands in the message.
    places: Box<[u16]>,
}

/// SOA (RFC 1035 section 3.3.13).
const SOA: u16 = 6;

/// How long "there is none" is believed at most, seconds: a name that was just made shall be found.
const NEGATIVE: u32 = 60;

/// How long anything is believed at most, seconds.
const POSITIVE: u32 = 3600;

/// Longest message that is worth to be kept, bytes.
const LARGEST: usize = 4096;

impl Lifetime {
    /// Reads it from an answer. `None`: it may not be told again. That is so where a TTL is 0 or over 2^31 - 1, of a
    /// failure, of a part of an answer, of a chain that leads to no address, and of a negative answer without the SOA
    /// record that says for how long (RFC 2308 section 5).
    pub fn of(message: &[u8]) -> Option<Self> {
        let header = Header::read(message).ok()?;
        if message.len() > LARGEST || header.is_truncated() {
            return None;
        }
        let seen = survey(message).ok()?;
        let (mut places, mut least, mut denied_for) = (Vec::new(), POSITIVE, None);
        for record in Records::new(message, header, seen.body) {
            let record = record.ok()?;
            if record.rtype == qtype::OPT {
                continue;
            }
            if record.class != IN || record.ttl == 0 || record.ttl > i32::MAX.unsigned_abs() {
                return None;
            }
            if record.rtype == SOA && record.section == Section::Authority {
                let minimum = u32_at(message, record.data.end.checked_sub(4)?).ok()?;
                denied_for = Some(minimum.min(record.ttl));
            }
            least = least.min(record.ttl);
            places.push(u16::try_from(record.ttl_at).ok()?);
        }
        let answer = &seen.answer;
        let leads_somewhere = match answer.question.qtype {
            qtype::A | qtype::AAAA => !answer.addresses.is_empty(),
            _ => header.answers > 0,
        };
        let seconds = match answer.rcode {
            rcode::NOERROR if leads_somewhere => least,
            rcode::NOERROR | rcode::NXDOMAIN => least.min(denied_for?).min(NEGATIVE),
            _ => return None,
        };
        (seconds > 0).then(|| Self { seconds, places: places.into() })
    }

    /// Takes so many seconds off every TTL of the message that this was read from.
    ///
    /// # Errors
    /// The message is another one.
    pub fn age(&self, message: &mut [u8], seconds: u32) -> Result<(), crate::facts::Fault> {
        let mut age = |place: u16| {
            let field = message.get_mut(usize::from(place)..).and_then(|rest| rest.first_chunk_mut::<4>());
            let field = field.ok_or(Malformed)?;
            *field = u32::from_be_bytes(*field).saturating_sub(seconds).to_be_bytes();
            Ok(())
        };
        self.places.iter().try_for_each(|place| age(*place)).map_err(|Malformed| crate::facts::Fault::Dns)
    }
}
