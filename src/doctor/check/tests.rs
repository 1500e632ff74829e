//! A truth table for each check: what is changed on a sound machine, and what is found then.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::*;
use crate::dns::{OnMiss, TapAddress, Upstream};
use crate::docker::Posture;
use crate::doctor::facts::{
    Clock, ContainerFacts, Containers, Files, Forwarding, Limits, Looker, LookupService, Lookups,
    NetworkFacts, Place, SandboxFacts, Service, Table,
};
use crate::doctor::finding::Severity;
use crate::facts::Transport;
use crate::gate::{Defaults, Mode, Policy};
use crate::nft::{
    BaseChain, Difference, DnsCapture, Family, Form, FormChoice, Locals, Mention, NftVersion, Piece,
};
use crate::settings::{Arguments, DockerSettings, LocalSettings, LocalWho, from_arguments};
use crate::sys::host::{BridgeFiltering, Link};
use crate::sys::interfaces::{Interface, Kind};
use crate::sys::listeners::Holder;

/// The middle of 2026.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_782_000_000)
}

fn settings() -> Settings {
    let arguments = Arguments {
        interfaces: vec!["br0".to_owned()],
        names: vec!["example.com".to_owned()],
        ..Arguments::default()
    };
    let mut settings = from_arguments(&arguments, now()).unwrap().settings;
    settings.proxy.max_connections = 1_000;
    settings
}

fn interface(name: &str, kind: Kind, controller: Option<&str>, addresses: &[&str]) -> Interface {
    Interface {
        name: name.to_owned(),
        kind,
        up: true,
        controller: controller.map(str::to_owned),
        isolated: controller.is_some(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

fn service(address: &str, name: &str) -> Service {
    let holder = (!name.is_empty()).then(|| Holder { pid: 7, name: name.to_owned() });
    Service { transport: Transport::Tcp, address: address.parse().unwrap(), holder }
}

/// A gateway where everything is in order.
fn machine() -> Facts {
    let pieces = [Piece::Home, Piece::Fence("br0".to_owned())];
    let steering: BTreeSet<_> =
        pieces.iter().flat_map(|piece| [(Family::V4, piece.clone()), (Family::V6, piece.clone())]).collect();
    Facts {
        looker: Looker { root: true, net_admin: true },
        obstacle: None,
        nft: Ok(Some(NftVersion(1, 0, 6))),
        interfaces: Ok(vec![
            interface("lo", Kind::Loopback, None, &["127.0.0.1", "::1"]),
            interface("br0", Kind::Bridge, None, &["10.9.0.1", "2001:db8::1"]),
            interface("va", Kind::Made, Some("br0"), &[]),
            interface("vb", Kind::Made, Some("br0"), &[]),
            interface("eth0", Kind::Device, None, &["192.0.2.7"]),
        ]),
        links: Ok(vec![(
            "br0".to_owned(),
            Some(Link { name: "br0".to_owned(), bridge: true, controller: None }),
        )]),
        bridge_filtering: BridgeFiltering::default(),
        forwarding: vec![Forwarding { interface: "br0".to_owned(), ipv4: Ok(true), ipv6: Ok(true) }],
        table: Ok(Table::InForce(Form::Tproxy)),
        steering: Ok(steering),
        chains: Ok(Vec::new()),
        legacy_tables: Ok(false),
        services: Ok(vec![service("127.0.0.1:15001", "namegate"), service("0.0.0.0:22", "sshd")]),
        name_servers: Ok(vec!["192.0.2.53".parse().unwrap()]),
        lookups: Lookups { line: Ok("files dns".to_owned()), services: Vec::new() },
        clock: Clock {
            now: now(),
            program_made: Some(now() - Duration::from_secs(86_400)),
            synchronised: Ok(true),
        },
        limits: Limits {
            descriptors: Ok(Some(20_000)),
            of_gate: true,
            tracked: Ok(Some(262_144)),
            local_ports: Ok(Some((32_768, 60_999))),
            reserved_ports: String::new(),
        },
        sandbox: SandboxFacts { namespaces: Ok(()), call_filters: true, landlock: Some(7) },
        files: Files::default(),
        containers: Containers::Running(Vec::new()),
    }
}

/// A workload as it should be.
fn container(name: &str) -> ContainerFacts {
    ContainerFacts {
        id: format!("{name}-id"),
        name: name.to_owned(),
        posture: Posture {
            cap_drop: vec!["NET_RAW".to_owned()],
            network_mode: "egress".to_owned(),
            dns: vec!["10.9.0.1".to_owned()],
            ..Posture::default()
        },
        labels: Vec::new(),
        networks: vec![NetworkFacts {
            name: "egress".to_owned(),
            bridge: Some("br0".to_owned()),
            internal: false,
        }],
    }
}

fn codes(found: &[Finding]) -> Vec<(&'static str, &str)> {
    found.iter().map(|finding| (finding.code.as_str(), finding.subject.as_str())).collect()
}

/// Each row: what is changed, and the codes and subjects that are found then, in their order.
macro_rules! table {
    ($($name:ident { $($change:expr => [$($expected:expr),*];)* })*) => {$(
        #[test]
        fn $name() {
            $({
                let (mut settings, mut facts) = (settings(), machine());
                let change: fn(&mut Settings, &mut Facts) = $change;
                change(&mut settings, &mut facts);
                let found = diagnose(Some(&settings), &facts);
                let expected: &[(&str, &str)] = &[$($expected),*];
                assert_eq!(codes(&found), expected, "{}: {found:#?}", stringify!($change));
                for finding in &found {
                    assert!(!finding.what.is_empty() && !finding.fix.is_empty(), "{finding:?}");
                }
            })*
        }
    )*};
}

table! {
    a_sound_gateway_has_nothing_found {
        |_, _| {} => [];
        |s, _| s.capture.form = FormChoice::Tproxy => [];
        |s, f| { s.capture.form = FormChoice::Redirect; f.services = Ok(vec![service("[::]:15001", "")]) } => [];
    }

    an_interface_that_cannot_be_captured_is_told_with_its_kind {
        |_, f| f.links = Ok(vec![("br0".into(), None)]) => [("interface_missing", "br0")];
        |_, f| f.links = Ok(vec![("br0".into(), Some(Link { name: "eth9".into(), bridge: false, controller: None }))])
            => [("interface_alias", "br0")];
        |_, f| f.links = Ok(vec![("br0".into(), Some(Link { name: "br0".into(), bridge: false, controller: Some("bond0".into()) }))])
            => [("interface_is_port", "br0")];
        |_, f| f.links = Err("no".into()) => [("not_seen", "captured interfaces")];
        |_, f| f.interfaces = Err("no".into()) => [("not_seen", "interfaces")];
    }

    means_that_are_missing_are_told {
        |_, f| f.nft = Ok(None) => [("nft_missing", "nft")];
        |_, f| f.nft = Ok(Some(NftVersion(0, 9, 8))) => [("nft_too_old", "nft")];
        |_, f| f.nft = Err("no".into()) => [("not_seen", "nft")];
        |_, f| f.looker = Looker { root: true, net_admin: false } => [("no_net_admin", "this process")];
        // Who serves may well be another user.
        |_, f| f.looker = Looker { root: false, net_admin: false } => [];
    }

    tproxy_and_a_bridge_that_shows_its_frames_do_not_go_together {
        |s, f| { s.capture.form = FormChoice::Tproxy; f.bridge_filtering.ipv4 = true } => [("tproxy_on_bridge", "br0")];
        |s, f| { s.capture.form = FormChoice::Tproxy; f.bridge_filtering.ipv6 = true } => [("tproxy_on_bridge", "br0")];
        // Switched on since the gate started, by dockerd say.
        |_, f| f.bridge_filtering = BridgeFiltering { ipv4: true, ipv6: true } => [("tproxy_on_bridge", "br0")];
        |s, f| { redirected(s, f); f.bridge_filtering = BridgeFiltering { ipv4: true, ipv6: true } } => [];
        |s, f| { redirected(s, f); s.capture.form = FormChoice::Auto } => [];
    }

    what_is_plugged_into_bridges_is_looked_at {
        |_, f| f.interfaces.as_mut().unwrap()[4].controller = Some("br0".into()) => [("bridge_with_uplink", "br0, eth0")];
        |_, f| f.interfaces.as_mut().unwrap()[3].isolated = false => [];
        |_, f| f.interfaces.as_mut().unwrap()[2..4].iter_mut().for_each(|one| one.isolated = false)
            => [("ports_not_isolated", "br0")];
        // Then neighbours are captured too.
        |s, f| {
            redirected(s, f);
            f.interfaces.as_mut().unwrap()[2..4].iter_mut().for_each(|one| one.isolated = false);
            f.bridge_filtering = BridgeFiltering { ipv4: true, ipv6: true };
        } => [];
        |_, f| f.interfaces.as_mut().unwrap().extend([
            interface("docker0", Kind::Bridge, None, &["172.17.0.1"]),
            interface("vc", Kind::Made, Some("docker0"), &[]),
        ]) => [("bridge_not_captured", "docker0")];
        |_, f| f.interfaces.as_mut().unwrap().push(interface("docker0", Kind::Bridge, None, &[])) => [];
    }

    a_table_that_is_not_there_is_a_leak_only_where_nothing_else_stops_the_traffic {
        |_, f| f.table = Ok(Table::Not(Difference::Missing)) =>
            [("services_reachable", "br0"), ("table_missing", "inet namegate")];
        |_, f| f.table = Ok(Table::Not(Difference::Other("marker".into()))) =>
            [("services_reachable", "br0"), ("table_differs", "inet namegate")];
        |_, f| { f.table = Ok(Table::Not(Difference::Missing)); f.steering = Ok(BTreeSet::new()) } => [
            ("forwarding_unfenced", "br0, IPv4"), ("forwarding_unfenced", "br0, IPv6"),
            ("services_reachable", "br0"), ("table_missing", "inet namegate")];
        |_, f| {
            f.table = Ok(Table::Not(Difference::Missing));
            f.steering.as_mut().unwrap().remove(&(Family::V6, Piece::Fence("br0".into())));
        } => [("forwarding_unfenced", "br0, IPv6"), ("services_reachable", "br0"), ("table_missing", "inet namegate")];
        |_, f| {
            f.table = Ok(Table::Not(Difference::Missing));
            f.steering = Ok(BTreeSet::new());
            f.forwarding[0].ipv4 = Ok(false);
            f.forwarding[0].ipv6 = Ok(false);
        } => [("services_reachable", "br0"), ("table_missing", "inet namegate")];
    }

    what_was_not_seen_of_the_rules_is_not_taken_for_fine {
        |_, f| f.table = Err("not root".into()) => [("not_seen", "ruleset")];
        |_, f| f.steering = Err("not root".into()) => [("not_seen", "policy routing")];
        |_, f| f.forwarding[0].ipv6 = Err("no".into()) => [("not_seen", "forwarding of br0, IPv6")];
        |_, f| f.services = Err("no".into()) => [("not_seen", "listening sockets")];
    }

    a_host_that_routes_wants_its_fence {
        |_, f| f.steering.as_mut().unwrap().retain(|(_, piece)| *piece == Piece::Home) =>
            [("fence_missing", "br0, IPv4"), ("fence_missing", "br0, IPv6")];
        |_, f| {
            f.steering.as_mut().unwrap().retain(|(_, piece)| *piece == Piece::Home);
            f.forwarding[0].ipv4 = Ok(false);
            f.forwarding[0].ipv6 = Ok(false);
        } => [];
    }

    marked_packets_need_a_way_home_in_one_form_only {
        |_, f| f.steering.as_mut().unwrap().retain(|(_, piece)| *piece != Piece::Home) =>
            [("home_missing", "fwmark 0x4e47, IPv4"), ("home_missing", "fwmark 0x4e47, IPv6")];
        // A host without IPv6.
        |_, f| { f.steering.as_mut().unwrap().retain(|(family, _)| *family == Family::V4); f.forwarding[0].ipv6 = Ok(false) } => [];
        |s, f| {
            redirected(s, f);
            f.steering.as_mut().unwrap().retain(|(_, piece)| *piece != Piece::Home);
        } => [];
    }

    rules_without_a_gate_behind_them_are_told {
        |_, f| f.services = Ok(Vec::new()) => [("gate_not_running", "port 15001")];
        |_, f| f.services = Ok(vec![service("0.0.0.0:15001", "nginx")]) => [("gate_not_running", "port 15001")];
    }

    services_are_told_where_the_table_does_not_close_them {
        |_, f| { f.table = Ok(Table::Not(Difference::Missing)); f.services = Ok(vec![service("192.0.2.7:22", "sshd")]) } =>
            [("table_missing", "inet namegate")];
        |_, f| { f.table = Ok(Table::Not(Difference::Missing)); f.services = Ok(vec![service("10.9.0.1:80", "")]) } =>
            [("services_reachable", "br0"), ("table_missing", "inet namegate")];
        |_, f| { f.table = Ok(Table::Not(Difference::Missing)); f.services = Ok(vec![service("0.0.0.0:15353", "namegate")]) } =>
            [("table_missing", "inet namegate")];
        |_, f| { f.table = Err("not root".into()); f.services = Ok(vec![service("0.0.0.0:22", "")]) } =>
            [("not_seen", "ruleset")];
    }

    other_tables_that_drop_input_are_told_unless_they_know_us {
        |_, f| f.chains = Ok(vec![chain("inet", "fw", "input", true, Mention::No)]) => [("input_dropped", "inet fw in")];
        |_, f| f.chains = Ok(vec![chain("ip", "fw", "input", true, Mention::Unclear)]) => [("input_may_drop", "ip fw in")];
        |_, f| f.chains = Ok(vec![chain("inet", "fw", "input", true, Mention::Yes)]) => [];
        |_, f| f.chains = Ok(vec![chain("inet", "fw", "input", false, Mention::No)]) => [];
        |_, f| f.chains = Ok(vec![chain("inet", "fw", "forward", true, Mention::No)]) => [];
        |_, f| f.chains = Ok(vec![chain("bridge", "fw", "input", true, Mention::No)]) => [];
        |_, f| f.chains = Ok(vec![chain("inet", "namegate", "input", true, Mention::No)]) => [];
        |_, f| f.legacy_tables = Ok(true) => [("legacy_tables", "iptables-legacy")];
    }

    a_gate_that_would_ask_itself_or_nobody_is_told {
        |s, f| { s.dns_listen = vec!["10.9.0.1:53".parse().unwrap()]; f.name_servers = Ok(vec!["10.9.0.1".parse().unwrap()]) } =>
            [("resolver_loop", "10.9.0.1:53")];
        |s, f| { s.dns_listen = vec!["0.0.0.0:53".parse().unwrap()]; f.name_servers = Ok(vec!["127.0.0.1".parse().unwrap()]) } =>
            [("resolver_loop", "127.0.0.1:53")];
        |s, _| {
            s.dns_listen = vec!["10.9.0.1:53".parse().unwrap()];
            s.dns.upstreams = vec![Upstream::Udp("10.9.0.1:53".parse().unwrap())];
        } => [("resolver_loop", "10.9.0.1:53")];
        |s, f| { s.dns_listen = vec!["10.9.0.1:53".parse().unwrap()]; f.name_servers = Ok(vec!["127.0.0.53".parse().unwrap()]) } => [];
        |_, f| f.name_servers = Ok(Vec::new()) => [("no_upstream", "system")];
        |_, f| f.name_servers = Err("no".into()) => [("not_seen", "/etc/resolv.conf")];
        |s, f| { s.dns.upstreams = Vec::new(); f.name_servers = Err("no".into()) } => [];
    }

    evidence_that_comes_too_late_is_told {
        |s, _| {
            s.capture.dns = DnsCapture::External(vec!["10.9.0.1:53".parse().unwrap()]);
            s.proxy.hold = Duration::from_millis(500);
            s.on_miss = OnMiss::Deny;
        } => [("hold_too_short", "dnstap.hold")];
        |s, _| {
            s.capture.dns = DnsCapture::External(vec!["10.9.0.1:53".parse().unwrap()]);
            s.proxy.hold = Duration::from_millis(2_500);
            s.on_miss = OnMiss::Deny;
        } => [];
        |s, _| {
            s.capture.dns = DnsCapture::External(vec!["10.9.0.2:53".parse().unwrap()]);
            s.on_miss = OnMiss::Resolve;
        } => [("resolver_elsewhere", "10.9.0.2:53")];
        |s, _| s.on_miss = OnMiss::Resolve => [("on_miss_resolve", "dns.on_miss")];
    }

    observe_mode_is_told_until_it_ends {
        |s, _| s.policy = observing(None, None) => [("observe_mode", "mode")];
        |s, _| s.policy = observing(Some(now() + Duration::from_secs(1)), None) => [("observe_mode", "mode")];
        |s, _| s.policy = observing(Some(now()), None) => [];
        |s, _| s.policy = observing(Some(now()), Some(Mode::Observe)) => [("observe_mode", "rule arguments")];
    }

    a_container_that_can_get_around_the_gate_is_told {
        |_, f| f.containers = with(|_| {}) => [];
        |_, f| f.containers = with(|c| c.posture.privileged = true) => [("container_privileged", "web")];
        |_, f| f.containers = with(|c| c.posture.cap_add = vec!["SYS_ADMIN".into()]) => [("container_privileged", "web")];
        |_, f| f.containers = with(|c| c.posture.cap_add = vec!["ALL".into()]) => [("container_privileged", "web")];
        |_, f| f.containers = with(|c| { c.posture.pid_mode = "host".into(); c.posture.cap_add = vec!["SYS_PTRACE".into()] }) =>
            [("container_privileged", "web")];
        |_, f| f.containers = with(|c| c.posture.pid_mode = "host".into()) => [];
        |_, f| f.containers = with(|c| c.posture.docker_sockets = vec!["/run/docker.sock".into()]) => [("container_docker_socket", "web")];
        |_, f| f.containers = with(|c| c.posture.cap_add = vec!["NET_ADMIN".into()]) => [("container_net_admin", "web")];
        |_, f| f.containers = with(|c| c.posture.cap_drop.clear()) => [("container_net_raw", "web")];
        |_, f| f.containers = with(|c| c.posture.cap_drop = vec!["ALL".into()]) => [];
        |_, f| f.containers = with(|c| { c.posture.cap_drop = vec!["ALL".into()]; c.posture.cap_add = vec!["NET_RAW".into()] }) =>
            [("container_net_raw", "web")];
    }

    a_container_with_another_way_out_is_told {
        |_, f| f.containers = with(|c| c.networks.push(NetworkFacts { name: "back".into(), bridge: Some("br1".into()), internal: false })) =>
            [("container_second_network", "web")];
        |_, f| f.containers = with(|c| c.networks.push(NetworkFacts { name: "back".into(), bridge: None, internal: false })) =>
            [("container_second_network", "web")];
        |_, f| f.containers = with(|c| c.networks.push(NetworkFacts { name: "back".into(), bridge: None, internal: true })) => [];
        |_, f| f.containers = with(|c| c.posture.dns.clear()) => [("container_dns_unset", "web")];
        |_, f| f.containers = with(|c| { c.posture.dns.clear(); c.networks[0].name = "bridge".into() }) => [];
        |_, f| f.containers = with(|c| c.posture.network_mode = "host".into()) => [("container_host_network", "web")];
        // Not captured at all.
        |_, f| f.containers = with(|c| { c.networks[0].bridge = Some("br1".into()); c.posture.privileged = true }) => [];
    }

    containers_that_share_a_network_are_told {
        |_, f| f.containers = Containers::Running(vec![container("web"), sharing("web-id")]) =>
            [("container_shares_network", "sidecar")];
        |_, f| f.containers = Containers::Running(vec![container("web"), sharing("gone")]) => [];
    }

    without_docker_nothing_is_known_of_containers {
        |_, f| f.containers = Containers::NoDocker => [("docker_not_seen", "Docker")];
        |s, f| { s.docker = docker(false); f.containers = Containers::NoDocker } => [("docker_unreachable", "Docker")];
        |_, f| f.containers = Containers::Unreachable { why: "denied".into(), fix: "sudo".into() } => [("docker_not_seen", "Docker")];
    }

    processes_of_this_host_are_looked_at_as_such {
        |s, f| { local(s, f, &["app"]) } => [("set_uid_programs", "capture.local")];
        |s, f| { local(s, f, &[]) } => [];
        |s, f| { local(s, f, &[]); f.services = Ok(Vec::new()) } => [("gate_not_running", "port 15002")];
        |s, f| { local(s, f, &[]); f.chains = Ok(vec![chain("inet", "fw", "input", true, Mention::No)]) } => [];
    }

    names_that_come_by_a_socket_are_a_risk_for_processes_of_this_host {
        |s, f| { local(s, f, &[]); f.lookups = lookups("resolve dns", LookupService::Resolved) } => [("names_by_socket", RESOLVE)];
        // Advice: nothing leads there by itself.
        |s, f| { local(s, f, &[]); f.lookups = lookups("files dns", LookupService::Resolved) } => [("names_by_socket", RESOLVE)];
        |s, f| { local(s, f, &[]); f.lookups = lookups("files dns", LookupService::Nscd) } => [("names_by_socket", "/run/nscd/socket")];
        |s, f| { local(s, f, &[]); f.lookups = Lookups { line: Err("denied".into()), ..lookups("", LookupService::Resolved) } } =>
            [("not_seen", "/etc/nsswitch.conf")];
        |s, f| { local(s, f, &[]); f.lookups.line = Err("denied".into()) } => [];
        |_, f| f.lookups = lookups("resolve dns", LookupService::Resolved) => [];
    }

    what_cannot_be_decided_is_broken {
        |_, f| f.obstacle = Some(("no network egress".into(), "docker network create egress".into())) =>
            [("capture_undecided", "capture")];
    }

    a_label_that_cannot_be_read_is_told_of_its_container_alone {
        |s, f| { s.docker = docker(true); f.containers = labelled("github.com,*.example.org:443") } => [];
        |s, f| { s.docker = docker(true); f.containers = labelled("https://example.com/") } => [("container_label_broken", "web")];
        |s, f| { s.docker = docker(false); f.containers = labelled("https://example.com/") } => [];
    }

    folders_and_disks_are_looked_at {
        |_, f| f.files.audit = audit(Ok(Place::NoFolder)) => [("audit_folder_missing", "/var/log/namegate/audit.jsonl")];
        |_, f| f.files.audit = audit(Ok(folder(true, 1 << 40))) => [];
        |_, f| f.files.audit = audit(Ok(folder(false, 1 << 40))) => [("audit_not_writable", "/var/log/namegate/audit.jsonl")];
        |_, f| { f.looker.root = false; f.files.audit = audit(Ok(folder(false, 1 << 40))) } => [];
        |_, f| f.files.audit = audit(Ok(folder(true, 1 << 20))) => [("audit_disk_full", "/var/log/namegate/audit.jsonl")];
        |_, f| f.files.audit = audit(Err("stuck".into())) => [("not_seen", "/var/log/namegate/audit.jsonl")];
        |_, f| f.files.taps = vec![("/run/namegate/tap.sock".into(), Ok(Place::NoFolder))] =>
            [("tap_folder_missing", "/run/namegate/tap.sock")];
        |_, f| f.files.configuration = Some(("/etc/namegate/namegate.toml".into(), Ok(0o100_664))) =>
            [("configuration_writable", "/etc/namegate/namegate.toml")];
        |_, f| f.files.configuration = Some(("/etc/namegate/namegate.toml".into(), Ok(0o100_644))) => [];
    }

    a_profile_that_keeps_the_resolver_from_the_socket_is_told {
        |s, f| profile(s, f, "/run/other/*.sock rw,") => [("tap_not_in_profile", "/etc/apparmor.d/local/usr.sbin.unbound")];
        |s, f| profile(s, f, "# /run/namegate/tap.sock rw,") => [("tap_not_in_profile", "/etc/apparmor.d/local/usr.sbin.unbound")];
        |s, f| profile(s, f, "  /run/namegate/*.sock rw,") => [];
    }

    limits_are_held_against_what_is_promised {
        |_, f| f.limits.descriptors = Ok(Some(2_511)) => [("descriptors_too_few", "RLIMIT_NOFILE")];
        |_, f| f.limits.descriptors = Ok(Some(2_512)) => [];
        |_, f| f.limits.descriptors = Ok(None) => [];
        |_, f| f.limits.descriptors = Err("no".into()) => [("not_seen", "descriptor limit")];
        |s, f| { redirected(s, f); f.limits.tracked = Ok(Some(1_999)) } => [("conntrack_too_small", "nf_conntrack_max")];
        |s, f| { redirected(s, f); f.limits.tracked = Ok(Some(2_000)) } => [];
        |s, f| { redirected(s, f); f.limits.tracked = Ok(None) } => [];
        |_, f| f.limits.tracked = Ok(Some(1)) => [];
        |_, f| f.limits.local_ports = Ok(Some((15_001, 60_999))) => [("ports_overlap", "port 15001"), ("ports_overlap", "port 15353")];
        |_, f| { f.limits.local_ports = Ok(Some((10_000, 60_999))); f.limits.reserved_ports = "80,15000-15400".into() } => [];
    }

    the_clock_is_looked_at {
        |_, f| f.clock.synchronised = Ok(false) => [("clock_not_synchronised", "clock")];
        |_, f| f.clock.synchronised = Err("filtered".into()) => [("clock_not_seen", "clock")];
        |_, f| f.clock.program_made = Some(now() + Duration::from_secs(1)) => [("clock_behind_program", "clock")];
        |_, f| f.clock.program_made = None => [];
    }

    a_sandbox_that_is_not_to_be_had_is_advice_beside_a_gateway {
        |_, f| f.sandbox.namespaces = Err(("none".into(), "sysctl".into())) => [("exec_unavailable", "namespaces")];
        |_, f| f.sandbox.call_filters = false => [("call_filters_missing", "seccomp")];
        |_, f| f.sandbox.landlock = None => [("landlock_old", "landlock")];
        |_, f| f.sandbox.landlock = Some(5) => [("landlock_old", "landlock")];
    }
}

fn redirected(settings: &mut Settings, facts: &mut Facts) {
    settings.capture.form = FormChoice::Redirect;
    facts.table = Ok(Table::InForce(Form::Redirect));
}

fn chain(family: &str, table: &str, hook: &str, drops: bool, mention: Mention) -> BaseChain {
    BaseChain {
        family: family.to_owned(),
        table: table.to_owned(),
        name: "in".to_owned(),
        kind: "filter".to_owned(),
        hook: hook.to_owned(),
        drops,
        mention,
    }
}

fn observing(until: Option<SystemTime>, rule: Option<Mode>) -> Policy {
    let mut one = (*settings().policy.rules()[0]).clone();
    one.mode = rule;
    Policy::compile(vec![one], Defaults { mode: Mode::Observe, until, ech: crate::gate::Ech::Deny }).unwrap()
}

fn with(change: fn(&mut ContainerFacts)) -> Containers {
    let mut web = container("web");
    change(&mut web);
    Containers::Running(vec![web])
}

/// Nothing but processes of this host is captured.
fn local(settings: &mut Settings, facts: &mut Facts, users: &[&str]) {
    let users = users.iter().map(|&user| user.to_owned()).collect();
    let cgroups = vec!["system.slice/app.service".to_owned()];
    let local =
        LocalSettings { who: LocalWho::These { users, cgroups }, proxy_port: 15_002, dns_port: 15_354 };
    let who = Locals::These { users: vec![1_000], cgroups: Vec::new() };
    settings.capture.interfaces.clear();
    settings.capture.local = Some(local.config(who, 0));
    settings.local = Some(local);
    facts.interfaces = Ok(vec![interface("lo", Kind::Loopback, None, &["127.0.0.1"])]);
    facts.links = Ok(Vec::new());
    facts.forwarding.clear();
    facts.steering = Ok(BTreeSet::new());
    facts.services = Ok(vec![service("127.0.0.1:15002", "namegate")]);
}

const RESOLVE: &str = "/run/systemd/resolve/io.systemd.Resolve";

fn lookups(line: &str, service: LookupService) -> Lookups {
    Lookups { line: Ok(line.to_owned()), services: vec![service] }
}

#[test]
fn only_a_socket_that_programs_are_led_to_is_a_risk() {
    for (line, severity) in [("resolve dns", Severity::Risk), ("files dns", Severity::Advice)] {
        let (mut settings, mut facts) = (settings(), machine());
        local(&mut settings, &mut facts, &[]);
        facts.lookups = lookups(line, LookupService::Resolved);
        let found = diagnose(Some(&settings), &facts);
        assert_eq!(found.iter().map(|one| one.severity).collect::<Vec<_>>(), [severity], "{line}");
    }
}

fn docker(labels: bool) -> Option<DockerSettings> {
    Some(DockerSettings { socket: "/run/docker.sock".into(), networks: Vec::new(), labels, isolate: false })
}

fn labelled(allow: &str) -> Containers {
    let web = ContainerFacts { labels: vec![("namegate.allow".into(), allow.into())], ..container("web") };
    Containers::Running(vec![container("other"), web])
}

fn sharing(other: &str) -> ContainerFacts {
    let mut sidecar = ContainerFacts { networks: Vec::new(), ..container("sidecar") };
    sidecar.posture.network_mode = format!("container:{other}");
    sidecar
}

fn audit(place: Seen<Place>) -> Vec<(std::path::PathBuf, Seen<Place>)> {
    vec![("/var/log/namegate/audit.jsonl".into(), place)]
}

fn folder(writable: bool, free: u64) -> Place {
    Place::Folder { writable, free, room_for_files: true }
}

fn profile(settings: &mut Settings, facts: &mut Facts, line: &str) {
    settings.tap.listen = vec![TapAddress::Unix("/run/namegate/tap.sock".into())];
    facts.files.taps = vec![("/run/namegate/tap.sock".into(), Ok(folder(true, 1 << 40)))];
    facts.files.profiles =
        vec![("/etc/apparmor.d/local/usr.sbin.unbound".into(), format!("profile unbound {{\n{line}\n}}\n"))];
}

#[test]
fn without_a_configuration_only_what_concerns_any_machine_is_told() {
    let mut facts = machine();
    assert_eq!(codes(&diagnose(None, &facts)), [("no_configuration", "/etc/namegate/namegate.toml")]);
    facts.nft = Ok(None);
    facts.table = Err("not asked".into());
    facts.sandbox.namespaces = Err(("none".into(), "sysctl".into()));
    let found = diagnose(None, &facts);
    assert_eq!(
        codes(&found),
        [
            ("exec_unavailable", "namespaces"),
            ("no_configuration", "/etc/namegate/namegate.toml"),
            ("exec_without_nft", "nft")
        ]
    );
    assert_eq!(crate::doctor::exit_code(&found), 1);
}

#[test]
fn the_exit_code_is_that_of_the_worst_finding() {
    let of = |severities: &[Severity]| {
        let finding = |severity: &Severity| {
            let code = Code::ALL.iter().find(|code| code.severity() == *severity).unwrap();
            Finding::new(*code, "x", "x", "x")
        };
        crate::doctor::exit_code(&severities.iter().map(finding).collect::<Vec<_>>())
    };
    use Severity::{Advice, Broken, Leak, Risk, Unseen};
    for (severities, code) in [
        (&[][..], 0),
        (&[Advice], 0),
        (&[Unseen, Advice], 3),
        (&[Risk, Unseen], 1),
        (&[Broken], 1),
        (&[Leak, Broken, Unseen], 1),
    ] {
        assert_eq!(of(severities), code, "{severities:?}");
    }
}

#[test]
fn the_fix_of_a_firewall_is_in_its_own_words() {
    let found = |table: &str, name: &str| {
        let mut facts = machine();
        facts.chains =
            Ok(vec![BaseChain { name: name.into(), ..chain("inet", table, "input", true, Mention::No) }]);
        diagnose(Some(&settings()), &facts)[0].fix.clone()
    };
    assert!(found("firewalld", "filter_INPUT").starts_with("firewall-cmd "));
    assert!(found("filter", "INPUT").contains("ufw allow in on br0"));
    assert!(found("mine", "in").starts_with("nft insert rule inet mine in iifname \"br0\""));
}
