//! Real resolvers as the source of evidence: unbound, BIND, dnsdist and Knot Resolver answer the clients, and tell the
//! gate by dnstap. Their configurations are those of `config/resolvers`, moved to the world's addresses.
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

/// Puts one text in place of another that has to be there.
fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in it:\n{text}");
    text.replace(from, to)
}

/// A resolver that Debian has.
#[derive(Debug, Clone, Copy)]
enum Resolver {
    Unbound,
    Named,
    Dnsdist,
    Kresd,
}

/// Where frames are heard.
#[derive(Debug, Clone, Copy)]
enum Heard {
    Unix,
    Tcp,
}

impl Heard {
    fn listen(self) -> &'static str {
        match self {
            Self::Unix => "unix:@DIR@/dnstap.sock",
            Self::Tcp => "tcp:127.0.0.1:6000",
        }
    }
}

impl Resolver {
    fn file(self) -> &'static str {
        match self {
            Self::Unbound => "unbound.conf",
            Self::Named => "named.conf",
            Self::Dnsdist => "dnsdist.conf",
            Self::Kresd => "kresd.conf",
        }
    }

    /// The shipped configuration at the world's addresses. Nothing else in it is changed.
    fn shipped(self, world: &World, heard: Heard) -> String {
        let path = format!("{}/config/resolvers/{}", env!("CARGO_MANIFEST_DIR"), self.file());
        let text = fs::read_to_string(path).expect("a configuration");
        let text = swap(&text, "172.18.0.1", GATEWAY);
        let text = match self {
            Self::Unbound | Self::Named | Self::Dnsdist => swap(&text, "172.18.0.0/16", "10.77.0.0/24"),
            Self::Kresd => text,
        };
        let socket = world.path("dnstap.sock").display().to_string();
        match (self, heard) {
            (Self::Unbound, Heard::Tcp) => {
                let text = swap(&text, "dnstap-socket-path", "#dnstap-socket-path");
                swap(&swap(&text, "#dnstap-ip", "dnstap-ip"), "#dnstap-tls", "dnstap-tls")
            }
            (Self::Dnsdist, Heard::Tcp) => swap(
                &text,
                "tap = newFrameStreamUnixLogger(\"/run/namegate/dnstap.sock\")",
                "tap = newFrameStreamTcpLogger(\"127.0.0.1:6000\")",
            ),
            (Self::Unbound | Self::Named | Self::Dnsdist | Self::Kresd, _) => {
                swap(&text, "/run/namegate/dnstap.sock", &socket)
            }
        }
    }

    /// What belongs to a world without the Internet and without other users: the file that includes the shipped
    /// one, or lines after it.
    fn furnish(self, world: &World, shipped: &str) -> String {
        let dir = world.dir.path().display().to_string();
        match self {
            Self::Unbound => {
                let included = world.path("namegate.conf");
                fs::write(&included, shipped).expect("written");
                let stub = |zone| format!("stub-zone:\n name: \"{zone}\"\n stub-addr: {NAME_SERVER}\n");
                format!(
                    "server:\n username: \"\"\n chroot: \"\"\n directory: \"{dir}\"\n pidfile: \"\"\n use-syslog: no\n \
                     access-control: 127.0.0.0/8 allow\n module-config: \"iterator\"\n local-zone: \"test.\" nodefault\n\
                     remote-control:\n control-enable: no\n{}{}include: \"{}\"\n",
                    stub("fe.test"),
                    stub("fe2.test"),
                    included.display()
                )
            }
            Self::Named => {
                let more = "options {\n pid-file none; session-keyfile none; dnssec-validation no; empty-zones-enable no;";
                let forward = |zone| {
                    format!(
                        "zone \"{zone}\" {{ type forward; forward only; forwarders {{ {NAME_SERVER}; }}; }};\n"
                    )
                };
                let text = swap(&swap(shipped, "options {", more), "/var/cache/bind", &dir);
                format!("{text}controls {{ }};\n{}{}", forward("fe.test"), forward("fe2.test"))
            }
            // Its server is the world's name server already.
            Self::Dnsdist => {
                assert!(shipped.contains(&format!("newServer({{address=\"{NAME_SERVER}:53\"")));
                shipped.to_owned()
            }
            Self::Kresd => format!(
                "{shipped}\ntrust_anchors.remove('.')\nmodules.load('policy')\n\
                 policy.add(policy.suffix(policy.STUB({{'{NAME_SERVER}'}}), policy.todnames({{'fe.test','fe2.test'}})))\n"
            ),
        }
    }

    /// Starts it with that configuration.
    fn start(self, world: &mut World, shipped: &str) {
        let file = world.path(self.file());
        fs::write(&file, self.furnish(world, shipped)).expect("written");
        let (file, dir) = (file.display().to_string(), world.dir.path().display().to_string());
        let (program, args): (&str, &[&str]) = match self {
            Self::Unbound => ("unbound", &["-d", "-c", &file]),
            Self::Named => ("named", &["-f", "-n", "1", "-c", &file]),
            Self::Dnsdist => ("dnsdist", &["--supervised", "--disable-syslog", "-C", &file]),
            Self::Kresd => ("kresd", &["-n", "-c", &file, &dir]),
        };
        world.spawn("gw", "resolver", program, args);
        let warm = "dig +short +tries=1 +time=1 warm.fe.test A; dig +short +tries=1 +time=1 edge.fe2.test A";
        let log = world.path("resolver.log");
        wait_until("the resolver answers", Duration::from_secs(10), || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            assert!(!log.contains("failed to open socket"), "{log}");
            text(&world.run("c2", warm).stdout).contains("203.0.113.13")
        });
    }
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
fn serves_as_evidence(resolver: Resolver, heard: Heard, change: &dyn Fn(String) -> String) {
    let mut world = World::new();
    let far = Far::start(&world);
    world.set_name_server(GATEWAY);
    // The sender's timer may be two seconds behind.
    let gate = world.start_gate(&rules(heard.listen(), "deny", "5s"));
    let shipped = change(resolver.shipped(&world, heard));
    resolver.start(&mut world, &shipped);

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
    serves_as_evidence(Resolver::Unbound, Heard::Unix, &|text| text);
}

#[test]
fn unbound_is_heard_over_tcp() {
    if !inside("unbound_is_heard_over_tcp") {
        return;
    }
    serves_as_evidence(Resolver::Unbound, Heard::Tcp, &|text| text);
}

#[test]
fn bind_is_heard_tuned() {
    if !inside("bind_is_heard_tuned") {
        return;
    }
    serves_as_evidence(Resolver::Named, Heard::Unix, &|text| text);
}

/// With the timers that Debian compiled in.
#[test]
fn bind_is_heard_as_shipped() {
    if !inside("bind_is_heard_as_shipped") {
        return;
    }
    serves_as_evidence(Resolver::Named, Heard::Unix, &|text| {
        let tuned = text.lines().filter(|line| line.trim_start().starts_with("fstrm-set-")).count();
        assert_eq!(tuned, 5, "{text}");
        text.lines()
            .filter(|line| !line.trim_start().starts_with("fstrm-set-"))
            .collect::<Vec<_>>()
            .join("\n")
            + "\n"
    });
}

#[test]
fn dnsdist_is_heard_over_its_unix_socket() {
    if !inside("dnsdist_is_heard_over_its_unix_socket") {
        return;
    }
    serves_as_evidence(Resolver::Dnsdist, Heard::Unix, &|text| text);
}

#[test]
fn dnsdist_is_heard_over_tcp() {
    if !inside("dnsdist_is_heard_over_tcp") {
        return;
    }
    serves_as_evidence(Resolver::Dnsdist, Heard::Tcp, &|text| text);
}

#[test]
fn knot_resolver_is_heard() {
    if !inside("knot_resolver_is_heard") {
        return;
    }
    serves_as_evidence(Resolver::Kresd, Heard::Unix, &|text| text);
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
    let rules = rules(Heard::Unix.listen(), "resolve", "2500ms").replace("on_miss = \"resolve\"\n", "");
    let gate = world.start_gate(&rules);
    let shipped = Resolver::Unbound.shipped(&world, Heard::Unix);
    Resolver::Unbound.start(&mut world, &shipped);
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
        (format!("unix:{}/dnstap.sock", world.dir.path().display()), audit.display().to_string());
    let arguments =
        ["serve", "--interface", "br-egress", "--dnstap", &tap, "--audit", &log, "fe.test", "*.fe.test"];
    let gate = world.start_gate_with(&arguments, audit);
    let shipped = Resolver::Unbound.shipped(&world, Heard::Unix);
    Resolver::Unbound.start(&mut world, &shipped);
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
