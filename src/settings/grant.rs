//! What `--allow` and `--deny` say: one text to one pattern and its ports.
//!
//! Names and ports are checked as in rules; the hints are in the spelling of arguments. Must not know how
//! arguments become rules.

use std::net::{IpAddr, SocketAddr};

use crate::gate::{Action, MatchBy, Pattern, PatternFault, Ports};

use super::scalar::{Complaint, port_range};

/// One name that is allowed or denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) kind: Kind,
    pub(super) pattern: Pattern,
    pub(super) ports: Ports,
}

/// What kind of rule a name goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--allow NAME[:PORT]`.
    Allow,
    /// `--allow tcp:NAME:PORT`: the address alone decides.
    AllowAddress,
    /// `--deny NAME[:PORT]`.
    Deny,
}

impl Kind {
    pub(super) fn action(self) -> Action {
        match self {
            Self::Allow | Self::AllowAddress => Action::Allow,
            Self::Deny => Action::Deny,
        }
    }

    pub(super) fn by(self) -> MatchBy {
        match self {
            Self::Allow | Self::Deny => MatchBy::NameAndAddress,
            Self::AllowAddress => MatchBy::Address,
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Allow | Self::AllowAddress => "--allow",
            Self::Deny => "--deny",
        }
    }
}

/// Parses `NAME`, `NAME:PORT`, `NAME:FIRST-LAST` or `tcp:NAME:PORT`.
pub(super) fn allow(text: &str) -> Result<Grant, Complaint> {
    let grant = match text.strip_prefix("tcp:").filter(|rest| !rest.starts_with("//")) {
        Some(rest) => address_grant(rest)?,
        None => parse(text, Kind::Allow)?,
    };
    if grant.pattern.as_str() == "localhost" {
        let port = grant.ports.0.first().map_or(80, |(first, _)| *first);
        return Err(Complaint::new("localhost is the command's own").hint(format!(
            "it reaches itself without a rule; --host-port {port} opens that port of this host"
        )));
    }
    Ok(grant)
}

/// Parses `NAME`, `NAME:PORT` or `NAME:FIRST-LAST`.
pub(super) fn deny(text: &str) -> Result<Grant, Complaint> {
    if let Some(rest) = text.strip_prefix("tcp:").filter(|rest| !rest.starts_with("//")) {
        let hint = match parse(rest, Kind::Deny) {
            Ok(_) => format!("--deny {rest}"),
            Err(_) => "--deny example.com".to_owned(),
        };
        let what = "`tcp:` has no meaning here: a denied name is denied whatever is spoken";
        return Err(Complaint::new(what).hint(hint));
    }
    parse(text, Kind::Deny)
}

fn address_grant(rest: &str) -> Result<Grant, Complaint> {
    if rest.contains(':') {
        return parse(rest, Kind::AllowAddress);
    }
    let name = match Pattern::parse(rest, true) {
        Ok(pattern) => pattern.to_string(),
        Err(_) => "db.example.net".to_owned(),
    };
    Err(Complaint::new("`tcp:` needs a port").hint(format!("--allow tcp:{name}:5432, or whichever it is")))
}

fn parse(text: &str, kind: Kind) -> Result<Grant, Complaint> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(url(scheme, rest, kind));
    }
    let option = kind.option();
    let unwrapped = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let unwrapped = unwrapped.split('/').next().unwrap_or(unwrapped);
    if unwrapped.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok() {
        return Err(fault(PatternFault::Address, text, option));
    }
    let (name, ports) = match text.split_once(':') {
        Some((name, ports)) => (name, Some(ports)),
        None => (text, None),
    };
    let pattern = Pattern::parse(name, false).map_err(|found| fault(found, name, option))?;
    let ports = match (ports.map(port_range), kind.action()) {
        (Some(Ok(range)), _) => Ports(vec![range]),
        (Some(Err(complaint)), _) => {
            return Err(Complaint::new(complaint.what).hint(format!(
                "ports are 1 to 65535: {option} {pattern}:8443, or {option} {pattern}:8000-8010"
            )));
        }
        (None, Action::Allow) => Ports::default(),
        (None, Action::Deny) => Ports(vec![(1, u16::MAX)]),
    };
    Ok(Grant { kind, pattern, ports })
}

/// A URL is a slip that tells what was meant.
fn url(scheme: &str, rest: &str, kind: Kind) -> Complaint {
    let option = kind.option();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let web = matches!(scheme, "http" | "https" | "ws" | "wss") || kind == Kind::Deny;
    let complaint = Complaint::new("URL in place of a name");
    match parse_place(place) {
        Some(name) if web => complaint.hint(format!("without scheme and path: {option} {name}")),
        Some(place) if place.contains(':') => complaint.hint(format!("{option} tcp:{place}")),
        Some(name) => {
            complaint.hint(format!("with the port in place of the scheme: {option} tcp:{name}:PORT"))
        }
        None => complaint.hint(format!("{option} example.com, or {option} example.com:8443")),
    }
}

/// Returns `NAME` or `NAME:PORT` in clean spelling, if it is that.
fn parse_place(text: &str) -> Option<String> {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let name = Pattern::parse(name, true).ok()?;
    match port {
        None => Some(name.to_string()),
        Some(port) => port_range(port).ok().map(|(port, _)| format!("{name}:{port}")),
    }
}

fn fault(fault: PatternFault, text: &str, option: &str) -> Complaint {
    let hint = match fault {
        PatternFault::Empty => format!("{option} example.com"),
        PatternFault::Byte => {
            let first = text.split(['/', ',', ' ']).next().unwrap_or(text);
            match Pattern::parse(first, true) {
                Ok(name) if text.contains('/') => format!("without a path: {option} {name}"),
                Ok(name) => format!("one name each time: {option} {name} {option} ..."),
                Err(_) => "letters, digits, `-`, `_`, `.` and `*` are taken".to_owned(),
            }
        }
        PatternFault::Everything => {
            "if every name is really meant: a [[rule]] with `wide = true` in a --policy file".to_owned()
        }
        PatternFault::PublicSuffix => {
            "anyone can register a name there; name the domain (`*.example.com`), or write a [[rule]] with \
             `wide = true` in a --policy file"
                .to_owned()
        }
        PatternFault::TooLong
        | PatternFault::Label
        | PatternFault::Address
        | PatternFault::DoubleStar
        | PatternFault::Unicode => fault.hint().to_owned(),
    };
    Complaint::new(fault.as_str()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(text: &str, parse: fn(&str) -> Result<Grant, Complaint>) -> String {
        let complaint = parse(text).expect_err(text);
        format!("{} | {}", complaint.what, complaint.hint.unwrap_or_default())
    }

    #[test]
    fn names_stand_with_and_without_ports() {
        for (text, kind, name, ports) in [
            ("example.com", Kind::Allow, "example.com", vec![(80, 80), (443, 443)]),
            ("*.Example.com.", Kind::Allow, "*.example.com", vec![(80, 80), (443, 443)]),
            ("**.example.com:8443", Kind::Allow, "**.example.com", vec![(8443, 8443)]),
            ("example.com:8000-8010", Kind::Allow, "example.com", vec![(8000, 8010)]),
            ("b\u{fc}cher.example", Kind::Allow, "xn--bcher-kva.example", vec![(80, 80), (443, 443)]),
            ("tcp:db.example.net:5432", Kind::AllowAddress, "db.example.net", vec![(5432, 5432)]),
            ("tcp", Kind::Allow, "tcp", vec![(80, 80), (443, 443)]),
        ] {
            let pattern = Pattern::parse(name, false).unwrap();
            assert_eq!(allow(text), Ok(Grant { kind, pattern, ports: Ports(ports) }), "{text}");
        }
        assert_eq!(deny("example.com").unwrap().ports, Ports(vec![(1, 65_535)]));
        assert_eq!(deny("example.com:443").unwrap().ports, Ports(vec![(443, 443)]));
    }

    #[test]
    fn what_was_meant_by_a_slip_is_told_in_the_spelling_of_arguments() {
        for (text, told) in [
            ("", "empty pattern | --allow example.com"),
            (
                "https://example.com/a",
                "URL in place of a name | without scheme and path: --allow example.com",
            ),
            (
                "https://u:p@example.com:8443",
                "URL in place of a name | without scheme and path: --allow example.com:8443",
            ),
            ("ssh://git@example.com:22/x", "URL in place of a name | --allow tcp:example.com:22"),
            ("tcp://example.com:22", "URL in place of a name | --allow tcp:example.com:22"),
            (
                "ssh://example.com",
                "URL in place of a name | with the port in place of the scheme: --allow tcp:example.com:PORT",
            ),
            (
                "https://192.0.2.1/",
                "URL in place of a name | --allow example.com, or --allow example.com:8443",
            ),
            (
                "tcp:db.example.net",
                "`tcp:` needs a port | --allow tcp:db.example.net:5432, or whichever it is",
            ),
            ("tcp:", "`tcp:` needs a port | --allow tcp:db.example.net:5432, or whichever it is"),
            ("example.com/x", "character that no host name has | without a path: --allow example.com"),
            (
                "a.test,b.test",
                "character that no host name has | one name each time: --allow a.test --allow ...",
            ),
            (
                "localhost:8080",
                "localhost is the command's own | it reaches itself without a rule; --host-port 8080 opens that port of this host",
            ),
        ] {
            assert_eq!(hint(text, allow), told, "{text}");
        }
        assert!(hint("tcp:a.test:22", deny).ends_with("| --deny a.test:22"));
        assert!(hint("https://a.test/x", deny).ends_with("--deny a.test"));
    }

    #[test]
    fn ports_and_addresses_are_told_apart_from_names() {
        for text in [
            "192.0.2.1",
            "192.0.2.1:443",
            "::1",
            "[2001:db8::1]",
            "[2001:db8::1]:443",
            "127.1:80",
            "192.0.2.0/24",
            "2001:db8::/32",
        ] {
            assert!(hint(text, allow).starts_with("address in place of a name"), "{text}");
        }
        for text in
            ["a.test:", "a.test:https", "a.test:0", "a.test:70000", "tcp:a.test:", "a.test:b.test:443"]
        {
            assert!(hint(text, allow).starts_with("not a port or range of ports"), "{text}");
        }
        assert!(hint("a.test:9-1", allow).starts_with("the range ends before it starts"));
        for text in ["*", "*.com", "a b", "\u{1b}[31m", "192.0.2.0/24", "a..b"] {
            assert!(allow(text).is_err(), "{text}");
        }
    }
}
