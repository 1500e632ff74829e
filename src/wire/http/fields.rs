//! Header fields: the few that say where a request goes and where it ends.
//!
//! It must not know lines that are still under way, nor what a name may be used for.

use super::request_line::{RequestLine, Target, speaks_http};
use super::{Body, Head, is_token};
use crate::facts::Fault;
use crate::wire::host::Authority;

/// What the fields so far have said.
#[derive(Debug, Default)]
pub(super) struct Fields {
    host: HostField,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Debug, Default)]
enum HostField {
    #[default]
    Missing,
    Empty,
    Says(Authority),
}

impl Fields {
    /// Takes one field line, without its CRLF (RFC 9112 section 5).
    ///
    /// # Errors
    /// A line or a second field that servers read in more than one way. Nothing has then been taken.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), Fault> {
        let mut halves = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            return Err(Fault::HeaderField);
        };
        // A name that is no token covers folded lines and a space before the colon.
        if !is_token(name) || !value.iter().copied().all(is_value_byte) {
            return Err(Fault::HeaderField);
        }
        let value = trim(value);
        if name.eq_ignore_ascii_case(b"Host") {
            self.take_host(value)
        } else if name.eq_ignore_ascii_case(b"Content-Length") {
            self.take_length(value)
        } else if name.eq_ignore_ascii_case(b"Transfer-Encoding") {
            self.take_coding(value)
        } else {
            self.upgrade |= name.eq_ignore_ascii_case(b"Upgrade");
            Ok(())
        }
    }

    /// Says what the whole head means.
    ///
    /// # Errors
    /// [`Fault::HostMismatch`] or [`Fault::Framing`].
    pub(super) fn conclude(&self, request: &RequestLine, len: usize) -> Result<Head, Fault> {
        let body = match (self.chunked, self.length) {
            (true, Some(_)) => return Err(Fault::Framing),
            (true, None) if request.is_1_0 => return Err(Fault::Framing),
            (true, None) => Body::Chunked,
            (false, Some(bytes)) => Body::Length(bytes),
            (false, None) => Body::Empty,
        };
        let authority = self.authority(request.target.as_ref())?;
        let name = authority.and_then(|authority| authority.host.clone().into_name());
        Ok(Head { name, len, body, upgrade: self.upgrade })
    }

    /// The one authority that Host and target agree on (RFC 9112 section 3.2.2).
    fn authority<'a>(&'a self, target: Option<&'a Target>) -> Result<Option<&'a Authority>, Fault> {
        match (target, &self.host) {
            (None, HostField::Says(authority)) => Ok(Some(authority)),
            (None, HostField::Missing | HostField::Empty) => Ok(None),
            (Some(target), HostField::Missing) => Ok(Some(&target.authority)),
            (Some(_), HostField::Empty) => Err(Fault::HostMismatch),
            (Some(Target { authority, default_port }), HostField::Says(host)) => {
                let port = |authority: &Authority| authority.port.unwrap_or(*default_port);
                if authority.host == host.host && port(authority) == port(host) {
                    Ok(Some(authority))
                } else {
                    Err(Fault::HostMismatch)
                }
            }
        }
    }

    fn take_host(&mut self, value: &[u8]) -> Result<(), Fault> {
        match self.host {
            HostField::Missing => {}
            HostField::Empty | HostField::Says(_) => return Err(Fault::TwoNames),
        }
        self.host =
            if value.is_empty() { HostField::Empty } else { HostField::Says(Authority::parse(value)?) };
        Ok(())
    }

    /// Digits alone, once: a list or a repetition is read in more than one way (RFC 9110 section 8.6).
    fn take_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let bytes = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        match bytes {
            Some(bytes) if is_number && bytes <= super::LONGEST_BODY && self.length.is_none() => {
                self.length = Some(bytes);
                Ok(())
            }
            Some(_) | None => Err(Fault::Framing),
        }
    }

    /// `chunked` alone, once: every other coding, order or repetition has been used for smuggling.
    fn take_coding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::Framing);
        }
        self.chunked = true;
        Ok(())
    }
}

/// Fields that say where a request goes, where it ends, or what becomes of the connection. Some servers read
/// trailers as if they had stood in the head (RFC 9110 section 6.5.1).
const NEVER_TRAILERS: [&[u8]; 7] =
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"TE", b"Trailer"];

/// Judges one trailer line, without its CRLF (RFC 9112 section 7.1.2).
///
/// # Errors
/// [`Fault::HeaderField`]: no field, one that no trailer may be, or what a server that knows no trailers could
/// take for the first line of another request.
pub(in crate::wire) fn check_trailer(line: &[u8]) -> Result<(), Fault> {
    let colon = line.iter().position(|&byte| byte == b':').ok_or(Fault::HeaderField)?;
    let (name, value) = line.split_at(colon);
    let is_barred = NEVER_TRAILERS.iter().any(|barred| name.eq_ignore_ascii_case(barred));
    if !is_token(name) || !value.iter().copied().all(is_value_byte) || is_barred || speaks_http(line) {
        return Err(Fault::HeaderField);
    }
    Ok(())
}

/// Whether the byte may stand in a field value (RFC 9110 section 5.5).
const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Takes spaces and tabs off both ends, and nothing else.
fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}
