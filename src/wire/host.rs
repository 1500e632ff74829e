//! Hosts as protocols spell them: a name or an address literal, with or without a port.
//!
//! It must not know which protocol asks, nor what a name may be used for.

use std::net::{IpAddr, Ipv6Addr};

use crate::facts::{Fault, Name, NameFault};

/// What stands where a host name may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A name, canonical.
    Name(Name),
    /// An address literal: well-formed, but no rule can match it.
    Address(IpAddr),
}

impl Host {
    /// Reads a name or a bare address literal.
    ///
    /// Spellings that only some libraries take for an address (`0x7f.1`, `2130706433`) are neither.
    ///
    /// # Errors
    /// [`Fault::Name`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        match Name::parse(bytes) {
            Ok(name) => Ok(Self::Name(name)),
            Err(NameFault::Address) => parse_text(bytes).map(Self::Address).ok_or(Fault::Name),
            Err(NameFault::Empty | NameFault::TooLong | NameFault::Label | NameFault::Byte) => {
                Err(Fault::Name)
            }
        }
    }

    /// Returns the name where it is one.
    pub(super) fn into_name(self) -> Option<Name> {
        match self {
            Self::Name(name) => Some(name),
            Self::Address(_) => None,
        }
    }
}

/// A host and the port that was written with it (RFC 3986 section 3.2, without userinfo).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) host: Host,
    pub(super) port: Option<u16>,
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// Userinfo, an empty port, a bare IPv6 literal and percent-encoding are refused: servers read
    /// them in more than one way.
    ///
    /// # Errors
    /// [`Fault::Name`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        if let Some(inside) = bytes.strip_prefix(b"[") {
            let (address, after) = split_once(inside, b']').ok_or(Fault::Name)?;
            let address: Ipv6Addr = parse_text(address).ok_or(Fault::Name)?;
            let port = match after {
                [] => None,
                [b':', digits @ ..] => Some(parse_port(digits)?),
                _ => return Err(Fault::Name),
            };
            return Ok(Self { host: Host::Address(address.into()), port });
        }
        match split_once(bytes, b':') {
            None => Ok(Self { host: Host::parse(bytes)?, port: None }),
            Some((host, digits)) => Ok(Self { host: Host::parse(host)?, port: Some(parse_port(digits)?) }),
        }
    }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |&byte| byte == at);
    Some((parts.next()?, parts.next()?))
}

fn parse_text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

/// One to five digits: `FromStr` alone would take a plus sign.
fn parse_port(digits: &[u8]) -> Result<u16, Fault> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Name);
    }
    parse_text(digits).ok_or(Fault::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_a_strict_address_literal() {
        assert_eq!(
            Host::parse(b"WWW.example.com.").unwrap().into_name(),
            Some(Name::parse("www.example.com").unwrap())
        );
        for address in ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7"] {
            let parsed = Host::parse(address.as_bytes());
            assert_eq!(parsed, Ok(Host::Address(address.parse().unwrap())), "{address}");
        }
        for odd in
            ["0x7f.1", "2130706433", "127.1", "192.0.2.7.", "good.example.com:443", "[::1]", "fe80::1%1"]
        {
            assert_eq!(Host::parse(odd.as_bytes()), Err(Fault::Name), "{odd}");
        }
    }

    #[test]
    fn an_authority_takes_one_port_of_digits() {
        let port = |text: &str| Authority::parse(text.as_bytes()).map(|authority| authority.port);
        assert_eq!(port("example.com"), Ok(None));
        assert_eq!(port("example.com:0443"), Ok(Some(443)));
        assert_eq!(port("[2001:db8::1]"), Ok(None));
        assert_eq!(port("[2001:db8::1]:65535"), Ok(Some(65535)));
        for odd in [
            "example.com:",
            "example.com:+80",
            "example.com:80x",
            "example.com:65536",
            "example.com:000080",
            "example.com:80:80",
            "a@example.com",
            "2001:db8::1",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[192.0.2.1]",
            "[::1]]",
            "",
            ":80",
        ] {
            assert_eq!(port(odd), Err(Fault::Name), "{odd:?}");
        }
    }
}
