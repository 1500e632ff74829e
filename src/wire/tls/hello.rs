//! The body of a ClientHello: which one name it asks for, or why that cannot be said.
//!
//! It must not know records or segments: the body lies in one piece. `tls-parser` reads the fixed
//! fields; extensions are walked here, for it takes two names, cut lists and duplicates without a word.

use tls_parser::{TlsCompressionID, parse_tls_handshake_client_hello};

use super::Hello;
use crate::facts::{Fault, Name};
use crate::wire::host::Host;

/// Reads the body (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2 where it has no extensions).
///
/// # Errors
/// Whatever a server could read in another way is a [`Fault`]; refusing a real client is the safe
/// mistake.
pub(super) fn read(body: &[u8]) -> Result<Hello, Fault> {
    let (rest, fields) = parse_tls_handshake_client_hello(body).map_err(|_| Fault::Length)?;
    if !rest.is_empty() {
        return Err(Fault::Length);
    }
    let is_tls = fields.version.0 >> 8 == u16::from(super::MAJOR);
    if !is_tls || fields.ciphers.is_empty() || !fields.comp.contains(&TlsCompressionID(0)) {
        return Err(Fault::Hello);
    }
    read_extensions(fields.ext.unwrap_or_default())
}

fn read_extensions(mut block: &[u8]) -> Result<Hello, Fault> {
    let mut hello = Hello { name: None, ech: false, alpn: Vec::new() };
    let mut seen = [0_u16; MAX_EXTENSIONS];
    let mut count = 0;
    while !block.is_empty() {
        let kind = take_u16(&mut block)?;
        let content = take_vector16(&mut block)?;
        if seen.iter().take(count).any(|&earlier| earlier == kind) {
            return Err(if kind == SERVER_NAME { Fault::TwoNames } else { Fault::Hello });
        }
        *seen.get_mut(count).ok_or(Fault::Hello)? = kind;
        count += 1;
        match kind {
            SERVER_NAME => hello.name = read_server_name(content)?,
            ALPN => hello.alpn = read_alpn(content)?,
            ECH | 0xfe08..=0xfe0c | 0xff02 | 0xff03 | ESNI => hello.ech = true,
            _ => {}
        }
    }
    Ok(hello)
}

/// Reads a list of exactly one host_name (RFC 6066 section 3).
fn read_server_name(mut content: &[u8]) -> Result<Option<Name>, Fault> {
    let mut list = take_vector16(&mut content)?;
    let kind = take_u8(&mut list)?;
    let name = take_vector16(&mut list)?;
    if !content.is_empty() {
        return Err(Fault::Length);
    }
    if !list.is_empty() {
        return Err(Fault::TwoNames);
    }
    if kind != HOST_NAME {
        return Err(Fault::Hello);
    }
    Ok(Host::parse(name)?.into_name())
}

/// Reads a list of protocol names, none of them empty (RFC 7301 section 3.1).
fn read_alpn(mut content: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let mut list = take_vector16(&mut content)?;
    if !content.is_empty() || list.is_empty() {
        return Err(Fault::Length);
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let len = take_u8(&mut list)?;
        if len == 0 || protocols.len() == MAX_PROTOCOLS {
            return Err(Fault::Hello);
        }
        protocols.push(take(&mut list, len.into())?.to_vec());
    }
    Ok(protocols)
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> Result<&'a [u8], Fault> {
    from.split_off(..len).ok_or(Fault::Length)
}

fn take_u8(from: &mut &[u8]) -> Result<u8, Fault> {
    from.split_off_first().copied().ok_or(Fault::Length)
}

fn take_u16(from: &mut &[u8]) -> Result<u16, Fault> {
    Ok(u16::from_be_bytes([take_u8(from)?, take_u8(from)?]))
}

fn take_vector16<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let len = take_u16(from)?;
    take(from, len.into())
}

/// Extension types (IANA, TLS ExtensionType Values).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// encrypted_client_hello (RFC 9849); its drafts used the numbers below it and 0xff02, 0xff03.
const ECH: u16 = 0xfe0d;
/// encrypted_server_name, from which ECH grew (draft-ietf-tls-esni-06).
const ESNI: u16 = 0xffce;
/// The one name type that exists (RFC 6066 section 3).
const HOST_NAME: u8 = 0;
/// Extensions in one hello. About 65 are registered, and real hellos carry up to 20; without a limit the
/// search for duplicates would not be linear.
const MAX_EXTENSIONS: usize = 128;
/// Protocols in one ALPN list. Real hellos carry up to 3; without a limit, two bytes on the wire would
/// cost forty in memory.
const MAX_PROTOCOLS: usize = 64;
