//! The gateway at work, told as a story. A world in namespaces, the real daemon, real curl and dig.
//!
//! Each row is measured, none is written down beforehand; the test fails when a verdict is not the expected one.
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
use rustix::process::Signal;

const RULES: &str = r#"
[capture]
interfaces = ["br-egress"]

[proxy]
sniff_timeout = "1s"

[dns]
upstreams = ["udp://192.0.2.53"]

[ledger]
min_ttl = "1s"
grace = "1s"

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "web"
names = ["good.example.com", "also.example.com", "short.example.com", "private.example.com"]
"#;

/// One row: what was tried, what came of it, and the audit line that says so.
struct Row {
    tried: &'static str,
    passed: bool,
    reason: String,
    id: String,
}

struct Story<'a> {
    world: &'a World,
    gate: &'a Gate,
    rows: Vec<Row>,
    wrong: Vec<&'static str>,
}

impl Story<'_> {
    /// Tries something with curl as a client; `expected` is the reason code.
    fn curl(&mut self, tried: &'static str, client: &str, args: &str, expected: &str) {
        let seen = self.gate.events("decision").len();
        let curl = self.world.curl(client, args);
        let decision = self.gate.decision_after(seen);
        self.row(tried, curl.greeted(), &decision, expected);
    }

    /// Asks a question with dig; passed means that an address came back.
    fn dig(&mut self, tried: &'static str, args: &str, expected: &str) {
        let seen = self.gate.events("dns").len();
        let out = self.world.run("c1", &format!("dig +short +tries=1 +time=4 {args}"));
        let passed = text(&out.stdout).lines().any(|line| line.parse::<std::net::IpAddr>().is_ok());
        let events = self.gate.events("dns");
        let event = events.get(seen).cloned().unwrap_or_default();
        self.row(tried, passed, &event, expected);
    }

    fn row(&mut self, tried: &'static str, passed: bool, event: &serde_json::Value, expected: &str) {
        let field = |name: &str| event["event"][name].as_str().unwrap_or("-").to_owned();
        let (reason, id) = (field("reason"), field("id"));
        if reason != expected || passed != (expected == "allowed") {
            self.wrong.push(tried);
        }
        self.rows.push(Row { tried, passed, reason, id });
    }
}

#[test]
fn an_allowed_connection_passes_and_the_bypasses_die() {
    if !inside("an_allowed_connection_passes_and_the_bypasses_die") {
        return;
    }
    let mut world = World::new();
    let far = Far::start(&world);
    let gate = world.start_gate(RULES);
    let mut story = Story { world: &world, gate: &gate, rows: Vec::new(), wrong: Vec::new() };

    story.dig("look up an allowed name", "good.example.com", "allowed");
    story.curl("HTTPS to it", "c1", "-4 https://good.example.com/", "allowed");
    story.curl("HTTP to it, over IPv6", "c1", "-6 http://good.example.com/", "allowed");
    story.dig("look up another allowed name", "also.example.com", "allowed");
    let through = far.all_connections();

    let to = |name: &str, address: &str| format!("--resolve {name}:443:{address} https://{name}/");
    story.curl("hard-coded address, no name", "c1", "-k https://203.0.113.66/", "nameless");
    story.curl(
        "allowed SNI at the attacker's address",
        "c1",
        &to("good.example.com", "203.0.113.66"),
        "address_not_observed",
    );
    story.curl(
        "other SNI at the shared CDN address",
        "c1",
        &to("shared.example.com", "203.0.113.10"),
        "name_not_allowed",
    );
    story.curl(
        "one allowed name at another's address",
        "c1",
        &to("good.example.com", "203.0.113.11"),
        "address_not_observed",
    );
    story.curl(
        "what another client resolved",
        "c2",
        &to("good.example.com", "203.0.113.10"),
        "address_not_observed",
    );
    story.curl(
        "forged Host in clear text",
        "c1",
        "-H 'Host: good.example.com' http://203.0.113.66/",
        "address_not_observed",
    );
    story.curl(
        "allowed name, private address",
        "c1",
        &to("private.example.com", "10.99.0.5"),
        "private_address",
    );
    story.dig("data in a DNS name", "c2VjcmV0.tunnel.test", "name_not_allowed");
    story.dig(
        "the same over TCP, to a resolver of its own",
        "+tcp @203.0.113.66 c2VjcmV0.tunnel.test",
        "name_not_allowed",
    );
    story.dig("data in a TXT record", "good.example.com TXT", "protocol_not_allowed");
    world.run("c1", "dig +short short.example.com; sleep 2.5");
    let stale = "--resolve short.example.com:80:203.0.113.13 http://short.example.com/";
    story.curl("an address after its lease", "c1", stale, "lease_expired");

    let (rows, wrong) = (story.rows, story.wrong);
    world.end(gate.pid, Signal::KILL);
    let killed = world
        .curl("c1", "-k --max-time 3 --resolve good.example.com:443:203.0.113.10 https://good.example.com/");

    println!("\n  {:<46} {:<9} {:<22} audit line", "tried", "outcome", "reason");
    for row in &rows {
        let outcome = if row.passed { "passed" } else { "refused" };
        println!("  {:<46} {outcome:<9} {:<22} {}", row.tried, row.reason, row.id);
    }
    println!(
        "  {:<46} {:<9} (no gate, no way out)",
        "the gate is killed",
        if killed.greeted() { "passed" } else { "refused" }
    );
    println!(
        "\n  connections that reached a server: {through}, packets beside the gate: {}\n",
        leaked(&world)
    );

    assert!(wrong.is_empty(), "not as expected: {wrong:?}");
    assert!(!killed.greeted(), "{killed:?}");
    assert_eq!(far.all_connections(), through, "a denied flow reached a server");
    assert_eq!(through, 2);
    assert_eq!(leaked(&world), 0);
    assert!(!far.was_asked("tunnel.test"), "a denied name travelled");
}
