//! Ways past or into the gateway: other protocols, IPv6, its own services, connections from before it.

use std::net::{IpAddr, SocketAddr};

use super::super::craft;
use super::super::map::{AAAA_RECORD, ATTACKER, ATTACKER6, GATEWAY, GATEWAY_OUTSIDE, GOOD, SHARED, UNNAMED6};
use super::super::order::{Order, Part, Tcp, Tls, WHOLE_PACKETS};
use super::super::trial::{Step, Trial, Verdict, Who, bytes, https, tls};
use super::super::world::FRAGMENTS;

/// Port of a service of the gateway's own that only itself should reach.
pub(in super::super) const SERVICE: u16 = 8000;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = others();
    let service = |name, tried, at: std::net::Ipv4Addr| {
        Trial::attack(40, name, tried)
            .act(bytes(at.into(), SERVICE, "GET / HTTP/1.0\r\n\r\n"))
            .judged(Verdict::Uncounted)
    };
    trials.extend([
        service("gateway-inside", "a service of the gateway, at its inner address", GATEWAY),
        service("gateway-outside", "a service of the gateway, at its outer address", GATEWAY_OUTSIDE),
        Trial::attack(42, "proxy-port-direct", "the filter's own ports")
            .knowing(GOOD)
            .step(Step::DialFilter(GOOD)),
    ]);
    trials
}

/// Comes first: a server keeps nobody for ever.
pub(super) fn from_before() -> Trial {
    let host = |name: &str| format!("GET /{name} HTTP/1.1\r\nHost: {GOOD}\r\n\r\n");
    let early = Tcp {
        to: Some(SocketAddr::new(SHARED, 80)),
        parts: vec![Part { bytes: craft::get(GOOD), ..Part::default() }],
        pages: 1,
        keep: true,
        ..Tcp::default()
    };
    let late = Tcp {
        to: None,
        parts: vec![Part { bytes: host("established").into_bytes(), ..Part::default() }],
        resume: true,
        ..Tcp::default()
    };
    let established = Trial::attack(44, "established", "a connection from before the filter started")
        .step(Step::Do(Who::B, Order::Tcp(late)))
        .unseen();
    Trial { early: Some(Order::Tcp(early)), ..established }
}

fn others() -> Vec<Trial> {
    let nameless = Order::Tls(Tls { sni: None, ..tls(UNNAMED6, GOOD) });
    let raw = |protocol, packet: Vec<u8>| Order::Raw { protocol, to: ATTACKER, packets: vec![packet] };
    let fragments = match ATTACKER {
        IpAddr::V4(four) => craft::fragments(four, FRAGMENTS),
        IpAddr::V6(_) => Vec::new(),
    };
    let ntp = Order::Udp { to: SocketAddr::new(ATTACKER, 123), bytes: vec![0x1b; 48] };
    vec![
        Trial::attack(38, "ipv6-hardcoded", "an IPv6 address that no answer gave").act(nameless),
        Trial::attack(38, "ipv6-sni-spoof", "an allowed name at the attacker's IPv6 address")
            .step(Step::LookUp(Who::A, GOOD, AAAA_RECORD))
            .act(https(ATTACKER6, GOOD))
            .judged(Verdict::NotAt(ATTACKER6)),
        Trial::attack(39, "icmp", "data in a ping").act(raw(1, craft::ping())).step(Step::Wait(100)),
        Trial::attack(39, "gre", "a GRE packet")
            .act(raw(47, vec![0, 0, 8, 0, 1, 2, 3, 4]))
            .step(Step::Wait(100)),
        Trial::attack(39, "sctp", "an SCTP packet").act(raw(132, vec![0; 32])).step(Step::Wait(100)),
        Trial::attack(39, "ntp", "a datagram on the port of time").act(ntp),
        Trial::attack(39, "fragments", "a datagram in two fragments")
            .act(Order::Raw { protocol: WHOLE_PACKETS, to: ATTACKER, packets: fragments })
            .step(Step::Wait(100)),
        Trial::attack(39, "odd-port", "a connection to a port that is nobody's")
            .act(bytes(ATTACKER, FRAGMENTS, "data")),
    ]
}
