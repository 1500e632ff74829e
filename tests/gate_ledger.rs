//! The ledger seen from outside: how long leases last, whose they are, who loses when it is full, and
//! who is woken.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may panic")]

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use namegate::facts::{
    Address, Claim, Client, Flow, FlowId, Moment, Name, Named, Observation, Protocol, Source, Tick,
    Transport, Via,
};
use namegate::gate::{
    Action, Decision, Defaults, Gate, LedgerConfig, MatchBy, Pattern, Policy, Ports, Reason, Rule, Watch,
};

fn at(millis: u64) -> Moment {
    let by = Duration::from_millis(millis);
    Moment { tick: Tick::default().after(by), wall: SystemTime::UNIX_EPOCH + by }
}

fn rule(id: &str, names: &[&str], by: MatchBy, port: u16) -> Rule {
    Rule {
        id: id.into(),
        names: names.iter().map(|name| Pattern::parse(name, true).unwrap()).collect(),
        ports: Ports(vec![(port, port)]),
        clients: Vec::new(),
        action: Action::Allow,
        by,
        protocols: Vec::new(),
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: None,
    }
}

fn gate(max_leases: usize, max_leases_per_client: usize) -> Arc<Gate> {
    let rules = vec![
        rule("web", &["**.example.com"], MatchBy::NameAndAddress, 443),
        rule("raw", &["**.example.net"], MatchBy::Address, 22),
    ];
    let config = LedgerConfig {
        min_ttl: Duration::from_secs(5),
        grace: Duration::from_secs(300),
        max_leases,
        max_leases_per_client,
    };
    Gate::new(Policy::compile(rules, Defaults::default()).unwrap(), config)
}

fn client(number: u32) -> Client {
    Client::at(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)))
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0800_0000 + number))
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn answer(who: u32, names: &[&str], to: &[u32], ttl_secs: u32, when: Moment) -> Observation {
    Observation {
        client: client(who),
        chain: names.iter().map(|text| name(text)).collect(),
        addresses: to.iter().map(|to| Address { ip: address(*to), ttl_secs }).collect(),
        source: Source::Forwarder,
        at: when.tick,
    }
}

fn see(gate: &Gate, who: u32, names: &[&str], to: &[u32], when: u64) {
    gate.observe(&answer(who, names, to, 60, at(when)), at(when));
}

fn ask_over(gate: &Arc<Gate>, transport: Transport, who: u32, text: &str, to: u32, when: u64) -> Decision {
    let source = SocketAddr::new(client(who).address().unwrap(), 40_000);
    let flow = Flow::new(FlowId(0), source, SocketAddr::new(address(to), 443), transport, at(when).tick);
    let claim = Named { name: name(text), protocol: Protocol::Tls, via: Via::Sni, ech: false };
    gate.decide(&flow, &Claim::Named(claim), at(when))
}

fn ask(gate: &Arc<Gate>, who: u32, text: &str, to: u32, when: u64) -> Decision {
    ask_over(gate, Transport::Tcp, who, text, to, when)
}

fn reason(gate: &Arc<Gate>, who: u32, text: &str, to: u32, when: u64) -> Reason {
    ask(gate, who, text, to, when).reason
}

#[test]
fn a_lease_lasts_its_ttl_with_floor_and_grace_and_ends_to_the_millisecond() {
    let day = 86_400;
    for (ttl, secs) in [
        (60, 360),
        (0, 305),
        (5, 305),
        (6, 306),
        (day, day + 300),
        (day + 1, day + 300),
        ((1 << 31) - 1, day + 300),
        (1 << 31, 305),
        (u32::MAX, 305),
    ] {
        let gate = gate(1000, 1000);
        gate.observe(&answer(1, &["a.example.com"], &[1], ttl, at(1000)), at(1000));
        let end = 1000 + u64::from(secs) * 1000;
        for (when, expected) in [
            (1000, Reason::Allowed),
            (1000 + u64::from(ttl.min(60)) * 1000, Reason::Allowed),
            (end - 1, Reason::Allowed),
            (end, Reason::LeaseExpired),
            (end + 1, Reason::LeaseExpired),
            (end + 3_500_000, Reason::LeaseExpired),
        ] {
            assert_eq!(reason(&gate, 1, "a.example.com", 1, when), expected, "ttl {ttl} at {when}");
        }
        gate.sweep(at(end + 3_600_000).tick, 1000);
        assert_eq!(reason(&gate, 1, "a.example.com", 1, end + 3_600_000), Reason::AddressNotObserved);
        assert_eq!(gate.lease_count(), 0);
    }
}

#[test]
fn a_wall_clock_that_jumps_neither_ends_a_lease_nor_makes_one_last() {
    let gate = gate(1000, 100);
    let jumped = |millis: u64, wall: SystemTime| Moment { wall, ..at(millis) };
    let day = Duration::from_secs(86_400);
    let (past, future) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + 30_000 * day);
    let now = SystemTime::UNIX_EPOCH + 20_000 * day;
    gate.observe(&answer(1, &["www.example.com"], &[1], 60, jumped(0, now)), jumped(0, now));
    let source = SocketAddr::new(client(1).address().unwrap(), 40_000);
    let ask = |millis: u64, wall: SystemTime| {
        let tick = at(millis).tick;
        let flow = Flow::new(FlowId(0), source, SocketAddr::new(address(1), 443), Transport::Tcp, tick);
        let name = name("www.example.com");
        let claim = Named { name, protocol: Protocol::Tls, via: Via::Sni, ech: false };
        gate.decide(&flow, &Claim::Named(claim), jumped(millis, wall)).reason
    };
    for wall in [past, now, future] {
        assert_eq!(ask(359_000, wall), Reason::Allowed);
    }
    for wall in [past, now, future] {
        assert_eq!(ask(361_000, wall), Reason::LeaseExpired);
    }
    // An answer that claims to be from the future counts from now.
    let early = answer(1, &["www.example.com"], &[1], 60, at(9_000_000));
    gate.observe(&early, at(1_000_000));
    assert_eq!(ask(1_359_000, now), Reason::Allowed);
    assert_eq!(ask(1_361_000, now), Reason::LeaseExpired);
}

#[test]
fn later_answers_join_and_only_ever_extend() {
    let gate = gate(1000, 1000);
    see(&gate, 1, &["a.example.com"], &[1, 2], 0);
    see(&gate, 1, &["a.example.com"], &[3, 4], 10_000);
    for to in 1..=4 {
        assert_eq!(reason(&gate, 1, "a.example.com", to, 20_000), Reason::Allowed);
    }
    // A short answer, and one that comes late, leave the longer one as evidence.
    gate.observe(&answer(1, &["a.example.com"], &[1], 0, at(20_000)), at(20_000));
    gate.observe(&answer(1, &["a.example.com"], &[1], 30, at(5_000)), at(30_000));
    let evidence = ask(&gate, 1, "a.example.com", 1, 30_000).evidence.unwrap();
    assert_eq!(
        (evidence.ttl_secs, evidence.answered_at, evidence.expires_at),
        (60, at(0).tick, at(360_000).tick)
    );
    // An answer that ended before it arrived opens nothing; one from the future counts from now.
    gate.observe(&answer(1, &["b.example.com"], &[1], 60, at(0)), at(360_000));
    assert_eq!(reason(&gate, 1, "b.example.com", 1, 360_000), Reason::AddressNotObserved);
    gate.observe(&answer(1, &["c.example.com"], &[1], 60, at(900_000)), at(400_000));
    assert_eq!(reason(&gate, 1, "c.example.com", 1, 759_999), Reason::Allowed);
    assert_eq!(reason(&gate, 1, "c.example.com", 1, 760_000), Reason::LeaseExpired);
}

#[test]
fn a_lease_is_for_one_client_one_name_and_one_address() {
    let gate = gate(1000, 1000);
    see(&gate, 1, &["a.example.com"], &[1], 0);
    see(&gate, 1, &["b.example.com"], &[2], 0);
    see(&gate, 2, &["c.example.com"], &[3], 0);
    assert_eq!(reason(&gate, 1, "a.example.com", 1, 1), Reason::Allowed);
    assert_eq!(reason(&gate, 1, "b.example.com", 2, 1), Reason::Allowed);
    for (who, text, to) in
        [(1, "a.example.com", 2), (1, "b.example.com", 1), (2, "a.example.com", 1), (1, "c.example.com", 3)]
    {
        assert_eq!(reason(&gate, who, text, to, 1), Reason::AddressNotObserved, "{who} {text} {to}");
    }
}

#[test]
fn only_names_of_the_chain_that_may_be_asked_for_get_leases() {
    let gate = gate(1000, 1000);
    see(&gate, 1, &["a.example.com", "edge.example.org", "b.example.com"], &[1, 2], 0);
    assert_eq!(gate.lease_count(), 4);
    for text in ["a.example.com", "b.example.com"] {
        assert_eq!(reason(&gate, 1, text, 2, 1), Reason::Allowed);
    }
    let long: Vec<String> = (0..40).map(|at| format!("n{at}.{}.example.com", "x".repeat(60))).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    see(&gate, 2, &long, &[1], 0);
    assert_eq!(gate.leases().iter().filter(|lease| lease.client == client(2)).count(), 13);
    let many: Vec<String> = (0..40).map(|at| format!("n{at}.example.com")).collect();
    see(&gate, 3, &many.iter().map(String::as_str).collect::<Vec<_>>(), &[1], 0);
    assert_eq!(gate.leases().iter().filter(|lease| lease.client == client(3)).count(), 16);
}

#[test]
fn an_open_flow_keeps_its_lease_and_a_closed_one_lets_it_end() {
    let gate = gate(100, 4);
    see(&gate, 1, &["a.example.com"], &[1], 0);
    let mut first = ask(&gate, 1, "a.example.com", 1, 1);
    let pin = first.take_permit().unwrap().into_pin();
    assert_eq!(reason(&gate, 1, "a.example.com", 1, 10_000_000), Reason::Allowed);
    gate.sweep(at(10_000_000).tick, 1000);
    // A flood by the same client cannot push it out.
    for to in 100..200 {
        see(&gate, 1, &["b.example.com"], &[to], 10_000_000);
    }
    assert_eq!(gate.lease_count(), 4);
    let second = ask(&gate, 1, "a.example.com", 1, 10_000_000);
    assert_eq!(second.reason, Reason::Allowed);
    drop(pin);
    assert_eq!(reason(&gate, 1, "a.example.com", 1, 10_000_000), Reason::Allowed, "one flow is still open");
    drop(second);
    assert_eq!(reason(&gate, 1, "a.example.com", 1, 10_000_000), Reason::LeaseExpired);
}

#[test]
fn nothing_is_stored_when_everything_that_could_give_way_is_in_use() {
    let gate = gate(100, 2);
    see(&gate, 1, &["a.example.com"], &[1, 2], 0);
    let held = [ask(&gate, 1, "a.example.com", 1, 1), ask(&gate, 1, "a.example.com", 2, 1)];
    see(&gate, 1, &["b.example.com"], &[3], 2);
    assert_eq!(reason(&gate, 1, "b.example.com", 3, 3), Reason::AddressNotObserved);
    drop(held);
    see(&gate, 1, &["b.example.com"], &[3], 4);
    assert_eq!(reason(&gate, 1, "b.example.com", 3, 5), Reason::Allowed);
    assert_eq!(gate.lease_count(), 2);
}

#[test]
fn a_client_that_floods_loses_its_own_oldest_leases_ended_ones_first() {
    let gate = gate(1000, 100);
    see(&gate, 2, &["a.example.com"], &[1], 0);
    see(&gate, 1, &["old.example.com"], &[1], 0);
    gate.observe(&answer(1, &["short.example.com"], &[1], 0, at(1)), at(1));
    for to in 0..98 {
        see(&gate, 1, &["a.example.com"], &[to], 200_000);
    }
    // `short` has ended, `old`, older, has not.
    see(&gate, 1, &["new.example.com"], &[1], 310_000);
    assert_eq!(reason(&gate, 1, "short.example.com", 1, 310_000), Reason::AddressNotObserved);
    assert_eq!(reason(&gate, 1, "old.example.com", 1, 310_000), Reason::Allowed);
    for number in 0..10_000 {
        see(&gate, 1, &[&format!("n{number}.example.com")], &[number], 320_000);
    }
    assert_eq!(gate.lease_count(), 101);
    assert_eq!(reason(&gate, 2, "a.example.com", 1, 320_000), Reason::Allowed);
    assert_eq!(reason(&gate, 1, "new.example.com", 1, 320_000), Reason::AddressNotObserved);
    assert_eq!(reason(&gate, 1, "n9999.example.com", 9999, 320_000), Reason::Allowed);
}

#[test]
fn made_up_clients_cannot_push_out_those_whose_flows_were_allowed() {
    let gate = gate(1000, 1000);
    for who in 1..=10 {
        for to in 0..70 {
            see(&gate, who, &["a.example.com"], &[to], 0);
        }
        assert_eq!(reason(&gate, who, "a.example.com", 0, 1), Reason::Allowed);
    }
    for who in 1000..21_000 {
        see(&gate, who, &["a.example.com"], &[1, 2], 2);
        // A datagram proves nothing: its source may be made up too.
        ask_over(&gate, Transport::Udp, who, "a.example.com", 1, 2);
    }
    assert_eq!(gate.lease_count(), 1000);
    for who in 1..=10 {
        let left =
            (0..70).filter(|to| reason(&gate, who, "a.example.com", *to, 3) == Reason::Allowed).count();
        assert_eq!(left, 70, "client {who}");
    }
    // A newcomer that connects soon after its answer is served, however many are made up around it.
    see(&gate, 500, &["a.example.com"], &[9], 4);
    for who in 30_000..30_100 {
        see(&gate, who, &["a.example.com"], &[1], 4);
    }
    assert_eq!(reason(&gate, 500, "a.example.com", 9, 5), Reason::Allowed);
}

#[test]
fn in_a_full_ledger_the_largest_client_gives_way() {
    let gate = gate(1000, 1000);
    for to in 0..1000 {
        see(&gate, 1, &["a.example.com"], &[to], 0);
    }
    assert_eq!(reason(&gate, 1, "a.example.com", 999, 1), Reason::Allowed);
    for to in 0..300 {
        see(&gate, 2, &["b.example.com"], &[to], 2);
        assert_eq!(reason(&gate, 2, "b.example.com", to, 2), Reason::Allowed);
    }
    assert_eq!(gate.lease_count(), 1000);
    for to in 0..300 {
        assert_eq!(reason(&gate, 2, "b.example.com", to, 3), Reason::Allowed);
    }
}

#[test]
fn the_bound_in_all_holds_over_many_shards() {
    let gate = gate(4096, 16);
    for who in 0..2000 {
        see(&gate, who, &["a.example.com", "b.example.com"], &[1, 2, 3, 4], 0);
    }
    assert!(gate.lease_count() <= 4096 && gate.lease_count() > 3000, "{}", gate.lease_count());
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Waiting {
    watch: Watch,
    bell: Arc<Bell>,
}

impl Waiting {
    fn begin(gate: &Arc<Gate>, who: u32, text: Option<&str>, to: u32) -> Self {
        let watch = gate.watch(client(who), text.map(name).as_ref(), address(to));
        Self { watch, bell: Arc::default() }
    }

    fn is_ready(&mut self) -> bool {
        let waker = Waker::from(self.bell.clone());
        Pin::new(&mut self.watch).poll(&mut Context::from_waker(&waker)) == Poll::Ready(())
    }

    fn rings(&self) -> usize {
        self.bell.0.load(Ordering::SeqCst)
    }
}

#[test]
fn exactly_those_who_wait_for_a_written_lease_are_woken() {
    let gate = gate(1000, 1000);
    let mut wanted = Waiting::begin(&gate, 1, Some("a.example.com"), 1);
    let mut others = [
        Waiting::begin(&gate, 2, Some("a.example.com"), 1),
        Waiting::begin(&gate, 1, Some("b.example.com"), 1),
        Waiting::begin(&gate, 1, Some("a.example.com"), 2),
        Waiting::begin(&gate, 1, None, 1),
    ];
    let mut any = Waiting::begin(&gate, 1, None, 5);
    for waiting in others.iter_mut().chain([&mut wanted, &mut any]) {
        assert!(!waiting.is_ready() && !waiting.is_ready());
    }
    see(&gate, 1, &["a.example.com"], &[1], 0);
    see(&gate, 1, &["raw.example.net"], &[5], 0);
    assert_eq!((wanted.rings(), any.rings()), (1, 1));
    assert!(wanted.is_ready() && wanted.is_ready() && any.is_ready());
    for waiting in &mut others {
        assert_eq!(waiting.rings(), 0);
        assert!(!waiting.is_ready());
    }
    see(&gate, 1, &["a.example.com"], &[1], 1);
    assert_eq!(wanted.rings(), 1, "who has left is not woken again");
}

#[test]
fn no_wake_up_is_lost_between_asking_and_waiting() {
    let gate = gate(1000, 1000);
    // Written after the watch began, before its first poll.
    let mut early = Waiting::begin(&gate, 1, Some("a.example.com"), 1);
    see(&gate, 1, &["a.example.com"], &[1], 0);
    assert!(early.is_ready());
    // Written before the watch began.
    assert!(Waiting::begin(&gate, 1, Some("a.example.com"), 1).is_ready());
    // Written long ago, ended since, as the last decision found.
    assert_eq!(reason(&gate, 1, "a.example.com", 1, 400_000), Reason::LeaseExpired);
    let mut ended = Waiting::begin(&gate, 1, Some("a.example.com"), 1);
    assert!(!ended.is_ready());
    see(&gate, 1, &["a.example.com"], &[1], 400_001);
    assert!(ended.rings() == 1 && ended.is_ready());
}

#[test]
fn waiting_is_bounded_for_each_client_and_leaves_nothing_behind() {
    let gate = gate(1000, 1000);
    let mut all: Vec<Waiting> = (0..1024).map(|to| Waiting::begin(&gate, 1, None, to)).collect();
    assert!(all.iter_mut().all(|waiting| !waiting.is_ready()));
    let mut refused = Waiting::begin(&gate, 1, Some("a.example.com"), 1);
    assert!(!refused.is_ready(), "ready at once would make its caller spin");
    see(&gate, 1, &["a.example.com"], &[1], 0);
    assert!(refused.rings() == 0 && refused.is_ready());
    assert!(!Waiting::begin(&gate, 2, None, 1).is_ready());
    drop(all);
    assert!(!Waiting::begin(&gate, 1, None, 1).is_ready());
}

#[test]
fn a_waker_that_calls_back_into_the_gate_does_not_lock_up() {
    struct Asks(Arc<Gate>);
    impl Wake for Asks {
        fn wake(self: Arc<Self>) {
            assert_eq!(reason(&self.0, 1, "a.example.com", 1, 1), Reason::Allowed);
        }
    }
    impl Drop for Asks {
        fn drop(&mut self) {
            let _ = reason(&self.0, 1, "a.example.com", 1, 1);
        }
    }
    let gate = gate(1000, 1000);
    let mut watch = gate.watch(client(1), Some(&name("a.example.com")), address(1));
    let mut poll = || {
        let waker = Waker::from(Arc::new(Asks(gate.clone())));
        Pin::new(&mut watch).poll(&mut Context::from_waker(&waker))
    };
    // The wake-up asserts that the lease is there, so the one that a new poll replaces must not wake.
    assert!(poll().is_pending() && poll().is_pending());
    see(&gate, 1, &["a.example.com"], &[1], 0);
    assert!(poll().is_ready());
}

#[test]
fn threads_that_observe_decide_and_sweep_at_once_agree_in_the_end() {
    let gate = gate(4096, 64);
    std::thread::scope(|scope| {
        for who in 0..4_u32 {
            let gate = &gate;
            scope.spawn(move || {
                for round in 0..2000_u32 {
                    let text = format!("n{}.example.com", round % 80);
                    see(gate, who, &[&text, "raw.example.net"], &[round % 80], u64::from(round));
                    let decision = ask(gate, who, &text, round % 80, u64::from(round));
                    assert_eq!(decision.reason, Reason::Allowed);
                    assert_ne!(reason(gate, who + 100, &text, round % 80, 1), Reason::Allowed);
                    let mut waiting = Waiting::begin(gate, (who + 1) % 4, Some(&text), 999);
                    assert!(!waiting.is_ready());
                }
            });
        }
        scope.spawn(|| {
            for round in 0..200 {
                gate.sweep(at(round).tick, 500);
            }
        });
    });
    assert!(gate.lease_count() <= 4 * 64);
    assert!(gate.leases().iter().all(|lease| lease.flows == 0));
    assert_eq!(gate.sweep(at(1_000_000_000).tick, 1_000_000), 256);
    assert_eq!((gate.lease_count(), gate.leases().len()), (0, 0));
}
