//! Benches of the gate: a decision, an observation, a pattern, over sizes; allocations are counted.
//!
//! `decide` is a whole verdict with its permit taken and let go again, for flows spread over all clients
//! and leases. `a_million_leases` tells the memory of a full ledger: see its `max alloc`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench may panic")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use namegate::facts::{
    Address, Claim, Client, Flow, FlowId, Moment, Name, Named, Observation, Protocol, Source, Tick,
    Transport, Via,
};
use namegate::gate::{Action, Defaults, Gate, LedgerConfig, MatchBy, Pattern, Policy, Ports, Reason, Rule};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Names that one client has leases for, and the addresses of each: a container that talks to many.
const NAMES_PER_CLIENT: usize = 250;
const ADDRESSES_PER_NAME: usize = 4;
/// Different names in all.
const NAMES: usize = 20_000;
const SIZES: [(usize, usize); 7] = [
    (1, 1),
    (10, 1_000),
    (1_000, 1_000),
    (1_000, 100_000),
    (100_000, 1_000),
    (1, 1_000_000),
    (100_000, 1_000_000),
];

fn now() -> Moment {
    Moment { tick: Tick::from_nanos(1 << 40), wall: SystemTime::UNIX_EPOCH }
}

fn name(number: usize) -> Name {
    Name::parse(format!("{:05x}-service.eu-west.example{}.com", number % NAMES, number % 100)).unwrap()
}

/// Rule 0 allows what the leases are for; the others are what a real policy is full of.
fn rules(count: usize) -> Vec<Rule> {
    let rule = |at: usize, names: &[String]| Rule {
        id: format!("rule-{at}").into(),
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
    };
    let ours: Vec<String> = (0..100).map(|at| format!("**.example{at}.com")).collect();
    let others = (1..count).map(|at| match at % 4 {
        0 => rule(at, &[format!("host{at}.example.net")]),
        1 => rule(at, &[format!("*.zone{at}.example.net")]),
        2 => rule(at, &[format!("**.zone{at}.example.org")]),
        _ => rule(at, &[format!("api-*.zone{at}.example.org")]),
    });
    std::iter::once(rule(0, &ours)).chain(others).collect()
}

fn gate(rule_count: usize) -> Arc<Gate> {
    let config = LedgerConfig {
        min_ttl: Duration::from_secs(5),
        grace: Duration::from_secs(300),
        max_leases: 2_000_000,
        max_leases_per_client: 4_000,
    };
    Gate::new(Policy::compile(rules(rule_count), Defaults::default()).unwrap(), config)
}

fn client(number: usize) -> Client {
    Client::at(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap())))
}

fn address(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0800_0000 + u32::try_from(number).unwrap()))
}

/// The n-th answer: one name of one client with four addresses.
fn observation(number: usize) -> Observation {
    let which = name_number(number);
    Observation {
        client: client(number / NAMES_PER_CLIENT),
        chain: vec![name(which)],
        addresses: (0..ADDRESSES_PER_NAME)
            .map(|at| Address { ip: address(which * ADDRESSES_PER_NAME + at), ttl_secs: 60 })
            .collect(),
        source: Source::Forwarder,
        at: now().tick,
    }
}

fn name_number(observation: usize) -> usize {
    observation.wrapping_mul(7919) % NAMES
}

fn fill(gate: &Gate, leases: usize) {
    for number in 0..leases.div_ceil(ADDRESSES_PER_NAME) {
        gate.observe(&observation(number), now());
    }
}

fn flows(leases: usize) -> Vec<(Flow, Claim)> {
    let observations = leases.div_ceil(ADDRESSES_PER_NAME);
    (0..65_536_usize)
        .map(|at| {
            let number = at.wrapping_mul(2_654_435_761) % observations;
            let which = name_number(number);
            let source = SocketAddr::new(client(number / NAMES_PER_CLIENT).address().unwrap(), 40_000);
            let to = address(which * ADDRESSES_PER_NAME + at % ADDRESSES_PER_NAME);
            let flow =
                Flow::new(FlowId(0), source, SocketAddr::new(to, 443), Transport::Tcp, Tick::default());
            let named = Named { name: name(which), protocol: Protocol::Tls, via: Via::Sni, ech: false };
            (flow, Claim::Named(named))
        })
        .collect()
}

fn decide_at(bencher: Bencher<'_, '_>, gate: &Arc<Gate>, flows: &[(Flow, Claim)], expected: Reason) {
    let mut next = flows.iter().cycle();
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let (flow, claim) = next.next().unwrap();
        let decision = gate.decide(black_box(flow), black_box(claim), now());
        assert_eq!(decision.reason, expected);
    });
}

#[divan::bench(args = SIZES, sample_size = 2000, sample_count = 50)]
fn decide_allowed(bencher: Bencher<'_, '_>, (rules, leases): (usize, usize)) {
    let gate = gate(rules);
    fill(&gate, leases);
    decide_at(bencher, &gate, &flows(leases), Reason::Allowed);
}

#[divan::bench(args = [(10, 1_000), (100_000, 1_000_000)], sample_size = 2000, sample_count = 50)]
fn decide_name_not_allowed(bencher: Bencher<'_, '_>, (rules, leases): (usize, usize)) {
    let gate = gate(rules);
    fill(&gate, leases);
    let mut flows = flows(leases);
    for (at, (_, claim)) in flows.iter_mut().enumerate() {
        let name = Name::parse(format!("n{at}.a.example")).unwrap();
        *claim = Claim::Named(Named { name, protocol: Protocol::Tls, via: Via::Sni, ech: false });
    }
    decide_at(bencher, &gate, &flows, Reason::NameNotAllowed);
}

#[divan::bench(args = [(10, 1_000), (100_000, 1_000_000)], sample_size = 2000, sample_count = 50)]
fn question(bencher: Bencher<'_, '_>, (rules, leases): (usize, usize)) {
    let gate = gate(rules);
    let names: Vec<(Client, Name)> =
        flows(leases).iter().map(|(flow, claim)| (flow.client(), claim.name().unwrap().clone())).collect();
    let mut next = names.iter().cycle();
    bencher.bench_local(|| {
        let (client, name) = next.next().unwrap();
        gate.question(*client, black_box(name), now())
    });
}

/// One answer with four addresses that were known before.
#[divan::bench(args = [1_000, 1_000_000], sample_size = 500, sample_count = 50)]
fn observe_again(bencher: Bencher<'_, '_>, leases: usize) {
    let gate = gate(1_000);
    fill(&gate, leases);
    let observations = leases / ADDRESSES_PER_NAME;
    let known: Vec<Observation> =
        (0..16_384_usize).map(|at| observation(at.wrapping_mul(2_654_435_761) % observations)).collect();
    let mut next = known.iter().cycle();
    bencher.bench_local(|| gate.observe(black_box(next.next().unwrap()), now()));
}

/// A million leases of a thousand clients from nothing.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn a_million_leases(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1_000_000_u32)).bench_local(|| {
        let gate = gate(1);
        fill(&gate, 1_000_000);
        assert_eq!(gate.lease_count(), 1_000_000);
        gate
    });
}

/// All of them ended and forgotten, a lock's worth of places at a time.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn sweep_a_million(bencher: Bencher<'_, '_>) {
    let gate = gate(1);
    fill(&gate, 1_000_000);
    let late = now().tick.after(Duration::from_secs(7200));
    bencher.bench_local(|| assert_eq!(gate.sweep(late, 2_000_000), 1_000_000));
}

#[divan::bench(args = ["example.com", "*.example.com", "api-*.Example.com", "**.bücher.example.com"])]
fn parse_pattern(text: &str) -> Pattern {
    Pattern::parse(black_box(text), false).unwrap()
}

#[divan::bench(args = [1_000, 100_000])]
fn compile_policy(bencher: Bencher<'_, '_>, count: usize) {
    bencher
        .with_inputs(|| rules(count))
        .bench_local_values(|rules| Policy::compile(rules, Defaults::default()).unwrap());
}
