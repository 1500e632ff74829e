//! `namegate doctor` on machines that are in order and on machines that are not, each in namespaces of its own. A fix
//! that is a command is run as it is printed, and then the finding is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use std::net::TcpListener;

use common::dockerd::Dockerd;
use common::far::Far;
use common::namespace::inside;
use common::world::{World, text, within};
use rustix::process::Signal;
use serde_json::Value;

const RULES: &str = r#"
[capture]
interfaces = ["br-egress"]

[proxy]
max_connections = 64

[dns]
upstreams = ["udp://192.0.2.53"]

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "web"
names = ["good.example.com"]
"#;

/// What the doctor found: the exit code, and the findings.
struct Found(i32, Vec<Value>);

impl Found {
    /// Codes of the findings that count, in their order.
    fn codes(&self) -> Vec<&str> {
        let graver = self.1.iter().filter(|finding| finding["severity"] != "advice");
        graver.map(|finding| finding["code"].as_str().unwrap()).collect()
    }

    fn of(&self, code: &str) -> &Value {
        self.1
            .iter()
            .find(|finding| finding["code"] == code)
            .unwrap_or_else(|| panic!("no {code} in {:#?}", self.1))
    }

    /// The command that a fix begins with.
    fn command(&self, code: &str) -> String {
        self.of(code)["fix"].as_str().unwrap().split(", then").next().unwrap().to_owned()
    }
}

/// Runs the doctor in the gateway's namespace, by way of other programs if any are named.
fn doctor_by(world: &World, way: &str, configuration: &str) -> Found {
    let file = world.path("doctor.toml");
    let configuration = configuration.replace("@DIR@", &world.dir.path().display().to_string());
    std::fs::write(&file, configuration).unwrap();
    let line = format!("{way} {} doctor --json --config {}", env!("CARGO_BIN_EXE_namegate"), file.display());
    let out = world.run("gw", &line);
    let said = text(&out.stdout);
    let findings = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{}", text(&out.stderr)));
    Found(out.status.code().unwrap(), findings)
}

fn doctor(world: &World, configuration: &str) -> Found {
    doctor_by(world, "", configuration)
}

#[test]
fn a_gateway_that_runs_as_configured_is_in_order() {
    if !inside("a_gateway_that_runs_as_configured_is_in_order") {
        return;
    }
    let mut world = World::new();
    world.gateway("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    world.start_gate(RULES);
    let found = doctor(&world, RULES);
    assert_eq!(found.codes(), [""; 0], "{:#?}", found.1);
    assert_eq!(found.0, 0);
    // The same, where the gate took the other form.
    let tproxy = RULES.replace("[capture]", "[capture]\nform = \"tproxy\"");
    let found = doctor(&world, &tproxy);
    assert_eq!(found.codes(), ["tproxy_on_bridge", "table_differs"], "{:#?}", found.1);
    assert_eq!((found.0, found.of("tproxy_on_bridge")["severity"].as_str()), (1, Some("broken")));
    world.gateway(found.command("tproxy_on_bridge").split('`').nth(1).unwrap());
    assert_eq!(doctor(&world, &tproxy).codes(), ["table_differs"]);
}

#[test]
fn what_changes_around_transparent_sockets_is_found() {
    if !inside("what_changes_around_transparent_sockets_is_found") {
        return;
    }
    let mut world = World::new();
    world.without_bridge_netfilter();
    let gate = world.start_gate(RULES);
    let found = doctor(&world, RULES);
    assert_eq!((found.0, found.codes()), (0, vec![]), "{:#?}", found.1);
    // Neighbours on the bridge reach each other, until the fix.
    assert_eq!(found.of("ports_not_isolated")["severity"], "advice");
    world.gateway(&found.command("ports_not_isolated"));
    assert!(doctor(&world, RULES).1.iter().all(|finding| finding["code"] != "ports_not_isolated"));

    // What dockerd does when it starts.
    world.gateway("sysctl -qw net.bridge.bridge-nf-call-iptables=1");
    assert_eq!(doctor(&world, RULES).codes(), ["tproxy_on_bridge"]);
    world.without_bridge_netfilter();

    world.end(gate.pid, Signal::KILL);
    world.gateway("ip rule del fwmark 0x4e47; ip -6 route flush table 231");
    let astray = doctor(&world, RULES);
    assert_eq!(astray.codes(), ["home_missing", "home_missing", "gate_not_running"], "{:#?}", astray.1);
    for finding in &astray.1[..2] {
        world.gateway(finding["fix"].as_str().unwrap());
    }
    assert_eq!(doctor(&world, RULES).codes(), ["gate_not_running"]);
}

#[test]
fn a_host_that_routes_without_table_and_fence_leaks_and_the_fix_stops_it() {
    if !inside("a_host_that_routes_without_table_and_fence_leaks_and_the_fix_stops_it") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    world.gateway("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let gate = world.start_gate(RULES);
    world.end(gate.pid, Signal::KILL);
    assert_eq!(doctor(&world, RULES).codes(), ["gate_not_running"]);
    world.gateway("nft delete table inet namegate");
    let fenced = doctor(&world, RULES);
    assert_eq!(fenced.codes(), ["table_missing"], "{:#?}", fenced.1);
    let reaches = |world: &World| world.curl("c1", "-m 3 http://203.0.113.10/").greeted();
    assert!(!reaches(&world), "the fence stands");

    world.gateway("ip rule del iif br-egress prohibit; ip -6 rule del iif br-egress prohibit");
    let open = doctor(&world, RULES);
    assert_eq!(
        open.codes(),
        ["forwarding_unfenced", "forwarding_unfenced", "table_missing"],
        "{:#?}",
        open.1
    );
    assert_eq!((open.0, open.of("forwarding_unfenced")["severity"].as_str()), (1, Some("leak")));
    assert!(reaches(&world), "it is a leak");
    for finding in &open.1[..2] {
        world.gateway(finding["fix"].as_str().unwrap().split(", then").next().unwrap());
    }
    assert_eq!(doctor(&world, RULES).codes(), ["table_missing"]);
    assert!(!reaches(&world), "the fix stops it");
}

#[test]
fn a_firewall_that_takes_redirected_packets_is_found_and_the_fix_lets_them_in() {
    if !inside("a_firewall_that_takes_redirected_packets_is_found_and_the_fix_lets_them_in") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    world.start_gate(RULES);
    world.gateway(
        "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 10; policy drop; };
         add rule inet fw in ct state established,related accept; add rule inet fw in iifname lo accept'",
    );
    let found = doctor(&world, RULES);
    assert_eq!((found.0, found.codes()), (1, vec!["input_dropped"]), "{:#?}", found.1);
    let passes = |world: &World| world.curl("c1", "-m 3 -4 http://good.example.com/").greeted();
    assert!(!passes(&world), "it drops");
    world.gateway(&format!("nft '{}'", found.command("input_dropped").strip_prefix("nft ").unwrap()));
    let cured = doctor(&world, RULES);
    assert_eq!((cured.0, cured.codes()), (0, vec![]), "{:#?}", cured.1);
    assert!(passes(&world), "the fix lets them in");
}

#[test]
fn services_limits_folders_and_missing_rights_are_found() {
    if !inside("services_limits_folders_and_missing_rights_are_found") {
        return;
    }
    let world = World::new();
    let _service = within("gw", || TcpListener::bind("0.0.0.0:8080").unwrap());
    let found = doctor(&world, RULES);
    assert_eq!(found.codes(), ["services_reachable", "table_missing"], "{:#?}", found.1);
    assert!(found.of("services_reachable")["what"].as_str().unwrap().contains("8080/tcp"));

    let missing = RULES.replace("br-egress", "br-nowhere").replace("@DIR@", "@DIR@/nowhere");
    let found = doctor(&world, &missing);
    assert_eq!(
        found.codes(),
        ["interface_missing", "table_missing", "audit_folder_missing"],
        "{:#?}",
        found.1
    );
    world.gateway(&found.command("audit_folder_missing"));
    assert_eq!(doctor(&world, &missing).codes(), ["interface_missing", "table_missing"]);

    let found = doctor_by(&world, "prlimit --nofile=256:256", RULES);
    assert!(found.codes().contains(&"descriptors_too_few"), "{:#?}", found.1);
    assert!(found.of("descriptors_too_few")["fix"].as_str().unwrap().contains("LimitNOFILE=640"));

    let found = doctor_by(&world, "setpriv --bounding-set=-net_admin --inh-caps=-all", RULES);
    assert_eq!(found.codes(), ["no_net_admin", "not_seen"], "{:#?}", found.1);
    assert_eq!(found.of("not_seen")["subject"], "ruleset");
}

#[test]
fn a_machine_without_a_configuration_is_looked_at_and_a_faulty_one_is_a_matter_of_usage() {
    if !inside("a_machine_without_a_configuration_is_looked_at_and_a_faulty_one_is_a_matter_of_usage") {
        return;
    }
    let world = World::new();
    let program = env!("CARGO_BIN_EXE_namegate");
    let out = world.run("gw", &format!("{program} doctor"));
    let said = text(&out.stdout);
    if !std::path::Path::new("/etc/namegate/namegate.toml").exists() {
        assert!(said.contains("ADVICE  no_configuration  /etc/namegate/namegate.toml"), "{said}");
    }
    assert!(matches!(out.status.code(), Some(0 | 1)), "{said}");
    for configuration in ["interfaces = 1", ""] {
        std::fs::write(world.path("bad.toml"), configuration).unwrap();
        let out = world.run("gw", &format!("{program} doctor --config {}", world.path("bad.toml").display()));
        assert_eq!((out.status.code(), text(&out.stdout)), (Some(2), String::new()));
    }
    let out = world.run("gw", &format!("{program} doctor --config {}", world.path("none.toml").display()));
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn the_door_of_this_hosts_own_processes_is_in_order_or_told() {
    if !inside("the_door_of_this_hosts_own_processes_is_in_order_or_told") {
        return;
    }
    let mut world = World::new();
    let local = RULES.replace("interfaces = [\"br-egress\"]", "local = { users = [\"65534\"] }");
    let gate = world.start_gate(&local);
    let found = doctor(&world, &local);
    assert_eq!((found.0, found.codes()), (0, vec![]), "{:#?}", found.1);
    assert_eq!(found.of("set_uid_programs")["severity"], "advice");
    // Names that come another way than port 53, until the line that is told is written.
    let lines = |hosts: &str| {
        world.gateway(&format!(
            "mkdir -p /run/systemd/resolve; touch /run/systemd/resolve/io.systemd.Resolve
             echo 'hosts: {hosts}' > {line}; mount --bind {line} /etc/nsswitch.conf",
            line = world.path("nsswitch.conf").display()
        ));
        doctor(&world, &local)
    };
    let found = lines("files resolve [!UNAVAIL=return] dns");
    assert_eq!((found.0, found.codes()), (1, vec!["names_by_socket"]), "{:#?}", found.1);
    assert!(found.command("names_by_socket").starts_with("write `hosts: files dns`"), "{:#?}", found.1);
    assert_eq!(lines("files dns").of("names_by_socket")["severity"], "advice");
    let nobody = local.replace("65534", "nobody-of-this-name");
    assert_eq!(doctor(&world, &nobody).codes()[0], "capture_undecided");
    world.end(gate.pid, Signal::KILL);
    assert_eq!(doctor(&world, &local).codes(), ["gate_not_running"]);
    world.gateway("nft delete table inet namegate");
    assert_eq!(doctor(&world, &local).codes(), ["table_missing"]);
}

#[test]
fn two_looks_leave_everything_as_it_was() {
    if !inside("two_looks_leave_everything_as_it_was") {
        return;
    }
    let mut world = World::new();
    world.start_gate(RULES);
    let state = |world: &World| {
        world.gateway(
            "nft -s list ruleset; ip rule; ip -6 rule; ip route show table all; ip -brief link;
             sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.bridge",
        )
    };
    let before = state(&world);
    let (one, other) = (doctor(&world, RULES), doctor(&world, RULES));
    assert_eq!(one.1, other.1);
    assert_eq!(state(&world), before);
}

#[test]
fn containers_that_can_get_around_the_gate_are_found() {
    let test = "containers_that_can_get_around_the_gate_are_found";
    let Some(docker) = Dockerd::start(test) else { return };
    docker.docker("network create --subnet 10.91.0.0/24 -o com.docker.network.bridge.name=br-egress egress");
    docker.docker("network create --subnet 10.92.0.0/24 back");
    docker.docker("network create --subnet 10.93.0.0/24 --internal inside");
    let sound = "--cap-drop NET_RAW --dns 10.91.0.1 --network egress";
    docker.run(&format!("{sound} --name sound"));
    docker.docker("network connect inside sound");
    docker.run("--network egress --name plain");
    docker.run(&format!("{sound} --name owner --cap-add SYS_ADMIN"));
    docker.run(&format!("{sound} --name admin --cap-add NET_ADMIN"));
    docker.run(&format!("{sound} --name starter -v {}:/var/run/docker.sock:ro", docker.socket().display()));
    docker.run(&format!("{sound} --name between"));
    docker.docker("network connect back between");
    docker.run("--cap-drop NET_RAW --network container:sound --name sharer");
    docker.run("--network host --name outside");
    docker.run("--network back --cap-add SYS_ADMIN --name elsewhere");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("namegate.toml");
    std::fs::write(&file, RULES.replace("@DIR@", &folder.path().display().to_string())).unwrap();
    let look = |socket: String| {
        let out = std::process::Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", docker.netns()))
            .args([env!("CARGO_BIN_EXE_namegate"), "doctor", "--json", "--config"])
            .arg(&file)
            .env("DOCKER_HOST", format!("unix://{socket}"))
            .output()
            .unwrap();
        let findings =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", text(&out.stderr)));
        Found(out.status.code().unwrap(), findings)
    };
    let found = look(docker.socket().display().to_string());
    let of_containers: Vec<(&str, &str)> = found
        .1
        .iter()
        .map(|finding| (finding["code"].as_str().unwrap(), finding["subject"].as_str().unwrap()))
        .filter(|(code, _)| code.starts_with("container_") || code.starts_with("docker_"))
        .collect();
    assert_eq!(
        of_containers,
        [
            ("container_privileged", "owner"),
            ("container_docker_socket", "starter"),
            ("container_second_network", "between"),
            ("container_dns_unset", "plain"),
            ("container_net_raw", "plain"),
            ("container_net_admin", "admin"),
            ("container_shares_network", "sharer"),
            ("container_host_network", "outside"),
        ],
        "{:#?}",
        found.1
    );
    assert!(found.of("container_dns_unset")["fix"].as_str().unwrap().contains("--dns 10.91.0.1"));
    // Docker switches forwarding on, and no gate runs here.
    assert_eq!(found.of("forwarding_unfenced")["subject"], "br-egress, IPv4");
    assert!(found.1.iter().all(|finding| finding["subject"] != "elsewhere"), "not captured, not judged");
    assert_eq!(found.of("bridge_not_captured")["severity"], "advice");
    docker.docker("network disconnect back between");
    let cured = look(docker.socket().display().to_string());
    assert!(cured.1.iter().all(|finding| finding["code"] != "container_second_network"));

    let none = look(folder.path().join("nowhere.sock").display().to_string());
    assert_eq!(none.of("docker_not_seen")["severity"], "advice");

    // The same by the network's name; the socket is that of the configuration then.
    let by_name = RULES.replace("interfaces = [\"br-egress\"]", "docker_networks = [\"egress\"]");
    let by_name = by_name.replace("@DIR@", &folder.path().display().to_string());
    let socket = docker.socket().display().to_string();
    let with_socket = |socket: &str| format!("{by_name}\n[docker]\nlabels = true\nsocket = \"{socket}\"\n");
    docker.run(&format!("{sound} --name labelled --label namegate.allow=github.com"));
    docker.run(&format!("{sound} --name broken --label namegate.allow=https://example.com/"));
    std::fs::write(&file, with_socket(&socket)).unwrap();
    let named = look("/nowhere".to_owned());
    assert_eq!(named.of("container_label_broken")["subject"], "broken");
    assert_eq!(named.of("forwarding_unfenced")["subject"], "br-egress, IPv4");
    std::fs::write(&file, with_socket(&socket).replace("\"egress\"", "\"gone\"")).unwrap();
    let gone = look("/nowhere".to_owned());
    assert_eq!((gone.0, gone.of("capture_undecided")["severity"].as_str()), (1, Some("broken")));
    std::fs::write(&file, with_socket("/nowhere")).unwrap();
    assert_eq!(look(socket).of("docker_unreachable")["severity"], "broken");
}
