//! The host door as a whole: processes of users and control groups of one host, the real daemon beside them, real
//! servers on the far side. One test per promise, as the machine's root, in namespaces of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::far::Far;
use common::namespace::as_root;
use common::world::{Curl, Gate, World, sh, text, wait_until};
use rustix::process::Signal;

/// Of two users. The gate is root.
const RULES: &str = r#"
[capture]
local = { users = ["1000", "1001"] }

[proxy]
sniff_timeout = "1500ms"

[dns]
upstreams = ["udp://192.0.2.53"]

[audit]
to = ["@DIR@/audit.jsonl"]

[[rule]]
id = "web"
names = ["good.example.com"]
ports = [80, 443]

[[rule]]
id = "one"
names = ["also.example.com"]
clients = ["user:1001"]
"#;

fn world() -> (World, Far) {
    let world = World::new();
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).expect("readable for all users");
    world.gateway("ip route add default via 192.0.2.2");
    let far = Far::start(&world);
    (world, far)
}

/// Runs curl on the host itself as a user.
fn curl(world: &World, uid: u32, args: &str) -> Curl {
    let line = format!(
        "setpriv --reuid={uid} --regid={uid} --clear-groups curl -sS --max-time 8 --cacert {}/ca.pem \
         -w '\\n%{{http_code}} %{{remote_ip}}' {args}",
        world.dir.path().display()
    );
    let out = world.run("gw", &line);
    Curl { status: out.status.code().unwrap_or(-1), out: text(&out.stdout), err: text(&out.stderr) }
}

/// Runs curl, and asserts that it failed with this reason and nothing else was decided.
fn refused(world: &World, gate: &Gate, uid: u32, args: &str, reason: &str) {
    let seen = gate.events("decision").len();
    let curl = curl(world, uid, args);
    assert!(!curl.greeted(), "{args}: {curl:?}");
    assert_eq!(gate.decision_after(seen)["event"]["reason"], reason, "{args}");
}

#[test]
fn a_users_processes_reach_what_they_may_and_the_log_says_which_process_it_was() {
    if !as_root("a_users_processes_reach_what_they_may_and_the_log_says_which_process_it_was") {
        return;
    }
    let (mut world, far) = world();
    let gate = world.start_gate(RULES);
    for family in ["-4", "-6"] {
        let seen = gate.events("decision").len();
        let curl = curl(&world, 1000, &format!("{family} https://good.example.com/"));
        assert!(curl.greeted(), "{curl:?}");
        let decision = gate.decision_after(seen);
        assert_eq!(decision["event"]["reason"], "allowed", "{decision}");
        assert_eq!(decision["user"]["id"], "1000", "{decision}");
        let program = decision["process"]["executable"].as_str().unwrap_or("");
        assert!(program.ends_with("/curl") && decision["process"]["pid"].is_u64(), "{decision}");
        assert_eq!(decision["namegate"]["evidence"]["source"], "forwarder", "{decision}");
    }
    let no = |uid, args: &str, reason: &str| refused(&world, &gate, uid, args, reason);
    let fixed = "--resolve good.example.com:443:203.0.113.66 https://good.example.com/";
    no(1000, fixed, "address_not_observed");
    no(1000, "--resolve evil.test:443:203.0.113.66 https://evil.test/", "name_not_allowed");
    no(1000, "-k https://203.0.113.10/", "nameless");
    // What one user resolved opens nothing for another, and a rule for one is not for the other.
    let known = "--resolve good.example.com:443:203.0.113.10 https://good.example.com/";
    no(1001, known, "address_not_observed");
    no(1000, "--resolve also.example.com:443:203.0.113.11 https://also.example.com/", "name_not_allowed");
    assert!(curl(&world, 1001, "-4 https://also.example.com/").greeted());
    assert!(!curl(&world, 1000, "https://nowhere.test/").greeted());
    assert!(!far.was_asked("nowhere.test"), "a denied name reached the upstream");
    // Over UDP and TCP, whomever it asks.
    for server in ["198.51.100.53", "127.0.0.53", "2001:db8::53"] {
        for transport in ["+notcp", "+tcp"] {
            let line = format!(
                "setpriv --reuid=1001 --regid=1001 --clear-groups dig +short +tries=1 {transport} @{server} \
                 also.example.com A"
            );
            let out = world.run("gw", &line);
            assert!(text(&out.stdout).contains("203.0.113."), "{transport} {server}: {out:?}");
        }
    }
    let asked = gate.events("dns");
    let of = |uid: &str| asked.iter().filter(|event| event["user"]["id"] == uid).count();
    assert!(of("1000") > 0 && of("1001") >= 6, "{asked:?}");
    // Others go their way.
    let before = gate.events("decision").len();
    assert!(curl(&world, 2000, "-k --resolve evil.test:443:203.0.113.66 https://evil.test/").greeted());
    assert_eq!(gate.events("decision").len(), before);
}

#[test]
fn in_a_sidecar_everybody_but_the_gate_is_captured() {
    if !as_root("in_a_sidecar_everybody_but_the_gate_is_captured") {
        return;
    }
    let (mut world, far) = world();
    let rules = RULES.replace("{ users = [\"1000\", \"1001\"] }", "\"all\"");
    let gate = world.start_gate(&rules);
    for uid in [1000, 2000] {
        assert!(curl(&world, uid, "https://good.example.com/").greeted(), "{uid}");
        refused(
            &world,
            &gate,
            uid,
            "-k --resolve evil.test:443:203.0.113.66 https://evil.test/",
            "name_not_allowed",
        );
    }
    assert_eq!(far.connections("203.0.113.66:443"), 0);
    world.end(gate.pid, Signal::KILL);
    let after = far.all_connections();
    assert!(!curl(&world, 2000, "-k https://203.0.113.10/").greeted(), "closed without a gate");
    assert_eq!(far.all_connections(), after);
    let out = world.run("gw", &format!("{} down", env!("CARGO_BIN_EXE_namegate")));
    assert!(text(&out.stdout).contains("table inet namegate"), "{out:?}");
    assert!(curl(&world, 2000, "-k https://203.0.113.10/").greeted(), "open again");
}

/// A control group of this test alone, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 file system");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("time").as_nanos();
        let root = PathBuf::from(line.split(' ').nth(4).expect("mount point"));
        let folder = Self(root.join(format!("namegate-door-{now}")));
        fs::create_dir(&folder.0).expect("a control group");
        folder
    }

    fn name(&self) -> String {
        self.0.file_name().expect("name").to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn a_service_that_comes_after_the_gate_and_is_restarted_in_new_control_groups_is_never_open() {
    if !as_root("a_service_that_comes_after_the_gate_and_is_restarted_in_new_control_groups_is_never_open") {
        return;
    }
    let (mut world, far) = world();
    let group = Folder::make();
    let rules = RULES.replace("users = [\"1000\", \"1001\"]", &format!("cgroups = [\"{}\"]", group.name()));
    fs::remove_dir(&group.0).expect("not there yet");
    let gate = world.start_gate(&rules);
    let told =
        |what: &str| gate.events("ruleset").iter().filter(|line| format!("{line}").contains(what)).count();
    wait_until("the log tells of it", Duration::from_secs(3), || told("cgroup_absent") == 1);
    fs::create_dir(&group.0).expect("a control group");
    let within = |line: &str| {
        let enter = format!("echo $$ > {}/cgroup.procs && exec {line}", group.0.display());
        world.run("gw", &enter)
    };
    let evil = "curl -sk --max-time 5 --resolve evil.test:443:203.0.113.66 https://evil.test/";
    within(evil);
    assert_eq!(gate.decision_after(0)["event"]["reason"], "name_not_allowed");
    assert_eq!(far.connections("203.0.113.66:443"), 0);
    for round in 1..=5 {
        // The moment between its end and the next one's is not waited for.
        wait_until("the group is empty", Duration::from_secs(3), || fs::remove_dir(&group.0).is_ok());
        fs::create_dir(&group.0).expect("a control group");
        let began = Instant::now();
        within(evil);
        println!("round {round}: decided after {:?}", began.elapsed());
        assert_eq!(far.connections("203.0.113.66:443"), 0, "round {round}");
    }
    wait_until("the log tells of it", Duration::from_secs(3), || told("cgroup_anew") == 6);
}

#[test]
fn a_start_that_cannot_work_says_why_and_captures_nobody() {
    if !as_root("a_start_that_cannot_work_says_why_and_captures_nobody") {
        return;
    }
    let (world, _far) = world();
    let start = |local: &str, upstreams: &str| {
        let file = world.path("bad.toml");
        let rules = RULES
            .replace("{ users = [\"1000\", \"1001\"] }", local)
            .replace("udp://192.0.2.53", upstreams)
            .replace("@DIR@", &world.dir.path().display().to_string());
        fs::write(&file, rules).expect("written");
        let binary = env!("CARGO_BIN_EXE_namegate");
        let out = world.run("gw", &format!("timeout 5 {binary} serve --config {}", file.display()));
        assert!(!world.gateway("nft list tables").contains("namegate"), "something was installed: {local}");
        (out.status.code().unwrap_or(-1), text(&out.stderr))
    };
    let (code, said) = start("{ users = [\"no-such-user\"] }", "udp://192.0.2.53");
    assert!(code == 3 && said.contains("no user no-such-user") && said.contains("useradd"), "{code} {said}");
    let (code, said) = start("{ users = [\"root\"] }", "udp://192.0.2.53");
    assert!(code == 2 && said.contains("runs the gate") && said.contains("user of its own"), "{code} {said}");
    let (code, said) = start("{ cgroups = [\"cgroup.procs\"] }", "udp://192.0.2.53");
    assert!(code == 3 && said.contains("cgroup.procs is no control group"), "{code} {said}");
    world.set_name_server("127.0.0.53");
    let (code, said) = start("\"all\"", "system");
    assert!(code == 3 && said.contains("127.0.0.53") && said.contains("upstreams"), "{code} {said}");
    let (code, said) = start("\"everybody\"", "udp://192.0.2.53");
    assert!(code == 2 && said.contains("unknown value of `local`"), "{code} {said}");
    let (code, said) = start("{ users = [] }", "udp://192.0.2.53");
    assert!(code == 2 && said.contains("captures nobody"), "{code} {said}");
}

#[test]
fn without_the_table_a_captured_user_is_open_until_the_gate_puts_it_back() {
    if !as_root("without_the_table_a_captured_user_is_open_until_the_gate_puts_it_back") {
        return;
    }
    let (mut world, far) = world();
    let gate = world.start_gate(RULES);
    let flood = "while :; do curl -sk -o /dev/null --max-time 1 --resolve evil.test:443:203.0.113.66 https://evil.test/; done";
    let flood = format!("setpriv --reuid=1000 --regid=1000 --clear-groups sh -c '{flood}'");
    world.spawn("gw", "flood", "sh", &["-c", &flood]);
    wait_until("the flood is refused", Duration::from_secs(5), || gate.events("decision").len() > 5);
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let seen = gate.events("ruleset").len();
        let began = Instant::now();
        world.gateway("nft flush ruleset");
        wait_until("the table is back", Duration::from_secs(1), || {
            world.gateway("nft list tables").contains("inet namegate")
        });
        slowest = slowest.max(began.elapsed());
        wait_until("the log tells of it", Duration::from_secs(3), || {
            gate.events("ruleset").len() >= seen + 2
        });
        sh("sleep 0.4");
    }
    // No rule of routing can stand in for the table here; a connection that slips through is cut when it is back.
    println!(
        "the table was back within {slowest:?}; {} connections were open",
        far.connections("203.0.113.66:443")
    );
    let open = far.connections("203.0.113.66:443");
    sh("sleep 1");
    assert_eq!(far.connections("203.0.113.66:443"), open, "closed again");
}
