//! Single values: text in, checked value out, or a complaint with a hint.
//!
//! Pure functions of one text. Where the text stood is the reader's matter.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::facts::{Scope, canonical, scope};

/// What is wrong with a value, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Parses `"1h30m"`, `"2500ms"`, `"0s"`: whole numbers with units ms, s, m, h, d.
pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    let bad = || {
        Complaint::new("not a duration").hint("a number and a unit: \"500ms\", \"10s\", \"5m\", \"1h30m\"")
    };
    let mut rest = text;
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        total = number.checked_mul(millis).and_then(|part| total.checked_add(part)).ok_or_else(bad)?;
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// Spells a duration as [`duration`] reads it.
pub(super) fn spell_duration(value: Duration) -> String {
    let millis = value.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

/// Parses `"443"` or `"8000-8010"`.
pub(super) fn port_range(text: &str) -> Result<(u16, u16), Complaint> {
    let bad =
        || Complaint::new("not a port or range of ports").hint("ports are 1 to 65535: 443, or \"8000-8010\"");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse::<u16>().ok()).flatten().filter(|port| *port != 0)
    };
    let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
    if first > last {
        return Err(
            Complaint::new("the range ends before it starts").hint(format!("write \"{last}-{first}\""))
        );
    }
    Ok((first, last))
}

/// Parses the name of a group.
pub(super) fn group(text: &str) -> Result<String, Complaint> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if text.is_empty() || text.len() > 32 || !plain {
        return Err(Complaint::new("not the name of a group").hint("as in /etc/group"));
    }
    Ok(text.to_owned())
}

/// Parses an address or a network of clients; an IPv4-mapped spelling becomes its IPv4 form.
pub(super) fn network(text: &str) -> Result<IpNet, Complaint> {
    if let Ok(address) = IpAddr::from_str(text) {
        return Ok(IpNet::from(canonical(address)));
    }
    let net = IpNet::from_str(text).map_err(|_| {
        Complaint::new("not an address or network")
            .hint("\"172.18.0.5\", \"172.18.0.0/16\" or \"2001:db8::/64\"")
    })?;
    let plain = match net {
        IpNet::V6(six) => match (six.addr().to_ipv4_mapped(), six.prefix_len().checked_sub(96)) {
            (Some(four), Some(length)) => Ipv4Net::new(four, length).map_or(net, IpNet::V4),
            (Some(_), None) => {
                return Err(
                    Complaint::new("a network of IPv4-mapped addresses").hint("write the IPv4 network")
                );
            }
            (None, _) => net,
        },
        IpNet::V4(_) => net,
    };
    if plain.trunc() != plain {
        return Err(Complaint::new("the address has bits outside the network's prefix").hint(format!(
            "\"{}\" for the network, \"{}\" for the one address",
            plain.trunc(),
            plain.addr()
        )));
    }
    Ok(plain)
}

/// Parses `ADDR`, `ADDR:PORT`, `[ADDR6]:PORT`; a missing port is `port`. The address must be one that
/// a socket can be dialled or bound at.
pub(super) fn socket(text: &str, port: u16) -> Result<SocketAddr, Complaint> {
    let unwrapped = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let parsed = match IpAddr::from_str(unwrapped) {
        Ok(address) => SocketAddr::new(address, port),
        Err(_) => SocketAddr::from_str(text).map_err(|_| {
            Complaint::new("not an address").hint("\"192.0.2.1\", \"192.0.2.1:53\" or \"[2001:db8::1]:53\"")
        })?,
    };
    if parsed.port() == 0 {
        return Err(Complaint::new("port 0 is no port").hint("ports are 1 to 65535"));
    }
    Ok(SocketAddr::new(canonical(parsed.ip()), parsed.port()))
}

/// As [`socket`], and the address must be one that can be asked: unicast, not unspecified.
pub(super) fn server(text: &str, port: u16) -> Result<SocketAddr, Complaint> {
    let parsed = socket(text, port)?;
    match scope(parsed.ip()) {
        Scope::Unusable | Scope::Multicast => {
            Err(Complaint::new("no server can be at this address").hint("the unicast address of one server"))
        }
        Scope::Public | Scope::Private | Scope::Loopback | Scope::LinkLocal => Ok(parsed),
    }
}

/// Parses permission bits written as in `chmod`: `"0660"`.
pub(super) fn permissions(text: &str) -> Result<u32, Complaint> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777).ok_or_else(|| {
        Complaint::new("not permission bits").hint("three octal digits with a leading zero: \"0660\"")
    })
}

/// Checks the name of a network interface (Linux: 1 to 15 bytes). Wildcards are refused: one letter
/// too few would capture, or leave out, networks that nobody meant.
pub(super) fn interface(text: &str) -> Result<String, Complaint> {
    if text.contains('*') || text.contains('+') {
        return Err(
            Complaint::new("wildcards are not taken in interface names").hint("list each interface by name")
        );
    }
    if text == "lo" {
        return Err(Complaint::new("the loopback interface cannot be captured")
            .hint("capture the bridge or link by which the workload's traffic enters this host"));
    }
    let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if !fits || !plain {
        return Err(Complaint::new("not an interface name")
            .hint("1 to 15 letters, digits, '-', '_', '.', '@'; `ip -brief link` lists them"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, millis) in [("0s", 0), ("2500ms", 2_500), ("1h30m", 5_400_000), ("7d", 604_800_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "5", "s", "5 s", "-5s", "1.5s", "5w", "18446744073709551615d", "99999999999999999999s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_spelled_duration_reads_back_as_itself() {
        for millis in [0, 1, 1_500, 60_000, 5_400_000, 86_400_000] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&spell_duration(value)), Ok(value));
        }
        assert_eq!(spell_duration(Duration::from_secs(300)), "5m");
    }

    #[test]
    fn ports_are_numbers_and_ranges_that_go_up() {
        assert_eq!(port_range("443"), Ok((443, 443)));
        assert_eq!(port_range("8000-8010"), Ok((8000, 8010)));
        for text in ["", "0", "65536", "1-", "-1", "9-1", "+80", "0-9", "1-2-3", "80,443", "http"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_canonical_or_refused() {
        for (text, expected) in [
            ("172.18.0.5", "172.18.0.5/32"),
            ("172.18.0.0/16", "172.18.0.0/16"),
            ("::ffff:172.18.0.5", "172.18.0.5/32"),
            ("::ffff:172.18.0.0/112", "172.18.0.0/16"),
            ("2001:db8::/64", "2001:db8::/64"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "web", "172.18.0.5/16", "172.18.0.0/33", "::ffff:0.0.0.0/90", "1.2.3", "10.0.0.0/-1"]
        {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sockets_take_a_default_port() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
            ("[::ffff:192.0.2.1]:53", "192.0.2.1:53"),
        ] {
            assert_eq!(socket(text, 53).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "dns.example.net", "192.0.2.1:0", "192.0.2.1:", "[192.0.2.1", "192.0.2.1:99999"] {
            assert!(socket(text, 53).is_err(), "{text}");
        }
        for text in ["0.0.0.0", "::", "224.0.0.251", "255.255.255.255"] {
            assert!(server(text, 53).is_err(), "{text}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(permissions("0660"), Ok(0o660));
        assert_eq!(permissions("600"), Ok(0o600));
        for text in ["", "0o660", "660000", "0888", "+660", "7777"] {
            assert!(permissions(text).is_err(), "{text}");
        }
    }

    #[test]
    fn interface_names_cannot_carry_wildcards_or_ruleset_syntax() {
        assert!(interface("br-0123456789ab").is_ok());
        assert!(interface("eth0.100").is_ok());
        for text in ["", "lo", "br*", "a\"b", "a b", "a/b", "..", "sixteen-bytes-xx", "a\nb", "é"] {
            assert!(interface(text).is_err(), "{text:?}");
        }
    }
}
