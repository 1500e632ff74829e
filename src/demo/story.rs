//! What is tried, in order, and what should come of it.
//!
//! Tries nothing itself.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::facts::Transport;
use crate::gate::Reason;
use crate::wire::dns::qtype;

use super::map::{ALSO, GOOD, Map, OTHER, PRIVATE, SHORT, TUNNEL};
use super::order::Order;

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    A,
    B,
}

/// What should come of a step. Each is measured three times: by the client, by the Internet, by the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The page comes, and the server that was dialled saw one request.
    Passes,
    /// The client is refused, and nothing arrives anywhere.
    Denied(Reason),
    /// The first page comes; the second request is refused, and not a byte of it arrives.
    CutOff,
    /// The question is refused, and travels nowhere.
    Unasked(Reason),
    /// The true resolver's answer comes; the server that was asked hears nothing.
    Truth(Ipv4Addr),
    /// The gate is killed first. The client is refused at once, and nothing arrives anywhere.
    Dead,
}

impl Fate {
    /// The reason that the audit log should give, if it can give one.
    pub(super) const fn reason(self) -> Option<Reason> {
        match self {
            Self::Passes | Self::Truth(_) => Some(Reason::Allowed),
            Self::Denied(reason) | Self::Unasked(reason) => Some(reason),
            Self::CutOff => Some(Reason::NameChanged),
            Self::Dead => None,
        }
    }
}

/// One thing that is tried.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) tried: &'static str,
    pub(super) who: Who,
    /// Names that the client looks up first, with the addresses that it must be given.
    pub(super) before: Vec<(&'static str, Vec<Ipv4Addr>)>,
    /// How long it waits then.
    pub(super) pause: Duration,
    pub(super) order: Order,
    pub(super) fate: Fate,
}

impl Step {
    fn new(tried: &'static str, order: Order, fate: Fate) -> Self {
        Self { tried, who: Who::A, before: Vec::new(), pause: Duration::ZERO, order, fate }
    }

    fn after(mut self, name: &'static str, given: &[Ipv4Addr]) -> Self {
        self.before.push((name, given.to_vec()));
        self
    }
}

/// Longer than a lease on [`SHORT`]: its TTL, or `min_ttl`, and the grace are a second each.
const UNTIL_EXPIRED: Duration = Duration::from_millis(2200);

/// Every step.
pub(super) fn story(map: &Map) -> Vec<Step> {
    let mut steps = connections(map);
    steps.extend(questions(map));
    steps.push(Step {
        pause: UNTIL_EXPIRED,
        ..Step::new(
            "an address after its lease",
            https(map, map.short, SHORT),
            Fate::Denied(Reason::LeaseExpired),
        )
        .after(SHORT, &[map.short])
    });
    steps.push(Step::new("the gate is killed", https(map, map.shared, GOOD), Fate::Dead));
    steps
}

fn connections(map: &Map) -> Vec<Step> {
    let not_observed = Fate::Denied(Reason::AddressNotObserved);
    let good = || https(map, map.shared, GOOD);
    vec![
        Step::new("HTTPS to an allowed name", good(), Fate::Passes).after(GOOD, &[map.shared]),
        Step::new("HTTP to an allowed name", http(map, map.also, &[ALSO]), Fate::Passes)
            .after(ALSO, &[map.also]),
        Step::new("hard-coded address", https(map, map.unnamed, GOOD), not_observed),
        Step::new("allowed SNI at the attacker's address", https(map, map.attacker, GOOD), not_observed),
        Step::new("allowed Host at the attacker's address", http(map, map.attacker, &[GOOD]), not_observed),
        Step::new(
            "other SNI at a shared address",
            https(map, map.shared, OTHER),
            Fate::Denied(Reason::NameNotAllowed),
        ),
        Step::new("one allowed name at another's address", https(map, map.also, GOOD), not_observed),
        Step { who: Who::B, ..Step::new("what only another client resolved", good(), not_observed) },
        Step::new(
            "no SNI",
            Order::Https { to: map.https_at(map.shared), sni: None, host: GOOD.to_owned() },
            Fate::Denied(Reason::Nameless),
        ),
        Step::new("Host swapped on keep-alive", http(map, map.shared, &[GOOD, OTHER]), Fate::CutOff),
        Step::new(
            "allowed name, private address",
            https(map, map.private, PRIVATE),
            Fate::Denied(Reason::PrivateAddress),
        )
        // The private address is not in the answer that the client is given.
        .after(PRIVATE, &[]),
    ]
}

fn questions(map: &Map) -> Vec<Step> {
    let ask = |host, over, name: &str, qtype| Order::Ask {
        server: map.dns_at(host),
        over,
        name: name.to_owned(),
        qtype,
    };
    vec![
        Step::new(
            "data in a DNS name",
            ask(map.resolver, Transport::Udp, TUNNEL, qtype::A),
            Fate::Unasked(Reason::NameNotAllowed),
        ),
        Step::new(
            "data in a TXT question for an allowed name",
            ask(map.resolver, Transport::Udp, GOOD, TXT),
            Fate::Unasked(Reason::ProtocolNotAllowed),
        ),
        Step::new(
            "rogue resolver over TCP, denied name",
            ask(map.attacker, Transport::Tcp, TUNNEL, qtype::A),
            Fate::Unasked(Reason::NameNotAllowed),
        ),
        Step::new(
            "rogue resolver over TCP, allowed name",
            ask(map.attacker, Transport::Tcp, GOOD, qtype::A),
            Fate::Truth(map.shared),
        ),
    ]
}

/// Query type of text records (RFC 1035 section 3.2.2).
const TXT: u16 = 16;

fn https(map: &Map, host: Ipv4Addr, name: &str) -> Order {
    Order::Https { to: map.https_at(host), sni: Some(name.to_owned()), host: name.to_owned() }
}

fn http(map: &Map, host: Ipv4Addr, names: &[&str]) -> Order {
    Order::Http { to: map.http_at(host), hosts: names.iter().map(|name| (*name).to_owned()).collect() }
}
