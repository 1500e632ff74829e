//! From an upstream's answer to the client's: edited where it must be, else byte for byte.
//!
//! It does not know how the answer travels, nor what is done with what it says.

use std::ops::Range;

use crate::facts::Fault;

use super::answer::{Answer, Survey, survey};
use super::edit::{Rules, edit};
use super::query::Query;
use super::read::{HEADER, Header, Records, Section};

/// An answer that is ready to be sent, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// What the client learns from it: what was taken out or did not fit is not there.
    pub answer: Answer,
    /// Addresses that were taken out because they are not public.
    pub stripped: usize,
}

/// Makes the reply to `query` out of an upstream's answer to the same question.
///
/// Taken out are: addresses that are not public, unless `private`; addresses in the additional section;
/// and of service bindings all that leads past the gate (`ech`, address hints, `h3`). What is left is cut
/// to `limit` bytes, with the TC bit, at the end of a record (RFC 2181 section 9). Only id, RD and CD bits and the
/// spelling of the question are restored in an answer that has nothing of this.
///
/// # Errors
/// [`Fault::Dns`] when the answer does not parse or answers another question.
pub fn reply(mut bytes: Vec<u8>, query: &Query<'_>, private: bool, limit: usize) -> Result<Reply, Fault> {
    let mut seen = survey(&bytes)?;
    if seen.answer.question.name != query.question.name || seen.answer.question.qtype != query.question.qtype
    {
        return Err(Fault::Dns);
    }
    let mut stripped = 0;
    let edns_is_last = seen.edns.as_ref().is_none_or(|place| place.end == bytes.len());
    let rules = Rules { private, edns: query.edns.is_some() };
    let unfit = seen.wants_editing(private) || (!rules.edns && !edns_is_last);
    if let Some(edited) = if unfit { edit(&bytes, rules)? } else { None } {
        stripped = if private { 0 } else { seen.closed };
        bytes = edited;
        seen = survey(&bytes)?;
    }
    if !rules.edns {
        drop_last_edns(&mut bytes, &mut seen.edns);
    }
    if bytes.len() > limit {
        bytes = cut(&bytes, &seen, limit)?;
        seen = survey(&bytes)?;
    }
    restore(&mut bytes, query)?;
    seen.answer.question.id = query.question.id;
    Ok(Reply { bytes, answer: seen.answer, stripped })
}

impl Survey {
    fn wants_editing(&self, private: bool) -> bool {
        self.extra || self.service || self.long_ttl || (!private && self.closed > 0)
    }
}

/// Takes out an EDNS record that is the last of the message: the client does not speak EDNS.
fn drop_last_edns(bytes: &mut Vec<u8>, edns: &mut Option<Range<usize>>) {
    if let Some(place) = edns.take_if(|place| place.end == bytes.len()) {
        bytes.truncate(place.start);
        if let Some(count) = bytes.get_mut(10..).and_then(|rest| rest.first_chunk_mut::<2>()) {
            *count = u16::from_be_bytes(*count).saturating_sub(1).to_be_bytes();
        }
    }
}

/// Keeps as many whole answer records as fit, and the EDNS record; sets TC.
///
/// Compression points backwards only, so the front of a message stands by itself.
fn cut(bytes: &[u8], seen: &Survey, limit: usize) -> Result<Vec<u8>, Fault> {
    let edns = seen.edns.clone().and_then(|place| bytes.get(place)).unwrap_or(&[]);
    let edns = if seen.body + edns.len() <= limit { edns } else { &[] };
    let header = Header::read(bytes).map_err(|_| Fault::Dns)?;
    let (mut end, mut kept) = (seen.body, 0u16);
    for record in Records::new(bytes, header, seen.body) {
        let record = record.map_err(|_| Fault::Dns)?;
        if record.section != Section::Answer || record.data.end + edns.len() > limit {
            break;
        }
        end = record.data.end;
        kept += 1;
    }
    let mut front = bytes.get(..end).ok_or(Fault::Dns)?.to_vec();
    front.extend(edns);
    let head = front.first_chunk_mut::<HEADER>().ok_or(Fault::Dns)?;
    let [_, _, flags, _, _, _, counts @ ..] = head;
    *flags |= 0x02;
    let [high, low] = kept.to_be_bytes();
    *counts = [high, low, 0, 0, 0, u8::from(!edns.is_empty())];
    Ok(front)
}

/// Gives the client its own id, RD and CD bits (RFC 4035 section 3.2.2) and spelling back.
fn restore(bytes: &mut [u8], query: &Query<'_>) -> Result<(), Fault> {
    let (head, rest) = bytes.split_first_chunk_mut::<HEADER>().ok_or(Fault::Dns)?;
    let [high, low, flags, more_flags, ..] = head;
    [*high, *low] = query.question.id.to_be_bytes();
    *flags = *flags & !0x01 | u8::from(query.recursion_desired);
    *more_flags = *more_flags & !0x10 | u8::from(query.checking_disabled) << 4;
    rest.get_mut(..query.section.len()).ok_or(Fault::Dns)?.copy_from_slice(query.section);
    Ok(())
}
