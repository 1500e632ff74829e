//! One workload, several addresses: what it resolved from one of them it may reach from another, over the real
//! bridge and the kernel's own neighbour table. Nobody else may.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use common::far::Far;
use common::namespace::inside;
use common::world::{Gate, World, leaked, text};

const RULES: &str = r#"
[capture]
interfaces = ["br-egress"]

[dns]
upstreams = ["udp://192.0.2.53"]

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "web"
names = ["good.example.com"]

[[rule]]
id = "second"
names = ["also.example.com"]
clients = ["10.77.0.3"]

[[rule]]
id = "db"
names = ["db.example.net"]
ports = [3306]
match = "address"
"#;

const GOOD: &str = "--resolve good.example.com:443:[2001:db8:1::10] https://good.example.com/";
const ALSO: &str = "--resolve also.example.com:443:[2001:db8:1::11] https://also.example.com/";

fn world() -> (World, Far, Gate) {
    let mut world = World::new();
    let far = Far::start(&world);
    let gate = world.start_gate(RULES);
    (world, far, gate)
}

/// Asks the forwarder over IPv4; the answers, a line each.
fn ask(world: &World, client: &str, from: &str, name: &str) -> String {
    let line = format!("dig +short +tries=1 -b {from} @10.77.0.1 {name} AAAA");
    text(&world.run(client, &line).stdout).trim().to_owned()
}

/// Connects, and returns the reason of the one decision that was made.
fn reason(world: &World, gate: &Gate, client: &str, args: &str) -> String {
    let seen = gate.events("decision").len();
    let curl = world.curl(client, args);
    let decision = gate.decision_after(seen);
    let reason = decision["event"]["reason"].as_str().expect("a reason").to_owned();
    assert_eq!(curl.greeted(), reason == "allowed", "{reason}: {curl:?}");
    assert_eq!(gate.events("decision").len(), seen + 1, "one decision per flow");
    let source = decision["source"]["ip"].as_str().expect("an address");
    assert!(source.starts_with("2001:db8:77:"), "the log shows the real source: {decision}");
    reason
}

#[test]
fn a_client_is_known_by_any_of_its_addresses_and_by_no_other_clients() {
    if !inside("a_client_is_known_by_any_of_its_addresses_and_by_no_other_clients") {
        return;
    }
    let (world, far, gate) = world();
    // The table knows two IPv6 addresses of the client as one's before it has its IPv4 one.
    world.run("c1", "ip addr add 2001:db8:77::22/64 dev eth0 nodad");
    for from in ["2001:db8:77::2", "2001:db8:77::22"] {
        world.run("c1", &format!("dig +short +tries=1 -b {from} @2001:db8:77::1 evil.test AAAA"));
    }
    // Refused over IPv6, then asked over IPv4: at once, not when what was read before is old.
    assert_eq!(reason(&world, &gate, "c1", GOOD), "address_not_observed");
    assert_eq!(ask(&world, "c1", "10.77.0.2", "good.example.com"), "2001:db8:1::10");
    assert_eq!(reason(&world, &gate, "c1", GOOD), "allowed");
    assert_eq!(reason(&world, &gate, "c2", GOOD), "address_not_observed");
    assert_eq!(ask(&world, "c2", "10.77.0.3", "good.example.com"), "2001:db8:1::10");
    assert_eq!(reason(&world, &gate, "c2", GOOD), "allowed");

    // A rule for an IPv4 address, asked for and connected to over IPv6.
    assert_eq!(ask(&world, "c1", "10.77.0.2", "also.example.com"), "");
    let over_six = "dig +short +tries=1 @2001:db8:77::1 also.example.com AAAA";
    assert_eq!(text(&world.run("c2", over_six).stdout).trim(), "2001:db8:1::11");
    assert_eq!(reason(&world, &gate, "c2", ALSO), "allowed");
    assert_eq!(reason(&world, &gate, "c1", ALSO), "name_not_allowed");

    // A server that speaks first.
    assert_eq!(ask(&world, "c1", "10.77.0.2", "db.example.net"), "2001:db8:1::13");
    let first = world.run("c1", "timeout 3 socat -t1 - TCP:[2001:db8:1::13]:3306");
    assert!(text(&first.stdout).contains("first"), "{first:?}");
    let first = world.run("c2", "timeout 3 socat -t1 - TCP:[2001:db8:1::13]:3306");
    assert!(!text(&first.stdout).contains("first"), "{first:?}");
    assert_eq!(far.all_connections(), 4);
    assert_eq!(leaked(&world), 0);
}

#[test]
fn several_ipv6_addresses_of_a_client_are_one_client() {
    if !inside("several_ipv6_addresses_of_a_client_are_one_client") {
        return;
    }
    let (world, _far, gate) = world();
    world.run("c1", "ip addr add 2001:db8:77::22/64 dev eth0 nodad");
    let line = "dig +short +tries=1 -b 2001:db8:77::22 @2001:db8:77::1 good.example.com AAAA";
    assert_eq!(text(&world.run("c1", line).stdout).trim(), "2001:db8:1::10");
    assert_eq!(reason(&world, &gate, "c1", &format!("--interface 2001:db8:77::2 {GOOD}")), "allowed");
    assert_eq!(reason(&world, &gate, "c2", GOOD), "address_not_observed");
}

#[test]
fn two_ipv4_addresses_behind_one_link_address_are_not_joined_with_anything() {
    if !inside("two_ipv4_addresses_behind_one_link_address_are_not_joined_with_anything") {
        return;
    }
    let (world, far, gate) = world();
    world.run("c1", "ip addr add 10.77.0.22/24 dev eth0");
    for from in ["10.77.0.2", "10.77.0.22"] {
        assert_eq!(ask(&world, "c1", from, "good.example.com"), "2001:db8:1::10");
    }
    assert_eq!(reason(&world, &gate, "c1", GOOD), "address_not_observed");
    assert_eq!(far.all_connections(), 0);
}
