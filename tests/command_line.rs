//! The command line as people meet it: the real binary, its two streams and its exit codes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn namegate(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_namegate"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("NAMEGATE_LOG")
        .output()
        .unwrap()
}

/// Runs a command in the project's directory; returns the exit code and both streams as one text.
fn said(arguments: &[&str]) -> String {
    show(&namegate(Path::new(env!("CARGO_MANIFEST_DIR")), arguments))
}

fn show(output: &Output) -> String {
    let code = output.status.code().map_or("killed".to_owned(), |code| code.to_string());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "colours without a terminal");
    format!("exit {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
}

/// What `check` says of a text.
fn checked(text: &str, options: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), text).unwrap();
    std::fs::write(
        directory.path().join("names.txt"),
        "# names\nok.example.com\n\n  *.com # too wide\nb\u{e4}d_*\n",
    )
    .unwrap();
    show(&namegate(directory.path(), &[&["check", "bad.toml"], options].concat()))
}

const CAPTURE: &str = "[capture]\ninterfaces = [\"br-egress\"]\n";

macro_rules! bad {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            let text = format!("{CAPTURE}{}", $text);
            insta::assert_snapshot!(stringify!($name), checked(&text, &[]));
        }
    )*};
}

bad! {
    a_slip_in_a_key_is_recognised: "form = \"auto\"\n[[rules]]\nid = \"a\"\nnames = [\"a.test\"]\n";
    an_unknown_key_lists_the_known_ones: "[audit]\nzebra = 1\n";
    a_slip_in_a_word_is_recognised: "form = \"tprxoy\"\n";
    a_syntax_error_has_its_place: "[[rule]]\nid = a\nnames = [\"a.test\"]\n";
    a_duplicate_key_has_its_place: "[ledger]\ngrace = \"1m\"\ngrace = \"2m\"\n";
    a_duplicate_id_shows_both: "[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\n[[rule]]\nid = \"a\"\nnames = [\"b.test\"]\n";
    an_unreachable_rule_shows_what_covers_it:
        "[[rule]]\nid = \"all\"\nnames = [\"*.example.com\"]\n[[rule]]\nid = \"one\"\nnames = [\"www.example.com\"]\n";
    a_wildcard_under_a_public_suffix_says_how_to_mean_it: "[[rule]]\nid = \"a\"\nnames = [\"*.co.uk\", \"*\"]\n";
    a_url_is_not_a_name: "[[rule]]\nid = \"a\"\nnames = [\"https://example.com/x\"]\n";
    an_address_is_not_a_name: "[[rule]]\nid = \"a\"\nnames = [\"192.0.2.1\"]\n";
    faults_in_a_list_of_names_point_into_the_list: "[[rule]]\nid = \"a\"\nnames_from = \"names.txt\"\n";
    a_missing_list_of_names_is_told: "[[rule]]\nid = \"a\"\nnames_from = \"nowhere.txt\"\n";
    a_rule_without_names_or_id_points_at_the_rule: "[[rule]]\nports = [443]\n";
    ports_are_checked_one_by_one: "[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nports = [443, 0, \"90-80\", \"http\", true]\n";
    clients_are_addresses_and_networks:
        "[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nclients = [\"10.0.0.1/8\", \"container:web\", \"user:app\", \"web\"]\n";
    an_address_rule_reads_nothing:
        "[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nmatch = \"address\"\nprotocols = [\"tls\"]\nech = \"allow\"\n";
    a_deny_rule_has_nothing_to_permit:
        "[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\naction = \"deny\"\nprivate = true\nech = \"allow\"\nmatch = \"address\"\n";
    protocols_that_are_not_read_are_refused:
        "[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nprotocols = [\"quic\", \"htpp\"]\n";
    an_external_resolver_needs_its_frames: "[dns]\nmode = \"external\"\nlisten = [\"172.18.0.1\"]\n";
    a_resolver_needs_external_mode: "[dns]\nresolver = \"172.18.0.1\"\n";
    a_hold_needs_a_tap: "[dnstap]\nhold = \"2s\"\n";
    a_tap_beyond_loopback_needs_senders: "[dnstap]\nlisten = [\"tcp:192.0.2.1:6000\"]\nsocket_mode = \"0660\"\n";
    upstreams_are_given_by_address:
        "[dns]\nupstreams = [\"tls://dns.example.net\", \"tls://192.0.2.1\", \"udp://192.0.2.1#x\", \"192.0.2.1:0\"]\n";
    durations_need_units: "[proxy]\nsniff_timeout = 5\nidle_timeout = \"5\"\ndrain = \"2d\"\n";
    numbers_have_bounds: "[proxy]\nport = 70000\nmax_connections = 8\nmax_connections_per_client = 20000\n";
    ports_of_our_own_must_differ: "[proxy]\nport = 15353\n";
    dates_are_dates:
        "[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nuntil = \"2026-12-31\"\n[[rule]]\nid = \"b\"\nnames = [\"b.test\"]\nuntil = 2026-12-31T10:00:00\n";
    what_other_versions_have_is_said_to_be_missing:
        "local = \"all\"\ndocker_networks = [\"egress\"]\n[ledger]\nstate = \"/var/lib/x\"\n[audit]\nto = [\"journal\"]\n";
    the_admin_socket_is_for_this_host_and_over_tcp_for_those_with_a_token:
        "[admin]\nlisten = \"192.0.2.1:9053\"\ntoken_file = \"token\"\n[proxy]\nport = 9053\n";
    an_admin_port_needs_a_token: "[admin]\nlisten = \"127.0.0.1:9053\"\nsocket_mode = \"0600\"\n";
    an_admin_socket_needs_a_place: "[admin]\nsocket_group = \"ops\"\n";
    an_admin_port_is_not_shared:
        "[admin]\nlisten = \"[::1]:15001\"\ntoken_file = \"token\"\n";
    an_admin_socket_has_a_mode_and_no_token:
        "[admin]\nlisten = \"./admin.sock\"\nsocket_mode = \"0666\"\ntoken_file = \"token\"\n";
    warnings_do_not_fail:
        "[dns]\ntypes = [\"A\", \"TXT\"]\n[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\nmatch = \"address\"\nports = [443]\n";
}

#[test]
fn nothing_captured_is_an_error() {
    insta::assert_snapshot!(checked("[[rule]]\nid = \"a\"\nnames = [\"a.test\"]\n", &[]));
}

#[test]
fn until_without_observe_is_an_error() {
    insta::assert_snapshot!(checked(&format!("mode = \"enforce\"\nuntil = 2026-12-31\n{CAPTURE}"), &[]));
}

#[test]
fn findings_come_as_json_too() {
    let text = format!("{CAPTURE}[[rule]]\nid = \"a\"\nnames = [\"*.com\"]\nzebra = 1\n");
    insta::assert_snapshot!(checked(&text, &["--json"]));
}

#[test]
fn a_file_that_cannot_be_read_is_a_matter_of_usage() {
    insta::assert_snapshot!(said(&["check", "config/nowhere.toml"]));
    insta::assert_snapshot!(said(&["check", "config"]));
}

#[test]
fn a_sound_file_is_fine() {
    insta::assert_snapshot!(said(&["check", "config/gateway.toml"]));
    insta::assert_snapshot!(said(&["check", "config/gateway.toml", "--json"]));
}

#[test]
fn a_gate_that_is_not_there_has_no_status() {
    insta::assert_snapshot!(said(&["status", "--socket", "nowhere/admin.sock"]));
}

#[test]
fn a_status_is_asked_where_the_configuration_says() {
    insta::assert_snapshot!(said(&["status", "--config", "config/minimal.toml"]));
}

#[test]
fn help_is_for_people() {
    for command in [
        "exec",
        "demo",
        "conformance",
        "serve",
        "check",
        "rules",
        "explain",
        "status",
        "doctor",
        "down",
        "completions",
    ] {
        insta::assert_snapshot!(format!("help_{command}"), said(&[command, "--help"]));
    }
    insta::assert_snapshot!("help", said(&["--help"]));
}

#[test]
fn version_is_one_line() {
    assert_eq!(
        said(&["--version"]),
        format!("exit 0\n--- stdout\nnamegate {}\n--- stderr\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn usage_errors_are_exit_code_two_and_leave_stdout_empty() {
    for arguments in [
        &["fly"][..],
        &["serve", "--config", "x", "--interface", "br0"],
        &["serve", "example.com"],
        &["serve", "--interface", "br0", "--resolver", "192.0.2.1", "example.com"],
        &["serve", "--interface", "br0"],
        &["serve", "--interface", "br*", "example.com"],
        &["explain", "--config", "config/gateway.toml", "203.0.113.1"],
        &["explain", "--port", "0", "example.com"],
        &["completions", "tea"],
        &["exec"],
        &["exec", "--allow", "example.com"],
        &["exec", "--alow", "example.com", "true"],
        &["exec", "--host-port", "0", "true"],
        &["exec", "--policy", "nowhere.toml", "true"],
        &["exec", "--learn", "no/such/folder/rules.toml", "true"],
        &["exec", "--learn", "/dev/null", "true"],
        &[],
    ] {
        let output = namegate(Path::new(env!("CARGO_MANIFEST_DIR")), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", show(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_faulty_configuration_never_starts_the_gate() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), "[capture]\ninterfaces = []\n").unwrap();
    insta::assert_snapshot!(show(&namegate(directory.path(), &["serve", "--config", "bad.toml"])));
    insta::assert_snapshot!(said(&["serve", "--interface", "br0", "--dnstap", "tap", "*.com"]));
}

/// What `exec` says of its arguments. The command is one that no machine has: none of these may start it.
fn granted(directory: &Path, options: &[&str]) -> String {
    show(&namegate(directory, &[&["exec"], options, &["--", "no-such-program-anywhere"]].concat()))
}

macro_rules! misgranted {
    ($($name:ident: $($option:expr),+;)*) => {$(
        #[test]
        fn $name() {
            let directory = tempfile::tempdir().unwrap();
            insta::assert_snapshot!(stringify!($name), granted(directory.path(), &[$($option),+]));
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    )*};
}

misgranted! {
    exec_takes_names_and_no_urls: "--allow", "ok.example.com", "--allow", "https://example.com/x", "--allow", "example.com/x";
    exec_takes_names_and_no_addresses: "--allow", "192.0.2.1:443", "--deny", "[2001:db8::1]", "--allow", "10.0.0.0/8";
    exec_takes_ports_that_are_ports: "--allow", "example.com:https", "--allow", "example.com:", "--deny", "example.com:90-80";
    exec_needs_a_port_where_no_name_is_read: "--allow", "tcp:db.example.net", "--deny", "tcp:db.example.net:5432";
    exec_takes_no_empty_name_and_no_list: "--allow", "", "--allow", "a.example.com,b.example.com";
    exec_refuses_wide_wildcards: "--allow", "*.com", "--allow", "*";
    exec_knows_that_localhost_is_another: "--allow", "localhost:5432";
    exec_checks_upstreams_and_targets: "--dns-upstream", "dns.example.net", "--audit", "", "--learn", "rules.toml";
}

#[test]
fn faults_of_a_policy_file_are_told_as_check_does_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[capture]\ninterfaces = [\"br0\"]\n\n[[rule]]\nid = \"web\"\nnames = [\"*.example.com\"]\n\n\
                [[rule]]\nid = \"web\"\nnames = [\"www.example.com\"]\nclients = [\"10.0.0.1\"]\nprot = 1\n";
    std::fs::write(directory.path().join("policy.toml"), text).unwrap();
    let options = ["--policy", "policy.toml", "--allow", "https://a.example.com", "--learn", "rules.toml"];
    insta::assert_snapshot!(granted(directory.path(), &options));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was started or written");
}

#[test]
fn check_can_be_asked_for_a_policy_file_of_exec() {
    let text = "[[rule]]\nid = \"web\"\nnames = [\"www.example.com\"]\n";
    insta::assert_snapshot!(checked(text, &["--exec"]));
    insta::assert_snapshot!(checked(&format!("{CAPTURE}{text}"), &["--exec"]));
}

#[test]
fn a_policy_file_that_is_not_there_is_told_with_a_way_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(granted(directory.path(), &["--policy", "nowhere.toml"]));
}

#[test]
fn a_place_for_learned_rules_that_cannot_be_written_is_found_out_before() {
    let directory = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(granted(directory.path(), &["--learn", "no/such/folder/rules.toml"]));
    insta::assert_snapshot!(granted(directory.path(), &["--learn", "/dev/null"]));
}

#[test]
fn a_filter_that_is_none_is_a_matter_of_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_namegate"))
        .args(["check", "config/minimal.toml"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("NAMEGATE_LOG", "a=b=c")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", show(&output));
}

#[test]
fn rules_prints_a_ruleset_without_touching_the_kernel() {
    let output = namegate(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &["rules", "--config", "config/gateway.toml", "--form", "redirect"],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.contains("table inet namegate") && text.contains("br-egress"), "{text}");
}

macro_rules! explained {
    ($($name:ident: $code:expr, $($argument:expr),+;)*) => {$(
        #[test]
        fn $name() {
            let text = said(&["explain", "--config", "config/gateway.toml", $($argument),+]);
            assert!(text.starts_with(concat!("exit ", $code, "\n")), "{text}");
            insta::assert_snapshot!(stringify!($name), text);
        }
    )*};
}

explained! {
    explain_an_allowed_name: 0, "https://eu.mirror.example.org/x";
    explain_assumes_nothing_of_a_given_address: 1, "https://eu.mirror.example.org/x", "--address", "203.0.113.7";
    explain_believes_the_operator: 0, "https://eu.mirror.example.org/x", "--address", "203.0.113.7", "--observed";
    explain_a_private_address: 1, "https://eu.mirror.example.org/x", "--address", "10.0.0.1", "--observed";
    explain_a_name_for_other_clients: 1, "x.api.example.com", "--client", "192.0.2.1";
    explain_a_name_that_needs_its_client_told: 1, "x.api.example.com";
    explain_a_port: 1, "packages.example.org:8080";
    explain_a_deny_rule: 1, "https://v1.api.example.com", "--client", "172.18.0.9";
    explain_ech: 1, "packages.example.org", "--ech";
    explain_an_address_rule: 0, "db.example.net", "--port", "5432", "--address", "10.0.0.1", "--observed";
    explain_an_address_rule_without_an_answer: 1, "db.example.net", "--port", "5432", "--address", "10.0.0.1";
    explain_one_label_too_many: 1, "a.b.mirror.example.org";
    explain_a_name_without_its_subdomains: 1, "mirror.example.org";
    explain_as_json: 1, "https://nowhere.example.net", "--json";
}

#[test]
fn observe_mode_allows_and_says_what_it_would_not() {
    insta::assert_snapshot!(said(&[
        "explain",
        "--config",
        "config/observe.toml",
        "https://nowhere.example.net"
    ]));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let text = said(&["completions", shell]);
        assert!(text.starts_with("exit 0") && text.contains("explain"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in [&["completions", "bash"][..], &["--help"], &["check", "config/gateway.toml", "--json"]]
    {
        let mut child = Command::new(env!("CARGO_BIN_EXE_namegate"))
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let status = child.wait().unwrap();
        let mut talk = String::new();
        child.stderr.take().unwrap().read_to_string(&mut talk).unwrap();
        assert_eq!((status.code(), talk.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
