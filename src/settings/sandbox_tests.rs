//! What one command is granted, and that file and arguments get along.

use std::time::Duration;

use super::*;
use crate::gate::Ech;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn allow(names: &[&str]) -> SandboxArguments {
    SandboxArguments { allow: texts(names), ..SandboxArguments::default() }
}

fn good(arguments: &SandboxArguments) -> CheckedSandbox {
    sandbox(arguments, SystemTime::UNIX_EPOCH).unwrap_or_else(|error| panic!("{}", rendered(error)))
}

fn rendered(error: Error) -> String {
    match error {
        Error::Faulty { report } => report.render(false),
        unreadable @ Error::Unreadable { .. } => unreadable.to_string(),
    }
}

fn messages(outcome: Result<CheckedSandbox, Error>) -> Vec<String> {
    let report = match outcome {
        Ok(checked) => checked.report,
        Err(Error::Faulty { report }) => report,
        Err(unreadable @ Error::Unreadable { .. }) => panic!("{unreadable}"),
    };
    report.findings().iter().map(|finding| finding.message().to_owned()).collect()
}

/// Every rule in one line.
fn spelled(policy: &Policy) -> Vec<String> {
    let spell = |rule: &Arc<Rule>| {
        let names: Vec<_> = rule.names.iter().map(Pattern::as_str).collect();
        let ports: Vec<_> = rule.ports.0.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let private = if rule.private { " private" } else { "" };
        let (action, by) = (rule.action, rule.by);
        format!("{}: {action:?} {by:?} {} on {}{private}", rule.id, names.join(" "), ports.join(" "))
    };
    policy.rules().iter().map(spell).collect()
}

/// A file of rules, kept as long as the directory.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn without_anything_all_is_denied_and_the_one_client_may_have_every_limit() {
    let CheckedSandbox { settings, report } = good(&SandboxArguments::default());
    assert!(report.findings().is_empty());
    assert!(settings.policy.rules().is_empty());
    assert_eq!(settings.policy.defaults().mode, Mode::Enforce);
    assert_eq!(settings.record.to, []);
    assert_eq!(settings.proxy.max_connections_per_client, settings.proxy.max_connections);
    assert_eq!(settings.dns.max_inflight_per_client, settings.dns.max_inflight);
    assert_eq!(settings.ledger.max_leases_per_client, settings.ledger.max_leases);
    assert_eq!(settings.proxy.new_connections_per_second, 20_000);
    assert_eq!((settings.dns.questions_per_second, settings.dns.new_names_per_minute), (40_000, 6_000));
    assert_eq!((settings.proxy.drain, settings.proxy.hold), (Duration::from_secs(1), Duration::ZERO));
    assert_eq!(settings.proxy.sniff_timeout, Duration::from_secs(5));
    assert_eq!(settings.dns.upstreams, [Upstream::System]);
}

#[test]
fn names_of_one_kind_and_one_set_of_ports_are_one_rule() {
    let arguments = SandboxArguments {
        deny: texts(&["bad.example.com", "worse.example.com:443"]),
        host_ports: vec![8080, 5432],
        ..allow(&[
            "example.com",
            "*.example.com",
            "www.example.com",
            "example.com",
            "example.org:8443",
            "tcp:db.example.net:5432",
            "tcp:db2.example.net:5432",
            "example.org:8000-8010",
        ])
    };
    let checked = good(&arguments);
    assert!(checked.report.findings().is_empty());
    assert_eq!(
        spelled(&checked.settings.policy),
        [
            "allow: Allow NameAndAddress example.com *.example.com www.example.com on 80-80 443-443",
            "allow:8443: Allow NameAndAddress example.org on 8443-8443",
            "allow:tcp:5432: Allow Address db.example.net db2.example.net on 5432-5432",
            "allow:8000-8010: Allow NameAndAddress example.org on 8000-8010",
            "deny: Deny NameAndAddress bad.example.com on 1-65535",
            "deny:443: Deny NameAndAddress worse.example.com on 443-443",
            "host-port: Allow Address localhost on 8080-8080 5432-5432 private",
        ]
    );
}

#[test]
fn rules_that_arguments_leave_nothing_to_are_left_out() {
    let repeated = good(&allow(&["example.com", "example.com:443", "example.com:1-65535"]));
    assert_eq!(spelled(&repeated.settings.policy).len(), 2, "a later rule may be the wider one");

    let text = "[[rule]]\nid = \"web\"\nnames = [\"*.example.com\"]\n[[rule]]\nid = \"api\"\nnames = [\"api.example.net\"]\n";
    let (_directory, path) = file(text);
    let arguments = SandboxArguments {
        policy: Some(path),
        deny: texts(&["*.example.com"]),
        ..allow(&["www.example.com", "api.example.net:443"])
    };
    assert_eq!(
        spelled(&good(&arguments).settings.policy),
        [
            "api: Allow NameAndAddress api.example.net on 80-80 443-443",
            "deny: Deny NameAndAddress *.example.com on 1-65535",
        ]
    );
}

#[test]
fn an_id_that_the_file_has_taken_is_not_taken_again() {
    let (_directory, path) = file("[[rule]]\nid = \"allow\"\nnames = [\"a.test\"]\n");
    let arguments = SandboxArguments { policy: Some(path), ..allow(&["b.test"]) };
    let policy = good(&arguments).settings.policy;
    let ids: Vec<_> = policy.rules().iter().map(|rule| &*rule.id).collect();
    assert_eq!(ids, ["allow", "allow-argument"]);
}

#[test]
fn private_is_for_allowed_names_alone() {
    let arguments =
        SandboxArguments { private: true, deny: texts(&["b.test"]), ..allow(&["a.test", "tcp:c.test:22"]) };
    let policy = good(&arguments).settings.policy;
    let private: Vec<_> = policy.rules().iter().map(|rule| rule.private).collect();
    assert_eq!(private, [true, true, false]);
}

#[test]
fn observing_is_the_default_that_a_rule_of_the_file_may_overrule() {
    let text = "mode = \"observe\"\nuntil = 2020-01-01\nech = \"allow\"\n[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nmode = \"enforce\"\n";
    let (_directory, path) = file(text);
    let arguments = SandboxArguments { policy: Some(path), observe: true, ..allow(&["b.test"]) };
    let policy = good(&arguments).settings.policy;
    let defaults = policy.defaults();
    assert_eq!((defaults.mode, defaults.until, defaults.ech), (Mode::Observe, None, Ech::Allow));
    assert_eq!(policy.rules()[0].mode, Some(Mode::Enforce));
    assert_eq!(policy.rules()[1].mode, None);
}

#[test]
fn the_file_sets_limits_and_the_arguments_have_the_last_word_on_places() {
    let text = "[dns]\nupstreams = [\"192.0.2.1\"]\nmax_inflight = 7\n[ledger]\nmax_leases = 9\n\
                [proxy]\nmax_connections = 20\nnew_connections_per_second = 30\ndrain = \"3s\"\n[audit]\nto = \"log.jsonl\"\nqueue = 32\n";
    let (directory, path) = file(text);
    let settings = good(&SandboxArguments { policy: Some(path.clone()), ..allow(&[]) }).settings;
    assert_eq!(settings.record.to, [Target::File(directory.path().join("log.jsonl"))]);
    assert_eq!((settings.dns.max_inflight_per_client, settings.ledger.max_leases_per_client), (7, 9));
    assert_eq!(settings.proxy.max_connections_per_client, 20);
    assert_eq!(settings.proxy.new_connections_per_second, 30);
    assert_eq!(settings.proxy.drain, Duration::from_secs(3));
    let arguments = SandboxArguments {
        policy: Some(path),
        upstreams: texts(&["tcp://192.0.2.9"]),
        audit: texts(&["-", "here.jsonl", "-"]),
        ..allow(&[])
    };
    let settings = good(&arguments).settings;
    assert_eq!(settings.dns.upstreams, [Upstream::Tcp("192.0.2.9:53".parse().unwrap())]);
    assert_eq!(settings.record.to, [Target::Stdout, Target::File("here.jsonl".into())]);
    assert_eq!(settings.record.queue, 32);
}

#[test]
fn what_has_no_meaning_for_one_command_is_an_error_in_the_file() {
    let text = "[capture]\ninterfaces = [\"br0\"]\n[proxy]\nport = 1\nmax_connections_per_client = 1\n\
                [dns]\nmode = \"external\"\nresolver = \"192.0.2.1\"\nlisten = []\nport = 2\non_miss = \"resolve\"\n\
                max_inflight_per_client = 1\n[dnstap]\nlisten = []\n[ledger]\nstate = \"x\"\n\
                max_leases_per_client = 1\n[admin]\n[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nclients = [\"10.0.0.1\"]\n";
    let (_directory, path) = file(text);
    let arguments = SandboxArguments { policy: Some(path), ..allow(&[]) };
    assert_eq!(
        messages(sandbox(&arguments, SystemTime::UNIX_EPOCH)),
        [
            "`capture` has no effect for one command",
            "`port` has no effect for one command",
            "`max_connections_per_client` has no effect for one command",
            "an external resolver cannot answer one command",
            "`resolver` has no effect for one command",
            "`listen` has no effect for one command",
            "`port` has no effect for one command",
            "`on_miss` has no effect for one command",
            "`max_inflight_per_client` has no effect for one command",
            "`dnstap` has no effect for one command",
            "`state` has no effect for one command",
            "`max_leases_per_client` has no effect for one command",
            "`admin` has no effect for one command",
            "`clients` has no effect for one command",
        ]
    );
}

#[test]
fn faults_within_the_file_stay_faults_and_stand_before_those_of_arguments() {
    let text = "[[rule]]\nid = \"all\"\nnames = [\"*.a.test\"]\n[[rule]]\nid = \"one\"\nnames = [\"x.a.test\"]\nzebra = 1\n";
    let (_directory, path) = file(text);
    let arguments = SandboxArguments {
        policy: Some(path.clone()),
        upstreams: texts(&["dns.example.net"]),
        audit: texts(&[""]),
        ..allow(&["https://a.test/"])
    };
    assert_eq!(
        messages(sandbox(&arguments, SystemTime::UNIX_EPOCH)),
        [
            "this rule can never decide anything",
            "unknown key `zebra` in [rule]",
            "URL in place of a name",
            "not an address",
            "an empty path",
        ]
    );
    std::fs::write(&path, "[[rule]\n").unwrap();
    assert!(!messages(sandbox(&arguments, SystemTime::UNIX_EPOCH)).is_empty());
}

#[test]
fn an_argument_is_quoted_as_it_was_typed_and_steers_no_terminal() {
    let outcome = sandbox(&allow(&["ok.example.com", "a\u{1b}[31m\nb", ""]), SystemTime::UNIX_EPOCH);
    let text = rendered(outcome.unwrap_err());
    assert!(text.contains("<arguments>:2:9"), "{text}");
    assert!(text.contains("--allow a\\u{1b}[31m\\nb") && text.contains("--allow ''"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn doubtful_grants_are_told_and_taken() {
    let arguments = SandboxArguments { host_ports: vec![53], ..allow(&["tcp:a.test:443", "a.test:53"]) };
    let told = messages(sandbox(&arguments, SystemTime::UNIX_EPOCH));
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(sandbox(&arguments, SystemTime::UNIX_EPOCH).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_told_as_such() {
    let arguments =
        SandboxArguments { policy: Some("/nowhere/policy.toml".into()), ..allow(&["https://x/"]) };
    assert!(matches!(sandbox(&arguments, SystemTime::UNIX_EPOCH), Err(Error::Unreadable { .. })));
}
