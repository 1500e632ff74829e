//! The test world itself: without a gate and with forwarding on, everything passes and is seen. What the other
//! tests find closed is closed by the gate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use common::far::Far;
use common::namespace::inside;
use common::world::{World, leaked, text};

#[test]
fn without_a_gate_everything_reaches_the_far_side_and_is_counted() {
    if !inside("without_a_gate_everything_reaches_the_far_side_and_is_counted") {
        return;
    }
    let world = World::new();
    let far = Far::start(&world);
    world.gateway("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for (name, address) in [("good.example.com", "203.0.113.10"), ("good.example.com", "[2001:db8:1::10]")] {
        for (scheme, port) in [("https", 443), ("http", 80)] {
            let curl = world.curl("c1", &format!("--resolve {name}:{port}:{address} {scheme}://{name}/"));
            assert!(curl.greeted(), "{address} {scheme}: {curl:?}");
        }
    }
    let dig = text(&world.run("c2", "dig +short +tries=1 @192.0.2.53 www.example.com A").stdout);
    assert_eq!(dig, "cdn.example.net.\n203.0.113.12\n");
    let first = world.run("c1", "timeout 3 socat -t1 - TCP:203.0.113.13:3306");
    assert!(text(&first.stdout).contains("hello from 203.0.113.13 first"), "{first:?}");
    assert_eq!(far.all_connections(), 5);
    assert!(leaked(&world) > 20);
    assert!(far.was_asked("example.com"));
}
