//! HTTP/1 request heads, read strictly: one reading, or none.
//!
//! It must not know what happens to the name, nor where on the connection the head stands: a keep-alive
//! connection is a new reader for every request, started behind the body of the last.

mod fields;
mod request_line;

use self::fields::Fields;
pub(super) use self::fields::check_trailer;
use self::request_line::RequestLine;
use super::Look;
use crate::facts::{Fault, Name};

/// What a request head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Host or absolute-form authority, port taken off; `None`: no Host, an empty one, or an address literal.
    pub name: Option<Name>,
    /// Length of the head in bytes, final empty line included.
    pub len: usize,
    /// What follows the head.
    pub body: Body,
    /// Whether the client asks for another protocol on this connection (RFC 9110 section 7.8). After a
    /// `101` answer the bytes are no longer HTTP/1.
    pub upgrade: bool,
}

/// Longest announced body: beyond it servers count in two ways.
pub(super) const LONGEST_BODY: u64 = i64::MAX.unsigned_abs();

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    Empty,
    /// This many bytes.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked,
}

/// Reads a request head that arrives in pieces. Cost is linear in the bytes, however they are cut.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the first line starts that was not taken.
    line: usize,
    /// Up to here there is no end of a line that was not taken.
    scanned: usize,
    /// Whether the scan of the request line is past the method.
    past_method: bool,
    request: Option<RequestLine>,
    fields: Fields,
}

impl HeadReader {
    /// Longest head in bytes, final empty line included. Servers stop between 8 KiB and 64 KiB.
    pub const MAX: usize = 64 * 1024;

    /// Looks at everything received so far (the same bytes as at the last call, plus new ones at the end).
    ///
    /// Once the answer is not [`Look::More`], later calls with more bytes give it again. Bytes after the
    /// head are not looked at.
    pub fn look(&mut self, received: &[u8]) -> Look<Head> {
        let window = received.get(..Self::MAX).unwrap_or(received);
        loop {
            let end = match self.scan(window) {
                Look::Got(end) => end,
                Look::More if window.len() == Self::MAX => return Look::Bad(Fault::TooBig),
                Look::More => return Look::More,
                Look::Foreign => return Look::Foreign,
                Look::Bad(fault) => return Look::Bad(fault),
            };
            let line = window.get(self.line..end).unwrap_or_default();
            let Some(request) = &self.request else {
                match request_line::read(line) {
                    Look::Got(request) => self.request = Some(request),
                    Look::More | Look::Foreign => return Look::Foreign,
                    Look::Bad(fault) => return Look::Bad(fault),
                }
                self.pass(end);
                continue;
            };
            // A bare LF ends a line for some servers and not for others (RFC 9112 section 2.2).
            let Some(line) = line.strip_suffix(b"\r") else {
                return Look::Bad(Fault::HeaderField);
            };
            if line.is_empty() {
                return self.fields.conclude(request, end + 1).map_or_else(Look::Bad, Look::Got);
            }
            if let Err(fault) = self.fields.take(line) {
                return Look::Bad(fault);
            }
            self.pass(end);
        }
    }

    /// Returns where the line under way ends.
    fn scan(&mut self, window: &[u8]) -> Look<usize> {
        let fresh = window.get(self.scanned..).unwrap_or_default();
        let found = if self.request.is_some() {
            fresh.iter().position(|&byte| byte == b'\n')
        } else {
            match self.scan_opening(window, fresh) {
                Ok(found) => found,
                Err(refusal) => return refusal,
            }
        };
        match found {
            Some(offset) => Look::Got(self.scanned + offset),
            None => {
                self.scanned = window.len();
                Look::More
            }
        }
    }

    /// Finds the end of the request line, or before it, if it ever comes, a byte that no request line holds.
    fn scan_opening(&mut self, window: &[u8], fresh: &[u8]) -> Result<Option<usize>, Look<usize>> {
        for (offset, &byte) in fresh.iter().enumerate() {
            match byte {
                b'\n' => return Ok(Some(offset)),
                b' ' | b'\t' | b'\r' => self.past_method = true,
                0..=0x1f | 0x7f => {
                    let line = window.get(..self.scanned + offset).unwrap_or_default();
                    let is_http = request_line::speaks_http(line);
                    return Err(if is_http { Look::Bad(Fault::RequestLine) } else { Look::Foreign });
                }
                _ if !self.past_method && !is_token_byte(byte) => return Err(Look::Foreign),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Goes on behind the line that ends at `end`.
    fn pass(&mut self, end: usize) {
        self.line = end + 1;
        self.scanned = end + 1;
    }
}

/// Whether the byte may stand in a token: a method, a field name (RFC 9110 section 5.6.2).
const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Whether the bytes are a token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

#[cfg(test)]
mod tests;
