//! What operators run it with: the real daemon beside a service manager, and asked how it is over its admin socket.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may panic and print"
)]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Output;
use std::time::{Duration, Instant};

use common::far::Far;
use common::namespace::{at, inside};
use common::world::{GATEWAY, World, text, wait_until};
use rustix::process::Signal;

const GATE: &str = env!("CARGO_BIN_EXE_namegate");

/// The service manager's end of the notification socket.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.path("notify.sock")).unwrap();
        Self { socket }
    }

    /// The next message, as lines; `None`: there is none for so long.
    fn next(&self, within: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut bytes = [0; 4_096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(text(&bytes[..length]).lines().map(str::to_owned).collect())
    }

    /// Waits for a message with this line, and returns it.
    fn hears(&self, line: &str) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(20);
        let mut before = Vec::new();
        while Instant::now() < end {
            let Some(message) = self.next(Duration::from_secs(1)) else { continue };
            if message.iter().any(|seen| seen == line) {
                return message;
            }
            before.push(message);
        }
        panic!("no {line}; heard {before:?}");
    }

    /// Takes what was said so far.
    fn forget(&self) {
        while self.next(Duration::from_millis(1)).is_some() {}
    }
}

fn rules(more: &str) -> String {
    format!(
        "[capture]\ninterfaces = [\"br-egress\"]\n[dns]\nupstreams = [\"192.0.2.53\"]\n[proxy]\ndrain = \"1s\"\n{more}\n\
         [[rule]]\nid = \"fe\"\nnames = [\"*.fe.test\"]\n"
    )
}

const AUDIT: &str = "[audit]\nto = [\"@DIR@/audit.jsonl\"]";
const ADMIN: &str = "[audit]\nto = [\"@DIR@/audit.jsonl\"]\n[admin]\nlisten = \"unix:@DIR@/admin.sock\"";

/// Starts the gate as a service manager does, by way of `before`; its watchdog barks after 900 ms.
fn start(world: &mut World, before: &[&str], configuration: &str) -> (u32, Manager) {
    let manager = Manager::new(world);
    let file = world.path("namegate.toml");
    fs::write(&file, configuration.replace("@DIR@", &world.dir.path().display().to_string())).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", world.path("notify.sock").display());
    let file = file.display().to_string();
    let service = [&notify, "WATCHDOG_USEC=900000", GATE, "serve", "--config", &file];
    let words: Vec<&str> = before.iter().copied().chain(["env"]).chain(service).collect();
    let pid = world.spawn("gw", "gate", words[0], &words[1..]);
    (pid, manager)
}

fn signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn status(world: &World, args: &str) -> Output {
    world.run("gw", &format!("{GATE} status --socket {} {args}", world.path("admin.sock").display()))
}

#[test]
fn a_service_manager_hears_of_the_beginning_of_reloads_and_of_the_end() {
    if !inside("a_service_manager_hears_of_the_beginning_of_reloads_and_of_the_end") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    let (pid, manager) = start(&mut world, &[], &rules(AUDIT));
    let ready = manager.hears("READY=1");
    assert!(ready.contains(&"STATUS=enforcing, rules: 1".to_owned()), "{ready:?}");
    // Ready is ready: captured, and serving.
    world.gateway("nft list table inet namegate");
    assert!(world.curl("c1", "-4 https://a.fe.test/").greeted());
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");

    signal(pid, Signal::HUP);
    let reloading = manager.hears("RELOADING=1");
    let since = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("an instant");
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
    let said = since.parse::<i64>().unwrap() / 1_000_000;
    assert!((now - 20..=now).contains(&said), "{said} is not now, {now}");
    manager.hears("READY=1");
    // Also when the new rules are no good: the old ones are in force.
    fs::write(world.path("namegate.toml"), "zebra = 1\n").unwrap();
    signal(pid, Signal::HUP);
    manager.hears("RELOADING=1");
    let ready = manager.hears("READY=1");
    let refused = "STATUS=enforcing, rules: 1; the last reload was refused".to_owned();
    assert!(ready.contains(&refused), "{ready:?}");

    world.end(pid, Signal::TERM);
    let stopping = manager.hears("STOPPING=1");
    assert!(stopping.contains(&"EXTEND_TIMEOUT_USEC=4000000".to_owned()), "{stopping:?}");
    // What it stands for stays.
    world.gateway("nft list table inet namegate");
}

#[test]
fn a_gate_that_is_hung_gives_no_sign_of_life_and_no_status() {
    if !inside("a_gate_that_is_hung_gives_no_sign_of_life_and_no_status") {
        return;
    }
    let mut world = World::new();
    let (pid, manager) = start(&mut world, &[], &rules(ADMIN));
    manager.hears("WATCHDOG=1");
    signal(pid, Signal::STOP);
    std::thread::sleep(Duration::from_millis(100));
    manager.forget();
    assert_eq!(manager.next(Duration::from_millis(1_500)), None);
    let begun = Instant::now();
    let mute = status(&world, "");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(mute.status.code(), Some(1));
    assert!(text(&mute.stderr).contains("does not answer within 3 s"), "{}", text(&mute.stderr));
    signal(pid, Signal::CONT);
    manager.hears("WATCHDOG=1");
    assert_eq!(status(&world, "").status.code(), Some(0));
}

#[test]
fn a_gate_that_nothing_can_pass_for_its_log_gives_no_sign_of_life_and_says_why() {
    if !inside("a_gate_that_nothing_can_pass_for_its_log_gives_no_sign_of_life_and_says_why") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    let pipe = world.path("audit.pipe");
    world.gateway(&format!("mkfifo {}", pipe.display()));
    // Somebody has it open and does not read.
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let audit = "[audit]\nto = [\"-\"]\nqueue = 16\n[admin]\nlisten = \"@DIR@/admin.sock\"";
    let into_it = format!("exec \"$@\" > {}", pipe.display());
    let (_, manager) = start(&mut world, &["sh", "-c", &into_it, "sh"], &rules(audit));
    manager.hears("WATCHDOG=1");
    at("c1", || {
        let socket = UdpSocket::bind("10.77.0.2:0").unwrap();
        for id in 0..600_u16 {
            let mut question = id.to_be_bytes().to_vec();
            question.extend(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05other\x04test\x00\x00\x01\x00\x01");
            socket.send_to(&question, (GATEWAY, 53)).unwrap();
        }
    });
    wait_until("the gate says that it is stuck", Duration::from_secs(20), || {
        text(&status(&world, "").stderr).contains("not healthy: the audit log takes no line")
    });
    assert_eq!(status(&world, "").status.code(), Some(1));
    manager.forget();
    assert_eq!(manager.next(Duration::from_secs(2)), None);
    // Somebody reads at last.
    std::thread::spawn(move || {
        let mut bytes = [0; 65_536];
        while reader.read(&mut bytes).is_ok_and(|length| length > 0) {}
    });
    manager.hears("WATCHDOG=1");
    wait_until("the gate is well again", Duration::from_secs(10), || {
        status(&world, "").status.code() == Some(0)
    });
}

#[test]
fn a_gate_tells_how_it_is_to_those_who_may_ask() {
    if !inside("a_gate_tells_how_it_is_to_those_who_may_ask") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    let gate = world.start_gate(&rules(ADMIN));
    assert!(world.curl("c1", "-4 https://a.fe.test/").greeted());
    assert!(!world.curl("c1", "--resolve b.fe.test:443:203.0.113.66 https://b.fe.test/").greeted());
    wait_until("both are counted", Duration::from_secs(5), || {
        let told: serde_json::Value = serde_json::from_slice(&status(&world, "--json").stdout).unwrap();
        told["flows"] == serde_json::json!({ "open": 0, "allowed": 1, "denied": 1 })
            && told["capture"]["ruleset"] == "intact"
            && told["leases"].as_u64() > Some(0)
    });
    let file = world.path("namegate.toml").display().to_string();
    let said = world.run("gw", &format!("{GATE} status --config {file}"));
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    let said = text(&said.stdout);
    assert!(said.contains("healthy") && said.contains("br-egress; "), "{said}");
    // A file that became faulty since is no reason not to ask.
    let text_before = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text_before}zebra = 1\n")).unwrap();
    signal(gate.pid, Signal::HUP);
    wait_until("the refused reload is told", Duration::from_secs(5), || {
        let said = world.run("gw", &format!("{GATE} status --config {file}"));
        said.status.code() == Some(0) && text(&said.stdout).contains("warning    the last reload was refused")
    });

    let curl = |path: &str| {
        let socket = world.path("admin.sock").display().to_string();
        text(&world.run("gw", &format!("curl -s --unix-socket {socket} http://localhost{path}")).stdout)
    };
    assert_eq!(curl("/healthz"), "ok\n");
    let seen = curl("/metrics");
    for line in [
        "namegate_flows_total{verdict=\"allowed\",reason=\"allowed\"} 1",
        "namegate_flows_total{verdict=\"denied\",reason=\"address_not_observed\"} 1",
        "namegate_policy_loads_total{outcome=\"refused\"} 1",
        "namegate_ruleset_alarms_total 0",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line}\n{seen}");
    }
    // Whoever has no right to the socket is told that, and nothing else.
    world.gateway(&format!("chmod 000 {}", world.path("admin.sock").display()));
    let drop =
        "setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search";
    let refused =
        world.run("gw", &format!("{drop} {GATE} status --socket {}", world.path("admin.sock").display()));
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(3), 0), "{}", text(&refused.stderr));

    // A gate that is gone leaves a socket file that nobody listens on: not running, and the next one takes its place.
    world.end(gate.pid, Signal::KILL);
    assert!(world.path("admin.sock").exists());
    let gone = status(&world, "");
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("the gate is not running"), "{}", text(&gone.stderr));
    let gate = world.start_gate(&rules(ADMIN));
    assert_eq!(status(&world, "").status.code(), Some(0));
    world.end(gate.pid, Signal::TERM);
    assert!(!world.path("admin.sock").exists());
}

#[test]
fn the_admin_port_is_for_this_host_and_a_token() {
    if !inside("the_admin_port_is_for_this_host_and_a_token") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    fs::write(world.path("token"), "0123456789abcdef\n").unwrap();
    let admin =
        "[audit]\nto = [\"@DIR@/audit.jsonl\"]\n[admin]\nlisten = \"127.0.0.1:9053\"\ntoken_file = \"token\"";
    let gate = world.start_gate(&rules(admin));
    let file = world.path("namegate.toml").display().to_string();
    let said = world.run("gw", &format!("{GATE} status --config {file}"));
    assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
    let ask = |token: &str| {
        let line = format!(
            "curl -s -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' http://127.0.0.1:9053/status"
        );
        text(&world.run("gw", &line).stdout)
    };
    assert_eq!((ask("0123456789abcdef").as_str(), ask("0123456789abcdeF").as_str()), ("200", "401"));
    fs::write(world.path("token"), "0123456789abcdeF\n").unwrap();
    let said = world.run("gw", &format!("{GATE} status --config {file}"));
    assert_eq!(said.status.code(), Some(3), "{}", text(&said.stderr));

    // From the workload there is no way to it, by whatever address.
    at("c1", || {
        for address in ["10.77.0.1:9053", "192.0.2.1:9053"] {
            if let Ok(mut stream) =
                TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2))
            {
                stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
                let _ = stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n");
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                assert!(!text(&answer).contains("401") && !text(&answer).contains("ok"), "{}", text(&answer));
            }
        }
    });
    world.run("c1", "ip route add 127.0.0.1/32 via 10.77.0.1 table 9; ip rule add pref 0 to 127.0.0.1 lookup 9; ip rule add pref 1 lookup local; ip rule del pref 0 lookup local");
    world.run("c1", "sysctl -qw net.ipv4.conf.eth0.route_localnet=1");
    let out = world.run("c1", "curl -s --max-time 3 http://127.0.0.1:9053/healthz");
    assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    assert!(gate.reasons().iter().all(|reason| reason != "allowed"), "{:?}", gate.reasons());
}

/// What a setting of the unit says, its lines joined.
fn unit(key: &str) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/systemd/namegate.service");
    let text = fs::read_to_string(file).unwrap();
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_capabilities_of_the_unit_are_enough_and_root_is_not_needed() {
    if !inside("the_capabilities_of_the_unit_are_enough_and_root_is_not_needed") {
        return;
    }
    let mut world = World::new();
    let _far = Far::start(&world);
    assert_eq!((unit("User"), unit("NoNewPrivileges")), ("namegate".to_owned(), "yes".to_owned()));
    assert_eq!(unit("AmbientCapabilities"), unit("CapabilityBoundingSet"));
    let sets: String = unit("AmbientCapabilities")
        .split(' ')
        .map(|name| format!(",+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()))
        .collect();
    // Without `noroot`, being user 0 of these namespaces would be worth every capability.
    let words = [
        "--no-new-privs".to_owned(),
        "--securebits=+noroot,+noroot_locked".to_owned(),
        format!("--inh-caps=-all{sets}"),
        format!("--bounding-set=-all{sets}"),
        format!("--ambient-caps=-all{sets}"),
    ];
    let before: Vec<&str> = ["setpriv"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let listen = "listen = [\"10.77.0.1:53\"]\nupstreams";
    let configuration = rules(ADMIN).replace("upstreams", listen);
    let (pid, manager) = start(&mut world, &before, &configuration);
    manager.hears("READY=1");
    let told = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let effective = told.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    // Bits 10 and 12 (capabilities(7)).
    assert_eq!(u64::from_str_radix(effective, 16).unwrap(), 1 << 10 | 1 << 12);
    assert!(world.curl("c1", "-4 https://a.fe.test/").greeted());
    world.gateway("nft flush ruleset");
    wait_until("the rules are put back by its own nft", Duration::from_secs(15), || {
        world.run("gw", "nft list table inet namegate").status.success()
    });
    wait_until("the gate knows that they are", Duration::from_secs(5), || {
        status(&world, "").status.code() == Some(0)
    });
}

#[test]
fn systemd_takes_the_unit_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let verify = |unit: &str| {
        let file = folder.path().join("namegate.service");
        fs::write(&file, unit).unwrap();
        std::process::Command::new("systemd-analyze").arg("verify").arg(&file).output()
    };
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/systemd/namegate.service"));
    // It looks for the program.
    let text = text.unwrap().replace("/usr/local/bin/namegate", GATE);
    let Ok(fine) = verify(&text) else {
        assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "systemd-analyze is not installed");
        let notice = "\nSKIPPED systemd_takes_the_unit_as_it_is: systemd-analyze is not installed\n";
        // Past the capture of the test harness: a skip that nobody sees is a lie.
        let _ = std::io::stderr().write_all(notice.as_bytes());
        return;
    };
    assert!(fine.status.success() && fine.stderr.is_empty(), "{}", text_of(&fine));
    let faulty = verify(&text.replace("ProtectHome=", "ProtectHom=")).unwrap();
    assert!(text_of(&faulty).contains("ProtectHom"), "it does not look at the unit: {}", text_of(&faulty));
    let user =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/systemd/namegate.sysusers.conf"));
    assert!(user.unwrap().lines().any(|line| line.starts_with(&format!("u {} - ", unit("User")))));
}

fn text_of(out: &Output) -> String {
    text(&out.stdout) + &text(&out.stderr)
}
