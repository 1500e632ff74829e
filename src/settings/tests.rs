//! What texts come to mean, and that nothing wrong with them goes unsaid.

use std::time::Duration;

use super::*;
use crate::dns::{TapAddress, Upstream};
use crate::gate::{Action, MatchBy, Ports};
use crate::nft::{DnsCapture, FormChoice};
use crate::record::Target;

const CAPTURE: &str = "[capture]\ninterfaces = [\"br0\"]\n";
const RULE: &str = "[[rule]]\nid = \"r\"\nnames = [\"example.com\"]\n";

fn read_text(text: &str) -> Result<Checked, Error> {
    check(Path::new("test.toml"), Path::new("/etc/namegate"), text, SystemTime::UNIX_EPOCH)
}

fn good(text: &str) -> Settings {
    read_text(text).unwrap_or_else(|error| panic!("{}", rendered(error))).settings
}

fn rendered(error: Error) -> String {
    match error {
        Error::Faulty { report } => report.render(false),
        unreadable @ Error::Unreadable { .. } => unreadable.to_string(),
    }
}

fn findings(text: &str) -> Vec<String> {
    let report = match read_text(text) {
        Ok(checked) => checked.report,
        Err(Error::Faulty { report }) => report,
        Err(unreadable @ Error::Unreadable { .. }) => panic!("{unreadable}"),
    };
    report.findings().iter().map(|finding| finding.message().to_owned()).collect()
}

#[test]
fn a_minimal_file_gets_the_documented_defaults() {
    let settings = good(&format!("{CAPTURE}{RULE}"));
    assert_eq!(settings.on_miss, OnMiss::Deny);
    assert_eq!(settings.proxy.hold, Duration::ZERO);
    assert_eq!(settings.proxy.sniff_timeout, Duration::from_secs(5));
    assert_eq!(settings.proxy.max_connections, 16_384);
    assert_eq!(settings.proxy.max_connections_per_client, 4_096);
    assert_eq!(settings.proxy.new_connections_per_second, 500);
    assert_eq!((settings.dns.questions_per_second, settings.dns.new_names_per_minute), (1_000, 600));
    assert_eq!(settings.dns.upstreams, [Upstream::System]);
    assert_eq!(settings.dns.types, [1, 28, 5, 65, 64, 33, 15, 12]);
    assert_eq!(settings.ledger.grace, Duration::from_secs(300));
    assert_eq!(settings.record.to, [Target::Stdout]);
    assert_eq!(settings.capture.dns, DnsCapture::Forwarder);
    assert_eq!((settings.capture.proxy_port, settings.capture.dns_port), (15_001, 15_353));
    assert_eq!(settings.capture.form, FormChoice::Auto);
    assert_eq!(settings.policy.rules()[0].ports, Ports(vec![(80, 80), (443, 443)]));
    assert!(settings.tap.listen.is_empty());
}

#[test]
fn one_client_gets_a_quarter_of_all_connections_unless_told_otherwise() {
    for (lines, expected) in [
        ("max_connections = 16\n", 4),
        ("max_connections = 100000\n", 4_096),
        ("max_connections = 16\nmax_connections_per_client = 16\n", 16),
    ] {
        let settings = good(&format!("{CAPTURE}[proxy]\n{lines}{RULE}"));
        assert_eq!(settings.proxy.max_connections_per_client, expected, "{lines}");
    }
}

#[test]
fn what_one_client_may_in_a_time_has_bounds() {
    let rates = |new: &str, questions: &str, names: &str| {
        format!(
            "{CAPTURE}[proxy]\nnew_connections_per_second = {new}\n[dns]\nquestions_per_second = {questions}\n\
             new_names_per_minute = {names}\n{RULE}"
        )
    };
    let settings = good(&rates("7", "8", "9"));
    assert_eq!(settings.proxy.new_connections_per_second, 7);
    assert_eq!((settings.dns.questions_per_second, settings.dns.new_names_per_minute), (8, 9));
    assert_eq!(findings(&rates("0", "1_000_001", "-1")).len(), 3);
}

#[test]
fn fewer_connections_than_listeners_could_share_are_refused() {
    assert_eq!(findings(&format!("{CAPTURE}[proxy]\nmax_connections = 15\n{RULE}")).len(), 1);
}

#[test]
fn with_an_external_resolver_misses_are_resolved_there_and_frames_are_waited_for() {
    let dns = "[dns]\nmode = \"external\"\nresolver = \"172.18.0.1\"\n";
    let tap = "[dnstap]\nlisten = \"unix:/run/tap.sock\"\n";
    let settings = good(&format!("{CAPTURE}{dns}{tap}{RULE}"));
    let resolver: SocketAddr = "172.18.0.1:53".parse().unwrap();
    assert_eq!(settings.on_miss, OnMiss::Resolve);
    assert_eq!(settings.proxy.hold, Duration::from_millis(2_500));
    assert_eq!(settings.dns.upstreams, [Upstream::Udp(resolver)]);
    assert_eq!(settings.capture.dns, DnsCapture::External(vec![resolver]));
    assert_eq!(settings.tap.listen, [TapAddress::Unix("/run/tap.sock".into())]);
}

#[test]
fn a_deny_rule_without_ports_is_for_every_port() {
    let settings =
        good(&format!("{CAPTURE}{RULE}[[rule]]\nid = \"d\"\nnames = [\"a.test\"]\naction = \"deny\"\n"));
    let rule = &settings.policy.rules()[1];
    assert_eq!((rule.action, rule.by), (Action::Deny, MatchBy::NameAndAddress));
    assert_eq!(rule.ports, Ports(vec![(1, 65_535)]));
}

#[test]
fn arguments_mean_what_the_same_file_means() {
    let arguments = Arguments {
        interfaces: vec!["br0".to_owned()],
        dnstap: vec!["unix:tap.sock".to_owned()],
        audit: vec!["-".to_owned()],
        names: vec!["example.com".to_owned(), "*.example.com".to_owned()],
        ..Arguments::default()
    };
    let settings = from_arguments(&arguments, SystemTime::UNIX_EPOCH).unwrap().settings;
    assert_eq!(settings.capture.dns, DnsCapture::External(Vec::new()));
    assert_eq!(settings.dns.upstreams, [Upstream::System]);
    assert_eq!(settings.on_miss, OnMiss::Resolve);
    assert_eq!(settings.tap.listen, [TapAddress::Unix("tap.sock".into())]);
    assert_eq!(&*settings.policy.rules()[0].id, "arguments");
    assert_eq!(settings.policy.rules()[0].names.len(), 2);
    let forward = Arguments { dnstap: Vec::new(), ..arguments };
    let settings = from_arguments(&forward, SystemTime::UNIX_EPOCH).unwrap().settings;
    assert_eq!(settings.capture.dns, DnsCapture::Forwarder);
    assert_eq!(settings.on_miss, OnMiss::Deny);
}

#[test]
fn an_argument_cannot_smuggle_configuration_in() {
    let arguments = Arguments {
        interfaces: vec!["br0\"]\nform = \"redirect".to_owned()],
        names: vec!["a.test\"]\nwide = true #".to_owned()],
        ..Arguments::default()
    };
    let Err(Error::Faulty { report }) = from_arguments(&arguments, SystemTime::UNIX_EPOCH) else { panic!() };
    let messages: Vec<_> = report.findings().iter().map(Finding::message).collect();
    assert_eq!(messages, ["not an interface name", "character that no host name has"]);
}

#[test]
fn every_fault_is_told_in_file_order_and_none_hides_another() {
    let text = "[capture]\ninterfaces = [\"br0\", \"br0\", 7]\n[ledger]\ngrace = \"soon\"\n[[rule]]\nid = \"a b\"\n\
                names = [\"*.com\", \"ok.test\"]\nports = []\nprot = 1\n";
    assert_eq!(
        findings(text),
        [
            "this interface is listed twice",
            "`interfaces` must be a list of strings",
            "not a duration",
            "`ports` is empty: the rule is for no port",
            "not a rule id",
            "wildcard straight under a public suffix",
            "unknown key `prot` in [rule]",
        ]
    );
}

#[test]
fn warnings_do_not_fail_and_are_told() {
    let text = format!(
        "{CAPTURE}{RULE}[[rule]]\nid = \"any\"\nnames = [\"db.example.net\"]\nmatch = \"address\"\nuntil = 1969-01-01\n"
    );
    let checked = read_text(&text).unwrap();
    assert_eq!((checked.report.errors(), checked.report.warnings()), (0, 2));
    assert_eq!(findings(CAPTURE), ["there is no [[rule]]: everything is denied"]);
}

#[test]
fn wrong_types_everywhere_are_findings_and_never_a_panic() {
    let keys = [
        "mode",
        "until",
        "ech",
        "capture",
        "proxy",
        "dns",
        "dnstap",
        "ledger",
        "audit",
        "admin",
        "rule",
        "capture.interfaces",
        "capture.gateways",
        "capture.form",
        "capture.local",
        "proxy.port",
        "proxy.drain",
        "proxy.max_connections",
        "dns.mode",
        "dns.listen",
        "dns.port",
        "dns.upstreams",
        "dns.ca_file",
        "dns.resolver",
        "dns.on_miss",
        "dns.types",
        "dns.denial",
        "dns.timeout",
        "dns.max_inflight",
        "dnstap.listen",
        "dnstap.hold",
        "dnstap.allow_from",
        "dnstap.socket_mode",
        "dnstap.socket_group",
        "dnstap.allow_uids",
        "ledger.min_ttl",
        "ledger.max_leases",
        "ledger.state",
        "audit.to",
        "audit.when_full",
        "audit.queue",
        "admin.listen",
        "admin.socket_mode",
        "admin.socket_group",
        "admin.token_file",
    ];
    let values = [
        "0",
        "-1",
        "99999999999999999999",
        "1.5",
        "true",
        "\"\"",
        "\"x\"",
        "[[]]",
        "[1]",
        "{ a = 1 }",
        "2026-12-31",
        "10:00:00",
    ];
    for key in keys {
        for value in values {
            let text = format!("{key} = {value}\n");
            if let Err(error) = read_text(&text) {
                assert!(!rendered(error).is_empty(), "{text}");
            }
        }
        let told = findings(&format!("{key} = [[]]\n"));
        let about = ["must be", "not available", "no effect", "listens nowhere"];
        assert!(
            told.iter().any(|message| about.iter().any(|part| message.contains(part))),
            "{key}: {told:?}"
        );
    }
}

#[test]
fn wrong_types_in_a_rule_are_findings_and_never_a_panic() {
    let keys = [
        "id",
        "names",
        "names_from",
        "ports",
        "clients",
        "action",
        "match",
        "protocols",
        "private",
        "ech",
        "wide",
        "mode",
        "until",
        "comment",
    ];
    for key in keys {
        for value in ["-1", "1.5", "[[]]", "[1.5]", "{ a = 1 }", "10:00:00"] {
            let base = if key == "id" { "" } else { "id = \"r\"\n" };
            let text = format!("{CAPTURE}[[rule]]\n{base}{key} = {value}\n");
            assert!(read_text(&text).is_err(), "{text}");
        }
    }
}

#[test]
fn every_prefix_of_a_file_is_read_without_a_panic() {
    let text = include_str!("../../config/gateway.toml");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)).step_by(7) {
        if let Err(error) = read_text(&text[..end]) {
            assert!(!rendered(error).is_empty());
        }
    }
}

#[test]
fn a_list_of_names_that_is_no_regular_file_is_refused() {
    let text = format!("{CAPTURE}[[rule]]\nid = \"r\"\nnames_from = \"/dev/zero\"\n");
    assert_eq!(findings(&text), ["cannot read /dev/zero"]);
}

#[test]
fn ten_thousand_rules_load_well_under_a_second() {
    let mut text = CAPTURE.to_owned();
    for number in 0..10_000 {
        text.push_str(&format!(
            "[[rule]]\nid = \"r{number}\"\nnames = [\"a{number}.example.com\", \"*.b{number}.example.com\"]\n"
        ));
    }
    let start = crate::sys::clock::tick();
    let settings = good(&text);
    let took = crate::sys::clock::tick().since(start);
    assert_eq!(settings.policy.rules().len(), 10_000);
    // Unoptimised, and on a shared machine.
    assert!(took < Duration::from_secs(5), "{took:?}");
    println!("10,000 rules: {took:?}");
}

#[test]
fn ten_thousand_faults_cost_no_more_than_their_sum() {
    let mut text = CAPTURE.to_owned();
    for number in 0..10_000 {
        text.push_str(&format!("[[rule]]\nid = \"r{number}\"\nnames = [\"*.com\"]\n"));
    }
    let start = crate::sys::clock::tick();
    let Err(Error::Faulty { report }) = read_text(&text) else { panic!() };
    assert_eq!(report.errors(), 10_000);
    assert!(!report.render(false).is_empty());
    let took = crate::sys::clock::tick().since(start);
    assert!(took < Duration::from_secs(20), "{took:?}");
}
