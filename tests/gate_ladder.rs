//! Truth table of the verdict ladder: one row, one verdict.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use namegate::facts::{
    Address, Claim, Client, Container, Fault, Flow, FlowId, Moment, Name, Named, Observation, Protocol,
    Source, Tick, Transport, Via,
};
use namegate::gate::{
    Action, ClientMatch, Decision, Defaults, Ech, Gate, LedgerConfig, MatchBy, Mode, Own, Pattern, Policy,
    Ports, Reason, Roster, Rule,
};

const CLIENT: &str = "192.0.2.7";
const PUBLIC: &str = "203.0.113.10";

fn now() -> Moment {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    Moment { tick: Tick::from_nanos(1_000_000_000_000), wall }
}

fn later(secs: u64) -> Moment {
    let by = Duration::from_secs(secs);
    Moment { tick: now().tick.after(by), wall: now().wall + by }
}

fn rule(id: &str, names: &[&str]) -> Rule {
    Rule {
        id: id.into(),
        names: names.iter().map(|name| Pattern::parse(name, true).unwrap()).collect(),
        ports: Ports::default(),
        clients: Vec::new(),
        action: Action::Allow,
        by: MatchBy::NameAndAddress,
        protocols: Vec::new(),
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: None,
    }
}

fn gate(rules: Vec<Rule>, defaults: Defaults) -> Arc<Gate> {
    let config = LedgerConfig {
        min_ttl: Duration::from_secs(5),
        grace: Duration::from_secs(300),
        max_leases: 10_000,
        max_leases_per_client: 1000,
    };
    let gate = Gate::new(Policy::compile(rules, defaults).unwrap(), config);
    gate.set_own(Own {
        addresses: ["192.0.2.1".parse().unwrap(), "203.0.113.99".parse().unwrap()].into(),
        ports: [8443].into(),
    });
    gate
}

fn see(gate: &Gate, chain: &[&str], addresses: &[&str], source: Source) {
    let observation = Observation {
        client: Client::at(CLIENT.parse().unwrap()),
        chain: chain.iter().map(|name| Name::parse(name).unwrap()).collect(),
        addresses: addresses.iter().map(|ip| Address { ip: ip.parse().unwrap(), ttl_secs: 60 }).collect(),
        source,
        at: now().tick,
    };
    gate.observe(&observation, now());
}

fn flow(to: &str, port: u16) -> Flow {
    let source = SocketAddr::new(CLIENT.parse().unwrap(), 40_000);
    let destination = SocketAddr::new(to.parse::<IpAddr>().unwrap(), port);
    Flow::new(FlowId(1), source, destination, Transport::Tcp, now().tick)
}

fn tls(name: &str) -> Claim {
    named(name, Protocol::Tls, false)
}

fn named(name: &str, protocol: Protocol, ech: bool) -> Claim {
    let via = if protocol == Protocol::Http { Via::Host } else { Via::Sni };
    Claim::Named(Named { name: Name::parse(name).unwrap(), protocol, via, ech })
}

fn id(decision: &Decision) -> Option<&str> {
    decision.rule.as_ref().map(|rule| &*rule.id)
}

fn observe() -> Defaults {
    Defaults { mode: Mode::Observe, ..Defaults::default() }
}

fn table_rules() -> Vec<Rule> {
    vec![
        rule("web", &["www.example.com", "*.cdn.example.com"]),
        Rule {
            ports: Ports(vec![(443, 443)]),
            protocols: vec![Protocol::Tls],
            ..rule("tls", &["t.example.com"])
        },
        Rule { ports: Ports(vec![(8080, 8080)]), ..rule("alt", &["t.example.com"]) },
        Rule { private: true, ..rule("inner", &["in.example.com"]) },
        Rule { ech: Some(Ech::Allow), ..rule("browser", &["b.example.com"]) },
        Rule { action: Action::Deny, ports: Ports(vec![(80, 80)]), ..rule("no-clear", &["www.example.com"]) },
        Rule { by: MatchBy::Address, ports: Ports(vec![(5432, 5432)]), ..rule("db", &["db.example.net"]) },
        Rule {
            clients: vec![ClientMatch::Net("198.51.100.0/24".parse().unwrap())],
            ..rule("others", &["o.example.com"])
        },
        Rule { until: Some(now().wall), ..rule("over", &["gone.example.com"]) },
    ]
}

fn table_gate(defaults: Defaults) -> Arc<Gate> {
    let gate = gate(table_rules(), defaults);
    see(&gate, &["www.example.com", "edge.cdn.example.com", "x.example.org"], &[PUBLIC], Source::Forwarder);
    see(&gate, &["t.example.com"], &["203.0.113.11"], Source::Resolved);
    see(&gate, &["in.example.com"], &["10.0.0.5", "203.0.113.99"], Source::Dnstap);
    see(&gate, &["b.example.com"], &["203.0.113.12", "10.0.0.6"], Source::Dnstap);
    see(&gate, &["db.example.net"], &["203.0.113.13"], Source::Forwarder);
    gate
}

#[test]
fn each_claim_gets_exactly_its_reason_and_the_rule_that_came_furthest() {
    let gate = table_gate(Defaults::default());
    let http = |name| named(name, Protocol::Http, false);
    let ech = |name| named(name, Protocol::Tls, true);
    let quic = |name| named(name, Protocol::Quic, false);
    for (claim, to, port, reason, rule) in [
        (tls("www.example.com"), PUBLIC, 443, Reason::Allowed, Some("web")),
        (tls("edge.cdn.example.com"), PUBLIC, 443, Reason::Allowed, Some("web")),
        (tls("x.example.org"), PUBLIC, 443, Reason::NameNotAllowed, None),
        (tls("www.example.com"), "203.0.113.11", 443, Reason::AddressNotObserved, Some("web")),
        (tls("t.example.com"), "203.0.113.11", 443, Reason::Resolved, Some("tls")),
        (tls("t.example.com"), PUBLIC, 443, Reason::AddressNotObserved, Some("tls")),
        (quic("t.example.com"), "203.0.113.11", 443, Reason::ProtocolNotAllowed, Some("tls")),
        (http("t.example.com"), "203.0.113.11", 8080, Reason::Resolved, Some("alt")),
        (tls("t.example.com"), "203.0.113.11", 9, Reason::PortNotAllowed, Some("tls")),
        (ech("t.example.com"), "203.0.113.11", 443, Reason::EchNotAllowed, Some("tls")),
        (ech("b.example.com"), "203.0.113.12", 443, Reason::Allowed, Some("browser")),
        (tls("b.example.com"), "10.0.0.6", 443, Reason::PrivateAddress, Some("browser")),
        (tls("b.example.com"), "::ffff:10.0.0.6", 443, Reason::PrivateAddress, Some("browser")),
        (tls("b.example.com"), "64:ff9b::a9fe:a9fe", 443, Reason::PrivateAddress, Some("browser")),
        (tls("b.example.com"), "203.0.113.99", 443, Reason::PrivateAddress, Some("browser")),
        (tls("in.example.com"), "10.0.0.5", 443, Reason::Allowed, Some("inner")),
        (tls("in.example.com"), "203.0.113.99", 443, Reason::Allowed, Some("inner")),
        (tls("in.example.com"), "10.0.0.6", 443, Reason::AddressNotObserved, Some("inner")),
        (tls("in.example.com"), "203.0.113.99", 8443, Reason::OwnAddress, None),
        (tls("in.example.com"), "127.0.0.1", 8443, Reason::OwnAddress, None),
        (tls("in.example.com"), "0.0.0.0", 8443, Reason::OwnAddress, None),
        (tls("in.example.com"), "::", 8443, Reason::OwnAddress, None),
        (http("www.example.com"), PUBLIC, 80, Reason::DeniedByRule, Some("no-clear")),
        (tls("o.example.com"), PUBLIC, 443, Reason::NameNotAllowed, None),
        (tls("gone.example.com"), PUBLIC, 443, Reason::NameNotAllowed, None),
        (tls("db.example.net"), "203.0.113.13", 5432, Reason::Allowed, Some("db")),
        (tls("db.example.net"), PUBLIC, 5432, Reason::AddressNotObserved, Some("db")),
        (tls("db.example.net"), "203.0.113.13", 443, Reason::PortNotAllowed, Some("db")),
        (Claim::Silent, "203.0.113.13", 5432, Reason::Allowed, Some("db")),
        (Claim::Silent, PUBLIC, 5432, Reason::AddressNotObserved, Some("db")),
        (Claim::Silent, "10.9.9.9", 5432, Reason::PrivateAddress, Some("db")),
        (Claim::Silent, PUBLIC, 443, Reason::Silent, None),
        (Claim::Silent, PUBLIC, 22, Reason::Silent, None),
        (Claim::Nameless(Some(Protocol::Tls)), PUBLIC, 443, Reason::Nameless, None),
        (Claim::Garbled(Fault::TwoNames), PUBLIC, 443, Reason::Garbled, None),
        (tls("evilwww.example.com"), PUBLIC, 443, Reason::NameNotAllowed, None),
        (tls("www.example.com.evil.test"), PUBLIC, 443, Reason::NameNotAllowed, None),
    ] {
        let what = format!("{claim:?} to {to}:{port}");
        let mut decision = gate.decide(&flow(to, port), &claim, now());
        assert_eq!((decision.reason, id(&decision)), (reason, rule), "{what}");
        assert_eq!(decision.would, None, "{what}");
        assert_eq!(decision.is_allowed(), reason.lets_pass(), "{what}");
        assert_eq!(decision.may_hold(), reason == Reason::AddressNotObserved, "{what}");
        assert_eq!(decision.evidence.is_some(), reason.lets_pass(), "{what}");
        if let Some(permit) = decision.take_permit() {
            assert_eq!(permit.destination(), flow(to, port).destination, "{what}");
            assert!(permit.into_pin().is_some(), "{what}");
        }
    }
}

#[test]
fn evidence_tells_which_answer_justified_the_flow() {
    let gate = table_gate(Defaults::default());
    let decision = gate.decide(&flow(PUBLIC, 443), &tls("edge.cdn.example.com"), now());
    let evidence = decision.evidence.unwrap();
    assert_eq!((evidence.source, evidence.ttl_secs), (Source::Forwarder, 60));
    assert_eq!(evidence.answered_at, now().tick);
    assert_eq!(evidence.expires_at, now().tick.after(Duration::from_secs(360)));
    let chain: Vec<&str> = evidence.chain.iter().map(Name::as_str).collect();
    assert_eq!(chain, ["www.example.com", "edge.cdn.example.com", "x.example.org"]);
    assert_eq!(decision.via, Some(Via::Sni));
}

#[test]
fn an_expired_lease_is_told_from_one_never_seen() {
    let gate = table_gate(Defaults::default());
    let decision = gate.decide(&flow(PUBLIC, 443), &tls("www.example.com"), later(360));
    assert_eq!(decision.reason, Reason::LeaseExpired);
    assert!(decision.evidence.is_some() && decision.may_hold());
    let decision = gate.decide(&flow("203.0.113.13", 5432), &Claim::Silent, later(360));
    assert_eq!((decision.reason, id(&decision)), (Reason::LeaseExpired, Some("db")));
}

#[test]
fn an_address_rule_answers_before_anything_is_read_or_not_at_all() {
    let gate = table_gate(Defaults::default());
    let by_address = |to, port, at| gate.decide_by_address(&flow(to, port), at).map(|found| found.reason);
    assert_eq!(by_address("203.0.113.13", 5432, now()), Some(Reason::Allowed));
    assert_eq!(by_address("203.0.113.13", 5432, later(360)), None);
    assert_eq!(by_address("203.0.113.13", 443, now()), None);
    assert_eq!(by_address(PUBLIC, 5432, now()), None);
    assert_eq!(by_address(PUBLIC, 443, now()), None);
    assert_eq!(by_address("127.0.0.1", 8443, now()), Some(Reason::OwnAddress));
    let decision = gate.decide_by_address(&flow("203.0.113.13", 5432), now()).unwrap();
    assert_eq!((decision.via, id(&decision)), (Some(Via::Address), Some("db")));
    assert!(gate.may_serve_by_address(&flow(PUBLIC, 5432), now()));
    assert!(!gate.may_serve_by_address(&flow(PUBLIC, 443), now()));
}

#[test]
fn a_deny_rule_shuts_an_address_rule_and_one_for_a_protocol_shuts_what_is_not_read() {
    let address =
        || Rule { by: MatchBy::Address, ports: Ports(vec![(5432, 5439)]), ..rule("db", &["*.example.net"]) };
    for (protocols, silent) in [(vec![], Reason::DeniedByRule), (vec![Protocol::Tls], Reason::DeniedByRule)] {
        let deny = Rule {
            action: Action::Deny,
            ports: Ports(vec![(5432, 5432)]),
            protocols: protocols.clone(),
            ..rule("no", &["a.example.net"])
        };
        let gate = gate(vec![address(), deny], Defaults::default());
        see(&gate, &["a.example.net"], &[PUBLIC], Source::Forwarder);
        assert!(gate.decide_by_address(&flow(PUBLIC, 5432), now()).is_none());
        assert!(gate.decide_by_address(&flow(PUBLIC, 5433), now()).is_some());
        let reason = |claim| gate.decide(&flow(PUBLIC, 5432), &claim, now()).reason;
        assert_eq!(reason(Claim::Silent), silent);
        assert_eq!(reason(tls("a.example.net")), Reason::DeniedByRule);
        let http = reason(named("a.example.net", Protocol::Http, false));
        assert_eq!(http, if protocols.is_empty() { Reason::DeniedByRule } else { Reason::Allowed });
    }
}

#[test]
fn observe_mode_lets_everything_pass_but_the_gate_itself_and_says_what_it_would_have_done() {
    let gate = table_gate(observe());
    for (claim, to, port, would, rule) in [
        (tls("www.example.com"), PUBLIC, 443, None, Some("web")),
        (tls("x.example.org"), PUBLIC, 443, Some(Reason::NameNotAllowed), None),
        (tls("www.example.com"), "203.0.113.77", 443, Some(Reason::AddressNotObserved), Some("web")),
        (
            named("www.example.com", Protocol::Http, false),
            PUBLIC,
            80,
            Some(Reason::DeniedByRule),
            Some("no-clear"),
        ),
        (tls("b.example.com"), "10.0.0.6", 443, Some(Reason::PrivateAddress), Some("browser")),
        (Claim::Silent, PUBLIC, 22, Some(Reason::Silent), None),
        (Claim::Garbled(Fault::Name), PUBLIC, 443, Some(Reason::Garbled), None),
        (Claim::Nameless(None), PUBLIC, 443, Some(Reason::Nameless), None),
    ] {
        let decision = gate.decide(&flow(to, port), &claim, now());
        let reason = if would.is_some() { Reason::ObservedOnly } else { Reason::Allowed };
        assert_eq!((decision.reason, decision.would, id(&decision)), (reason, would, rule), "{claim:?}");
        assert!(decision.is_allowed() && !decision.may_hold());
    }
    let decision = gate.decide(&flow("127.0.0.1", 8443), &tls("www.example.com"), now());
    assert_eq!((decision.reason, decision.is_allowed()), (Reason::OwnAddress, false));
    assert_eq!(gate.over_limit(&flow(PUBLIC, 443)).reason, Reason::OverLimit);
}

#[test]
fn observing_ends_at_its_date_for_all_and_for_one_rule() {
    let until = Some(later(10).wall);
    let gate = gate(
        vec![
            Rule { mode: Some(Mode::Observe), until, ..rule("trial", &["a.example.com"]) },
            rule("strict", &["b.example.com"]),
            Rule { mode: Some(Mode::Observe), action: Action::Deny, until, ..rule("no", &["c.example.com"]) },
            rule("c", &["*.example.com"]),
        ],
        Defaults::default(),
    );
    let reason = |name, at| gate.decide(&flow(PUBLIC, 443), &tls(name), at).reason;
    assert_eq!(reason("a.example.com", later(9)), Reason::ObservedOnly);
    assert_eq!(reason("a.example.com", later(10)), Reason::AddressNotObserved);
    assert_eq!(reason("b.example.com", now()), Reason::AddressNotObserved);
    assert_eq!(reason("c.example.com", now()), Reason::AddressNotObserved, "an observed deny opens nothing");
    see(&gate, &["c.example.com"], &[PUBLIC], Source::Forwarder);
    let decision = gate.decide(&flow(PUBLIC, 443), &tls("c.example.com"), now());
    assert_eq!((decision.would, id(&decision)), (Some(Reason::DeniedByRule), Some("no")));
    assert_eq!(reason("c.example.com", later(10)), Reason::DeniedByRule);

    let gate = self::gate(vec![rule("a", &["a.example.com"])], Defaults { until, ..observe() });
    let reason = |at| gate.decide(&flow(PUBLIC, 443), &Claim::Silent, at).reason;
    assert_eq!((reason(later(9)), reason(later(10))), (Reason::ObservedOnly, Reason::Silent));
}

#[test]
fn a_rule_that_enforces_is_not_softened_by_the_default() {
    let gate = gate(vec![Rule { mode: Some(Mode::Enforce), ..rule("hard", &["a.example.com"]) }], observe());
    let decision = gate.decide(&flow(PUBLIC, 443), &tls("a.example.com"), now());
    assert_eq!(decision.reason, Reason::AddressNotObserved);
}

#[test]
fn questions_are_answered_for_names_that_some_rule_can_use() {
    let every_port = || Ports(vec![(0, u16::MAX)]);
    let rules = || {
        let mut rules = table_rules();
        rules.push(rule("z", &["*.z.example.com"]));
        rules.push(Rule { action: Action::Deny, ports: every_port(), ..rule("never", &["a.z.example.com"]) });
        rules
    };
    let client = Client::at(CLIENT.parse().unwrap());
    let ask = |gate: &Gate, name: &str| {
        let verdict = gate.question(client, &Name::parse(name).unwrap(), now());
        (verdict.reason, verdict.would, verdict.private)
    };
    let strict = gate(rules(), Defaults::default());
    let lenient = gate(rules(), observe());
    let denied = Some(Reason::DeniedByRule);
    let unnamed = Some(Reason::NameNotAllowed);
    for (name, verdict, observed) in [
        ("www.example.com", (Reason::Allowed, None, false), (Reason::Allowed, None, true)),
        ("in.example.com", (Reason::Allowed, None, true), (Reason::Allowed, None, true)),
        ("db.example.net", (Reason::Allowed, None, false), (Reason::Allowed, None, true)),
        ("a.z.example.com", (Reason::DeniedByRule, None, false), (Reason::ObservedOnly, denied, true)),
        ("b.z.example.com", (Reason::Allowed, None, false), (Reason::Allowed, None, true)),
        ("o.example.com", (Reason::NameNotAllowed, None, false), (Reason::ObservedOnly, unnamed, true)),
        ("gone.example.com", (Reason::NameNotAllowed, None, false), (Reason::ObservedOnly, unnamed, true)),
    ] {
        assert_eq!(ask(&strict, name), verdict, "{name}");
        assert_eq!(ask(&lenient, name), observed, "{name}");
    }
}

#[test]
fn a_new_policy_holds_at_once_and_a_lease_opens_nothing_it_forbids() {
    let gate = table_gate(Defaults::default());
    let ask = || gate.decide(&flow(PUBLIC, 443), &tls("www.example.com"), now()).reason;
    assert_eq!(ask(), Reason::Allowed);
    gate.replace(Policy::compile(vec![rule("new", &["new.example.com"])], Defaults::default()).unwrap());
    assert_eq!(ask(), Reason::NameNotAllowed);
    assert!(gate.decide_by_address(&flow("203.0.113.13", 5432), now()).is_none());
    gate.replace(Policy::compile(table_rules(), Defaults::default()).unwrap());
    assert_eq!(ask(), Reason::Allowed);
}

#[test]
fn an_address_rule_for_a_protocol_waits_until_the_protocol_is_read() {
    let address = |id, protocol| Rule {
        by: MatchBy::Address,
        ports: Ports(vec![(5432, 5432)]),
        protocols: vec![protocol],
        ..rule(id, &["db.example.net"])
    };
    let gate = gate(
        vec![address("tls", Protocol::Tls), address("postgres", Protocol::Postgres)],
        Defaults::default(),
    );
    see(&gate, &["db.example.net"], &[PUBLIC], Source::Forwarder);
    assert!(gate.decide_by_address(&flow(PUBLIC, 5432), now()).is_none());
    assert!(!gate.may_serve_by_address(&flow(PUBLIC, 5432), now()));
    let ask = |claim| {
        let decision = gate.decide(&flow(PUBLIC, 5432), &claim, now());
        (decision.reason, id(&decision).map(str::to_owned))
    };
    let nameless = |protocol| Claim::Nameless(Some(protocol));
    assert_eq!(ask(nameless(Protocol::Tls)), (Reason::Allowed, Some("tls".to_owned())));
    assert_eq!(ask(nameless(Protocol::Postgres)), (Reason::Allowed, Some("postgres".to_owned())));
    assert_eq!(ask(nameless(Protocol::Http)), (Reason::Nameless, None));
    assert_eq!(ask(Claim::Silent), (Reason::Silent, None));
}

#[test]
fn who_is_nobody_or_no_longer_who_it_was_gets_nothing_but_where_denials_are_only_observed() {
    let rules = || {
        vec![
            rule("web", &["www.example.com"]),
            Rule { by: MatchBy::Address, ..rule("any", &["db.example.com"]) },
        ]
    };
    let name = Name::parse("www.example.com").unwrap();
    let strangers = |gate: &Gate| {
        let container = |id: char| {
            Arc::new(Container {
                id: id.to_string().repeat(64).into(),
                name: "web".into(),
                image: "image".into(),
                labels: Vec::new(),
                started_at: "once".into(),
                addresses: vec![CLIENT.parse().unwrap()],
            })
        };
        let first = Roster::default().succeed(&[container('a')], now().tick);
        let left = first.client_at(CLIENT.parse().unwrap());
        gate.replace(gate.policy().among(Arc::new(first.succeed(&[container('b')], now().tick))));
        [Client::NOBODY, left]
    };
    for (defaults, reason, would) in [
        (Defaults::default(), Reason::ClientUnknown, None),
        (observe(), Reason::ObservedOnly, Some(Reason::ClientUnknown)),
    ] {
        let gate = gate(rules(), defaults);
        for client in strangers(&gate) {
            let addresses = vec![Address { ip: "203.0.113.10".parse().unwrap(), ttl_secs: 60 }];
            let (chain, source) = (vec![name.clone()], Source::Forwarder);
            gate.observe(&Observation { client, chain, addresses, source, at: now().tick }, now());
            let flow = flow("203.0.113.10", 443).seen_as(client);
            let early = gate.decide_by_address(&flow, now()).unwrap();
            for decision in [early, gate.decide(&flow, &tls("www.example.com"), now())] {
                assert_eq!((decision.reason, decision.would), (reason, would), "{client}");
                assert_eq!(decision.is_allowed(), would.is_some());
            }
        }
        let question = gate.question(Client::NOBODY, &name, now());
        assert_eq!((question.reason, question.would), (reason, would));
    }
}
