//! The first line of a request: method, target, version.
//!
//! It must not know the fields behind it; whether they agree with the target is `fields`' matter.

use super::{Look, is_token};
use crate::facts::Fault;
use crate::wire::host::Authority;

/// What of a request line matters to a gate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    /// From an absolute-form target, its scheme's port filled in.
    pub(super) target: Option<Target>,
    /// HTTP/1.0, which knows no chunks.
    pub(super) is_1_0: bool,
}

/// The authority of an absolute-form target (RFC 9112 section 3.2.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) authority: Authority,
    /// The port that is meant where none is written.
    pub(super) default_port: u16,
}

/// Reads a line without its LF, but with the CR that must stand before it (RFC 9112 section 3).
///
/// A line that nowhere says `HTTP/` is another protocol's, or HTTP/0.9, which names no host.
pub(super) fn read(line: &[u8]) -> Look<RequestLine> {
    let is_blank = line.is_empty() || line == b"\r";
    // HTTP/2 with prior knowledge opens like this (RFC 9113 section 3.4).
    if line == b"PRI * HTTP/2.0\r" || !is_blank && !speaks_http(line) {
        return Look::Foreign;
    }
    parse(line).map_or_else(Look::Bad, Look::Got)
}

/// Whether some server could take this for a request line.
pub(super) fn speaks_http(line: &[u8]) -> bool {
    line.windows(5).any(|part| part.eq_ignore_ascii_case(b"HTTP/"))
}

fn parse(line: &[u8]) -> Result<RequestLine, Fault> {
    let line = line.strip_suffix(b"\r").ok_or(Fault::RequestLine)?;
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Fault::RequestLine);
    }
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::RequestLine);
    };
    // A tunnel carries whatever its two ends like.
    if !is_token(method) || method.eq_ignore_ascii_case(b"CONNECT") {
        return Err(Fault::RequestLine);
    }
    let is_1_0 = match version {
        b"HTTP/1.0" => true,
        b"HTTP/1.1" => false,
        _ => return Err(Fault::RequestLine),
    };
    Ok(RequestLine { target: read_target(method, target)?, is_1_0 })
}

/// Reads origin-form, absolute-form of `http` and `https`, or asterisk-form (RFC 9112 section 3.2).
fn read_target(method: &[u8], target: &[u8]) -> Result<Option<Target>, Fault> {
    if target.contains(&b'#') {
        return Err(Fault::RequestLine);
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let (rest, default_port) = match (strip_scheme(target, b"http://"), strip_scheme(target, b"https://")) {
        (Some(rest), _) => (rest, 80),
        (None, Some(rest)) => (rest, 443),
        (None, None) => return Err(Fault::RequestLine),
    };
    let authority = rest.split(|&byte| byte == b'/' || byte == b'?').next().unwrap_or_default();
    Ok(Some(Target { authority: Authority::parse(authority)?, default_port }))
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}
