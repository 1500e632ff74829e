//! The walk: header, names and records of a message, straight from the slice.
//!
//! It does not know what records mean.

use std::ops::Range;

use crate::facts::Name;

/// The bytes contradict themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Length of a header, bytes.
pub(super) const HEADER: usize = 12;

/// Class IN.
pub(super) const IN: u16 = 1;

pub(super) fn u16_at(message: &[u8], at: usize) -> Result<u16, Malformed> {
    let bytes = message.get(at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(Malformed)?;
    Ok(u16::from_be_bytes(*bytes))
}

pub(super) fn u32_at(message: &[u8], at: usize) -> Result<u32, Malformed> {
    let bytes = message.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Malformed)?;
    Ok(u32::from_be_bytes(*bytes))
}

/// The fixed header (RFC 1035 section 4.1.1).
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) id: u16,
    flags: u16,
    pub(super) questions: u16,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additionals: u16,
}

impl Header {
    pub(super) fn read(message: &[u8]) -> Result<Self, Malformed> {
        Ok(Self {
            id: u16_at(message, 0)?,
            flags: u16_at(message, 2)?,
            questions: u16_at(message, 4)?,
            answers: u16_at(message, 6)?,
            authorities: u16_at(message, 8)?,
            additionals: u16_at(message, 10)?,
        })
    }

    pub(super) fn is_response(self) -> bool {
        self.flags & 0x8000 != 0
    }

    pub(super) fn opcode(self) -> u16 {
        (self.flags >> 11) & 0xf
    }

    pub(super) fn recursion_desired(self) -> bool {
        self.flags & 0x0100 != 0
    }

    pub(super) fn authentic_data(self) -> bool {
        self.flags & 0x0020 != 0
    }

    pub(super) fn checking_disabled(self) -> bool {
        self.flags & 0x0010 != 0
    }

    pub(super) fn is_truncated(self) -> bool {
        self.flags & 0x0200 != 0
    }

    pub(super) fn rcode(self) -> u16 {
        self.flags & 0xf
    }

    fn section_of(self, index: u32) -> Section {
        let answers = u32::from(self.answers);
        if index < answers {
            Section::Answer
        } else if index < answers + u32::from(self.authorities) {
            Section::Authority
        } else {
            Section::Additional
        }
    }

    fn records(self) -> u32 {
        u32::from(self.answers) + u32::from(self.authorities) + u32::from(self.additionals)
    }
}

/// A name as on the wire, decompressed and in lower case, root label included.
#[derive(Debug, Clone, Copy)]
pub(super) struct WireName {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl WireName {
    /// Longest name, bytes (RFC 1035 section 2.3.4).
    const MAX: usize = 255;

    /// Reads the name at `at`; returns it and the offset behind it.
    ///
    /// A pointer must lead to before the run of labels that holds it (RFC 1035 section 4.1.4: "a prior
    /// occurrence"), so every loop ends.
    pub(super) fn read(message: &[u8], at: usize) -> Result<(Self, usize), Malformed> {
        let mut name = Self { bytes: [0; Self::MAX], len: 0 };
        let (mut at, mut run, mut behind) = (at, at, None);
        loop {
            let first = *message.get(at).ok_or(Malformed)?;
            match first {
                0 => {
                    name.push(&[0])?;
                    return Ok((name, behind.unwrap_or(at + 1)));
                }
                1..=63 => {
                    let end = at + 1 + usize::from(first);
                    name.push(message.get(at..end).ok_or(Malformed)?)?;
                    at = end;
                }
                0xc0.. => {
                    let target = usize::from(u16_at(message, at)? & 0x3fff);
                    if target >= run {
                        return Err(Malformed);
                    }
                    behind = behind.or(Some(at + 2));
                    (at, run) = (target, target);
                }
                64..0xc0 => return Err(Malformed),
            }
        }
    }

    fn push(&mut self, label: &[u8]) -> Result<(), Malformed> {
        let place = self.bytes.get_mut(self.len..self.len + label.len()).ok_or(Malformed)?;
        for (to, from) in place.iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
        }
        self.len += label.len();
        Ok(())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Whether this is the root.
    pub(super) fn is_root(&self) -> bool {
        self.len == 1
    }

    /// Spells the name with dots. `None`: it is no host name, one with a dot inside a label included.
    pub(super) fn to_name(self) -> Option<Name> {
        let mut spelled = Vec::with_capacity(self.len);
        let mut rest = self.as_bytes();
        while let Some((&len, tail)) = rest.split_first().filter(|(len, _)| **len != 0) {
            let (label, behind) = tail.split_at_checked(usize::from(len))?;
            if label.contains(&b'.') {
                return None;
            }
            if !spelled.is_empty() {
                spelled.push(b'.');
            }
            spelled.extend_from_slice(label);
            rest = behind;
        }
        Name::parse(spelled).ok()
    }
}

impl PartialEq for WireName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// Answers to the question.
    Answer,
    /// Name servers and negative answers.
    Authority,
    /// What may help.
    Additional,
}

/// One record, its data left where it is.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) section: Section,
    pub(super) start: usize,
    pub(super) owner: WireName,
    pub(super) rtype: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    /// Offset of the TTL.
    pub(super) ttl_at: usize,
    pub(super) data: Range<usize>,
}

/// The records of a message, in order. The walk ends at the first broken one, and is broken too when
/// bytes are left over at the end.
pub(super) struct Records<'m> {
    message: &'m [u8],
    header: Header,
    at: usize,
    index: u32,
}

impl<'m> Records<'m> {
    /// Starts behind the question section, at `at`.
    pub(super) fn new(message: &'m [u8], header: Header, at: usize) -> Self {
        Self { message, header, at, index: 0 }
    }

    fn read(&self) -> Result<Record, Malformed> {
        let (owner, at) = WireName::read(self.message, self.at)?;
        let length = usize::from(u16_at(self.message, at + 8)?);
        let data = at + 10..at + 10 + length;
        self.message.get(data.clone()).ok_or(Malformed)?;
        Ok(Record {
            section: self.header.section_of(self.index),
            start: self.at,
            owner,
            rtype: u16_at(self.message, at)?,
            class: u16_at(self.message, at + 2)?,
            ttl: u32_at(self.message, at + 4)?,
            ttl_at: at + 4,
            data,
        })
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.records() {
            let left_over = std::mem::replace(&mut self.at, self.message.len()) < self.message.len();
            return left_over.then_some(Err(Malformed));
        }
        let record = self.read();
        match &record {
            Ok(record) => {
                self.at = record.data.end;
                self.index += 1;
            }
            Err(Malformed) => {
                self.index = u32::MAX;
                self.at = self.message.len();
            }
        }
        Some(record)
    }
}

/// The one question as it stands in the message.
pub(super) struct Asked {
    pub(super) name: WireName,
    pub(super) qtype: u16,
    pub(super) class: u16,
    /// Offset behind the question section.
    pub(super) end: usize,
}

/// Reads the question section: exactly one question, its name without compression.
pub(super) fn asked(message: &[u8], header: Header) -> Result<Asked, Malformed> {
    if header.questions != 1 {
        return Err(Malformed);
    }
    let (name, at) = WireName::read(message, HEADER)?;
    if at != HEADER + name.as_bytes().len() {
        return Err(Malformed);
    }
    Ok(Asked { name, qtype: u16_at(message, at)?, class: u16_at(message, at + 2)?, end: at + 4 })
}
