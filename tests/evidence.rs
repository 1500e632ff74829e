//! Attacks on the evidence: answers that turn, hide, last or lie. The real daemon between real clients and a name
//! server that belongs to the attacker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use common::far::{Far, Record};
use common::namespace::{inside, sh};
use common::world::{Gate, World, leaked, text};

const RULES: &str = r#"
[capture]
interfaces = ["br-egress"]

[proxy]
sniff_timeout = "1500ms"

[dns]
upstreams = ["udp://192.0.2.53"]

[ledger]
min_ttl = "1s"
grace = "1s"

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "all"
names = ["*.example.com"]
ports = [80, 443]
"#;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 5);

fn world() -> (World, Gate, Far) {
    let mut world = World::new();
    let far = Far::start(&world);
    let gate = world.start_gate(RULES);
    (world, gate, far)
}

/// What a client is told of a name, one address a line.
fn dig(world: &World, client: &str, name: &str, kind: &str) -> String {
    text(&world.run(client, &format!("dig +short +tries=1 +time=4 {name} {kind}")).stdout)
}

/// Connects to an address with a name, and returns the reason of the decision.
fn reason(world: &World, gate: &Gate, client: &str, name: &str, address: IpAddr) -> String {
    let seen = gate.events("decision").len();
    let address = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    world.curl(client, &format!("--max-time 4 --resolve {name}:443:{address} https://{name}/"));
    gate.decision_after(seen)["event"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_name_that_turns_private_after_it_was_public_opens_nothing_private() {
    if !inside("a_name_that_turns_private_after_it_was_public_opens_nothing_private") {
        return;
    }
    let (world, gate, far) = world();
    let name = "turning.example.com";
    far.set(name, vec![Record::A(0, PUBLIC)]);
    assert_eq!(dig(&world, "c1", name, "A").trim(), "203.0.113.10");
    assert_eq!(reason(&world, &gate, "c1", name, PUBLIC.into()), "allowed");
    far.set(name, vec![Record::A(0, PRIVATE)]);
    assert_eq!(dig(&world, "c1", name, "A").trim(), "");
    // Nor by itself, nor beside a public one, nor behind an alias.
    assert_eq!(reason(&world, &gate, "c1", name, PRIVATE.into()), "private_address");
    far.set(name, vec![Record::A(0, PRIVATE), Record::A(0, PUBLIC)]);
    assert_eq!(dig(&world, "c1", name, "A").trim(), "203.0.113.10");
    far.set(name, vec![Record::Cname(0, "hidden.example.com")]);
    far.set("hidden.example.com", vec![Record::A(0, PRIVATE)]);
    assert_eq!(dig(&world, "c1", name, "A").trim(), "hidden.example.com.");
    for name in [name, "hidden.example.com"] {
        assert_eq!(reason(&world, &gate, "c1", name, PRIVATE.into()), "private_address");
    }
    // Between the answer and the connection it turns: the address that is dialled is the one that was judged.
    far.set(name, vec![Record::A(0, PUBLIC)]);
    dig(&world, "c1", name, "A");
    far.set(name, vec![Record::A(0, PRIVATE)]);
    assert_eq!(reason(&world, &gate, "c1", name, PUBLIC.into()), "allowed");
    assert_eq!(far.connections("10.99.0.5:443") + far.connections("10.99.0.5:80"), 0);
    assert_eq!(far.connections("203.0.113.10:443"), 2);
    let stripped = |line: &&serde_json::Value| line["namegate"]["stripped"].as_u64() == Some(1);
    assert_eq!(gate.events("dns").iter().filter(stripped).count(), 3, "each is in the log");
    assert_eq!(leaked(&world), 0);
}

#[test]
fn private_addresses_in_disguise_are_neither_given_nor_dialled() {
    if !inside("private_addresses_in_disguise_are_neither_given_nor_dialled") {
        return;
    }
    let (world, gate, far) = world();
    let name = "disguised.example.com";
    // 10.99.0.5: IPv4-mapped, NAT64, 6to4, Teredo (RFC 4291 2.5.5.2, 6052 2.1, 3056 2, 4380 4), and plainly local ones.
    let forms: Vec<Ipv6Addr> = [
        "::ffff:10.99.0.5",
        "64:ff9b::10.99.0.5",
        "2002:a63:5::1",
        "2001:0:102:304::f59c:fffa",
        "fd00::5",
        "fe80::5",
        "::1",
        "ff02::1",
    ]
    .map(|form| form.parse().unwrap())
    .into();
    for form in &forms {
        far.set(name, vec![Record::Aaaa(0, *form), Record::Aaaa(0, "2001:db8:1::10".parse().unwrap())]);
        assert_eq!(dig(&world, "c1", name, "AAAA").trim(), "2001:db8:1::10", "{form}");
    }
    // As destinations, those that can be on a wire; the kernel rules drop the others.
    for form in forms.iter().skip(1).take(4) {
        assert_eq!(reason(&world, &gate, "c1", name, (*form).into()), "private_address", "{form}");
    }
    for form in forms.iter().filter(|form| matches!(form.segments()[0], 0 | 0xfe80 | 0xff02)) {
        let curl = world.curl("c1", &format!("--max-time 2 --resolve {name}:443:[{form}] https://{name}/"));
        assert!(!curl.greeted(), "{form}: {curl:?}");
    }
    assert_eq!(far.all_connections(), 0);
    assert_eq!(leaked(&world), 0);
}

#[test]
fn a_ttl_of_nothing_and_one_of_ages_last_as_long_as_they_may() {
    if !inside("a_ttl_of_nothing_and_one_of_ages_last_as_long_as_they_may") {
        return;
    }
    let (world, gate, far) = world();
    // A TTL with the highest bit set counts as zero (RFC 2181 section 8); a long one is cut to a day.
    let zero = [("t0.example.com", 0), ("t31.example.com", 1 << 31), ("t32.example.com", u32::MAX)];
    let long = ("tmax.example.com", (1 << 31) - 1);
    for (name, ttl) in zero.into_iter().chain([long]) {
        far.set(name, vec![Record::A(ttl, PUBLIC)]);
        assert_eq!(dig(&world, "c1", name, "A").trim(), "203.0.113.10");
        assert_eq!(reason(&world, &gate, "c1", name, PUBLIC.into()), "allowed", "{name}");
    }
    let evidence = gate.events("decision")[3]["namegate"]["evidence"].clone();
    let at = |field: &str| evidence[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(
        at("expires_at").duration_since(at("answered_at")).as_secs(),
        86_400 + 1,
        "a day and the grace"
    );
    sh("sleep 2.5");
    for (name, _) in zero {
        assert_eq!(reason(&world, &gate, "c1", name, PUBLIC.into()), "lease_expired", "{name}");
    }
    assert_eq!(reason(&world, &gate, "c1", long.0, PUBLIC.into()), "allowed");
}

#[test]
fn whatever_server_a_client_asks_the_gates_own_upstream_answers() {
    if !inside("whatever_server_a_client_asks_the_gates_own_upstream_answers") {
        return;
    }
    let (mut world, gate, far) = world();
    // A resolver of the attacker, outside, that lies about an allowed name.
    let lie = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('203.0.113.66', 53))\n\
               while True:\n q, p = s.recvfrom(512)\n s.sendto(q[:2] + b'\\x85\\x80' + q[4:6] + b'\\0\\1\\0\\0\\0\\0' + \
               q[12:q.index(b'\\0', 12) + 5] + b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xcb\\0\\x71\\x42', p)\n";
    world.spawn("web", "liar", "python3", &["-c", lie]);
    let honest =
        || text(&world.run("web", "dig +short +tries=1 +time=1 @203.0.113.66 good.example.com A").stdout);
    common::world::wait_until("the liar lies", Duration::from_secs(10), || honest().contains("203.0.113.66"));
    for transport in ["+notcp", "+tcp"] {
        let line = format!("dig +short +tries=1 {transport} @203.0.113.66 good.example.com A");
        assert_eq!(text(&world.run("c1", &line).stdout).trim(), "203.0.113.10", "{transport}");
    }
    // By another port it is a connection without a name, or a datagram that goes nowhere.
    world.run("c1", "dig +short +tries=1 +time=2 -p 5353 @203.0.113.66 good.example.com A");
    world.run("c1", "dig +short +tries=1 +time=3 +tcp -p 853 @203.0.113.66 good.example.com A");
    let evil = IpAddr::from([203, 0, 113, 66]);
    assert_eq!(reason(&world, &gate, "c1", "good.example.com", evil), "address_not_observed");
    assert_eq!(far.all_connections(), 0);
    assert_eq!(leaked(&world), 0);
}

#[test]
fn an_address_that_was_resolved_by_its_last_owner_is_forgotten_in_its_time() {
    if !inside("an_address_that_was_resolved_by_its_last_owner_is_forgotten_in_its_time") {
        return;
    }
    let (world, gate, far) = world();
    far.set("mine.example.com", vec![Record::A(1, PUBLIC)]);
    dig(&world, "c1", "mine.example.com", "A");
    // Another client never has what this one was told, on any of its addresses.
    assert_eq!(reason(&world, &gate, "c2", "mine.example.com", PUBLIC.into()), "address_not_observed");
    sh("ip -n c2 addr del 10.77.0.3/24 dev eth0; ip -n c1 addr del 10.77.0.2/24 dev eth0
        ip -n c2 addr add 10.77.0.2/24 dev eth0; ip -n c2 route add default via 10.77.0.1; sleep 2.5");
    // TTL, floor and grace are over: whoever has the address now has nothing.
    assert_eq!(reason(&world, &gate, "c2", "mine.example.com", PUBLIC.into()), "lease_expired");
    assert_eq!(far.all_connections(), 0);
}

#[test]
fn time_asleep_counts() {
    const TOLD: &str = "NAMEGATE_TELL_TICK";
    let monotonic = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec as u64
    };
    let asleep = || (namegate::sys::clock::tick().nanos() / 1_000_000_000).saturating_sub(monotonic());
    if std::env::var_os(TOLD).is_some() {
        println!("asleep {}", asleep());
        return;
    }
    // A namespace of time whose machine slept for a day more: nothing but this clock tells (time_namespaces(7)).
    let test = std::env::current_exe().unwrap();
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--time", "--boottime", "86400", "--fork"])
        .arg(test)
        .args(["--exact", "--nocapture", "time_asleep_counts"])
        .env(TOLD, "1")
        .output()
        .unwrap();
    let said = text(&out.stdout);
    let Some(told) = said.lines().find_map(|line| line.split("asleep ").nth(1)) else {
        let notice = format!("SKIPPED: no time namespaces here: {}", text(&out.stderr));
        assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "{notice}");
        return println!("{notice}");
    };
    let (told, here): (u64, u64) = (told.trim().parse().unwrap(), asleep());
    assert!((86_399..=86_401).contains(&(told - here)), "{told} there, {here} here");
}
