//! What `explain` is asked about: a URL or a name, as people paste it.
//!
//! Reads text only; nothing is looked up.

use crate::facts::{Name, Protocol};

/// A name, and the port and protocol that its spelling implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: Name,
    pub(super) port: Option<u16>,
    pub(super) protocol: Option<Protocol>,
}

/// Parses `SCHEME://HOST[:PORT]/...`, `HOST:PORT` or `HOST`.
pub(super) fn parse(text: &str) -> anyhow::Result<Target> {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let (port, protocol) = match scheme.map(str::to_ascii_lowercase).as_deref() {
        None => (None, None),
        Some("https" | "wss") => (Some(443), Some(Protocol::Tls)),
        Some("http" | "ws") => (Some(80), Some(Protocol::Http)),
        Some("postgres" | "postgresql") => (Some(5432), Some(Protocol::Postgres)),
        Some(other) => anyhow::bail!("unknown scheme {other:?}"),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, written) = match host.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        Some(_) | None => (host, None),
    };
    let written = match written.filter(|port| !port.is_empty()).map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port != 0 => Some(port),
        Some(_) => anyhow::bail!("{text:?} has a port that is none"),
    };
    let ascii = idna::domain_to_ascii_cow(host.as_bytes(), idna::AsciiDenyList::EMPTY)
        .map_err(|_| anyhow::anyhow!("{host:?} is not a host name"))?;
    let name = Name::parse(ascii.as_bytes())
        .map_err(|fault| anyhow::Error::new(fault).context(format!("{host:?} is not a name to explain")))?;
    Ok(Target { name, port: written.or(port), protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_names_are_taken_as_people_paste_them() {
        for (text, name, port, protocol) in [
            ("example.com", "example.com", None, None),
            ("Example.COM.:8443", "example.com", Some(8443), None),
            ("https://example.com/a?b#c", "example.com", Some(443), Some(Protocol::Tls)),
            ("HTTP://user:pw@example.com:8080", "example.com", Some(8080), Some(Protocol::Http)),
            ("https://bücher.test", "xn--bcher-kva.test", Some(443), Some(Protocol::Tls)),
        ] {
            let target = parse(text).unwrap();
            assert_eq!(
                (target.name.as_str(), target.port, target.protocol),
                (name, port, protocol),
                "{text}"
            );
        }
        for text in
            ["", "https://", "https://203.0.113.1/", "[::1]:443", "gopher://a.test", "a.test:0", "a b"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
