//! The first flight of a TLS client over TCP: records in, one ClientHello out.
//!
//! It must not know what happens to the name, nor what follows the hello. The hello's own fields are
//! read in `hello`.

mod hello;

use super::Look;
use crate::facts::{Fault, Name};

/// What a ClientHello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The one host_name of the one server_name extension; `None`: no SNI, or an address literal in it.
    pub name: Option<Name>,
    /// Encrypted Client Hello extension present (real or GREASE).
    pub ech: bool,
    /// Protocols offered by ALPN, in order, as sent; at most 64.
    pub alpn: Vec<Vec<u8>>,
}

/// Reads a ClientHello that arrives in pieces: any number of TCP segments, any number of records.
///
/// Cost is linear in the bytes, however they are cut. A hello in one record is read where it lies; one
/// in several is joined, by bytes that have arrived and never by a length that was announced. A second
/// hello (after a HelloRetryRequest) is read by a new reader.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Where the first record starts that is not in `joined`.
    next: usize,
    /// Handshake bytes of the records before `next`; empty as long as one record may hold the hello.
    joined: Vec<u8>,
}

impl HelloReader {
    /// Longest hello, in bytes without its four-byte header. Real ones reach 2 KiB; servers stop
    /// between 16 KiB (OpenSSL, BoringSSL) and 64 KiB (rustls, Go).
    pub const MAX: usize = 64 * 1024;

    /// Looks at everything received so far (the same bytes as at the last call, plus new ones at the end).
    ///
    /// Once the answer is not [`Look::More`], later calls with more bytes give it again. Bytes after the
    /// record that ends the hello are not looked at. With records of one byte, at most six times
    /// [`Self::MAX`] bytes are asked for.
    pub fn look(&mut self, received: &[u8]) -> Look<Hello> {
        match received {
            [HANDSHAKE, ..] => {}
            // Another record of TLS first: some servers skip a stray ChangeCipherSpec or alert and then
            // act on the hello behind it, so this is a broken TLS client, not another protocol.
            [20 | 21 | 23 | 24, MAJOR, ..] => return Look::Bad(Fault::Record),
            [] | [20 | 21 | 23 | 24] => return Look::More,
            _ => return Look::Foreign,
        }
        match self.body(received) {
            Ok(Some(body)) => hello::read(body).map_or_else(Look::Bad, Look::Got),
            Ok(None) => Look::More,
            Err(fault) => Look::Bad(fault),
        }
    }

    /// Returns the hello without its header, as soon as its last record is there.
    fn body<'a>(&'a mut self, received: &'a [u8]) -> Result<Option<&'a [u8]>, Fault> {
        while !is_complete(&self.joined)? {
            let Some(record) = Record::at(received, self.next)? else {
                return Ok(None);
            };
            // The message header is judged before the record is there: nothing is awaited in vain.
            announced(self.joined.iter().chain(record.fragment))?;
            if !record.whole {
                return Ok(None);
            }
            if self.joined.is_empty() && is_complete(record.fragment)? {
                return Ok(record.fragment.get(MESSAGE_HEADER..));
            }
            self.joined.extend_from_slice(record.fragment);
            self.next += RECORD_HEADER + record.fragment.len();
        }
        Ok(self.joined.get(MESSAGE_HEADER..))
    }
}

/// A handshake record, or the start of one.
struct Record<'a> {
    /// What has arrived of the payload.
    fragment: &'a [u8],
    /// Whether that is all of it.
    whole: bool,
}

impl<'a> Record<'a> {
    /// Reads the record at `offset`; `None` as long as its header is not there (RFC 8446 section 5.1).
    ///
    /// # Errors
    /// [`Fault::Record`]: another content type, a major version that is not 3 (the minor one is to be
    /// ignored), an empty fragment, or one over 2^14 bytes.
    fn at(received: &'a [u8], offset: usize) -> Result<Option<Self>, Fault> {
        match received.get(offset..).unwrap_or_default() {
            [kind, ..] if *kind != HANDSHAKE => Err(Fault::Record),
            [_, major, ..] if *major != MAJOR => Err(Fault::Record),
            [_, _, _, high, low, payload @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                if len == 0 || len > MAX_FRAGMENT {
                    return Err(Fault::Record);
                }
                let fragment = payload.get(..len);
                Ok(Some(Self { fragment: fragment.unwrap_or(payload), whole: fragment.is_some() }))
            }
            _ => Ok(None),
        }
    }
}

/// Returns the length in the header of a handshake message, once it is there (RFC 8446 section 4).
///
/// # Errors
/// [`Fault::Handshake`] when it is no ClientHello, [`Fault::TooBig`] when it is over the limit.
fn announced<'a>(message: impl IntoIterator<Item = &'a u8>) -> Result<Option<usize>, Fault> {
    let mut bytes = message.into_iter().copied();
    match bytes.next() {
        None => return Ok(None),
        Some(CLIENT_HELLO) => {}
        Some(_) => return Err(Fault::Handshake),
    }
    let (Some(high), Some(middle), Some(low)) = (bytes.next(), bytes.next(), bytes.next()) else {
        return Ok(None);
    };
    let len = (usize::from(high) << 16) | (usize::from(middle) << 8) | usize::from(low);
    if len > HelloReader::MAX { Err(Fault::TooBig) } else { Ok(Some(len)) }
}

/// Whether these are all bytes of one ClientHello.
///
/// # Errors
/// As [`announced`], and [`Fault::Handshake`] for bytes after the hello in its last record: no client
/// has anything to say before the server's answer.
fn is_complete(message: &[u8]) -> Result<bool, Fault> {
    let Some(len) = announced(message)? else {
        return Ok(false);
    };
    match message.len().cmp(&(MESSAGE_HEADER + len)) {
        std::cmp::Ordering::Less => Ok(false),
        std::cmp::Ordering::Equal => Ok(true),
        std::cmp::Ordering::Greater => Err(Fault::Handshake),
    }
}

/// Content type of a handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// First byte of every TLS version number, SSL 3.0 included.
const MAJOR: u8 = 3;
/// Message type of a ClientHello (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// Bytes: content type, version, length.
const RECORD_HEADER: usize = 5;
/// Bytes: message type, length.
const MESSAGE_HEADER: usize = 4;
/// Longest payload of a record in clear, in bytes (RFC 8446 section 5.1).
const MAX_FRAGMENT: usize = 1 << 14;

#[cfg(test)]
mod tests;
