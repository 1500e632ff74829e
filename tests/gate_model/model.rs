//! The model and the world in which it stands beside the gate; see `main.rs`. The fuzz target `gate_model` has the
//! same two.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use namegate::facts::{
    Address, Claim, Client, Container, Flow, FlowId, Moment, Name, Named, Observation, Protocol, Scope,
    Source, Tick, Transport, Via, scope,
};
use namegate::gate::{
    Action, ClientMatch, Decision, Defaults, Ech, Gate, LedgerConfig, MatchBy, Mode, Pattern, Permit, Policy,
    Ports, Reason, Roster, Rule,
};

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
const MAX_TTL: u64 = 86_400;
const REMEMBERED_MS: u64 = 3_600_000;

/// Policies and pictures of containers to choose from.
pub(crate) const POLICIES: usize = 6;
pub(crate) const PICTURES: usize = 8;

fn sources() -> [IpAddr; 3] {
    ["192.0.2.1", "192.0.2.2", "2001:db8::7"].map(|text| text.parse().unwrap())
}

/// Containers, each with the addresses it has by the number of their place in [`sources`].
fn picture(which: usize) -> Vec<Arc<Container>> {
    let of = |name: &str, run: &str, tier: &str, places: &[usize]| {
        Arc::new(Container {
            id: name.repeat(64).into(),
            name: name.into(),
            image: "image".into(),
            labels: vec![("tier".into(), tier.into())],
            started_at: run.into(),
            addresses: places.iter().map(|place| sources()[*place]).collect(),
        })
    };
    match which {
        0 => vec![],
        1 => vec![of("a", "1", "ci", &[0])],
        2 => vec![of("a", "2", "ci", &[0])],
        3 => vec![of("b", "1", "web", &[0])],
        4 => vec![of("a", "1", "ci", &[0]), of("b", "1", "web", &[1, 2])],
        5 => vec![of("a", "1", "ci", &[0, 2]), of("b", "1", "web", &[0])],
        6 => vec![of("a", "1", "ci", &[1])],
        _ => vec![of("b", "2", "ci", &[0, 1, 2])],
    }
}

fn addresses() -> [IpAddr; 4] {
    ["203.0.113.1", "203.0.113.2", "10.0.0.1", "2001:db8::1"].map(|text| text.parse().unwrap())
}

fn at(millis: u64) -> Moment {
    let by = Duration::from_millis(millis);
    Moment { tick: Tick::default().after(by), wall: SystemTime::UNIX_EPOCH + by }
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// An answer that was given `late_ms` ago.
    Observe {
        client: usize,
        chain: Vec<usize>,
        addresses: Vec<usize>,
        ttl: u32,
        source: Source,
        late_ms: u64,
    },
    /// `before`: by so many of those who had the address earlier.
    Decide {
        client: usize,
        before: usize,
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
    /// These containers are there now.
    Containers {
        picture: usize,
    },
    /// Nobody can say who is there.
    Suspend,
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
    let mut rules = rules;
    if which >= 4 {
        let ci = ClientMatch::Label { key: "tier".into(), value: "ci".into() };
        rules.extend([
            Rule {
                clients: vec![ci.clone()],
                ..rule("ci", &["other.example.org", "db.example.net"], &[80, 443])
            },
            Rule {
                action: Action::Deny,
                clients: vec![ClientMatch::Container("b".into())],
                ..rule("not-b", &["**.example.com"], &[443])
            },
        ]);
    }
    if which == 5 {
        // Whoever may be one of these learns no address either.
        rules.push(Rule {
            action: Action::Deny,
            clients: vec![ClientMatch::Label { key: "tier".into(), value: "web".into() }],
            ports: Ports(vec![(0, u16::MAX)]),
            ..rule("hidden", &["a.example.com"], &[])
        });
    }
    let mode = if which == 2 { Mode::Observe } else { Mode::Enforce };
    let until = (which == 2).then(|| at(3_000_000).wall);
    (rules, Defaults { mode, until, ech: Ech::Deny })
}

/// One after the other who had an address: the number of the place in [`sources`], and of the tenancy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Who {
    place: usize,
    tenancy: Tenancy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Tenancy {
    /// No container was ever known there.
    Unknown,
    /// Counted at this address; a time without a container, or with two, is one too.
    Known(usize),
    /// While nobody could say, for the n-th time.
    Limbo(usize),
}

type Key = (Who, usize, IpAddr);

/// Who is where, by the definition alone.
#[derive(Default)]
struct Tenants {
    /// By place, every tenancy so far; the last one lasts.
    held: [Vec<Option<Arc<Container>>>; 3],
    /// By place: when a container was last seen to be gone.
    gone: [u64; 3],
    limbos: usize,
    in_limbo: bool,
}

impl Tenants {
    fn now(&self, place: usize) -> Who {
        let tenancy = match (self.held[place].len(), self.in_limbo) {
            (0, _) => Tenancy::Unknown,
            (_, true) => Tenancy::Limbo(self.limbos),
            (count, false) => Tenancy::Known(count),
        };
        Who { place, tenancy }
    }

    /// Who had the address then; nobody can say when it has changed hands since.
    fn then(&self, place: usize, millis: u64) -> Option<Who> {
        (millis >= self.gone[place]).then(|| self.now(place))
    }

    fn is_current(&self, who: Who) -> bool {
        who == self.now(who.place) || who.tenancy == Tenancy::Known(self.held[who.place].len())
    }

    /// The container that somebody is, if that is sure.
    fn container(&self, who: Who) -> Option<&Arc<Container>> {
        if self.in_limbo || who != self.now(who.place) {
            return None;
        }
        self.held[who.place].last()?.as_ref()
    }

    fn change(&mut self, containers: &[Arc<Container>], now: u64) {
        self.in_limbo = false;
        for (place, address) in sources().into_iter().enumerate() {
            let mut claims = containers.iter().filter(|one| one.addresses.contains(&address));
            let one = claims.next().filter(|_| claims.next().is_none()).cloned();
            let claimed = containers.iter().any(|one| one.addresses.contains(&address));
            let held = &mut self.held[place];
            let changes = match held.last() {
                None => claimed,
                Some(last) => *last != one,
            };
            if !changes {
                continue;
            }
            if matches!(held.last(), Some(Some(_))) {
                self.gone[place] = now;
            }
            held.push(one);
        }
    }

    fn suspend(&mut self) {
        self.limbos += usize::from(!self.in_limbo);
        self.in_limbo = true;
    }
}

/// What the model knows: for each pair the latest end of all answers, and the flows that hold it.
struct Model {
    ends: HashMap<Key, (u64, Source)>,
    open: HashMap<Key, usize>,
    rules: Vec<Rule>,
    defaults: Defaults,
    tenants: Tenants,
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

    fn speaking_of(&self, name: usize, client: Who) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| {
            rule.names.iter().any(|pattern| Self::means(pattern, NAMES[name])) && self.is_for(rule, client)
        })
    }

    /// Whom a rule speaks of: in this model networks, and containers. A denial for containers is for whoever may be
    /// one.
    fn is_for(&self, rule: &Rule, who: Who) -> bool {
        let tenant = self.tenants.container(who);
        let known_place = !self.tenants.held[who.place].is_empty() || sources()[who.place] == sources()[1];
        let suspect = rule.action == Action::Deny && tenant.is_none() && known_place;
        rule.clients.is_empty()
            || rule.clients.iter().any(|one| match one {
                ClientMatch::Net(net) => net.contains(&sources()[who.place]),
                ClientMatch::Container(name) => suspect || tenant.is_some_and(|tenant| tenant.name == *name),
                ClientMatch::Label { key, value } => {
                    suspect || tenant.is_some_and(|tenant| tenant.label(key) == Some(value))
                }
                ClientMatch::Service(_) | ClientMatch::User(_) | ClientMatch::UserName(_) => {
                    panic!("the model has none of {one:?}")
                }
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
        client: Who,
        port: u16,
        protocol: Option<Protocol>,
    ) -> impl Iterator<Item = &Rule> {
        self.speaking_of(name, client).filter(move |rule| {
            rule.action == Action::Deny
                && rule.ports.contains(port)
                && (rule.protocols.is_empty() || protocol.is_none_or(|one| rule.protocols.contains(&one)))
        })
    }

    fn question(&self, client: Who, name: usize) -> (Reason, Option<Reason>, bool) {
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
    fn served(&self, client: Who, address: IpAddr, port: u16, protocol: Option<Protocol>) -> Vec<Verdict> {
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
        client: Who,
        claim: Option<(usize, Protocol, bool)>,
        address: IpAddr,
        port: u16,
    ) -> Vec<Verdict> {
        if !self.tenants.is_current(client) {
            return vec![self.verdict(Reason::ClientUnknown, None, None)];
        }
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
    fn silent(&self, client: Who, address: IpAddr, port: u16, closed: bool) -> Vec<Verdict> {
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

pub(crate) struct World {
    gate: Arc<Gate>,
    model: Model,
    roster: Arc<Roster>,
    /// What the gate calls whom.
    called: HashMap<Who, Client>,
    open: Vec<(Permit, Key)>,
    /// Whether the gate is so small that it forgets before the time.
    small: bool,
}

impl World {
    pub(crate) fn new(small: bool) -> Self {
        let (rules, defaults) = policy(0);
        let config = LedgerConfig {
            min_ttl: Duration::from_secs(MIN_TTL),
            grace: Duration::from_secs(GRACE),
            max_leases: if small { 8 } else { 4096 },
            max_leases_per_client: if small { 4 } else { 1024 },
        };
        let gate = Gate::new(Policy::compile(rules.clone(), defaults).unwrap(), config);
        let tenants = Tenants::default();
        let model =
            Model { ends: HashMap::new(), open: HashMap::new(), rules, defaults, tenants, now: 1_000_000 };
        // One of the addresses is in a network of containers.
        let subnet = format!("{}/32", sources()[1]).parse().unwrap();
        let roster = Arc::new(Roster::default().within(Arc::new([subnet])));
        gate.replace(gate.policy().among(Arc::clone(&roster)));
        Self { gate, model, roster, called: HashMap::new(), open: Vec::new(), small }
    }

    /// Returns what the gate calls who has an address now: the same always, and nobody else so.
    fn client(&mut self, place: usize) -> (Who, Client) {
        let who = self.model.tenants.now(place);
        let client = self.gate.client_at(sources()[place]);
        if let Some(before) = self.called.insert(who, client) {
            assert_eq!(client, before, "{who:?} is called otherwise");
        } else {
            let taken = self.called.iter().any(|(other, called)| *other != who && *called == client);
            assert!(!taken, "{who:?} is called {client:?}, and so was another");
        }
        let container = self.gate.container(client);
        assert_eq!(container.as_ref(), self.model.tenants.container(who));
        (who, client)
    }

    /// Returns one of those who had an address earlier and were seen then, or who has it now.
    fn client_before(&mut self, place: usize, before: usize) -> (Who, Client) {
        let now = self.client(place);
        let Tenancy::Known(count) = now.0.tenancy else { return now };
        let who = Who { place, tenancy: Tenancy::Known(count.saturating_sub(before)) };
        self.called.get(&who).map_or(now, |client| (who, *client))
    }

    fn among(&mut self, roster: Roster) {
        self.roster = Arc::new(roster);
        self.gate.replace(self.gate.policy().among(Arc::clone(&self.roster)));
    }

    pub(crate) fn take(&mut self, step: Step) {
        let now = at(self.model.now);
        match step {
            Step::Observe { client, chain, addresses, ttl, source, late_ms } => {
                let seen = self.model.now.saturating_sub(late_ms);
                self.observe(client, &chain, &addresses, ttl, source, seen);
            }
            Step::Decide { client, before, claim, address, port, keep } => {
                let who = self.client_before(client, before);
                self.decide(who, claim, addresses()[address], PORTS[port], keep);
            }
            Step::ByAddress { client, address, port } => {
                let ((who, client), address, port) = (self.client(client), addresses()[address], PORTS[port]);
                let found = self.gate.decide_by_address(&flow(client, address, port), now);
                let right = self.model.served(who, address, port, None);
                match found {
                    Some(decision) => self.compare(&decision, &right),
                    None => assert!(self.small || right.is_empty(), "the gate missed {right:?}"),
                }
            }
            Step::Question { client, name } => {
                let (who, client) = self.client(client);
                let found = self.gate.question(client, &name_of(name), now);
                let right = self.model.question(who, name);
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
                let policy = Policy::compile(rules.clone(), defaults).unwrap();
                self.gate.replace(policy.among(Arc::clone(&self.roster)));
                (self.model.rules, self.model.defaults) = (rules, defaults);
            }
            Step::Flood { client } => {
                if self.small {
                    for _ in 0..4 {
                        self.observe(client, &[0, 1], &[0, 1, 3], 60, Source::Dnstap, self.model.now);
                    }
                }
            }
            Step::Containers { picture: which } => {
                let containers = picture(which);
                self.model.tenants.change(&containers, self.model.now);
                self.among(self.roster.succeed(&containers, now.tick));
            }
            Step::Suspend => {
                self.model.tenants.suspend();
                self.among(self.roster.suspend());
            }
        }
        self.within_bounds();
    }

    fn within_bounds(&self) {
        assert!(self.gate.lease_count() <= if self.small { 8 } else { 4096 });
        if self.small {
            let mut each: HashMap<Client, usize> = HashMap::new();
            for lease in self.gate.leases() {
                *each.entry(lease.client).or_default() += 1;
            }
            assert!(each.values().all(|count| *count <= 4), "{each:?}");
        }
    }

    fn observe(
        &mut self,
        place: usize,
        chain: &[usize],
        which: &[usize],
        ttl_secs: u32,
        source: Source,
        seen: u64,
    ) {
        let then = self.gate.client_then(sources()[place], at(seen).tick);
        let (who, client) = self.client(place);
        assert_eq!(then, self.model.tenants.then(place, seen).map(|_| client));
        if then.is_none() {
            return;
        }
        let observation = Observation {
            client,
            chain: chain.iter().map(|name| name_of(*name)).collect(),
            addresses: which.iter().map(|ip| Address { ip: addresses()[*ip], ttl_secs }).collect(),
            source,
            at: at(seen).tick,
        };
        self.gate.observe(&observation, at(self.model.now));
        let ttl = if ttl_secs > i32::MAX as u32 { 0 } else { u64::from(ttl_secs) };
        let end = seen + (ttl.clamp(MIN_TTL, MAX_TTL) + GRACE) * 1000;
        for name in chain {
            if !self.model.question(who, *name).0.lets_pass() {
                continue;
            }
            for ip in which {
                if end > self.model.now {
                    let kept = self.model.ends.entry((who, *name, addresses()[*ip])).or_insert((0, source));
                    if end >= kept.0 {
                        *kept = (end, source);
                    }
                }
            }
        }
    }

    fn decide(
        &mut self,
        (who, client): (Who, Client),
        claim: Option<(usize, Protocol, bool)>,
        address: IpAddr,
        port: u16,
        keep: bool,
    ) {
        let spoken = claim.map_or(Claim::Silent, |(name, protocol, ech)| {
            Claim::Named(Named { name: name_of(name), protocol, via: Via::Sni, ech })
        });
        let mut found = self.gate.decide(&flow(client, address, port), &spoken, at(self.model.now));
        let right = self.model.decide(who, claim, address, port);
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
        .seen_as(client)
}
