//! A reference model of the gate, naive and obviously right, against the gate itself under random
//! transitions.
//!
//! The model remembers every answer for ever and walks every rule. Where the gate may forget (an hour
//! after the end of a lease, or over its bounds), forgetting is the only difference it is allowed.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use namegate::facts::{
    Address, Claim, Client, Flow, FlowId, Moment, Name, Named, Observation, Protocol, Scope, Source, Tick,
    Transport, Via, scope,
};
use namegate::gate::{
    Action, ClientMatch, Decision, Defaults, Ech, Gate, LedgerConfig, MatchBy, Mode, Pattern, Permit, Policy,
    Ports, Reason, Rule,
};
use proptest::prelude::*;

const NAMES: [&str; 6] = [
    "a.example.com",
    "b.example.com",
    "x.a.example.com",
    "example.com",
    "db.example.net",
    "other.example.org",
];
const PORTS: [u16; 3] = [80, 443, 5432];
const GRACE: u64 = 300;
const MIN_TTL: u64 = 5;
const REMEMBERED_MS: u64 = 3_600_000;

fn clients() -> [Client; 3] {
    ["192.0.2.1", "192.0.2.2", "2001:db8::7"].map(|text| Client::at(text.parse().unwrap()))
}

fn addresses() -> [IpAddr; 4] {
    ["203.0.113.1", "203.0.113.2", "10.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap())
}

fn at(millis: u64) -> Moment {
    let by = Duration::from_millis(millis);
    Moment { tick: Tick::default().after(by), wall: SystemTime::UNIX_EPOCH + by }
}

#[derive(Debug, Clone)]
enum Step {
    Observe {
        client: usize,
        chain: Vec<usize>,
        addresses: Vec<usize>,
        ttl: u32,
        source: Source,
        late_ms: u64,
    },
    Decide {
        client: usize,
        claim: Option<(usize, Protocol, bool)>,
        address: usize,
        port: usize,
        keep: bool,
    },
    ByAddress {
        client: usize,
        address: usize,
        port: usize,
    },
    Question {
        client: usize,
        name: usize,
    },
    Close {
        which: usize,
    },
    Wait {
        millis: u64,
    },
    Sweep,
    Replace {
        policy: usize,
    },
    Flood {
        client: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let source = prop_oneof![
        Just(Source::Forwarder),
        Just(Source::Dnstap),
        Just(Source::Resolved),
        Just(Source::Granted)
    ];
    let ttl = prop_oneof![Just(0_u32), Just(5), Just(60), Just(3600), Just(u32::MAX)];
    let protocol = prop_oneof![Just(Protocol::Tls), Just(Protocol::Http), Just(Protocol::Quic)];
    let claim = proptest::option::weighted(0.8, (0..6_usize, protocol, proptest::bool::weighted(0.2)));
    let wait = prop_oneof![0..10_000_u64, 60_000..70_000_u64, 299_999..305_002_u64, 3_000_000..4_000_000_u64];
    let late = prop_oneof![3 => Just(0_u64), 1 => 0..400_000_u64];
    let chain = proptest::collection::vec(0..6_usize, 1..4);
    let some = proptest::collection::vec(0..4_usize, 1..4);
    let step = prop_oneof![
        5 => (0..3_usize, chain, some, ttl, source, late).prop_map(
            |(client, chain, addresses, ttl, source, late_ms)| Step::Observe {
                client, chain, addresses, ttl, source, late_ms,
            }
        ),
        8 => (0..3_usize, claim, 0..4_usize, 0..3_usize, any::<bool>()).prop_map(
            |(client, claim, address, port, keep)| Step::Decide { client, claim, address, port, keep }
        ),
        3 => (0..3_usize, 0..4_usize, 0..3_usize)
            .prop_map(|(client, address, port)| Step::ByAddress { client, address, port }),
        1 => (0..3_usize, 0..6_usize).prop_map(|(client, name)| Step::Question { client, name }),
        2 => (0..8_usize).prop_map(|which| Step::Close { which }),
        3 => wait.prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Sweep),
        1 => (0..4_usize).prop_map(|policy| Step::Replace { policy }),
        1 => (0..3_usize).prop_map(|client| Step::Flood { client }),
    ];
    proptest::collection::vec(step, 1..80)
}

fn rule(id: &str, names: &[&str], ports: &[u16]) -> Rule {
    Rule {
        id: id.into(),
        names: names.iter().map(|name| Pattern::parse(name, true).unwrap()).collect(),
        ports: Ports(ports.iter().map(|port| (*port, *port)).collect()),
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

fn policy(which: usize) -> (Vec<Rule>, Defaults) {
    let first = vec![ClientMatch::Net("192.0.2.1/32".parse().unwrap())];
    let rules = vec![
        rule("deep", &["**.example.com"], &[443]),
        Rule {
            clients: first.clone(),
            private: true,
            ..rule("own", &["b.example.com", "*.net"], &[80, 443])
        },
        Rule {
            by: MatchBy::Address,
            private: which == 2,
            ..rule("db", &["*.example.net", "example.com"], &[5432])
        },
        Rule {
            action: Action::Deny,
            protocols: vec![Protocol::Quic],
            ..rule("no-quic", &["*.example.com"], &[443])
        },
        Rule {
            ech: Some(Ech::Allow),
            protocols: vec![Protocol::Tls],
            mode: (which == 1).then_some(Mode::Observe),
            until: (which == 1).then(|| at(2_000_000).wall),
            ..rule("apex", &["example.com", "a.example.com"], &[80, 443])
        },
        Rule {
            action: Action::Deny,
            clients: first,
            mode: (which == 3).then_some(Mode::Observe),
            ports: Ports(vec![(0, u16::MAX)]),
            ..rule("never", &["x.a.example.com", "other.example.org"], &[])
        },
    ];
    let mode = if which == 2 { Mode::Observe } else { Mode::Enforce };
    let until = (which == 2).then(|| at(3_000_000).wall);
    (rules, Defaults { mode, until, ech: Ech::Deny })
}

type Key = (Client, usize, IpAddr);

/// What the model knows: for each pair the latest end of all answers, and the flows that hold it.
struct Model {
    ends: HashMap<Key, (u64, Source)>,
    open: HashMap<Key, usize>,
    rules: Vec<Rule>,
    defaults: Defaults,
    now: u64,
}

#[derive(Debug, PartialEq)]
struct Verdict {
    reason: Reason,
    would: Option<Reason>,
    rule: Option<Arc<str>>,
    holds: Option<Key>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Live(Source),
    Ended,
    Never,
}

impl Model {
    /// Patterns by the definition alone.
    fn means(pattern: &Pattern, name: &str) -> bool {
        let under = |suffix: &str| name.strip_suffix(suffix)?.strip_suffix('.').map(str::to_owned);
        let text = pattern.as_str();
        if let Some(suffix) = text.strip_prefix("**.") {
            under(suffix).is_some()
        } else if let Some(suffix) = text.strip_prefix("*.") {
            under(suffix).is_some_and(|left| !left.contains('.'))
        } else {
            text == name
        }
    }

    fn speaking_of(&self, name: usize, client: Client) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| {
            rule.names.iter().any(|pattern| Self::means(pattern, NAMES[name]))
                && (rule.clients.is_empty() || rule.clients.iter().any(|one| means(one, client)))
        })
    }

    fn observes(&self, rule: Option<&Rule>) -> bool {
        let ahead = |until: Option<SystemTime>| until.is_none_or(|until| at(self.now).wall < until);
        if rule.is_some_and(|rule| rule.mode == Some(Mode::Observe) && ahead(rule.until)) {
            return true;
        }
        self.defaults.mode == Mode::Observe && ahead(self.defaults.until)
    }

    fn known(&self, key: Key) -> Known {
        match self.ends.get(&key) {
            Some((_, source)) if self.open.get(&key).is_some_and(|open| *open > 0) => Known::Live(*source),
            Some((end, source)) if self.now < *end => Known::Live(*source),
            Some(_) => Known::Ended,
            None => Known::Never,
        }
    }

    fn denies(
        &self,
        name: usize,
        client: Client,
        port: u16,
        protocol: Option<Protocol>,
    ) -> impl Iterator<Item = &Rule> {
        self.speaking_of(name, client).filter(move |rule| {
            rule.action == Action::Deny
                && rule.ports.contains(port)
                && (rule.protocols.is_empty() || protocol.is_none_or(|one| rule.protocols.contains(&one)))
        })
    }

    fn question(&self, client: Client, name: usize) -> (Reason, Option<Reason>, bool) {
        let hides = |rule: &&Rule| {
            rule.action == Action::Deny && rule.ports.0 == [(0, u16::MAX)] && rule.protocols.is_empty()
        };
        let allows: Vec<&Rule> =
            self.speaking_of(name, client).filter(|rule| rule.action == Action::Allow).collect();
        if self.speaking_of(name, client).filter(hides).any(|rule| !self.observes(Some(rule))) {
            return (Reason::DeniedByRule, None, false);
        }
        if allows.is_empty() && !self.observes(None) {
            return (Reason::NameNotAllowed, None, false);
        }
        if self.speaking_of(name, client).any(|rule| hides(&rule)) {
            return (Reason::ObservedOnly, Some(Reason::DeniedByRule), true);
        }
        if allows.is_empty() {
            return (Reason::ObservedOnly, Some(Reason::NameNotAllowed), true);
        }
        let private = allows.iter().any(|rule| rule.private || self.observes(Some(rule)));
        (Reason::Allowed, None, private)
    }

    fn verdict(&self, denial: Reason, rule: Option<&Rule>, observed: Option<&Rule>) -> Verdict {
        let id = |rule: Option<&Rule>| rule.map(|rule| rule.id.clone());
        if !self.observes(rule) {
            return Verdict { reason: denial, would: None, rule: id(rule), holds: None };
        }
        let would = Some(if observed.is_some() { Reason::DeniedByRule } else { denial });
        Verdict { reason: Reason::ObservedOnly, would, rule: id(observed.or(rule)), holds: None }
    }

    fn grant(&self, key: Key, source: Source, rule: &Rule, observed: Option<&Rule>) -> Verdict {
        let (reason, would) = match (observed, source) {
            (Some(_), _) => (Reason::ObservedOnly, Some(Reason::DeniedByRule)),
            (None, Source::Resolved) => (Reason::Resolved, None),
            (None, Source::Forwarder | Source::Dnstap | Source::Granted) => (Reason::Allowed, None),
        };
        Verdict { reason, would, rule: Some(observed.unwrap_or(rule).id.clone()), holds: Some(key) }
    }

    /// Every verdict that an address rule gives to a live lease here: which of several equal leases
    /// holds the flow is the gate's own choice.
    fn served(&self, client: Client, address: IpAddr, port: u16, protocol: Option<Protocol>) -> Vec<Verdict> {
        let closed = scope(address) != Scope::Public;
        let mut served = Vec::new();
        for name in 0..NAMES.len() {
            let key = (client, name, address);
            let Known::Live(source) = self.known(key) else { continue };
            if self.denies(name, client, port, protocol).any(|deny| !self.observes(Some(deny))) {
                continue;
            }
            let observed = self.denies(name, client, port, protocol).next();
            let rule = self.speaking_of(name, client).find(|rule| {
                rule.action == Action::Allow
                    && rule.by == MatchBy::Address
                    && rule.ports.contains(port)
                    && (!closed || rule.private)
            });
            served.extend(rule.map(|rule| self.grant(key, source, rule, observed)));
        }
        served
    }

    /// Every verdict that is right.
    fn decide(
        &self,
        client: Client,
        claim: Option<(usize, Protocol, bool)>,
        address: IpAddr,
        port: u16,
    ) -> Vec<Verdict> {
        let protocol = claim.map(|(_, protocol, _)| protocol);
        let served = self.served(client, address, port, protocol);
        if !served.is_empty() {
            return served;
        }
        let closed = scope(address) != Scope::Public;
        let Some((name, protocol, ech)) = claim else {
            return self.silent(client, address, port, closed);
        };
        if let Some(deny) =
            self.denies(name, client, port, Some(protocol)).find(|deny| !self.observes(Some(deny)))
        {
            return vec![self.verdict(Reason::DeniedByRule, Some(deny), None)];
        }
        let observed = self.denies(name, client, port, Some(protocol)).next();
        let key = (client, name, address);
        let mut nearest: Option<(usize, &Rule)> = None;
        for rule in self.speaking_of(name, client).filter(|rule| rule.action == Action::Allow) {
            let by_name = rule.by == MatchBy::NameAndAddress;
            let far = [
                rule.ports.contains(port),
                rule.protocols.is_empty() || rule.protocols.contains(&protocol),
                !(ech && by_name && rule.ech != Some(Ech::Allow)),
                !closed || rule.private,
            ];
            let far = far.iter().take_while(|fits| **fits).count();
            if nearest.is_none_or(|(best, _)| far > best) {
                nearest = Some((far, rule));
            }
        }
        let Some((far, rule)) = nearest else {
            return vec![self.verdict(Reason::NameNotAllowed, None, observed)];
        };
        let denial = match (far, self.known(key)) {
            (0, _) => Reason::PortNotAllowed,
            (1, _) => Reason::ProtocolNotAllowed,
            (2, _) => Reason::EchNotAllowed,
            (3, _) => Reason::PrivateAddress,
            (_, Known::Live(source)) => return vec![self.grant(key, source, rule, observed)],
            (_, Known::Ended) => Reason::LeaseExpired,
            (_, Known::Never) => Reason::AddressNotObserved,
        };
        vec![self.verdict(denial, Some(rule), observed)]
    }

    /// Only the port of the address rule is without rules that read names, for every client here.
    fn silent(&self, client: Client, address: IpAddr, port: u16, closed: bool) -> Vec<Verdict> {
        let Some(rule) =
            self.rules.iter().find(|rule| rule.by == MatchBy::Address && rule.ports.contains(port))
        else {
            return vec![self.verdict(Reason::Silent, None, None)];
        };
        let ended = (0..NAMES.len()).any(|name| {
            rule.names.iter().any(|pattern| Self::means(pattern, NAMES[name]))
                && self.known((client, name, address)) == Known::Ended
        });
        let reason = match (closed && !rule.private, ended) {
            (true, _) => Reason::PrivateAddress,
            (false, true) => Reason::LeaseExpired,
            (false, false) => Reason::AddressNotObserved,
        };
        vec![self.verdict(reason, Some(rule), None)]
    }
}

struct World {
    gate: Arc<Gate>,
    model: Model,
    open: Vec<(Permit, Key)>,
    /// Whether the gate is so small that it forgets before the time.
    small: bool,
}

impl World {
    fn new(small: bool) -> Self {
        let (rules, defaults) = policy(0);
        let config = LedgerConfig {
            min_ttl: Duration::from_secs(MIN_TTL),
            grace: Duration::from_secs(GRACE),
            max_leases: if small { 8 } else { 4096 },
            max_leases_per_client: if small { 4 } else { 1024 },
        };
        let gate = Gate::new(Policy::compile(rules.clone(), defaults).unwrap(), config);
        let model = Model { ends: HashMap::new(), open: HashMap::new(), rules, defaults, now: 1_000_000 };
        Self { gate, model, open: Vec::new(), small }
    }

    fn take(&mut self, step: Step) {
        let now = at(self.model.now);
        match step {
            Step::Observe { client, chain, addresses, ttl, source, late_ms } => {
                let seen = self.model.now.saturating_sub(late_ms);
                self.observe(clients()[client], &chain, &addresses, ttl, source, seen);
            }
            Step::Decide { client, claim, address, port, keep } => {
                self.decide(clients()[client], claim, addresses()[address], PORTS[port], keep);
            }
            Step::ByAddress { client, address, port } => {
                let (client, address, port) = (clients()[client], addresses()[address], PORTS[port]);
                let found = self.gate.decide_by_address(&flow(client, address, port), now);
                let right = self.model.served(client, address, port, None);
                match found {
                    Some(decision) => self.compare(&decision, &right),
                    None => assert!(self.small || right.is_empty(), "the gate missed {right:?}"),
                }
            }
            Step::Question { client, name } => {
                let found = self.gate.question(clients()[client], &name_of(name), now);
                let right = self.model.question(clients()[client], name);
                assert_eq!((found.reason, found.would, found.private), right);
            }
            Step::Close { which } => {
                if which < self.open.len() {
                    let (permit, key) = self.open.swap_remove(which);
                    drop(permit);
                    *self.model.open.get_mut(&key).unwrap() -= 1;
                }
            }
            Step::Wait { millis } => self.model.now += millis,
            Step::Sweep => {
                self.gate.sweep(now.tick, 10_000);
            }
            Step::Replace { policy: which } => {
                let (rules, defaults) = policy(which);
                self.gate.replace(Policy::compile(rules.clone(), defaults).unwrap());
                (self.model.rules, self.model.defaults) = (rules, defaults);
            }
            Step::Flood { client } => {
                if self.small {
                    for _ in 0..4 {
                        self.observe(
                            clients()[client],
                            &[0, 1],
                            &[0, 1, 3],
                            60,
                            Source::Dnstap,
                            self.model.now,
                        );
                    }
                }
            }
        }
    }

    fn observe(
        &mut self,
        client: Client,
        chain: &[usize],
        which: &[usize],
        ttl_secs: u32,
        source: Source,
        seen: u64,
    ) {
        let observation = Observation {
            client,
            chain: chain.iter().map(|name| name_of(*name)).collect(),
            addresses: which.iter().map(|ip| Address { ip: addresses()[*ip], ttl_secs }).collect(),
            source,
            at: at(seen).tick,
        };
        self.gate.observe(&observation, at(self.model.now));
        let ttl = if ttl_secs > i32::MAX as u32 { 0 } else { u64::from(ttl_secs) };
        let end = seen + (ttl.max(MIN_TTL) + GRACE) * 1000;
        for name in chain {
            if !self.model.question(client, *name).0.lets_pass() {
                continue;
            }
            for ip in which {
                if end > self.model.now {
                    let kept =
                        self.model.ends.entry((client, *name, addresses()[*ip])).or_insert((0, source));
                    if end >= kept.0 {
                        *kept = (end, source);
                    }
                }
            }
        }
    }

    fn decide(
        &mut self,
        client: Client,
        claim: Option<(usize, Protocol, bool)>,
        address: IpAddr,
        port: u16,
        keep: bool,
    ) {
        let spoken = claim.map_or(Claim::Silent, |(name, protocol, ech)| {
            Claim::Named(Named { name: name_of(name), protocol, via: Via::Sni, ech })
        });
        let mut found = self.gate.decide(&flow(client, address, port), &spoken, at(self.model.now));
        let right = self.model.decide(client, claim, address, port);
        self.compare(&found, &right);
        // Which of several right leases holds the flow cannot be told from outside: such flows close at once.
        if let ([Verdict { holds: Some(key), .. }], true) = (&right[..], keep)
            && found.evidence.is_some()
            && let Some(permit) = found.take_permit()
        {
            *self.model.open.entry(*key).or_default() += 1;
            self.open.push((permit, *key));
        }
    }

    fn compare(&self, found: &Decision, right: &[Verdict]) {
        let id = found.rule.as_ref().map(|rule| rule.id.clone());
        let same = |verdict: &&Verdict| {
            // Who forgot a lease may have learnt it again from another source.
            let passes = |reason| matches!(reason, Reason::Allowed | Reason::Resolved);
            (found.would, &id) == (verdict.would, &verdict.rule)
                && (found.reason == verdict.reason
                    || (self.small && passes(found.reason) && passes(verdict.reason)))
        };
        if let Some(verdict) = right.iter().find(same) {
            if let (Some(key), Some(evidence)) = (verdict.holds, &found.evidence)
                && right.len() == 1
                && !self.small
            {
                assert_eq!(evidence.expires_at, at(self.model.ends[&key].0).tick);
            }
            return;
        }
        // The one difference allowed: what ended long ago, or had to give way, was never there.
        let forgets = right.iter().any(|verdict| {
            let reason = verdict.would.unwrap_or(verdict.reason);
            let ended = reason == Reason::LeaseExpired && self.has_old_leases();
            self.small || ended
        });
        let missed = [Reason::AddressNotObserved, Reason::LeaseExpired, Reason::Silent, Reason::DeniedByRule];
        let told = found.would.unwrap_or(found.reason);
        let opened = found.is_allowed() && found.would.is_none();
        let plausible = self.small || missed.contains(&told);
        assert!(forgets && plausible && !opened, "the gate said {found:?}, right were {right:?}");
    }

    fn has_old_leases(&self) -> bool {
        self.model.ends.values().any(|(end, _)| end + REMEMBERED_MS <= self.model.now)
    }
}

fn name_of(name: usize) -> Name {
    Name::parse(NAMES[name]).unwrap()
}

fn flow(client: Client, address: IpAddr, port: u16) -> Flow {
    let source = SocketAddr::new(client.address().unwrap(), 40_000);
    Flow::new(FlowId(0), source, SocketAddr::new(address, port), Transport::Tcp, Tick::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_gate_says_what_the_model_says(steps in steps()) {
        let mut world = World::new(false);
        for step in steps {
            world.take(step);
        }
    }

    #[test]
    fn a_gate_too_small_forgets_but_never_opens_more(steps in steps()) {
        let mut world = World::new(true);
        for step in steps {
            world.take(step);
            prop_assert!(world.gate.lease_count() <= 8);
        }
    }
}

/// Whom a rule of this model speaks of: networks only.
fn means(one: &ClientMatch, client: Client) -> bool {
    match one {
        ClientMatch::Net(net) => client.address().is_some_and(|address| net.contains(&address)),
        ClientMatch::Container(_)
        | ClientMatch::Label { .. }
        | ClientMatch::Service(_)
        | ClientMatch::User(_)
        | ClientMatch::UserName(_) => panic!("the model has none of {one:?}"),
    }
}
