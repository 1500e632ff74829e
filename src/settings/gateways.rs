//! `capture.gateways`: networks whose default gateway this host is to be.
//!
//! Text in, checked value out. Which link leads there is not known here.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::facts::{Scope, scope};

use super::scalar::Complaint;
use super::section::Section;

/// Reads the list; the key need not be there.
pub(super) fn read(section: &mut Section<'_>) -> Vec<IpNet> {
    let before = section.sheet.errors();
    let texts = section.texts("gateways");
    if texts.as_ref().is_some_and(Vec::is_empty) && section.sheet.errors() == before {
        section.missing("`gateways` is empty", HINT);
    }
    let mut gateways: Vec<IpNet> = Vec::new();
    for text in texts.unwrap_or_default() {
        match gateway(text.value) {
            Ok(gateway) if gateways.iter().any(|known| known.addr() == gateway.addr()) => {
                section.complain(text.span, Complaint::new("this gateway is listed twice"));
            }
            Ok(gateway) => gateways.push(gateway),
            Err(complaint) => section.complain(text.span, complaint),
        }
    }
    gateways
}

/// Parses `10.9.0.1/24`: an address that clients send to, and the length of their network's prefix.
fn gateway(text: &str) -> Result<IpNet, Complaint> {
    let bad = |what: &str| Complaint::new(what).hint(HINT);
    if text.parse::<IpAddr>().is_ok() {
        return Err(bad("the length of the network's prefix is missing"));
    }
    let net: IpNet =
        text.parse().map_err(|_| bad("not an address with the length of its network's prefix"))?;
    let address = net.addr();
    if matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()) {
        return Err(bad("an IPv4-mapped address is on no link"));
    }
    match scope(address) {
        Scope::Public | Scope::Private => {}
        Scope::LinkLocal => {
            return Err(bad("a link-local address does not tell which link is meant"));
        }
        Scope::Loopback | Scope::Multicast | Scope::Unusable => {
            return Err(bad("no client can send to this address"));
        }
    }
    if net.prefix_len() == 0 || net.prefix_len() + 1 >= net.max_prefix_len() {
        return Err(bad("no network of clients has a prefix of this length"));
    }
    if address == net.network() || address.is_ipv4() && address == net.broadcast() {
        return Err(bad("this is the network's own address, not one of a host in it"));
    }
    Ok(net)
}

const HINT: &str = "\"10.9.0.1/24\": the gateway address that the network's clients are given, and the length of the \
                    network's prefix";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_the_address_of_a_host_in_a_network() {
        for text in ["10.9.0.1/24", "10.9.0.254/24", "192.0.2.1/30", "fd00:9::1/64", "2001:db8::1/120"] {
            assert_eq!(gateway(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "10.9.0.1",
            "fd00:9::1",
            "10.9.0.0/24",
            "10.9.0.255/24",
            "10.9.0.1/0",
            "10.9.0.1/31",
            "10.9.0.1/32",
            "10.9.0.1/33",
            "fd00:9::/64",
            "fd00:9::1/128",
            "127.0.0.1/8",
            "::1/64",
            "169.254.0.1/16",
            "fe80::1/64",
            "224.0.0.1/24",
            "0.0.0.1/24",
            "::ffff:10.9.0.1/120",
            "gateway/24",
            "10.9.0.1/24 ",
        ] {
            assert!(gateway(text).is_err(), "{text}");
        }
    }
}
