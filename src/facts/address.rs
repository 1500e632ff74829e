//! What kind of address this is, seen through every disguise.
//!
//! Registries: IANA special-purpose address registries (RFC 6890). It does not know which addresses
//! are this machine's own; the gate is told those.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The public Internet (documentation ranges count as public: they reach nothing).
    Public,
    /// RFC 1918, shared space, unique local and other networks of an operator.
    Private,
    /// This machine.
    Loopback,
    /// The link, cloud metadata services (169.254.169.254) included.
    LinkLocal,
    /// Many receivers.
    Multicast,
    /// No unicast host: unspecified, broadcast, reserved, discard.
    Unusable,
}

/// Returns the address with an IPv4-mapped IPv6 form (`::ffff:0:0/96`) undone.
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Classifies an address. Forms that carry an IPv4 address (mapped, compatible, NAT64, 6to4, Teredo,
/// ISATAP) count as what they hide when that is not public.
///
/// Calling a public address private is the safe mistake.
pub fn scope(address: IpAddr) -> Scope {
    match canonical(address) {
        IpAddr::V4(four) => scope_v4(four),
        IpAddr::V6(six) => match plain_v6(six) {
            Scope::Public => hidden(six)
                .into_iter()
                .flatten()
                .map(scope_v4)
                .find(|scope| *scope != Scope::Public)
                .unwrap_or(Scope::Public),
            closed @ (Scope::Private
            | Scope::Loopback
            | Scope::LinkLocal
            | Scope::Multicast
            | Scope::Unusable) => closed,
        },
    }
}

fn scope_v4(address: Ipv4Addr) -> Scope {
    match address.octets() {
        [127, ..] => Scope::Loopback,
        // Link-local (RFC 3927), and the host service of one large cloud, which stands in public space.
        [169, 254, ..] | [168, 63, 129, 16] => Scope::LinkLocal,
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [198, 18..=19, ..]
        | [192, 0, 0, _] => Scope::Private,
        [224..=239, ..] => Scope::Multicast,
        [0, ..] | [240..=255, ..] => Scope::Unusable,
        _ => Scope::Public,
    }
}

fn plain_v6(address: Ipv6Addr) -> Scope {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Scope::Unusable,
        [0, 0, 0, 0, 0, 0, 0, 1] => Scope::Loopback,
        // NAT64 with a prefix of the operator's own (RFC 8215): where it leads cannot be told.
        [0x64, 0xff9b, 1, ..] => Scope::Private,
        // Discard-only (RFC 6666).
        [0x100, 0, 0, 0, ..] => Scope::Unusable,
        [first, ..] if first & 0xffc0 == 0xfe80 => Scope::LinkLocal,
        [first, ..] if first & 0xffc0 == 0xfec0 || first & 0xfe00 == 0xfc00 => Scope::Private,
        [first, ..] if first & 0xff00 == 0xff00 => Scope::Multicast,
        _ => Scope::Public,
    }
}

/// The IPv4 addresses that an IPv6 address carries.
fn hidden(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let joined = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        // IPv4-compatible (RFC 4291 section 2.5.5.1), IPv4-translated (RFC 2765) and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => [Some(joined(high, low)), None],
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => [Some(joined(high, low)), None],
        // Teredo (RFC 4380): the server in clear, the client's mapped address inverted.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            [Some(joined(server_high, server_low)), Some(joined(!high, !low))]
        }
        // ISATAP (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => [Some(joined(high, low)), None],
        _ => [None, None],
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn every_disguise_of_a_closed_address_is_seen_through() {
        for (text, expected) in [
            ("203.0.113.10", Scope::Public),
            ("::ffff:0:169.254.169.254", Scope::LinkLocal),
            ("::ffff:0:203.0.113.10", Scope::Public),
            ("2001:db8:1::10", Scope::Public),
            ("10.1.2.3", Scope::Private),
            ("172.31.255.255", Scope::Private),
            ("172.32.0.1", Scope::Public),
            ("100.64.0.1", Scope::Private),
            ("100.128.0.1", Scope::Public),
            ("169.254.169.254", Scope::LinkLocal),
            ("168.63.129.16", Scope::LinkLocal),
            ("168.63.129.17", Scope::Public),
            ("127.9.9.9", Scope::Loopback),
            ("0.0.0.0", Scope::Unusable),
            ("255.255.255.255", Scope::Unusable),
            ("224.0.0.251", Scope::Multicast),
            ("::", Scope::Unusable),
            ("::1", Scope::Loopback),
            ("::127.0.0.1", Scope::Loopback),
            ("::ffff:169.254.169.254", Scope::LinkLocal),
            ("64:ff9b::a9fe:a9fe", Scope::LinkLocal),
            ("64:ff9b::cb00:710a", Scope::Public),
            ("64:ff9b:1::cb00:710a", Scope::Private),
            ("2002:a9fe:a9fe::1", Scope::LinkLocal),
            ("2002:0a00:0001::1", Scope::Private),
            ("2001:0:cb00:710a::5601:5601", Scope::LinkLocal),
            ("2001:0:7f00:1::1", Scope::Loopback),
            ("2001:db8::5efe:10.0.0.1", Scope::Private),
            ("fd00:ec2::254", Scope::Private),
            ("fec0::1", Scope::Private),
            ("fe80::1", Scope::LinkLocal),
            ("ff02::fb", Scope::Multicast),
            ("100::1", Scope::Unusable),
        ] {
            assert_eq!(scope(text.parse().unwrap()), expected, "{text}");
        }
    }
}
