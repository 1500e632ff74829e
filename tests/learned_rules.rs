//! Learned rules let the same run happen again: a real gate observes, the fold writes rules, and a second gate
//! with nothing but these is asked the same.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use namegate::facts::{
    Address, Claim, Client, Flow, FlowId, Moment, Name, Named, Observation, Protocol, Source, Tick,
    Transport, Via,
};
use namegate::gate::{Gate, Reason};
use namegate::record::{Closed, Decided, DnsEvent, Ending, Event, Learner, Origin};
use namegate::settings::{SandboxArguments, sandbox};
use proptest::prelude::*;

const CLIENT: &str = "10.111.0.2";

/// What the workload does.
#[derive(Debug, Clone)]
enum Step {
    /// It asks for the first name; DNS answers with this chain and these addresses.
    Ask(Vec<&'static str>, Vec<&'static str>),
    /// It connects, and claims this.
    Connect(&'static str, Says),
}

#[derive(Debug, Clone, Copy)]
enum Says {
    Tls(&'static str),
    TlsWithEch(&'static str),
    NoName,
    Nothing,
}

impl Says {
    fn claim(self) -> Claim {
        let named = |name: &str, ech| {
            let name = Name::parse(name).unwrap();
            Claim::Named(Named { name, protocol: Protocol::Tls, via: Via::Sni, ech })
        };
        match self {
            Self::Tls(name) => named(name, false),
            Self::TlsWithEch(name) => named(name, true),
            Self::NoName => Claim::Nameless(Some(Protocol::Tls)),
            Self::Nothing => Claim::Silent,
        }
    }
}

fn gate(arguments: &SandboxArguments) -> Arc<Gate> {
    let checked = sandbox(arguments, SystemTime::UNIX_EPOCH).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(checked.report.errors(), 0);
    Gate::new(checked.settings.policy, checked.settings.ledger)
}

/// Goes through the steps; returns the events, and for each connection whether it was let through, and why.
fn play(gate: &Arc<Gate>, steps: &[Step]) -> (Vec<Event>, Vec<Reason>) {
    let (mut events, mut reasons) = (Vec::new(), Vec::new());
    let client = Client::at(CLIENT.parse().unwrap());
    for (number, step) in (1..).zip(steps) {
        let tick = Tick::from_nanos(number * 1_000_000);
        let at = Moment { tick, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(number) };
        match step {
            Step::Ask(chain, addresses) => {
                let chain: Vec<Name> = chain.iter().map(|name| Name::parse(name).unwrap()).collect();
                let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
                events.extend(ask(gate, client, chain, addresses, at));
            }
            Step::Connect(destination, says) => {
                let (source, destination) =
                    (format!("{CLIENT}:40000").parse().unwrap(), destination.parse().unwrap());
                let flow = Flow::new(FlowId(number), source, destination, Transport::Tcp, tick);
                let claim = says.claim();
                let early = gate.decide_by_address(&flow, at);
                let read = early.is_none().then_some(&claim);
                let decision = early.unwrap_or_else(|| gate.decide(&flow, &claim, at));
                reasons.push(decision.reason);
                events.push(Event::Decided(Decided::new(
                    &flow,
                    &Origin::default(),
                    read,
                    &decision,
                    Duration::ZERO,
                    at,
                )));
                let (name, ending) = (claim.name().cloned(), Ending::Closed);
                events.push(Event::Closed(Closed {
                    flow,
                    origin: Origin::default(),
                    name,
                    at,
                    ending,
                    sent: 1,
                    received: 1,
                    error: None,
                }));
            }
        }
    }
    (events, reasons)
}

fn ask(
    gate: &Arc<Gate>,
    client: Client,
    chain: Vec<Name>,
    addresses: Vec<IpAddr>,
    at: Moment,
) -> Option<Event> {
    let verdict = gate.question(client, &chain[0], at);
    if !verdict.reason.lets_pass() {
        return None;
    }
    let given = addresses.iter().map(|ip| Address { ip: *ip, ttl_secs: 60 }).collect();
    let source = Source::Forwarder;
    let observation = Observation { client, chain: chain.clone(), addresses: given, source, at: at.tick };
    gate.observe(&observation, at);
    Some(Event::Dns(DnsEvent {
        id: FlowId(0),
        client,
        source: SocketAddr::new(client.address().unwrap(), 0),
        origin: Origin::default(),
        server: None,
        transport: Transport::Udp,
        at,
        name: Some(chain[0].clone()),
        qtype: Some(1),
        reason: verdict.reason,
        would: verdict.would,
        rule: None,
        rcode: Some(0),
        chain,
        addresses,
        stripped: 0,
        tapped: false,
        over: None,
    }))
}

/// Observes the steps, learns, and goes through them again with the learned rules alone.
fn again(steps: &[Step], first: &SandboxArguments) -> (String, Vec<Reason>) {
    let mut learner = Learner::default();
    let (events, _) = play(&gate(&SandboxArguments { observe: true, ..first.clone() }), steps);
    events.iter().for_each(|event| learner.hear(event));
    let text = learner.rules();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("learned.toml");
    std::fs::write(&path, &text).unwrap();
    let learned = SandboxArguments { policy: Some(path), ..SandboxArguments::default() };
    let (_, reasons) = play(&gate(&learned), steps);
    (text, reasons)
}

#[test]
fn a_learned_run_can_happen_again() {
    use Says::{NoName, Nothing, Tls, TlsWithEch};
    use Step::{Ask, Connect};
    let steps = [
        Ask(vec!["www.example.com"], vec!["203.0.113.10", "203.0.113.11"]),
        Connect("203.0.113.10:443", Tls("www.example.com")),
        Connect("203.0.113.11:80", Tls("www.example.com")),
        Ask(vec!["api.example.com", "edge.example.net"], vec!["203.0.113.20"]),
        Connect("203.0.113.20:443", Tls("edge.example.net")),
        Connect("203.0.113.20:8443", TlsWithEch("api.example.com")),
        Ask(vec!["in.example.com"], vec!["10.0.0.9"]),
        Connect("10.0.0.9:443", Tls("in.example.com")),
        Ask(vec!["db.example.net"], vec!["203.0.113.30"]),
        Connect("203.0.113.30:5432", Nothing),
        Connect("203.0.113.30:443", NoName),
    ];
    let plain = SandboxArguments::default();
    let (text, reasons) = again(&steps, &plain);
    assert_eq!(reasons, vec![Reason::Allowed; 7], "{text}");
    // Learning with the learned rules in force learns the same.
    let some = SandboxArguments {
        allow: ["www.example.com", "tcp:db.example.net:5432"].map(str::to_owned).into(),
        ..plain
    };
    let (text, reasons) = again(&steps, &some);
    assert_eq!(reasons, vec![Reason::Allowed; 7], "{text}");
}

#[test]
fn what_dns_never_gave_stays_closed() {
    use Says::{NoName, Tls};
    use Step::{Ask, Connect};
    let steps = [
        Ask(vec!["www.example.com"], vec!["203.0.113.10"]),
        Connect("203.0.113.10:443", Tls("www.example.com")),
        Connect("203.0.113.99:443", Tls("www.example.com")),
        Connect("203.0.113.98:22", NoName),
    ];
    let (text, reasons) = again(&steps, &SandboxArguments::default());
    assert_eq!(reasons, [Reason::Allowed, Reason::AddressNotObserved, Reason::Nameless], "{text}");
    assert!(text.contains("# 203.0.113.98 port 22:"), "{text}");
}

const NAMES: [&str; 4] = ["a.example.com", "b.example.com", "c.example.net", "d.example.org"];
const ADDRESSES: [&str; 4] = ["203.0.113.1", "203.0.113.2", "10.0.0.3", "2001:db8::4"];
const SOCKETS: [&str; 8] = [
    "203.0.113.1:443",
    "203.0.113.1:80",
    "203.0.113.2:443",
    "203.0.113.2:5432",
    "10.0.0.3:443",
    "10.0.0.3:5432",
    "[2001:db8::4]:443",
    "[2001:db8::4]:22",
];

fn step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(&NAMES[..]);
    let says = prop_oneof![
        name().prop_map(Says::Tls),
        name().prop_map(Says::TlsWithEch),
        Just(Says::NoName),
        Just(Says::Nothing),
    ];
    prop_oneof![
        (
            prop::sample::subsequence(&NAMES[..], 1..=3).prop_shuffle(),
            prop::sample::subsequence(&ADDRESSES[..], 1..=3),
        )
            .prop_map(|(chain, addresses)| Step::Ask(chain, addresses)),
        (prop::sample::select(&SOCKETS[..]), says).prop_map(|(socket, says)| Step::Connect(socket, says)),
    ]
}

/// Whether an answer before a step named its address, and led to the name that is claimed.
fn resolved(before: &[Step], destination: &str, says: Says) -> bool {
    let address = destination.parse::<std::net::SocketAddr>().unwrap().ip();
    before.iter().any(|step| match step {
        Step::Ask(chain, addresses) => {
            addresses.iter().any(|given| given.parse::<IpAddr>().unwrap() == address)
                && match says {
                    Says::Tls(name) | Says::TlsWithEch(name) => chain.contains(&name),
                    Says::NoName | Says::Nothing => true,
                }
        }
        Step::Connect(..) => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_that_dns_answered_for_can_happen_again(steps in prop::collection::vec(step(), 1..30)) {
        let (text, reasons) = again(&steps, &SandboxArguments::default());
        let mut reasons = reasons.into_iter();
        for (at, step) in steps.iter().enumerate() {
            let Step::Connect(destination, says) = step else { continue };
            let reason = reasons.next().unwrap();
            if resolved(&steps[..at], destination, *says) {
                prop_assert_eq!(reason, Reason::Allowed, "{} {:?}\n{}", destination, says, text);
            }
        }
    }
}
