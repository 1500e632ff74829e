//! The fields of one HTTP/2 request, read strictly: one name, or none.
//!
//! Must not know frames, nor how fields were compressed.

use crate::facts::{Fault, Name};
use crate::wire::host::Authority;
use crate::wire::http::{LONGEST_BODY, is_token};

/// What the fields so far have said.
#[derive(Debug, Default)]
pub(super) struct Fields {
    method: Option<Method>,
    scheme_port: Option<u16>,
    has_path: bool,
    is_asterisk: bool,
    authority: Option<Authority>,
    host: Option<Authority>,
    length: Option<u64>,
    /// A field that is no pseudo-header has come.
    past_pseudo: bool,
}

/// Methods that mean something to a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Options,
    Other,
}

/// What a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// `None`: neither `:authority` nor Host, or an address literal.
    pub(super) name: Option<Name>,
    /// HEAD: the response has no body.
    pub(super) head_only: bool,
    /// Bytes of the body, where they are announced.
    pub(super) length: Option<u64>,
}

impl Fields {
    /// Takes one field of a request's head (RFC 9113 sections 8.2 and 8.3).
    ///
    /// # Errors
    /// A field that servers refuse, or read in more than one way.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        check_value(value)?;
        if name.first() == Some(&b':') {
            return if self.past_pseudo { Err(Fault::HeaderField) } else { self.take_pseudo(name, value) };
        }
        self.past_pseudo = true;
        check_name(name)?;
        match name {
            b"host" if self.host.is_some() => Err(Fault::TwoNames),
            b"host" => Authority::parse(value).map(|host| self.host = Some(host)),
            b"content-length" => self.take_length(value),
            // What they say is said by frames here; a server that writes HTTP/1 onwards would believe them.
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                Err(Fault::Framing)
            }
            b"te" if value != b"trailers" => Err(Fault::Framing),
            _ => Ok(()),
        }
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name {
            b":authority" if self.authority.is_some() => Err(Fault::TwoNames),
            b":authority" => Authority::parse(value).map(|authority| self.authority = Some(authority)),
            b":method" if self.method.is_none() => {
                read_method(value).map(|method| self.method = Some(method))
            }
            b":scheme" if self.scheme_port.is_none() => {
                self.scheme_port = Some(match value {
                    b"http" => 80,
                    b"https" => 443,
                    _ => return Err(Fault::RequestLine),
                });
                Ok(())
            }
            b":path" if !self.has_path => {
                check_path(value)?;
                (self.has_path, self.is_asterisk) = (true, value == b"*");
                Ok(())
            }
            _ => Err(Fault::RequestLine),
        }
    }

    /// Digits alone, once.
    fn take_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let bytes = str::from_utf8(value).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
        match bytes {
            Some(bytes) if bytes <= LONGEST_BODY && self.length.is_none() => {
                self.length = Some(bytes);
                Ok(())
            }
            Some(_) | None => Err(Fault::Framing),
        }
    }

    /// Says what the whole head means.
    ///
    /// # Errors
    /// [`Fault::RequestLine`] where a pseudo-header is missing, [`Fault::HostMismatch`].
    pub(super) fn conclude(self) -> Result<Said, Fault> {
        let (Some(method), Some(default_port), true) = (self.method, self.scheme_port, self.has_path) else {
            return Err(Fault::RequestLine);
        };
        if self.is_asterisk && method != Method::Options {
            return Err(Fault::RequestLine);
        }
        let port = |authority: &Authority| authority.port.unwrap_or(default_port);
        let authority = match (self.authority, self.host) {
            (Some(authority), Some(host))
                if authority.host != host.host || port(&authority) != port(&host) =>
            {
                return Err(Fault::HostMismatch);
            }
            // RFC 9113 section 8.3.1: a request that was HTTP/1 may have Host instead.
            (Some(authority), _) | (None, Some(authority)) => Some(authority),
            (None, None) => None,
        };
        let name = authority.and_then(|authority| authority.host.into_name());
        Ok(Said { name, head_only: method == Method::Head, length: self.length })
    }
}

/// Takes one field of a trailer section: nothing that a server could take for the head of another request
/// (RFC 9113 section 8.1).
///
/// # Errors
/// [`Fault::HeaderField`] and [`Fault::Framing`].
pub(super) fn take_trailer(name: &[u8], value: &[u8]) -> Result<(), Fault> {
    check_value(value)?;
    check_name(name)?;
    match name {
        b"host" => Err(Fault::TwoNames),
        b"content-length" | b"transfer-encoding" | b"connection" | b"upgrade" => Err(Fault::Framing),
        _ => Ok(()),
    }
}

/// A token in lower case (RFC 9113 section 8.2.1).
fn check_name(name: &[u8]) -> Result<(), Fault> {
    let is_sound = is_token(name) && !name.iter().any(u8::is_ascii_uppercase);
    if is_sound { Ok(()) } else { Err(Fault::HeaderField) }
}

/// No control characters, no blanks at the ends (RFC 9113 section 8.2.1).
fn check_value(value: &[u8]) -> Result<(), Fault> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_sound = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
    if is_sound && !is_blank(value.first()) && !is_blank(value.last()) {
        Ok(())
    } else {
        Err(Fault::HeaderField)
    }
}

/// Any method but the one that asks for a tunnel, extended or not (RFC 9113 section 8.5, RFC 8441).
fn read_method(value: &[u8]) -> Result<Method, Fault> {
    if !is_token(value) || value.eq_ignore_ascii_case(b"CONNECT") {
        return Err(Fault::RequestLine);
    }
    Ok(match value {
        b"HEAD" => Method::Head,
        b"OPTIONS" => Method::Options,
        _ => Method::Other,
    })
}

/// A path as it may stand in a request line; the asterisk's method is checked at the end.
fn check_path(value: &[u8]) -> Result<(), Fault> {
    let is_sound = value.iter().all(|byte| matches!(byte, b'!'..=b'~' if *byte != b'#'));
    if is_sound && (value.starts_with(b"/") || value == b"*") { Ok(()) } else { Err(Fault::RequestLine) }
}
