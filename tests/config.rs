//! Every file in `config/` is read, means what its comments say, and has no finding.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use namegate::admin::AdminConfig;
use namegate::dns::{Denial, OnMiss, TapAddress, Upstream};
use namegate::facts::{Name, Protocol};
use namegate::gate::{Action, ClientMatch, Ech, MatchBy, Mode};
use namegate::nft::{DnsCapture, FormChoice};
use namegate::record::{Target, WhenFull};
use namegate::settings::{LocalWho, SandboxArguments, Settings, load, sandbox};
use namegate::sys::socket_file::Access;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

fn settings(name: &str) -> Settings {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let checked = load(&file(name), now).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(checked.report.findings().len(), 0, "{}", checked.report.render(false));
    assert_eq!(checked.settings.path, Some(file(name)));
    checked.settings
}

fn ids(settings: &Settings) -> Vec<&str> {
    settings.policy.rules().iter().map(|rule| &*rule.id).collect()
}

#[test]
fn every_file_is_known_to_this_test() {
    let mut names: Vec<String> = std::fs::read_dir(file(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "docker.toml",
            "exec.toml",
            "gateway-dnstap.toml",
            "gateway.toml",
            "host.toml",
            "minimal.toml",
            "observe.toml",
            "sidecar.toml"
        ]
    );
}

#[test]
fn the_docker_door_knows_containers() {
    let settings = settings("docker.toml");
    let docker = settings.docker.as_ref().unwrap();
    assert_eq!(docker.networks, ["egress"]);
    assert!(docker.labels && docker.isolate && docker.socket == Path::new("/var/run/docker.sock"));
    assert!(settings.capture.interfaces.is_empty(), "bridges are found");
    assert_eq!(ids(&settings), ["web", "updates"]);
    let clients = &settings.policy.rules()[0].clients;
    let label = ClientMatch::Label { key: "tier".into(), value: "ci".into() };
    assert_eq!(
        clients[..],
        [ClientMatch::Container("web".into()), ClientMatch::Service("worker".into()), label]
    );
}

#[test]
fn the_compose_gateway_is_where_the_compose_file_sends_its_services() {
    let settings = settings("compose/gateway.toml");
    let compose = std::fs::read_to_string(file("../docker-compose.yml")).unwrap();
    let [gateway] = settings.gateways[..] else { panic!("one gateway") };
    assert!(settings.capture.interfaces.is_empty(), "the link is found");
    assert!(compose.contains(&format!("subnet: {}\n", gateway.trunc())));
    assert!(compose.contains(&format!("gateway: {}\n", gateway.addr())));
    assert_eq!(
        compose.matches(&format!("dns: {}\n", gateway.addr())).count(),
        2,
        "both services ask the gate"
    );
    assert_eq!(settings.record.to, [Target::Stdout]);
    assert_eq!(ids(&settings), ["shop", "blog"]);
    for rule in settings.policy.rules() {
        let [client] = &rule.clients[..] else { panic!("one client") };
        let address = format!("{client:?}");
        let known = ["10.9.0.11", "10.9.0.12"].iter().filter(|known| address.contains(**known));
        assert!(
            known.clone().count() == 1 && known.clone().all(|known| compose.contains(known)),
            "{address}"
        );
    }
}

#[test]
fn each_network_of_its_own_has_a_gateway_and_rules() {
    let settings = settings("compose/network-each.toml");
    let compose = std::fs::read_to_string(file("compose/network-each.yml")).unwrap();
    assert_eq!(settings.gateways.len(), 2);
    for gateway in &settings.gateways {
        assert!(compose.contains(&format!(
            "subnet: {}\n          gateway: {}\n",
            gateway.trunc(),
            gateway.addr()
        )));
        assert!(compose.contains(&format!("dns: {}\n", gateway.addr())));
    }
    assert_eq!(ids(&settings), ["shop", "blog"]);
}

#[test]
fn the_shared_namespace_is_everybodys_but_the_gates() {
    let settings = settings("compose/shared-namespace.toml");
    let compose = std::fs::read_to_string(file("compose/shared-namespace.yml")).unwrap();
    assert!(settings.capture.interfaces.is_empty() && settings.gateways.is_empty());
    assert_eq!(settings.local.map(|local| local.who), Some(LocalWho::AllButGate));
    // Without each of these the service could be the gate.
    for line in ["user: \"1000:1000\"", "condition: service_healthy"] {
        assert_eq!(compose.matches(line).count(), 1, "{line}");
    }
    for line in ["\n    cap_drop: [ALL]\n", "[\"no-new-privileges:true\"]"] {
        assert_eq!(compose.matches(line).count(), 2, "{line}");
    }
}

#[test]
fn host_captures_a_user_and_sidecar_everybody() {
    let host = settings("host.toml");
    let local = host.local.as_ref().unwrap();
    let who = LocalWho::These { users: vec!["www-data".to_owned()], cgroups: Vec::new() };
    assert_eq!((&local.who, local.proxy_port, local.dns_port), (&who, 15_002, 15_054));
    assert!(host.capture.interfaces.is_empty());
    assert_eq!(host.policy.rules()[1].clients, [ClientMatch::UserName("www-data".into())]);

    let sidecar = settings("sidecar.toml");
    assert_eq!(sidecar.local.as_ref().unwrap().who, LocalWho::AllButGate);
    assert!(!sidecar.dns.upstreams.contains(&Upstream::System));
}

#[test]
fn exec_allows_packages_and_a_database_and_no_telemetry() {
    let arguments = SandboxArguments { policy: Some(file("exec.toml")), ..SandboxArguments::default() };
    let checked = sandbox(&arguments, SystemTime::UNIX_EPOCH).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(checked.report.findings().len(), 0, "{}", checked.report.render(false));
    let rules = checked.settings.policy.rules();
    let ids: Vec<&str> = rules.iter().map(|rule| &*rule.id).collect();
    assert_eq!(ids, ["packages", "test-database", "no-telemetry"]);
    assert!(rules[0].ports.contains(443) && !rules[0].ports.contains(80));
    assert_eq!((rules[1].by, rules[1].private), (MatchBy::Address, true));
    assert_eq!(rules[2].action, Action::Deny);
    assert!(rules[2].ports.contains(1) && rules[2].ports.contains(65_535));
}

#[test]
fn minimal_allows_a_name_and_its_direct_subdomains_for_everyone() {
    let settings = settings("minimal.toml");
    assert_eq!(settings.capture.interfaces, ["br-egress"]);
    assert_eq!(ids(&settings), ["web"]);
    let rule = &settings.policy.rules()[0];
    let matches = |name: &str| rule.names.iter().any(|pattern| pattern.matches(&Name::parse(name).unwrap()));
    assert!(matches("example.com") && matches("www.example.com"));
    assert!(!matches("a.b.example.com") && !matches("example.org"));
    assert!(rule.clients.is_empty() && rule.ports.contains(80) && rule.ports.contains(443));
    assert!(!rule.ports.contains(22) && !rule.private);
}

#[test]
fn gateway_has_a_forwarder_and_denies_what_it_never_answered() {
    let settings = settings("gateway.toml");
    let defaults = settings.policy.defaults();
    assert_eq!((defaults.mode, defaults.ech, defaults.until), (Mode::Enforce, Ech::Deny, None));
    assert_eq!(settings.capture.dns, DnsCapture::Forwarder);
    assert_eq!(settings.capture.form, FormChoice::Auto);
    assert_eq!(settings.capture.dns_listen, ["172.18.0.1:53".parse().unwrap()]);
    assert_eq!(settings.dns_listen, settings.capture.dns_listen);
    assert_eq!(settings.dns.upstreams, [Upstream::System]);
    assert_eq!((settings.on_miss, settings.dns.denial), (OnMiss::Deny, Denial::Refused));
    assert_eq!(settings.proxy.hold, Duration::ZERO);
    assert_eq!(settings.record.to, [Target::File("/var/log/namegate/audit.jsonl".into())]);
    assert_eq!(settings.record.when_full, WhenFull::Block);
    let access = Access { mode: 0o600, group: None };
    assert_eq!(settings.admin, Some(AdminConfig::Unix { path: "/run/namegate/admin.sock".into(), access }));
    assert_eq!(ids(&settings), ["packages", "api", "no-legacy-api", "orders-db", "reports-db", "mail"]);
    let [packages, api, denied, database, reports, mail] = settings.policy.rules() else { panic!() };
    assert!(packages.comment.is_some());
    assert!(api.ports.contains(8444) && !api.ports.contains(80) && api.clients.len() == 2);
    assert_eq!(denied.action, Action::Deny);
    assert!(denied.ports.contains(22));
    assert_eq!((database.by, database.private), (MatchBy::Address, true));
    assert_eq!(
        (reports.by, &reports.protocols[..]),
        (MatchBy::NameAndAddress, &[Protocol::Postgres, Protocol::Tls][..])
    );
    assert!(mail.by == MatchBy::Address && mail.ports.contains(143) && !mail.private);
}

#[test]
fn gateway_dnstap_trusts_the_operators_resolver_and_its_frames() {
    let settings = settings("gateway-dnstap.toml");
    let resolver = "172.18.0.1:53".parse().unwrap();
    assert_eq!(settings.capture.dns, DnsCapture::External(vec![resolver]));
    assert_eq!(settings.dns.upstreams, [Upstream::Udp(resolver)]);
    assert_eq!(settings.on_miss, OnMiss::Resolve);
    assert_eq!(settings.proxy.hold, Duration::from_millis(2_500));
    assert_eq!(settings.tap.listen, [TapAddress::Unix("/run/namegate/dnstap.sock".into())]);
    assert_eq!((settings.tap.socket_mode, settings.tap.socket_group.as_deref()), (0o660, Some("namegate")));
    assert_eq!(ids(&settings), ["web", "team"]);
    let team: Vec<&str> = settings.policy.rules()[1].names.iter().map(|pattern| pattern.as_str()).collect();
    assert_eq!(team, ["docs.example.net", "*.cdn.example.net", "**.build.example.net"]);
}

#[test]
fn observe_disturbs_nothing_but_what_one_rule_is_sure_of() {
    let settings = settings("observe.toml");
    let defaults = settings.policy.defaults();
    assert_eq!(defaults.mode, Mode::Observe);
    let new_year_2100 = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    assert_eq!(defaults.until, Some(new_year_2100));
    let modes: Vec<_> = settings.policy.rules().iter().map(|rule| rule.mode).collect();
    assert_eq!(modes, [None, Some(Mode::Enforce)]);
}

#[test]
fn resolvers_beside_the_gate_agree_with_its_configuration_about_socket_and_address() {
    let settings = settings("gateway-dnstap.toml");
    let [TapAddress::Unix(socket)] = &settings.tap.listen[..] else { panic!("one unix socket") };
    let DnsCapture::External(resolver) = &settings.capture.dns else {
        panic!("a resolver of the operator's")
    };
    let mut files: Vec<String> = std::fs::read_dir(file("resolvers"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["Corefile", "dnsdist.conf", "kresd.conf", "named.conf", "unbound.conf"]);
    for name in files {
        let text = std::fs::read_to_string(file("resolvers").join(&name)).unwrap();
        let told = |what: &str| {
            text.lines().any(|line| line.contains(what) && !line.trim_start().starts_with(['#', '/', '-']))
        };
        assert!(told(socket.to_str().unwrap()), "{name}");
        assert!(told(&resolver[0].ip().to_string()), "{name}");
    }
}
