//! The bridge gateway as a whole: real curl and dig on the clients' side, real servers on the far side,
//! the real daemon between them. One test per promise; each runs in namespaces of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::far::Far;
use common::namespace::inside;
use common::world::{Gate, World, leaked, sh, text, wait_until};
use rustix::process::Signal;

/// The configuration most tests use.
const RULES: &str = r#"
[capture]
interfaces = ["br-egress"]

[proxy]
sniff_timeout = "1500ms"
max_connections_per_client = 16

[dns]
upstreams = ["udp://192.0.2.53"]

[ledger]
min_ttl = "1s"
grace = "1s"

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "web"
names = ["good.example.com", "also.example.com", "www.example.com", "short.example.com", "down.example.com"]
ports = [80, 443, 9]

[[rule]]
id = "wildcard"
names = ["*.example.com"]
ports = [80]
clients = ["10.77.0.3"]

[[rule]]
id = "no-denied"
names = ["denied.example.com"]
action = "deny"

[[rule]]
id = "only-tls"
names = ["plain.example.com"]
protocols = ["tls"]

[[rule]]
id = "inside"
names = ["private.example.com"]
clients = ["10.77.0.3"]
private = true

[[rule]]
id = "inside-not"
names = ["private.example.com"]
clients = ["10.77.0.2"]

[[rule]]
id = "db"
names = ["db.example.net"]
ports = [3306]
match = "address"
"#;

fn world() -> (World, Far) {
    let world = World::new();
    let far = Far::start(&world);
    (world, far)
}

/// Runs curl, and asserts that it failed and that exactly one decision with this reason was recorded.
fn refused(world: &World, gate: &Gate, client: &str, args: &str, reason: &str) -> serde_json::Value {
    let seen = gate.events("decision").len();
    let curl = world.curl(client, args);
    assert!(!curl.greeted(), "{args}: {curl:?}");
    let decision = gate.decision_after(seen);
    assert_eq!(decision["event"]["reason"], reason, "{args}: {decision}");
    assert_eq!(decision["event"]["outcome"], "failure", "{decision}");
    assert_eq!(gate.events("decision").len(), seen + 1, "one decision per flow");
    decision
}

#[test]
fn allowed_names_pass_over_both_families_with_their_evidence_in_the_log() {
    if !inside("allowed_names_pass_over_both_families_with_their_evidence_in_the_log") {
        return;
    }
    let (mut world, far) = world();
    let gate = world.start_gate(RULES);
    for (family, address) in [("-4", "203.0.113.10"), ("-6", "2001:db8:1::10")] {
        for url in ["https://good.example.com/", "http://good.example.com/"] {
            let curl = world.curl("c1", &format!("{family} {url}"));
            assert!(curl.greeted(), "{family} {url}: {curl:?}");
            assert!(curl.out.contains(&format!("hello from {address}")), "{curl:?}");
        }
    }
    // The name that was asked, not the CNAME's target, is what rule and certificate are about.
    let curl = world.curl("c1", "https://www.example.com/");
    assert!(
        curl.greeted() && curl.out.contains("203.0.113.12") | curl.out.contains("2001:db8:1::12"),
        "{curl:?}"
    );
    wait_until("five closed flows", Duration::from_secs(5), || gate.events("close").len() == 5);
    assert_eq!(gate.reasons(), ["allowed"; 5]);
    for decision in gate.events("decision") {
        assert_eq!(decision["namegate"]["evidence"]["source"], "forwarder", "{decision}");
        assert_eq!(decision["rule"]["id"], "web");
        assert_eq!(decision["event"]["outcome"], "success");
    }
    for close in gate.events("close") {
        assert!(close["destination"]["bytes"].as_u64().is_some_and(|bytes| bytes > 50), "{close}");
        assert!(close["source"]["bytes"].as_u64().is_some_and(|bytes| bytes > 50), "{close}");
    }
    assert_eq!(far.all_connections(), 5);
    assert_eq!(leaked(&world), 0);
}

#[test]
fn every_bypass_is_refused_with_its_own_reason_and_no_byte_arrives() {
    if !inside("every_bypass_is_refused_with_its_own_reason_and_no_byte_arrives") {
        return;
    }
    let (mut world, far) = world();
    let gate = world.start_gate(RULES);
    let lookup = |client: &str, name: &str| {
        let out = world.run(client, &format!("dig +short +tries=1 {name} A"));
        assert!(text(&out.stdout).contains("203.0.113."), "{name}: {out:?}");
    };
    lookup("c1", "good.example.com");
    lookup("c1", "also.example.com");
    lookup("c1", "plain.example.com");
    lookup("c1", "down.example.com");
    let to = |name: &str, port: u16, address: &str, path: &str| {
        format!("--resolve {name}:{port}:{address} {path}://{name}:{port}/")
    };
    let no = |args: &str, reason: &str| refused(&world, &gate, "c1", args, reason);

    no(&to("evil.test", 443, "203.0.113.66", "https"), "name_not_allowed");
    no(&to("shared.example.com", 443, "203.0.113.10", "https"), "name_not_allowed");
    no(&to("good.example.com", 443, "203.0.113.66", "https"), "address_not_observed");
    no(&to("good.example.com", 443, "203.0.113.11", "https"), "address_not_observed");
    no(&to("good.example.com", 443, "[2001:db8:1::66]", "https"), "address_not_observed");
    no(&to("good.example.com", 80, "203.0.113.66", "http"), "address_not_observed");
    no(&to("good.example.com", 8443, "203.0.113.10", "https"), "port_not_allowed");
    no(&to("denied.example.com", 443, "203.0.113.11", "https"), "denied_by_rule");
    no(&to("private.example.com", 443, "10.99.0.5", "https"), "private_address");
    no(&to("plain.example.com", 80, "203.0.113.11", "http"), "protocol_not_allowed");
    no("-k https://203.0.113.10/", "nameless");
    no("http://203.0.113.10/", "nameless");
    refused(
        &world,
        &gate,
        "c2",
        &to("good.example.com", 443, "203.0.113.10", "https"),
        "address_not_observed",
    );
    assert_eq!(far.all_connections(), 0, "no byte of a denied flow leaves");

    // Allowed, but nothing listens there.
    let curl = world.curl("c1", "-4 http://down.example.com:9/");
    assert!(!curl.greeted() && curl.out.contains("upstream_failed"), "{curl:?}");
    wait_until("a failed dial is told", Duration::from_secs(5), || {
        gate.events("close").iter().any(|line| line["event"]["reason"] == "upstream_failed")
    });
    assert_eq!(leaked(&world), 0);
}

#[test]
fn clients_hear_no_in_their_own_protocol() {
    if !inside("clients_hear_no_in_their_own_protocol") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(RULES);
    let https = world.curl("c1", "--resolve evil.test:443:203.0.113.66 https://evil.test/");
    assert_eq!(https.status, 35, "{https:?}");
    assert!(https.err.contains("access denied"), "{https:?}");
    let http = world.curl("c1", "--resolve evil.test:80:203.0.113.66 http://evil.test/");
    assert!(http.out.contains("name_not_allowed") && http.out.contains("403"), "{http:?}");
    let id =
        gate.events("decision").last().map(|line| line["event"]["id"].as_str().unwrap_or("?").to_owned());
    assert!(http.out.contains(&id.unwrap_or_default()), "the answer carries the flow's id: {http:?}");
    let raw = world.run(
        "c1",
        "python3 -c 'import socket; s = socket.create_connection((\"203.0.113.66\", 443), 5); \
         s.sendall(b\"SSH-2.0-x\\r\\n\"); print(s.recv(9))'",
    );
    assert!(text(&raw.stderr).contains("ConnectionResetError"), "{raw:?}");
    let quic = world.run("c1", "echo x | timeout 5 socat -t3 - UDP:203.0.113.10:443");
    assert!(text(&quic.stderr).contains("refused") || !quic.status.success(), "{quic:?}");
}

#[test]
fn broken_silent_and_encrypted_hellos_have_their_own_reasons() {
    if !inside("broken_silent_and_encrypted_hellos_have_their_own_reasons") {
        return;
    }
    let (mut world, far) = world();
    let gate = world.start_gate(RULES);
    let send = |shell: &str| {
        let seen = gate.events("decision").len();
        world.run("c1", &format!("({shell}) | timeout 6 socat -t4 - TCP:203.0.113.10:443"));
        gate.decision_after(seen)["event"]["reason"].as_str().unwrap_or("").to_owned()
    };
    assert_eq!(send("printf '\\026\\003\\001\\000\\000'"), "garbled");
    assert_eq!(send("sleep 4"), "silent");
    assert_eq!(send("printf '\\026\\003'; sleep 4"), "silent");
    assert_eq!(send("printf 'GET / HTTP/1.1\\r\\nHost: a.test\\r\\nHost: b.test\\r\\n\\r\\n'"), "garbled");
    assert_eq!(far.all_connections(), 0);
}

#[test]
fn encrypted_client_hello_is_refused_unless_the_rule_permits_it() {
    if !inside("encrypted_client_hello_is_refused_unless_the_rule_permits_it") {
        return;
    }
    let (mut world, far) = world();
    // A captured browser hello, with its ECH extension, for this name.
    let (file, name) = common::ech_capture();
    let rules = |ech: &str| {
        format!(
            "[capture]\ninterfaces=['br-egress']\n[dns]\nupstreams=['udp://192.0.2.53']\n\
             [audit]\nto=['@DIR@/audit.jsonl']\n[[rule]]\nid='browser'\nnames=['{name}']\nech='{ech}'\n"
        )
    };
    let record = common::far::Record::A(300, std::net::Ipv4Addr::new(203, 0, 113, 10));
    far.set(name, vec![record]);
    for (ech, reason) in [("deny", "ech_not_allowed"), ("allow", "allowed")] {
        let gate = world.start_gate(&rules(ech));
        let seen = gate.events("decision").len();
        world.run("c1", &format!("dig +short {name}"));
        world.run("c1", &format!("timeout 3 socat -t1 - TCP:203.0.113.10:443 < {file}"));
        assert_eq!(gate.decision_after(seen)["event"]["reason"], reason);
        world.end(gate.pid, Signal::TERM);
    }
    assert_eq!(far.connections("203.0.113.10:443"), 1);
}

#[test]
fn a_lease_ends_after_its_time_and_lives_while_a_flow_is_open() {
    if !inside("a_lease_ends_after_its_time_and_lives_while_a_flow_is_open") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(RULES);
    let fixed = "--resolve short.example.com:80:203.0.113.13 http://short.example.com/";
    world.run("c1", "dig +short short.example.com");
    assert!(world.curl("c1", fixed).greeted());
    // TTL 1 s and grace 1 s are over.
    sh("sleep 2.5");
    refused(&world, &gate, "c1", fixed, "lease_expired");
    // Held open over the end of the lease, a flow keeps it alive for others.
    world.run("c1", "dig +short short.example.com");
    let open = world.spawn("c1", "held", "socat", &["-t9", "EXEC:sleep 5", "TCP:203.0.113.13:80"]);
    let feeder = "(printf 'GET / HTTP/1.1\\r\\nHost: short.example.com\\r\\n\\r\\n'; sleep 5) \
                  | timeout 8 socat -t8 - TCP:203.0.113.13:80 >/dev/null";
    world.end(open, Signal::KILL);
    let holder = world.spawn("c1", "feeder", "sh", &["-c", feeder]);
    sh("sleep 3");
    assert!(world.curl("c1", fixed).greeted(), "an open flow keeps its lease");
    world.end(holder, Signal::TERM);
}

#[test]
fn names_resolve_over_udp_and_tcp_and_denied_ones_never_travel() {
    if !inside("names_resolve_over_udp_and_tcp_and_denied_ones_never_travel") {
        return;
    }
    let (mut world, far) = world();
    let gate = world.start_gate(RULES);
    let dig = |args: &str| text(&world.run("c1", &format!("dig +tries=1 +time=4 {args}")).stdout);
    for transport in ["+notcp", "+tcp"] {
        // Whatever resolver the client believes in, over both families.
        for server in ["8.8.8.8", "2001:4860:4860::8888", "203.0.113.66", "10.77.0.1"] {
            let out = dig(&format!("{transport} @{server} good.example.com A"));
            assert!(out.contains("203.0.113.10") && out.contains("NOERROR"), "{transport} {server}: {out}");
        }
        let out = dig(&format!("{transport} @8.8.8.8 www.example.com AAAA"));
        assert!(out.contains("cdn.example.net.") && out.contains("2001:db8:1::12"), "{out}");
        let out = dig(&format!("{transport} @8.8.8.8 secret-data.evil.test A"));
        assert!(
            out.contains("REFUSED") && out.contains("EDE: 15") && out.contains("name_not_allowed"),
            "{out}"
        );
        let out = dig(&format!("{transport} @8.8.8.8 good.example.com TXT"));
        assert!(out.contains("REFUSED") && out.contains("protocol_not_allowed"), "{out}");
    }
    assert!(!far.was_asked("evil.test"), "a denied name reached the upstream");
    assert!(far.seen.lock().questions.iter().all(|(_, qtype)| *qtype != 16), "a refused type reached it");
    let out = dig("@8.8.8.8 private.example.com A");
    assert!(!out.contains("10.99.0.5"), "private address given: {out}");
    let for_c2 = text(&world.run("c2", "dig +tries=1 @8.8.8.8 private.example.com A").stdout);
    assert!(for_c2.contains("10.99.0.5"), "{for_c2}");
    assert!(gate.events("dns").iter().any(|line| line["event"]["reason"] == "name_not_allowed"));
    assert_eq!(leaked(&world), 0);
}

#[test]
fn a_server_that_speaks_first_is_reached_by_its_address_without_a_stall() {
    if !inside("a_server_that_speaks_first_is_reached_by_its_address_without_a_stall") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(RULES);
    world.run("c1", "dig +short db.example.net");
    let line = "sleep 1 | timeout 5 socat -t1 - TCP:203.0.113.13:3306";
    let out = world.run("c1", line);
    assert!(text(&out.stdout).contains("hello from 203.0.113.13 first"), "{out:?}");
    let decision = gate.decision_after(0);
    assert_eq!(decision["namegate"]["via"], "address", "{decision}");
    // The sniffing deadline is 1.5 s: nothing was waited for.
    assert!(decision["event"]["duration"].as_u64().is_some_and(|nanos| nanos < 700_000_000), "{decision}");
    assert_eq!(decision["event"]["reason"], "allowed");
    // Another client has not resolved it.
    let out = world.run("c2", line);
    assert!(!text(&out.stdout).contains("hello"), "{out:?}");
}

#[test]
fn the_proxy_itself_and_the_gateways_services_cannot_be_dialled() {
    if !inside("the_proxy_itself_and_the_gateways_services_cannot_be_dialled") {
        return;
    }
    let (mut world, far) = world();
    world.spawn(
        "gw",
        "service",
        "socat",
        &["TCP6-LISTEN:8080,fork,reuseaddr", "EXEC:echo hello from gateway"],
    );
    let gate = world.start_gate(RULES);
    for target in
        ["10.77.0.1:8080", "192.0.2.1:8080", "[2001:db8:77::1]:8080", "10.77.0.1:15001", "10.77.0.1:15353"]
    {
        let curl = world.curl("c1", &format!("--max-time 2 --http0.9 http://{target}/"));
        assert!(!curl.out.contains("hello"), "{target}: {curl:?}");
    }
    // From the host itself, where no rule stands in the way, the proxy says it is not a destination.
    let seen = gate.events("decision").len();
    world.run("gw", "curl -s --max-time 3 http://10.77.0.1:15001/ -H 'Host: good.example.com'");
    assert_eq!(gate.decision_after(seen)["event"]["reason"], "own_address");
    assert_eq!(far.all_connections(), 0);
}

#[test]
fn other_protocols_fragments_and_pings_do_not_pass() {
    if !inside("other_protocols_fragments_and_pings_do_not_pass") {
        return;
    }
    let (mut world, _far) = world();
    world.gateway("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    // With forwarding on and no gate, packets do arrive: the watch works.
    world.run("c1", "ping -c1 -W1 203.0.113.10 || echo x | socat -t1 - UDP:203.0.113.10:9999");
    let before = leaked(&world);
    assert!(before > 0, "the far side's watch sees nothing");
    world.start_gate(RULES);
    for line in [
        "ping -c1 -W1 203.0.113.10",
        "ping -c1 -W1 2001:db8:1::10",
        "echo x | socat -t1 - UDP:203.0.113.10:9999",
        "echo x | socat -t1 - UDP:203.0.113.10:443",
        "echo x | socat -t1 - UDP:[2001:db8:1::10]:443",
        "echo x | socat -t1 - UDP:203.0.113.10:853",
        "head -c 4000 /dev/zero | socat -t1 - UDP:203.0.113.10:53",
        "head -c 4000 /dev/zero | socat -t1 - UDP:203.0.113.10:9999",
        "echo x | socat -t1 - IP:203.0.113.10:47",
        "echo x | socat -t1 - SCTP-CONNECT:203.0.113.10:443,connect-timeout=1",
    ] {
        world.run("c1", &format!("timeout 3 sh -c '{line}'"));
    }
    assert_eq!(leaked(&world), before, "packets passed beside the gate");
}

#[test]
fn transparent_sockets_serve_as_redirection_does() {
    if !inside("transparent_sockets_serve_as_redirection_does") {
        return;
    }
    let (mut world, far) = world();
    world.without_bridge_netfilter();
    let gate = world.start_gate(RULES);
    let rules = world.gateway("nft list table inet namegate");
    assert!(rules.contains("tproxy"), "{rules}");
    for family in ["-4", "-6"] {
        for url in ["https://good.example.com/", "http://also.example.com/"] {
            let curl = world.curl("c1", &format!("{family} {url}"));
            assert!(curl.greeted(), "{curl:?}");
        }
        let out = text(&world.run("c1", &format!("dig {family} +tries=1 @$(test {family} = -4 && echo 8.8.8.8 || echo 2001:db8::53) good.example.com")).stdout);
        assert!(out.contains("203.0.113.10"), "{out}");
    }
    let connections = far.all_connections();
    let fixed = "--resolve good.example.com:443:203.0.113.66 https://good.example.com/";
    refused(&world, &gate, "c1", fixed, "address_not_observed");
    let fixed = "--resolve evil.test:443:[2001:db8:1::66] https://evil.test/";
    refused(&world, &gate, "c1", fixed, "name_not_allowed");
    let curl = world.curl("c1", "--max-time 2 http://127.0.0.1:15001/ --interface eth0");
    assert!(!curl.greeted());
    assert_eq!(far.all_connections(), connections);
    assert_eq!(leaked(&world), 0);
    // Nothing is tracked for the bridge, so nothing can fill the table.
    let tracked = text(&world.run("gw", "cat /proc/net/nf_conntrack 2>/dev/null | grep -c 10.77.0.2").stdout);
    assert!(matches!(tracked.trim(), "0" | ""), "{tracked} tracked flows");
}

#[test]
fn observe_mode_lets_everything_pass_and_says_what_would_have_been() {
    if !inside("observe_mode_lets_everything_pass_and_says_what_would_have_been") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(&format!("mode = \"observe\"\n{RULES}"));
    let curl = world.curl("c1", "--resolve shared.example.com:443:203.0.113.10 https://shared.example.com/");
    assert!(curl.greeted(), "{curl:?}");
    let decision = gate.decision_after(0);
    assert_eq!(decision["event"]["reason"], "observed_only", "{decision}");
    assert_eq!(decision["namegate"]["would"], "name_not_allowed", "{decision}");
}

#[test]
fn a_miss_is_looked_up_when_the_rules_say_so() {
    if !inside("a_miss_is_looked_up_when_the_rules_say_so") {
        return;
    }
    let (mut world, far) = world();
    let rules = RULES.replace("[dns]", "[dns]\non_miss = \"resolve\"");
    let gate = world.start_gate(&rules);
    let known = "--resolve good.example.com:443:203.0.113.10 https://good.example.com/";
    let curl = world.curl("c1", known);
    assert!(curl.greeted(), "{curl:?}");
    assert_eq!(gate.decision_after(0)["event"]["reason"], "resolved");
    let forged = "--resolve good.example.com:443:203.0.113.66 https://good.example.com/";
    refused(&world, &gate, "c1", forged, "address_not_observed");
    refused(
        &world,
        &gate,
        "c1",
        "--resolve evil.test:443:203.0.113.66 https://evil.test/",
        "name_not_allowed",
    );
    assert!(!far.was_asked("evil.test"), "only allowed names are looked up");
}

#[test]
fn a_reload_is_all_or_nothing_and_ends_what_is_no_longer_allowed() {
    if !inside("a_reload_is_all_or_nothing_and_ends_what_is_no_longer_allowed") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(RULES);
    let file = world.path("namegate.toml");
    let good = fs::read_to_string(&file).expect("readable");
    let hangup = || {
        let seen = gate.events("policy").len();
        sh(&format!("kill -HUP {}", gate.pid));
        wait_until("a policy event", Duration::from_secs(5), || gate.events("policy").len() > seen);
        gate.events("policy").last().expect("there is one").clone()
    };
    assert!(world.curl("c1", "-4 https://good.example.com/").greeted());
    fs::write(&file, good.replace("action = \"deny\"", "action = \"perhaps\"")).expect("written");
    assert_eq!(hangup()["event"]["outcome"], "failure");
    assert!(world.curl("c1", "-4 https://good.example.com/").greeted(), "the old policy stays in force");

    let feeder = "(printf 'GET / HTTP/1.1\\r\\nHost: good.example.com\\r\\n\\r\\n'; sleep 9) \
                  | timeout 9 socat -t9 - TCP:203.0.113.10:80";
    world.spawn("c1", "open", "sh", &["-c", feeder]);
    wait_until("the flow is open", Duration::from_secs(5), || {
        fs::read_to_string(world.path("open.log")).is_ok_and(|log| log.contains("hello from"))
    });
    fs::write(&file, good.replace("\"good.example.com\", ", "")).expect("written");
    assert_eq!(hangup()["event"]["outcome"], "success");
    wait_until("the open flow is ended", Duration::from_secs(5), || {
        gate.events("close").iter().any(|line| line["event"]["reason"] == "revoked")
    });
    assert!(!world.curl("c1", "-4 https://good.example.com/").greeted());
    assert!(world.curl("c1", "-4 https://also.example.com/").greeted());
}

#[test]
fn one_client_over_its_limit_does_not_hinder_another() {
    if !inside("one_client_over_its_limit_does_not_hinder_another") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(&RULES.replace("1500ms", "9s"));
    let idle = "for i in $(seq 24); do (sleep 8 | timeout 8 socat -t8 - TCP:203.0.113.10:443) & done; wait";
    world.spawn("c1", "idle", "sh", &["-c", idle]);
    wait_until("the limit is reached", Duration::from_secs(8), || {
        let refused =
            gate.events("decision").into_iter().filter(|line| line["event"]["reason"] == "over_limit");
        // One line a second tells of the others.
        refused.map(|line| 1 + line["namegate"]["repeated"].as_u64().unwrap_or(0)).sum::<u64>() == 8
    });
    let curl = world.curl("c2", "https://good.example.com/");
    assert!(curl.greeted(), "{curl:?}");
}

/// Kills the gate in the middle of traffic, then deletes its rules.
fn nothing_leaks_without_a_gate(tproxy: bool) {
    let (mut world, far) = world();
    if tproxy {
        world.without_bridge_netfilter();
    }
    let gate = world.start_gate(RULES);
    // Traffic all the time, allowed and not, over both families.
    let traffic = "while :; do for f in -4 -6; do \
        curl $f -sk --max-time 1 https://good.example.com/; \
        curl -sk --max-time 1 --resolve evil.test:443:203.0.113.66 https://evil.test/; \
        curl -sk --max-time 1 https://[2001:db8:1::66]/; echo x | socat -t0.1 - UDP:203.0.113.66:9999; done; done";
    let busy = world.spawn("c1", "traffic", "sh", &["-c", traffic]);
    wait_until("traffic flows", Duration::from_secs(10), || far.all_connections() > 3);
    world.end(gate.pid, Signal::KILL);
    let after = far.all_connections();
    sh("sleep 1.5");
    assert_eq!(far.all_connections(), after, "a connection passed without a gate");
    assert!(world.gateway("nft list tables").contains("inet namegate"), "the rules stay");
    assert!(!world.curl("c1", "--max-time 3 -k https://203.0.113.10/").greeted());
    // Even the rules may go: nothing on this host forwards.
    world.gateway("nft delete table inet namegate");
    sh("sleep 1.5");
    assert_eq!(far.all_connections(), after, "a connection passed without rules");
    assert_eq!(leaked(&world), 0, "a packet passed");
    world.end(busy, Signal::KILL);
    // A new life finds no obstacle.
    let seen = gate.events("decision").len();
    let file = world.path("namegate.toml").display().to_string();
    world.start_gate_with(&["serve", "--config", &file], gate.audit.clone());
    assert!(world.curl("c1", "https://good.example.com/").greeted());
    assert!(gate.events("decision").len() > seen);
}

#[test]
fn a_killed_gate_or_a_lost_table_leaks_nothing_with_redirection() {
    if inside("a_killed_gate_or_a_lost_table_leaks_nothing_with_redirection") {
        nothing_leaks_without_a_gate(false);
    }
}

#[test]
fn a_killed_gate_or_a_lost_table_leaks_nothing_with_transparent_sockets() {
    if inside("a_killed_gate_or_a_lost_table_leaks_nothing_with_transparent_sockets") {
        nothing_leaks_without_a_gate(true);
    }
}

/// What other programs do to rules, and the gate undoes.
const CHANGES: [&str; 7] = [
    "nft flush ruleset",
    "nft delete table inet namegate",
    "nft flush chain inet namegate forward",
    "nft insert rule inet namegate early accept",
    "nft delete element inet namegate captured '{ \"br-egress\" }'",
    "ip rule del iif br-egress prohibit",
    "ip -6 rule del iif br-egress prohibit",
];

/// How the rules stand, as far as it matters.
fn standing(world: &World) -> String {
    world.gateway("nft -s list ruleset; ip rule show; ip -6 rule show")
}

#[test]
fn rules_that_somebody_takes_away_are_back_at_once_and_nothing_leaks_meanwhile() {
    if !inside("rules_that_somebody_takes_away_are_back_at_once_and_nothing_leaks_meanwhile") {
        return;
    }
    let (mut world, _far) = world();
    world.gateway("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let gate = world.start_gate(RULES);
    let intact = standing(&world);
    // A flood that would be seen on the far side.
    let flood = "import socket\n\
        four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
        while True:\n\
        \x20   for s, a in ((four, '203.0.113.10'), (six, '2001:db8:1::10')):\n\
        \x20       try: s.sendto(b'x', (a, 9999))\n\
        \x20       except OSError: pass\n";
    world.spawn("c1", "flood", "python3", &["-c", flood]);
    let mut slowest = Duration::ZERO;
    for change in CHANGES.iter().cycle().take(2 * CHANGES.len()) {
        let seen = gate.events("ruleset").len();
        let began = Instant::now();
        world.gateway(change);
        wait_until(change, Duration::from_secs(1), || standing(&world) == intact);
        slowest = slowest.max(began.elapsed());
        wait_until("the log tells of it", Duration::from_secs(3), || {
            gate.events("ruleset").len() >= seen + 2
        });
        let told: Vec<String> = gate.events("ruleset")[seen..].iter().map(|line| line.to_string()).collect();
        assert!(told[0].contains("missing") || told[0].contains("changed"), "{change}: {told:?}");
        // Slower than a fight.
        sh("sleep 0.3");
    }
    println!("rules were back within {slowest:?}");
    assert_eq!(leaked(&world), 0, "packets passed while rules were away");
    // Its own work does not wake it again.
    let seen = gate.events("ruleset").len();
    sh("sleep 2");
    assert_eq!(gate.events("ruleset").len(), seen);
}

#[test]
fn somebody_who_takes_rules_away_again_and_again_is_told_of() {
    if !inside("somebody_who_takes_rules_away_again_and_again_is_told_of") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(RULES);
    let fighter = world.spawn("gw", "fighter", "sh", &["-c", "while :; do nft flush ruleset; done"]);
    let log = world.path("gate.log");
    let told = || fs::read_to_string(&log).is_ok_and(|log| log.contains("another program keeps changing"));
    wait_until("it is told", Duration::from_secs(10), told);
    world.end(fighter, Signal::KILL);
    wait_until("the rules are back", Duration::from_secs(5), || {
        world.gateway("nft list tables").contains("inet namegate")
    });
    assert!(world.curl("c1", "https://good.example.com/").greeted());
    let count = gate.events("ruleset").len();
    assert!(count < 200, "{count} lines about a fight");
}

#[test]
fn down_removes_what_was_installed_and_nothing_else() {
    if !inside("down_removes_what_was_installed_and_nothing_else") {
        return;
    }
    let (mut world, _far) = world();
    world.without_bridge_netfilter();
    world.gateway("nft add table ip other; ip rule add fwmark 0x77 lookup 77");
    let rules = world.gateway("ip rule; ip -6 rule; ip route show table all; nft list tables");
    let gate = world.start_gate(RULES);
    assert_ne!(world.gateway("ip rule; ip -6 rule; ip route show table all; nft list tables"), rules);
    world.end(gate.pid, Signal::TERM);
    assert!(
        world.gateway("nft list tables").contains("inet namegate"),
        "stopping leaves the interface closed"
    );
    for _ in 0..2 {
        let out = world.run("gw", &format!("{} down", env!("CARGO_BIN_EXE_namegate")));
        assert!(out.status.success(), "{out:?}");
        assert_eq!(world.gateway("ip rule; ip -6 rule; ip route show table all; nft list tables"), rules);
    }
}

#[test]
fn a_start_that_cannot_work_says_why_and_installs_nothing() {
    if !inside("a_start_that_cannot_work_says_why_and_installs_nothing") {
        return;
    }
    let (mut world, _far) = world();
    let start = |world: &World, configuration: &str, prefix: &str| {
        let file = world.path("bad.toml");
        fs::write(&file, configuration.replace("@DIR@", &world.dir.path().display().to_string()))
            .expect("written");
        let binary = env!("CARGO_BIN_EXE_namegate");
        let out = world
            .run("gw", &format!("{prefix} /usr/bin/timeout 5 {binary} serve --config {}", file.display()));
        assert!(
            !world.gateway("nft list tables").contains("namegate"),
            "something was installed: {prefix} {out:?}"
        );
        (out.status.code().unwrap_or(-1), text(&out.stderr))
    };
    let (code, said) = start(&world, &RULES.replace("br-egress", "br-none"), "");
    assert!(code == 3 && said.contains("br-none"), "{code} {said}");
    let (code, said) = start(&world, &RULES.replace("action = \"deny\"", "action = \"perhaps\""), "");
    assert!(code == 2 && said.contains("perhaps"), "{code} {said}");
    let (code, said) = start(&world, &RULES.replace("[proxy]", "form = \"tproxy\"\n[proxy]"), "");
    assert!(code == 3 && said.contains("bridge-nf-call"), "{code} {said}");
    let (code, said) =
        start(&world, RULES, "unshare -m sh -c 'mount -t tmpfs none /usr/sbin && exec \"$@\"' sh");
    assert!(code == 3 && said.contains("nft"), "{code} {said}");
    let (code, said) = start(&world, RULES, "setpriv --inh-caps=-all --bounding-set=-all --reuid 0");
    assert!(code == 3 && said.contains("CAP_NET_ADMIN"), "{code} {said}");
    world.spawn("gw", "taken", "socat", &["TCP-LISTEN:15001,fork", "EXEC:true"]);
    wait_until("the port is taken", Duration::from_secs(3), || {
        text(&world.run("gw", "ss -ltn").stdout).contains(":15001")
    });
    let (code, said) = start(&world, RULES, "");
    assert!(code == 3 && said.contains("15001"), "{code} {said}");
}

#[test]
fn stopping_waits_for_open_flows() {
    if !inside("stopping_waits_for_open_flows") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(RULES);
    let feeder = "(printf 'GET /bulk/10 HTTP/1.1\\r\\nHost: good.example.com\\r\\n\\r\\n'; sleep 2; \
        printf 'GET /bulk/20 HTTP/1.1\\r\\nHost: good.example.com\\r\\nConnection: close\\r\\n\\r\\n'; sleep 0.5) \
        | timeout 9 socat -t2 - TCP:203.0.113.10:80";
    world.run("c1", "dig +short good.example.com");
    world.spawn("c1", "open", "sh", &["-c", feeder]);
    let answers = |world: &World| {
        fs::read_to_string(world.path("open.log")).map_or(0, |log| log.matches("hello from").count())
    };
    wait_until("the first answer", Duration::from_secs(5), || answers(&world) == 1);
    sh(&format!("kill -TERM {}", gate.pid));
    wait_until("the second answer, after the signal", Duration::from_secs(6), || answers(&world) == 2);
    wait_until("the close is recorded", Duration::from_secs(12), || !gate.events("close").is_empty());
}

#[test]
fn a_connection_to_the_gateway_from_before_the_start_does_not_go_on() {
    if !inside("a_connection_to_the_gateway_from_before_the_start_does_not_go_on") {
        return;
    }
    let (mut world, _far) = world();
    world.without_bridge_netfilter();
    world.spawn("gw", "service", "socat", &["TCP-LISTEN:9000,fork,reuseaddr", "EXEC:cat"]);
    let talk = "import socket, time\n\
        for _ in range(50):\n\
        \x20   try: s = socket.create_connection(('10.77.0.1', 9000), 5); break\n\
        \x20   except OSError: time.sleep(0.1)\n\
        s.settimeout(3)\n\
        s.sendall(b'1'); print('first', s.recv(9), flush=True)\n\
        time.sleep(2.5)\n\
        s.sendall(b'2'); print('second', s.recv(9), flush=True)\n";
    world.spawn("c1", "talk", "python3", &["-c", talk]);
    let said = |world: &World| fs::read_to_string(world.path("talk.log")).unwrap_or_default();
    wait_until("the service answers without a gate", Duration::from_secs(6), || {
        said(&world).contains("first")
    });
    world.start_gate(RULES);
    wait_until("the talk is over", Duration::from_secs(10), || said(&world).contains("Error"));
    assert!(!said(&world).contains("second"), "{}", said(&world));
}

#[test]
fn a_log_that_takes_no_more_lines_does_not_keep_the_gate_from_stopping() {
    if !inside("a_log_that_takes_no_more_lines_does_not_keep_the_gate_from_stopping") {
        return;
    }
    let (mut world, _far) = world();
    let rules =
        RULES.replace("[audit]\nto = [", "[audit]\nto = [\"-\", ").replace("[dns]", "drain = \"1s\"\n[dns]");
    let file = world.path("namegate.toml");
    fs::write(&file, rules.replace("@DIR@", &world.dir.path().display().to_string())).expect("written");
    let line = format!("{} serve --config {} | sleep 60", env!("CARGO_BIN_EXE_namegate"), file.display());
    world.spawn("gw", "gate", "sh", &["-c", &line]);
    wait_until("the rules are in place", Duration::from_secs(10), || {
        text(&world.run("gw", "nft list tables").stdout).contains("namegate")
    });
    // Far more than a pipe holds.
    world.run(
        "c1",
        "for i in 1 2 3 4 5 6; do dig +tries=1 +time=1 @8.8.8.8 $(seq -f n%g.evil.test 60) >/dev/null; done",
    );
    let pid = text(&world.run("gw", "pgrep -n -x namegate").stdout).trim().to_owned();
    sh(&format!("kill -HUP {pid}; sleep 0.2; kill -TERM {pid}"));
    wait_until("the gate has ended", Duration::from_secs(6), || {
        !text(&world.run("gw", "pgrep -x namegate").stdout).contains(&pid)
    });
}

#[test]
fn rules_that_somebody_deletes_are_put_back_and_nothing_leaks_meanwhile() {
    if !inside("rules_that_somebody_deletes_are_put_back_and_nothing_leaks_meanwhile") {
        return;
    }
    let (mut world, far) = world();
    // The worst host: it forwards whatever no rule forbids.
    world.gateway("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let gate = world.start_gate(RULES);
    let traffic = "while :; do for f in -4 -6; do \
        curl $f -sk --max-time 1 https://good.example.com/; \
        curl -sk --max-time 1 --resolve evil.test:443:203.0.113.66 https://evil.test/; \
        echo x | socat -t0.1 - UDP:203.0.113.66:9999; done; done";
    world.spawn("c1", "traffic", "sh", &["-c", traffic]);
    wait_until("traffic flows", Duration::from_secs(10), || far.all_connections() > 3);
    let seen = gate.events("ruleset").len();
    world.gateway("nft flush ruleset");
    wait_until("the rules are back", Duration::from_secs(12), || gate.events("ruleset").len() >= seen + 2);
    let told = gate.events("ruleset");
    assert_eq!(told[seen]["event"]["reason"], "missing", "{}", told[seen]);
    assert!(world.gateway("nft list tables").contains("inet namegate"));
    let through = far.all_connections();
    wait_until("allowed traffic flows again", Duration::from_secs(10), || far.all_connections() > through);
    assert_eq!(far.connections("203.0.113.66:443"), 0);
    assert_eq!(leaked(&world), 0, "a packet passed");
}

#[test]
fn stopping_at_once_writes_out_the_whole_log() {
    if !inside("stopping_at_once_writes_out_the_whole_log") {
        return;
    }
    let (mut world, _far) = world();
    let gate = world.start_gate(&RULES.replace("sniff_timeout", "drain = \"0s\"\nsniff_timeout"));
    let out = text(&world.run("c1", "dig +tries=1 @8.8.8.8 $(seq -f n%g.evil.test 200)").stdout);
    world.end(gate.pid, Signal::TERM);
    let answered = out.matches("status: REFUSED").count();
    assert!(answered > 150, "{answered}");
    assert!(gate.events("dns").len() >= answered, "{} of {answered} lines", gate.events("dns").len());
}
