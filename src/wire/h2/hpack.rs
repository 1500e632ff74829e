//! Header compression, decoded beside the server that decodes it too (RFC 7541).
//!
//! Two decoders of one connection may allow dynamic tables of different sizes. The entries of the smaller are
//! then always the newest ones of the larger, so that an index has one meaning or, where the entry is gone
//! from one of them, is an error there: never another field. Must not know what fields mean.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::huffman;
use super::static_table::FIELDS;
use crate::facts::Fault;

/// What the decoder of one direction remembers.
#[derive(Debug)]
pub(super) struct Decoder {
    entries: VecDeque<Field>,
    /// As RFC 7541 section 4.1 counts.
    size: usize,
    /// What the encoder says it uses.
    max_size: usize,
    /// What it may use.
    allowed: usize,
}

#[derive(Debug)]
struct Field {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Size of a dynamic table before anybody said anything, in bytes (RFC 9113 section 6.5.2).
const DEFAULT_TABLE: usize = 4096;
/// Largest dynamic table that is followed, in bytes: the largest that common servers ask for.
const MAX_TABLE: usize = 64 * 1024;
/// What an entry costs beyond its bytes (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;
/// Bytes of all fields of one block, as RFC 9113 section 6.5.2 counts a field section. Many servers stop at 8 to 32 KiB;
/// the larger it is, the more work one byte of a block can ask for, since it can stand for a whole entry of the table.
const MAX_SECTION: usize = 32 * 1024;

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, max_size: DEFAULT_TABLE, allowed: DEFAULT_TABLE }
    }
}

impl Decoder {
    /// The server has offered to keep a table of so many bytes.
    pub(super) fn allow(&mut self, bytes: usize) {
        self.allowed = self.allowed.max(bytes.min(MAX_TABLE));
    }

    /// Decodes a whole block; hands each field over in turn.
    ///
    /// # Errors
    /// [`Fault::FieldBlock`], [`Fault::TooBig`], and whatever `each` returns. The connection cannot be followed
    /// after any of them.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut reader = Reader(block);
        let mut section = 0;
        let mut started = false;
        while let Some(&first) = reader.0.first() {
            if first & 0b1110_0000 == 0b0010_0000 {
                let max_size = reader.integer(5)?;
                // Only before the first field (RFC 7541 section 4.2).
                if started || max_size > self.allowed {
                    return Err(Fault::FieldBlock);
                }
                self.resize(max_size);
                continue;
            }
            started = true;
            if first & 0b1000_0000 != 0 {
                let index = reader.integer(7)?;
                let (name, value) = self.field(index)?;
                section += cost(name, value);
                bounded(section)?;
                each(name, value)?;
                continue;
            }
            let remembered = first & 0b0100_0000 != 0;
            let index = reader.integer(if remembered { 6 } else { 4 })?;
            let name = if index == 0 { reader.string()? } else { Cow::Borrowed(self.field(index)?.0) };
            let value = reader.string()?;
            section += cost(&name, &value);
            bounded(section)?;
            each(&name, &value)?;
            if remembered {
                let field = Field { name: name.into(), value: value.into() };
                self.remember(field);
            }
        }
        Ok(())
    }

    /// Returns the field at an index over both tables (RFC 7541 section 2.3.3).
    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), Fault> {
        let from_zero = index.checked_sub(1).ok_or(Fault::FieldBlock)?;
        if let Some(field) = FIELDS.get(from_zero) {
            return Ok(*field);
        }
        let field = self.entries.get(from_zero - FIELDS.len()).ok_or(Fault::FieldBlock)?;
        Ok((&field.name, &field.value))
    }

    fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict(max_size);
    }

    /// An entry that is larger than the table empties it and is not remembered (RFC 7541 section 4.4).
    fn remember(&mut self, field: Field) {
        let cost = cost(&field.name, &field.value);
        let room = self.max_size.checked_sub(cost);
        self.evict(room.unwrap_or(0));
        if room.is_some() {
            self.size += cost;
            self.entries.push_front(field);
        }
    }

    /// Forgets the oldest entries until no more than so many bytes are left.
    fn evict(&mut self, left: usize) {
        while self.size > left {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= cost(&oldest.name, &oldest.value);
        }
    }
}

fn cost(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + OVERHEAD
}

fn bounded(section: usize) -> Result<(), Fault> {
    if section > MAX_SECTION { Err(Fault::TooBig) } else { Ok(()) }
}

/// What is left of a block.
struct Reader<'a>(&'a [u8]);

/// Bytes after the prefix of an integer: with four the largest is over 2^28, longer than any block.
const MAX_INTEGER: u32 = 4;

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&byte, rest) = self.0.split_first().ok_or(Fault::FieldBlock)?;
        self.0 = rest;
        Ok(byte)
    }

    /// Reads an integer with a prefix of so many bits (RFC 7541 section 5.1).
    fn integer(&mut self, prefix: u32) -> Result<usize, Fault> {
        let mask = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for place in 0..MAX_INTEGER {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::FieldBlock)
    }

    /// Reads a string (RFC 7541 section 5.2).
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Fault> {
        let is_coded = self.0.first().is_some_and(|byte| byte & 0x80 != 0);
        let len = self.integer(7)?;
        let (string, rest) = self.0.split_at_checked(len).ok_or(Fault::FieldBlock)?;
        self.0 = rest;
        if is_coded { huffman::decode(string).map(Cow::Owned) } else { Ok(Cow::Borrowed(string)) }
    }
}
