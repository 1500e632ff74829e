//! Real resolvers as the source of evidence: unbound, bind9 and dnsdist answer the clients, and tell the gate
//! by dnstap. Their configurations are the ones in `tests/data/resolvers`, moved to the world's addresses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use std::fs;
use std::time::Duration;

use common::far::Far;
use common::namespace::inside;
use common::world::{GATEWAY, NAME_SERVER, World, leaked, text, wait_until};

/// A configuration of `tests/data/resolvers`, listening where the clients ask and asking the world's name server.
fn resolver(world: &World, file: &str) -> String {
    let path = format!("{}/tests/data/resolvers/{file}", env!("CARGO_MANIFEST_DIR"));
    let dir = world.dir.path().display().to_string();
    let moved = fs::read_to_string(path)
        .expect("a configuration")
        .replace("@DIR@", &dir)
        .replace("127.0.0.1@5301", &format!("{GATEWAY}@53"))
        .replace("127.0.0.1@5300", NAME_SERVER)
        .replace("port 5302 { 127.0.0.1; }", &format!("port 53 {{ {GATEWAY}; }}"))
        .replace("port 5300 { 127.0.0.1; }", &format!("port 53 {{ {NAME_SERVER}; }}"))
        .replace("//FSTRM", "")
        .replace("setLocal(\"127.0.0.1:5303\")", &format!("setLocal(\"{GATEWAY}:53\")"))
        .replace("127.0.0.1:5300", &format!("{NAME_SERVER}:53"))
        .replace(
            "server:\n",
            "server:\n    access-control: 10.77.0.0/24 allow\n    access-control: 127.0.0.0/8 allow\n",
        );
    let moved = if file.starts_with("named") {
        moved.replace("recursion yes;", "recursion yes; allow-query { any; }; allow-recursion { any; };")
    } else {
        moved
    };
    let moved_to = world.path(file);
    fs::write(&moved_to, moved).expect("written");
    moved_to.display().to_string()
}

/// The gate beside an operator's resolver.
fn rules(listen: &str, on_miss: &str, hold: &str) -> String {
    format!(
        r#"
[capture]
interfaces = ["br-egress"]

[dns]
mode = "external"
resolver = "10.77.0.1:53"
on_miss = "{on_miss}"

[dnstap]
listen = ["{listen}"]
hold = "{hold}"

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "fe"
names = ["*.fe.test"]
"#
    )
}

/// A client resolves through the operator's resolver and connects at once; the gate waits for the evidence.
fn serves_as_evidence(file: &str, listen: &str, program: &str, args: &dyn Fn(&str) -> Vec<String>) {
    let mut world = World::new();
    let far = Far::start(&world);
    world.set_name_server(GATEWAY);
    // The sender's timer may be two seconds behind.
    let gate = world.start_gate(&rules(listen, "deny", "5s"));
    let configuration = resolver(&world, file);
    let args = args(&configuration);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    world.spawn("gw", "resolver", program, &args);
    wait_until("the resolver answers", Duration::from_secs(10), || {
        text(
            &world
                .run(
                    "c2",
                    "dig +short +tries=1 +time=1 warm.fe.test A; dig +short +tries=1 +time=1 edge.fe2.test A",
                )
                .stdout,
        )
        .contains("203.0.113.13")
    });

    for (url, address) in [("https://a.fe.test/", "203.0.113.1"), ("http://www.fe.test/", "203.0.113.13")] {
        let seen = gate.events("decision").len();
        let curl = world.curl("c1", &format!("-4 {url}"));
        let log = fs::read_to_string(world.path("resolver.log")).unwrap_or_default();
        assert!(curl.greeted() && curl.out.contains(address), "{url}: {curl:?}\n{log}");
        let decision = gate.decision_after(seen);
        assert_eq!(decision["event"]["reason"], "allowed", "{decision}");
        assert_eq!(decision["namegate"]["evidence"]["source"], "dnstap", "{decision}");
    }
    // The client's own address came to the resolver: what c1 resolved opens nothing for c2.
    let connections = far.all_connections();
    for (client, address) in [("c2", "203.0.113.10"), ("c1", "203.0.113.66")] {
        let seen = gate.events("decision").len();
        let curl = world.curl(client, &format!("--resolve a.fe.test:443:{address} https://a.fe.test/"));
        assert!(!curl.greeted(), "{curl:?}");
        assert_eq!(gate.decision_after(seen)["event"]["reason"], "address_not_observed");
    }
    // Another resolver cannot be asked; the query ends at the operator's.
    let out = text(&world.run("c1", "dig +short +tries=1 @203.0.113.66 a.fe.test A").stdout);
    assert!(out.contains("203.0.113.10"), "{out}");
    assert_eq!(far.all_connections(), connections);
    assert_eq!(leaked(&world), 0);
}

#[test]
fn unbound_is_heard_over_its_unix_socket() {
    if !inside("unbound_is_heard_over_its_unix_socket") {
        return;
    }
    serves_as_evidence("unbound.conf", "unix:@DIR@/unbound.sock", "unbound", &|file| {
        vec!["-d".to_owned(), "-c".to_owned(), file.to_owned()]
    });
}

#[test]
fn unbound_is_heard_over_tcp() {
    if !inside("unbound_is_heard_over_tcp") {
        return;
    }
    serves_as_evidence("unbound-tcp.conf", "tcp:127.0.0.1:6000", "unbound", &|file| {
        vec!["-d".to_owned(), "-c".to_owned(), file.to_owned()]
    });
}

fn bind_serves_as_evidence(file: &str) {
    serves_as_evidence(file, "unix:@DIR@/named.sock", "named", &|file| {
        vec!["-f".to_owned(), "-n".to_owned(), "1".to_owned(), "-c".to_owned(), file.to_owned()]
    });
}

#[test]
fn bind_is_heard_as_shipped() {
    if !inside("bind_is_heard_as_shipped") {
        return;
    }
    bind_serves_as_evidence("named.conf");
}

#[test]
fn bind_is_heard_tuned() {
    if !inside("bind_is_heard_tuned") {
        return;
    }
    bind_serves_as_evidence("named-tuned.conf");
}

#[test]
fn dnsdist_is_heard_over_its_unix_socket() {
    if !inside("dnsdist_is_heard_over_its_unix_socket") {
        return;
    }
    serves_as_evidence("dnsdist.conf", "unix:@DIR@/dnsdist.sock", "dnsdist", &|file| {
        vec!["--supervised".to_owned(), "--disable-syslog".to_owned(), "-C".to_owned(), file.to_owned()]
    });
}

#[test]
fn dnsdist_is_heard_over_tcp() {
    if !inside("dnsdist_is_heard_over_tcp") {
        return;
    }
    serves_as_evidence("dnsdist-tcp.conf", "tcp:127.0.0.1:6000", "dnsdist", &|file| {
        vec!["--supervised".to_owned(), "--disable-syslog".to_owned(), "-C".to_owned(), file.to_owned()]
    });
}

#[test]
fn own_resolution_answers_before_a_late_frame() {
    if !inside("own_resolution_answers_before_a_late_frame") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    world.set_name_server(GATEWAY);
    // `on_miss` is not given: with a tap as the only source it is `resolve`.
    let rules = rules("unix:@DIR@/unbound.sock", "resolve", "2500ms").replace("on_miss = \"resolve\"\n", "");
    let gate = world.start_gate(&rules);
    let configuration = resolver(&world, "unbound.conf");
    world.spawn("gw", "resolver", "unbound", &["-d", "-c", &configuration]);
    wait_until("the resolver answers", Duration::from_secs(10), || {
        text(&world.run("c2", "dig +short +tries=1 +time=1 edge.fe2.test A").stdout).contains("203.0.113.13")
    });
    let curl = world.curl("c1", "-4 https://a.fe.test/");
    assert!(curl.greeted(), "{curl:?}");
    let decision = gate.decision_after(0);
    assert!(
        decision["event"]["reason"] == "resolved" || decision["event"]["reason"] == "allowed",
        "{decision}"
    );
    let held = decision["namegate"]["held"].as_u64().unwrap_or(u64::MAX);
    assert!(held < 700_000_000, "held for {held} ns: own resolution does not wait for the frame");
    let seen = gate.events("decision").len();
    let curl = world.curl("c1", "--resolve a.fe.test:443:203.0.113.66 https://a.fe.test/");
    assert!(!curl.greeted(), "{curl:?}");
    assert_eq!(gate.decision_after(seen)["event"]["reason"], "address_not_observed");
}

#[test]
fn arguments_alone_serve_beside_a_resolver() {
    if !inside("arguments_alone_serve_beside_a_resolver") {
        return;
    }
    let mut world = World::new();
    let far = Far::start(&world);
    world.set_name_server(GATEWAY);
    let audit = world.path("audit.jsonl");
    let (tap, log) =
        (format!("unix:{}/unbound.sock", world.dir.path().display()), audit.display().to_string());
    let arguments =
        ["serve", "--interface", "br-egress", "--dnstap", &tap, "--audit", &log, "fe.test", "*.fe.test"];
    let gate = world.start_gate_with(&arguments, audit);
    let configuration = resolver(&world, "unbound.conf");
    world.spawn("gw", "resolver", "unbound", &["-d", "-c", &configuration]);
    wait_until("the resolver answers", Duration::from_secs(10), || {
        text(&world.run("c2", "dig +short +tries=1 +time=1 edge.fe2.test A").stdout).contains("203.0.113.13")
    });
    // Whatever resolver the client believes in, the one on this host answers.
    let out = text(&world.run("c1", "dig +short +tries=1 @198.51.100.1 a.fe.test A").stdout);
    assert!(out.contains("203.0.113.10"), "{out}");
    let curl = world.curl("c1", "-4 https://a.fe.test/");
    assert!(curl.greeted(), "{curl:?}");
    let connections = far.all_connections();
    let seen = gate.events("decision").len();
    let curl = world.curl("c1", "--resolve evil.test:443:203.0.113.66 https://evil.test/");
    assert!(!curl.greeted(), "{curl:?}");
    assert_eq!(gate.decision_after(seen)["event"]["reason"], "name_not_allowed");
    assert_eq!(far.all_connections(), connections);
}
