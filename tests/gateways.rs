//! The gate as a network's default gateway: it finds the link by the network, takes the address, and refuses where that
//! would not work. Each test runs in namespaces of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic and wait"
)]

mod common;

use std::fs;
use std::time::Duration;

use common::far::Far;
use common::namespace::inside;
use common::world::{World, leaked, text, wait_until};
use rustix::process::Signal;

const RULES: &str = r#"
[capture]
gateways = ["10.77.0.1/24", "2001:db8:77::1/64"]

[dns]
upstreams = ["udp://192.0.2.53"]

[ledger]
min_ttl = "1s"
grace = "1s"

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "web"
names = ["good.example.com"]
"#;

/// A world whose gateway has other addresses on the clients' network than they send to.
fn world() -> (World, Far) {
    let world = World::new();
    world.gateway(
        "ip addr del 10.77.0.1/24 dev br-egress; ip addr add 10.77.0.254/24 dev br-egress
         ip addr del 2001:db8:77::1/64 dev br-egress; ip addr add 2001:db8:77::fe/64 dev br-egress nodad",
    );
    let far = Far::start(&world);
    (world, far)
}

/// Starts the gate where it cannot run; returns its exit code and words.
fn refused(world: &World, rules: &str) -> (i32, String) {
    let file = world.path("refused.toml");
    fs::write(&file, rules.replace("@DIR@", &world.dir.path().display().to_string())).expect("written");
    let line = format!("timeout 10 {} serve --config {}", env!("CARGO_BIN_EXE_namegate"), file.display());
    let out = world.run("gw", &line);
    assert!(!world.gateway("nft list tables").contains("namegate"), "nothing is installed");
    assert!(!world.gateway("ip addr").contains("proto"), "nothing is added");
    (out.status.code().unwrap_or(-1), text(&out.stderr))
}

#[test]
fn the_gate_becomes_the_default_gateway_of_a_network_and_stays_it_until_taken_down() {
    if !inside("the_gate_becomes_the_default_gateway_of_a_network_and_stays_it_until_taken_down") {
        return;
    }
    let (mut world, far) = world();
    let greets = |world: &World, family: &str| {
        let curl = world.curl("c1", &format!("{family} https://good.example.com/"));
        assert!(curl.greeted(), "{family}: {curl:?}");
    };
    let refuses = |world: &World, family: &str, address: &str| {
        let curl =
            world.curl("c1", &format!("{family} --resolve evil.test:443:{address} https://evil.test/"));
        assert!(!curl.greeted(), "{family}: {curl:?}");
    };
    let gate = world.start_gate(RULES);
    wait_until("both addresses are there", Duration::from_secs(5), || {
        let addresses = world.gateway("ip addr show dev br-egress");
        addresses.contains("10.77.0.1/24") && addresses.contains("2001:db8:77::1/64")
    });
    for (family, address) in [("-4", "203.0.113.66"), ("-6", "[2001:db8:1::66]")] {
        greets(&world, family);
        refuses(&world, family, address);
    }
    assert_eq!(gate.reasons().iter().filter(|reason| *reason == "name_not_allowed").count(), 2);

    // Killed: the addresses stay, and nothing passes.
    world.end(gate.pid, Signal::KILL);
    assert!(world.gateway("ip addr show dev br-egress").contains("10.77.0.1/24"));
    for (family, address) in [("-4", "203.0.113.66"), ("-6", "[2001:db8:1::66]")] {
        refuses(&world, family, address);
    }

    // Started again, it finds its addresses there.
    let gate = world.start_gate(RULES);
    greets(&world, "-4");
    greets(&world, "-6");
    world.end(gate.pid, Signal::TERM);
    assert!(world.gateway("ip addr show dev br-egress").contains("10.77.0.1/24"), "closed, not gone");

    let down = world.gateway(&format!("{} down", env!("CARGO_BIN_EXE_namegate")));
    assert!(down.contains("gateway address 10.77.0.1 of br-egress"), "{down}");
    assert!(down.contains("gateway address 2001:db8:77::1 of br-egress"), "{down}");
    let left = world.gateway("ip addr show dev br-egress");
    assert!(!left.contains("10.77.0.1/") && !left.contains("2001:db8:77::1/"), "{left}");
    assert!(left.contains("10.77.0.254/24") && left.contains("2001:db8:77::fe/64"), "only our own: {left}");
    assert_eq!(far.connections("203.0.113.66:443") + far.connections("[2001:db8:1::66]:443"), 0);
    assert_eq!(leaked(&world), 0);
}

#[test]
fn clients_follow_a_gateway_that_comes_back_elsewhere_at_once() {
    if !inside("clients_follow_a_gateway_that_comes_back_elsewhere_at_once") {
        return;
    }
    let (mut world, _far) = world();
    let known = |world: &World| text(&world.run("c1", "ip neigh show 10.77.0.1").stdout);
    let gate = world.start_gate(RULES);
    assert!(world.curl("c1", "-4 https://good.example.com/").greeted());
    world.end(gate.pid, Signal::KILL);
    // A container that is made anew has another link, and not yet the address.
    world.gateway("ip addr del 10.77.0.1/24 dev br-egress; ip link set br-egress address 02:00:00:00:00:99");
    assert!(!known(&world).contains("02:00:00:00:00:99"), "{}", known(&world));
    world.start_gate(RULES);
    wait_until("the client has learned it", Duration::from_secs(2), || {
        known(&world).contains("02:00:00:00:00:99")
    });
    assert!(world.curl("c1", "-4 --max-time 2 https://good.example.com/").greeted());
}

#[test]
fn an_address_that_the_link_had_before_is_used_and_never_removed() {
    if !inside("an_address_that_the_link_had_before_is_used_and_never_removed") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    let gate = world.start_gate(RULES);
    assert!(world.curl("c1", "-4 https://good.example.com/").greeted());
    world.end(gate.pid, Signal::TERM);
    let down = world.gateway(&format!("{} down", env!("CARGO_BIN_EXE_namegate")));
    assert!(!down.contains("gateway address"), "{down}");
    let left = world.gateway("ip addr show dev br-egress");
    assert!(left.contains("10.77.0.1/24") && left.contains("2001:db8:77::1/64"), "{left}");
}

#[test]
fn a_gateway_that_would_not_work_is_refused_with_the_way_out() {
    if !inside("a_gateway_that_would_not_work_is_refused_with_the_way_out") {
        return;
    }
    let (world, _far) = world();
    let (code, said) = refused(&world, &RULES.replace("10.77.0.1/24", "10.78.0.1/24"));
    assert!(code == 3 && said.contains("no interface has an address in 10.78.0.0/24"), "{code} {said}");
    assert!(said.contains("hint: give this host an address of its own in 10.78.0.0/24"), "{said}");

    world.gateway("ip addr add 10.77.0.9/32 dev wan");
    let (code, said) = refused(&world, RULES);
    assert!(
        code == 3 && said.contains("br-egress, wan all have an address in 10.77.0.0/24"),
        "{code} {said}"
    );
    world.gateway("ip addr del 10.77.0.9/32 dev wan");

    // Whoever has the address already would get what clients send, past every rule.
    for (address, family) in [("10.77.0.1", "-4"), ("2001:db8:77::1", "-6")] {
        let length = if family == "-4" { "24" } else { "64" };
        world.run("c2", &format!("ip addr add {address}/{length} dev eth0 nodad"));
        let (code, said) = refused(&world, RULES);
        let expected = format!("another host on br-egress has the gateway address {address} already");
        assert!(code == 3 && said.contains(&expected), "{code} {said}");
        assert!(said.contains("inhibit_ipv4"), "{said}");
        world.run("c2", &format!("ip addr del {address}/{length} dev eth0"));
    }

    world.gateway("ip route replace default via 10.77.0.1");
    let (code, said) = refused(&world, RULES);
    assert!(code == 3 && said.contains("default route of this host leads to 10.77.0.1"), "{code} {said}");

    let (code, said) = refused(&world, &RULES.replace("[dns]", "[dns]\nlisten = [\"10.77.0.1:53\"]"));
    assert!(code == 2 && said.contains("is a gateway address"), "{code} {said}");
}

#[test]
fn rules_shows_the_link_that_would_be_captured() {
    if !inside("rules_shows_the_link_that_would_be_captured") {
        return;
    }
    let (world, _far) = world();
    let file = world.path("namegate.toml");
    fs::write(&file, RULES).expect("written");
    let line = format!("{} rules --config {}", env!("CARGO_BIN_EXE_namegate"), file.display());
    assert!(world.gateway(&line).contains("elements = { \"br-egress\" }"));
}
