//! One event of each kind, for the tests of this room. They know nothing of the tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::facts::{
    Client, Container, Fault, Flow, FlowId, Limit, Moment, Name, Process, Protocol, Source, Tick, Transport,
    Via,
};
use crate::gate::{Action, Evidence, MatchBy, Ports, Reason, Rule};

use super::{
    Closed, Decided, DnsEvent, Ending, Event, Gap, Origin, Over, PolicyEvent, RulesetEvent, SandboxEvent,
    TapEvent, TapRefusal, TapTally, TapWhat,
};

/// 2026-11-23 17:21:46.836080 UTC, one hour after boot.
pub(super) fn moment(after_millis: u64) -> Moment {
    let after = Duration::from_millis(after_millis);
    Moment {
        tick: Tick::from_nanos(3_600_000_000_000).after(after),
        wall: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_454_506_836_080) + after,
    }
}

/// A name.
pub(super) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A rule that is known by its id.
pub(super) fn rule(id: &str, comment: Option<&str>) -> Arc<Rule> {
    Arc::new(Rule {
        id: id.into(),
        names: Vec::new(),
        ports: Ports::default(),
        clients: Vec::new(),
        action: Action::Allow,
        by: MatchBy::NameAndAddress,
        protocols: Vec::new(),
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: comment.map(Into::into),
    })
}

fn flow(destination: &str, transport: Transport) -> Flow {
    let source = "172.18.0.5:40112".parse().unwrap();
    Flow::new(FlowId(0xa1), source, destination.parse().unwrap(), transport, moment(0).tick)
}

fn denied(reason: Reason) -> Decided {
    Decided {
        flow: flow("203.0.113.10:443", Transport::Tcp),
        origin: Origin::default(),
        at: moment(3),
        name: None,
        protocol: None,
        via: None,
        ech: false,
        fault: None,
        reason,
        would: None,
        rule: None,
        evidence: None,
        held: Duration::ZERO,
        over: None,
        later: false,
    }
}

fn allowed() -> Decided {
    Decided {
        name: Some(name("www.example.com")),
        protocol: Some(Protocol::Tls),
        via: Some(Via::Sni),
        rule: Some(rule("web", Some("the shop \"front\"\n\u{2028}\u{202e}"))),
        evidence: Some(Evidence {
            source: Source::Forwarder,
            answered_at: Tick::from_nanos(3_598_500_000_000),
            ttl_secs: 60,
            expires_at: Tick::from_nanos(3_958_500_000_000),
            chain: [name("www.example.com"), name("edge.example.net")].into(),
        }),
        ..denied(Reason::Allowed)
    }
}

fn container() -> Origin {
    let container = Container {
        id: format!("{:064x}", 0xc0ffee).into(),
        name: "shop-web-1".into(),
        image: "example.com/shop/web:1.4".into(),
        labels: vec![
            ("com.docker.compose.service".into(), "web".into()),
            ("a \"key\"\n\u{202e}".into(), "{\"value\"}".into()),
        ],
        started_at: "2026-11-23T17:00:00.5Z".into(),
        addresses: vec!["172.18.0.5".parse().unwrap()],
    };
    Origin { container: Some(container.into()), process: None }
}

fn process() -> Origin {
    let process = Process { pid: 4_242, executable: Some("/usr/bin/curl".into()), user: Some("app".into()) };
    Origin { container: None, process: Some(process.into()) }
}

fn question() -> DnsEvent {
    DnsEvent {
        id: FlowId(0xd1),
        client: Client::at("2001:db8::5".parse().unwrap()),
        origin: Origin::default(),
        source: "[2001:db8::5]:5353".parse().unwrap(),
        server: Some("192.0.2.53".parse().unwrap()),
        transport: Transport::Udp,
        at: moment(5),
        name: Some(name("www.example.com")),
        qtype: Some(1),
        reason: Reason::Allowed,
        would: None,
        rule: Some(rule("web", Some("https://wiki.example.com/egress"))),
        rcode: Some(0),
        chain: vec![name("www.example.com"), name("cdn.example.net"), name("edge.example.net")],
        addresses: vec!["203.0.113.10".parse().unwrap(), "2001:db8:1::10".parse().unwrap()],
        stripped: 2,
        tapped: false,
        over: None,
    }
}

fn tap(what: TapWhat) -> Event {
    Event::Tap(TapEvent { at: moment(6), sender: "unix:uid=112,pid=4242".into(), what })
}

/// Every kind of event, each with a name for its line.
pub(crate) fn all() -> Vec<(&'static str, Event)> {
    let of_container = Decided { origin: container(), ..denied(Reason::NameNotAllowed) };
    let of_user = flow("203.0.113.10:443", Transport::Tcp).seen_as(Client::User(1_000));
    let of_process = Decided { flow: of_user, origin: process(), ..denied(Reason::NameNotAllowed) };
    let closed = Closed {
        flow: flow("203.0.113.10:443", Transport::Tcp),
        origin: Origin::default(),
        name: Some(name("www.example.com")),
        at: moment(2_500),
        ending: Ending::Closed,
        sent: 1_234,
        received: 5_678_901,
        error: None,
    };
    let resolved = Decided {
        protocol: Some(Protocol::Http),
        via: Some(Via::Host),
        reason: Reason::Resolved,
        held: Duration::from_millis(40),
        ..allowed()
    };
    let observed = Decided {
        would: Some(Reason::NameNotAllowed),
        rule: None,
        evidence: None,
        flow: flow("[::ffff:203.0.113.10]:443", Transport::Udp),
        protocol: Some(Protocol::Quic),
        via: Some(Via::Quic),
        ech: true,
        reason: Reason::ObservedOnly,
        ..allowed()
    };
    // A lease without an end, and an answer from before the boot.
    let address = Decided {
        name: None,
        protocol: None,
        via: Some(Via::Address),
        evidence: Some(Evidence {
            source: Source::Dnstap,
            answered_at: Tick::default(),
            ttl_secs: u32::MAX,
            expires_at: Tick::from_nanos(u64::MAX),
            chain: [name("db.example.net")].into(),
        }),
        flow: flow("[2001:db8:1::10]:5432", Transport::Tcp),
        reason: Reason::Resolved,
        ..allowed()
    };
    let garbled = Decided { fault: Some(Fault::TwoNames), ..denied(Reason::Garbled) };
    let refused = DnsEvent {
        source: "[2001:db8::5]:0".parse().unwrap(),
        server: None,
        qtype: Some(64_000),
        reason: Reason::NameNotAllowed,
        rule: None,
        rcode: Some(5),
        chain: Vec::new(),
        addresses: Vec::new(),
        stripped: 0,
        transport: Transport::Tcp,
        ..question()
    };
    let over = DnsEvent {
        reason: Reason::OverLimit,
        over: Some(Over { limit: Limit::NewNames, repeated: 41 }),
        ..refused.clone()
    };
    let tapped = DnsEvent { stripped: 0, tapped: true, rcode: Some(3_000), ..question() };
    let policy = |outcome| Event::Policy(PolicyEvent { at: moment(7), rules: 3, outcome });
    let ruleset = |what| Event::Ruleset(RulesetEvent { at: moment(8), what, table: "inet namegate".into() });
    let failed = Closed {
        ending: Ending::UpstreamFailed,
        sent: 0,
        received: 0,
        error: Some("refused".into()),
        ..closed.clone()
    };
    let sandbox = |missing: &[&'static str]| {
        let (layers, missing) = (vec!["user", "net", "seccomp"], missing.to_vec());
        let breached = !missing.is_empty();
        Event::Sandbox(SandboxEvent { at: moment(1), layers, missing, breached, command: "curl".into() })
    };
    let tally = TapTally { frames: 10, answers: 7, bad: 1, fault: Some(Fault::Length) };
    vec![
        ("decided_allowed", Event::Decided(allowed())),
        ("decided_resolved", Event::Decided(resolved)),
        ("decided_observed", Event::Decided(observed)),
        ("decided_address", Event::Decided(address)),
        ("decided_garbled", Event::Decided(garbled)),
        ("decided_container", Event::Decided(of_container)),
        ("decided_process", Event::Decided(of_process)),
        ("decided_later", Event::Decided(Decided { later: true, ..denied(Reason::NameChanged) })),
        ("decided_over_limit", over_limit(5, 3)),
        ("closed", Event::Closed(closed)),
        ("closed_failed", Event::Closed(failed)),
        ("dns_answered", Event::Dns(question())),
        ("dns_refused", Event::Dns(refused)),
        ("dns_over_limit", Event::Dns(over)),
        ("dns_tapped", Event::Dns(tapped)),
        ("policy", policy(Ok(()))),
        ("policy_refused", policy(Err("namegate.toml:3:9: unknown key \"prots\"".into()))),
        ("ruleset_installed", ruleset("installed")),
        ("ruleset_missing", ruleset("missing")),
        ("tap_connected", tap(TapWhat::Connected)),
        ("tap_disconnected", tap(TapWhat::Disconnected(tally))),
        ("tap_refused", tap(TapWhat::Refused { why: TapRefusal::NotAllowed, times: 9 })),
        ("tap_bad_frame", tap(TapWhat::BadFrame(Fault::Dnstap))),
        ("tap_ignored", tap(TapWhat::Ignored)),
        ("sandbox", sandbox(&[])),
        ("sandbox_incomplete", sandbox(&["landlock"])),
        ("gap", Event::Gap(Gap { at: moment(900), since: moment(100), lines: 17 })),
    ]
}

/// A connection of the so manieth client that is refused after so many milliseconds, because there are too many.
pub(super) fn over_limit(client: u16, after_millis: u64) -> Event {
    let source = SocketAddr::from(([172, 18, client.to_be_bytes()[0], client.to_be_bytes()[1]], 40_112));
    let over = Some(Over::once(Limit::NewConnections));
    let decided = denied(Reason::OverLimit);
    let flow = Flow::new(FlowId(0xa1), source, decided.flow.destination, Transport::Tcp, moment(0).tick);
    Event::Decided(Decided { flow, at: moment(after_millis), over, ..decided })
}

/// A question that was answered.
pub(super) fn answered(chain: &[&str], addresses: &[&str]) -> DnsEvent {
    DnsEvent {
        name: chain.first().map(|text| name(text)),
        rule: None,
        chain: chain.iter().map(|text| name(text)).collect(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        stripped: 0,
        ..question()
    }
}

/// A question that was not.
pub(super) fn refused(text: &str, reason: Reason) -> Event {
    Event::Dns(DnsEvent { reason, rcode: Some(5), ..answered(&[text], &[]) })
}

/// A flow that events are told of.
#[derive(Debug, Clone)]
pub(super) struct Told(Decided);

impl Told {
    /// One that claims a name in a TLS hello.
    pub(super) fn named(text: &str) -> Self {
        let (name, protocol, via) = (Some(name(text)), Some(Protocol::Tls), Some(Via::Sni));
        Self(Decided { name, protocol, via, ..denied(Reason::Allowed) })
    }

    /// One without a name.
    pub(super) fn nameless() -> Self {
        Self(denied(Reason::Allowed))
    }

    pub(super) fn at(mut self, destination: &str) -> Self {
        self.0.flow = flow(destination, Transport::Tcp);
        self
    }

    /// The same, as another flow.
    pub(super) fn number(&self, number: u64) -> Self {
        let mut other = self.clone();
        other.0.flow.id = FlowId(number);
        other
    }

    pub(super) fn ech(mut self) -> Self {
        self.0.ech = true;
        self
    }

    /// Opened by an address rule, on the evidence of this chain.
    pub(super) fn opened_by(mut self, chain: &[&str]) -> Self {
        let chain = chain.iter().map(|text| name(text)).collect();
        self.0.evidence = allowed().evidence.map(|evidence| Evidence { chain, ..evidence });
        self.0.via = Some(Via::Address);
        self
    }

    /// A port of this host.
    pub(super) fn granted(self) -> Self {
        let mut told = self.opened_by(&["localhost"]);
        told.0.evidence = told.0.evidence.map(|evidence| Evidence { source: Source::Granted, ..evidence });
        told
    }

    /// Decided for this reason.
    pub(super) fn event(&self, reason: Reason) -> Event {
        Event::Decided(Decided { reason, ..self.0.clone() })
    }

    /// Let pass by observe mode alone.
    pub(super) fn would(&self, reason: Reason) -> Event {
        Event::Decided(Decided { reason: Reason::ObservedOnly, would: Some(reason), ..self.0.clone() })
    }

    pub(super) fn closed(&self, ending: Ending, sent: u64, received: u64) -> Event {
        let (flow, name) = (self.0.flow, self.0.name.clone());
        Event::Closed(Closed {
            flow,
            origin: Origin::default(),
            name,
            at: moment(9),
            ending,
            sent,
            received,
            error: None,
        })
    }
}
