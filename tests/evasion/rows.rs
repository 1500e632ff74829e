//! The suite of `namegate conformance`, run once on namegate itself.

use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// Rows of the suite; `None`: there can be no namespaces here.
fn suite() -> Option<&'static [Value]> {
    static ROWS: OnceLock<Option<Vec<Value>>> = OnceLock::new();
    let run = || {
        let output = Command::new("timeout")
            .args(["--kill-after=5", "110", env!("CARGO_BIN_EXE_namegate"), "conformance", "--json"])
            .output()
            .expect("timeout, of coreutils");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(3) && said.contains("a network for the suite cannot be made") {
            assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "SKIPPED: {said}");
            eprintln!("SKIPPED: {said}");
            return None;
        }
        let value: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {said}"));
        Some(value["rows"].as_array().expect("rows").clone())
    };
    ROWS.get_or_init(run).as_deref()
}

/// Asserts that attacks were tried and did not come through.
fn blocked(names: &[&str]) {
    let Some(rows) = suite() else { return };
    for name in names {
        let row = rows.iter().find(|row| row["name"] == *name).unwrap_or_else(|| panic!("no row {name}"));
        assert_eq!(row["fate"], "blocked", "{row}");
    }
}

/// No filter that lets nothing through passes: what is allowed works, but for what docs/gaps.md says is refused.
///
/// # Limitations
/// One client at a time.
#[test]
fn ordinary_uses_work() {
    let Some(rows) = suite() else { return };
    let usual: Vec<&Value> = rows.iter().filter(|row| row["number"].is_null()).collect();
    assert!(usual.len() >= 24, "{usual:?}");
    for row in usual {
        assert_eq!(row["expected"], true, "{row}");
    }
}

/// Every row of the suite has a test below.
///
/// # Limitations
/// By name alone.
#[test]
fn every_attack_of_the_suite_has_its_test() {
    let Some(rows) = suite() else { return };
    let tests = include_str!("rows.rs");
    for row in rows.iter().filter(|row| !row["number"].is_null()) {
        let name = row["name"].as_str().expect("a name");
        assert!(tests.contains(&format!("\"{name}\"")), "{name} has no test");
    }
}

/// What blocks here leaks without a filter: the attacks are real ones.
///
/// # Limitations
/// The filter's own ports cannot be dialled where there is none.
#[test]
fn without_a_filter_every_attack_arrives() {
    if suite().is_none() {
        return;
    }
    let output = Command::new("timeout")
        .args(["--kill-after=5", "110", env!("CARGO_BIN_EXE_namegate"), "conformance", "--json"])
        .args(["--filter", "true", "--ready", "0s"])
        .output()
        .expect("timeout, of coreutils");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for row in value["rows"].as_array().expect("rows") {
        let wanted = match row["name"].as_str() {
            Some("proxy-port-direct") => "blocked",
            _ if row["number"].is_null() => "works",
            _ => "leaked",
        };
        assert_eq!(row["fate"], wanted, "{row}");
    }
}

/// An address that no answer gave.
///
/// # Limitations
/// One address, in IPv4; `ipv6` has the other family.
#[test]
fn hardcoded_ip() {
    blocked(&["hardcoded-ip"]);
}

/// An allowed name at the attacker's address.
///
/// # Limitations
/// The name was looked up before; `first_packet` of dnstap is not tried here.
#[test]
fn sni_spoof() {
    blocked(&["sni-spoof"]);
}

/// Another name at an allowed name's address.
///
/// # Limitations
/// What is asked for inside of TLS to an allowed name (fronting) is not seen by any filter that does not decrypt.
#[test]
fn sni_swap_shared_ip() {
    blocked(&["sni-swap-shared-ip"]);
}

/// One allowed name at another's address.
///
/// # Limitations
/// Both names were looked up by the client itself.
#[test]
fn cross_name() {
    blocked(&["cross-name"]);
}

/// What only another client looked up.
///
/// # Limitations
/// The clients have addresses of their own; one that forges the other's source address is a gap.
#[test]
fn cross_client() {
    blocked(&["cross-client"]);
}

/// An address that the attacker's resolver gave.
///
/// # Limitations
/// Over UDP; over TCP the resolver is not reached at all (`dns_elsewhere`).
#[test]
fn rogue_resolver() {
    blocked(&["rogue-resolver"]);
}

/// A record that does not belong to the question.
///
/// # Limitations
/// The true resolver sends it; forged answers of others are tried in src/dns.
#[test]
fn offpath_answer() {
    blocked(&["offpath-answer"]);
}

/// The name that an allowed alias stands for.
///
/// # Limitations
/// The alias itself may lead anywhere public: that is its owner's word.
#[test]
fn cname_steer() {
    blocked(&["cname-steer"]);
}

/// Private, metadata and translated addresses behind an allowed name.
///
/// # Limitations
/// 6to4 and Teredo forms are tried in src/facts.
#[test]
fn rebinding() {
    blocked(&["rebinding-private", "rebinding-metadata", "rebinding-metadata6", "rebinding-nat64"]);
}

/// An address after its time.
///
/// # Limitations
/// A second of grace; the instants just before and after are tried in tests/gate_ledger.rs.
#[test]
fn ttl_edge() {
    blocked(&["ttl-edge"]);
}

/// A denied name in segments, in records, and behind an empty record.
///
/// # Limitations
/// Some cuts; every cut of every captured hello is tried in src/wire.
#[test]
fn record_split() {
    blocked(&["segment-split", "record-split", "record-bytes", "empty-record"]);
}

/// A denied name behind 90 KiB.
///
/// # Limitations
/// Refused for its size; under 64 KiB the name is read.
#[test]
fn big_hello() {
    blocked(&["big-hello"]);
}

/// A denied name after six seconds.
///
/// # Limitations
/// One client; floods of such are a matter of limits.
#[test]
fn slow_hello() {
    blocked(&["slow-hello"]);
}

/// No name, an address, two names, a zero byte, too long a name.
///
/// # Limitations
/// Upper case and a final dot are canonicalised, not refused: tests/corpus.rs.
#[test]
fn no_sni_and_odd_sni() {
    blocked(&[
        "no-sni",
        "ip-sni",
        "two-names",
        "two-names-denied-first",
        "two-extensions",
        "two-extensions-denied-first",
        "nul-in-name",
        "long-name",
    ]);
}

/// A hello with another one encrypted inside.
///
/// # Limitations
/// Every ECH extension is refused unless a rule permits it, a meaningless one of a browser too.
#[test]
fn ech_real() {
    blocked(&["ech-real"]);
}

/// A key in an answer by which names are hidden.
///
/// # Limitations
/// Only in answers that pass through the gate.
#[test]
fn ech_key() {
    blocked(&["ech-key"]);
}

/// A second hello for another name.
///
/// # Limitations
/// The retry is a real server's; the second hello has no valid key share.
#[test]
fn hrr_swap() {
    blocked(&["hrr-swap"]);
}

/// Another protocol on port 443.
///
/// # Limitations
/// SSH's first line.
#[test]
fn non_tls_on_443() {
    blocked(&["non-tls-on-443"]);
}

/// Another name in a later request.
///
/// # Limitations
/// Every cut of the bytes is tried in tests/corridor.
#[test]
fn host_swap() {
    blocked(&["host-swap-keep-alive", "host-swap-pipelined", "host-swap-after-continue"]);
}

/// Requests of which two servers read two names.
///
/// # Limitations
/// More forms are in tests/corpus.
#[test]
fn ambiguous_requests() {
    blocked(&[
        "absolute-form",
        "two-hosts",
        "two-hosts-denied-first",
        "obs-fold",
        "space-before-colon",
        "no-host",
        "bare-lf",
    ]);
}

/// Names behind CONNECT and upgrades.
///
/// # Limitations
/// After a server agreed to WebSocket nothing is read any more.
#[test]
fn upgrade_and_connect() {
    blocked(&["connect", "upgrade-early", "h2c-upgrade", "h2-prior-knowledge-denied"]);
}

/// A request hidden in a body.
///
/// # Limitations
/// Four of the known forms; more are in tests/corpus.
#[test]
fn smuggling() {
    blocked(&["smuggling-cl-te", "smuggling-two-lengths", "smuggling-te-space", "smuggling-te-odd"]);
}

/// An allowed name in clear at the attacker's address.
///
/// # Limitations
/// As `sni_spoof`.
#[test]
fn http_forged_host() {
    blocked(&["http-forged-host"]);
}

/// Data in questions.
///
/// # Limitations
/// Under an allowed wildcard, names carry data: allow narrow names.
#[test]
fn dns_tunnel() {
    blocked(&["dns-tunnel", "dns-tunnel-txt"]);
}

/// Questions and datagrams to other resolvers, encrypted ones too.
///
/// # Limitations
/// DNS over HTTPS at an allowed name is that name's business.
#[test]
fn dns_elsewhere() {
    blocked(&["dns-tcp", "dns-5353", "dot", "doq", "doh-shared-ip"]);
}

/// Names that look like an allowed one.
///
/// # Limitations
/// Wildcards under public suffixes are refused by `check`: tests/config.rs.
#[test]
fn label_tricks() {
    blocked(&["suffix-alike", "prefix-alike", "label-alike"]);
}

/// A datagram on port 443.
///
/// # Limitations
/// Unreadable on purpose: QUIC is refused as a whole.
#[test]
fn quic() {
    blocked(&["quic"]);
}

/// Addresses of the other family.
///
/// # Limitations
/// Link-local and mapped addresses are tried in tests/nft.rs.
#[test]
fn ipv6() {
    blocked(&["ipv6-hardcoded", "ipv6-sni-spoof"]);
}

/// ICMP, GRE, SCTP, time, fragments, a port that is nobody's.
///
/// # Limitations
/// In IPv4; IPv6 is tried in tests/nft.rs.
#[test]
fn other_protocols() {
    blocked(&["icmp", "gre", "sctp", "ntp", "fragments", "odd-port"]);
}

/// Services of the gateway itself.
///
/// # Limitations
/// Published ports of Docker are tried in tests/docker.
#[test]
fn gateway_ip() {
    blocked(&["gateway-inside", "gateway-outside"]);
}

/// The gate's own ports.
///
/// # Limitations
/// With transparent sockets nobody sees the port; with REDIRECT it is tried in tests/gateway.rs.
#[test]
fn proxy_port_direct() {
    blocked(&["proxy-port-direct"]);
}

/// A connection from before the start.
///
/// # Limitations
/// One in clear; revoking is tried in tests/gateway.rs.
#[test]
fn established() {
    blocked(&["established"]);
}

/// Anything while the gate is killed or its rules are flushed.
///
/// # Limitations
/// Somebody who flushes for ever is tried in tests/gateway.rs.
#[test]
fn kill_and_flush() {
    blocked(&["killed", "killed-dns", "flushed"]);
}

/// A database that is asked for by another name.
///
/// # Limitations
/// After SSLRequest alone; GSSENCRequest is not tried.
#[test]
fn postgres_swap() {
    blocked(&["postgres-swap"]);
}
