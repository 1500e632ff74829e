//! A small world in namespaces of its own: two clients on a bridge, the gateway with the real daemon,
//! and the far side with servers. Real sockets, real time, no root, nothing left behind.
//!
//! ```text
//! c1 10.77.0.2 ─┐
//!               ├─ br-egress [gw] wan ── web: 203.0.113.10-14, 2001:db8:1::10-14 (all ports of `PORTS`)
//! c2 10.77.0.3 ─┘  10.77.0.1            dns: 192.0.2.53
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) use super::namespace::{at as within, sh};

/// The gateway's addresses on the bridge.
pub const GATEWAY: &str = "10.77.0.1";
/// Where the far side's name server listens.
pub const NAME_SERVER: &str = "192.0.2.53";

/// The namespaces and the folder of one test.
pub struct World {
    /// Scratch folder, removed at the end.
    pub dir: tempfile::TempDir,
    children: Vec<Child>,
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until `ready` says yes, and fails the test with `what` when it does not within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !ready() {
        assert!(Instant::now() < end, "waited {limit:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl World {
    /// Builds the namespaces. The caller must already be inside a user, network, mount and process namespace.
    pub fn new() -> Self {
        sh(include_str!("topology.sh"));
        let dir = tempfile::Builder::new().prefix("namegate-world-").tempdir().expect("temporary folder");
        fs::write(dir.path().join("resolv.conf"), "nameserver 198.51.100.53\noptions attempts:1 timeout:5\n")
            .expect("written");
        let real = fs::canonicalize("/etc/resolv.conf").expect("a resolver configuration exists");
        sh(&format!("mount --bind {}/resolv.conf {}", dir.path().display(), real.display()));
        Self { dir, children: Vec::new() }
    }

    /// Returns a path in the scratch folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Points the clients' resolver configuration elsewhere.
    pub fn set_name_server(&self, address: &str) {
        fs::write(self.path("resolv.conf"), format!("nameserver {address}\noptions attempts:1 timeout:5\n"))
            .expect("written");
    }

    /// Turns the bridge's netfilter calls off, so that transparent sockets work in this namespace.
    pub fn without_bridge_netfilter(&self) {
        self.gateway("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0");
    }

    /// A command inside a namespace.
    pub fn command(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command line in a namespace and returns what it said, whatever its status.
    pub fn run(&self, namespace: &str, line: &str) -> Output {
        self.command(namespace, "sh").args(["-c", line]).output().expect("sh starts")
    }

    /// Runs a command line in the gateway's namespace; it must succeed.
    pub fn gateway(&self, line: &str) -> String {
        let out = self.run("gw", line);
        assert!(out.status.success(), "{line}\n{}{}", text(&out.stdout), text(&out.stderr));
        text(&out.stdout)
    }

    /// Starts a program that the world ends with itself; its output goes to `NAME.log`.
    pub fn spawn(&mut self, namespace: &str, name: &str, program: &str, args: &[&str]) -> u32 {
        let log = File::create(self.path(&format!("{name}.log"))).expect("log");
        let child = self
            .command(namespace, program)
            .args(args)
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("program starts");
        let pid = child.id();
        self.children.push(child);
        pid
    }

    /// Starts the gate with a configuration, and waits until its rules are in place.
    pub fn start_gate(&mut self, configuration: &str) -> Gate {
        let file = self.path("namegate.toml");
        let audit = self.path("audit.jsonl");
        let configuration = configuration.replace("@DIR@", &self.dir.path().display().to_string());
        fs::write(&file, &configuration).expect("written");
        let file = file.display().to_string();
        self.start_gate_with(&["serve", "--config", &file], audit)
    }

    /// Starts the gate with arguments; `audit` is where its log will be.
    pub fn start_gate_with(&mut self, args: &[&str], audit: PathBuf) -> Gate {
        let seen = Gate { audit: audit.clone(), pid: 0 }.events("ruleset").len();
        let pid = self.spawn("gw", "gate", env!("CARGO_BIN_EXE_namegate"), args);
        let gate = Gate { audit, pid };
        let log = self.path("gate.log");
        let end = Instant::now() + Duration::from_secs(20);
        while gate.events("ruleset").len() == seen {
            let dead =
                self.children.last_mut().is_some_and(|child| child.try_wait().expect("waits").is_some());
            assert!(
                !dead && Instant::now() < end,
                "the gate did not start:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        gate
    }

    /// Ends a program of this world with a signal and waits for it.
    pub fn end(&mut self, pid: u32, signal: rustix::process::Signal) {
        let at = self.children.iter().position(|child| child.id() == pid).expect("one of ours");
        let mut child = self.children.remove(at);
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).expect("signalled");
        child.wait().expect("ends");
    }

    /// Runs curl in a client's namespace, trusting the world's authority.
    pub fn curl(&self, client: &str, args: &str) -> Curl {
        let line = format!(
            "curl -sS --max-time 12 --cacert {}/ca.pem -w '\\n%{{http_code}} %{{remote_ip}}' {args}",
            self.dir.path().display()
        );
        let out = self.run(client, &line);
        Curl { status: out.status.code().unwrap_or(-1), out: text(&out.stdout), err: text(&out.stderr) }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("gate.log")).unwrap_or_default();
            let audit = fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
            let tail: Vec<_> = audit.lines().rev().take(20).collect();
            eprintln!("--- gate.log\n{log}\n--- audit (newest first)\n{}", tail.join("\n"));
        }
    }
}

/// What curl did.
#[derive(Debug)]
pub struct Curl {
    /// Exit status: 0 fine, 7 refused, 28 timed out, 35 TLS failed, 52 empty, 56 reset.
    pub status: i32,
    /// Body, then a line with the HTTP status and the address.
    pub out: String,
    /// What it said.
    pub err: String,
}

impl Curl {
    /// Whether the far side's greeting came through.
    pub fn greeted(&self) -> bool {
        self.status == 0 && self.out.contains("hello from ")
    }
}

/// A running gate, seen through its audit log.
#[derive(Debug, Clone)]
pub struct Gate {
    /// The audit file.
    pub audit: PathBuf,
    /// Process id.
    pub pid: u32,
}

impl Gate {
    /// All audit lines so far.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        read_lines(&self.audit)
    }

    /// Audit lines of one action.
    pub fn events(&self, action: &str) -> Vec<serde_json::Value> {
        self.lines().into_iter().filter(|line| line["event"]["action"] == action).collect()
    }

    /// The reasons of all decisions, in order.
    pub fn reasons(&self) -> Vec<String> {
        let lines = self.events("decision");
        lines.iter().map(|line| line["event"]["reason"].as_str().unwrap_or("").to_owned()).collect()
    }

    /// Waits for the decision after the first `seen`, and returns it.
    pub fn decision_after(&self, seen: usize) -> serde_json::Value {
        wait_until("a decision in the audit log", Duration::from_secs(15), || {
            self.events("decision").len() > seen
        });
        self.events("decision")[seen].clone()
    }
}

fn read_lines(path: &Path) -> Vec<serde_json::Value> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).expect("an audit line is JSON")).collect()
}

/// Whether any packet with a client's own source address came to the far side.
pub fn leaked(world: &World) -> u64 {
    let listing = text(&world.run("web", "nft -j list counters table inet watch").stdout);
    let json: serde_json::Value = serde_json::from_str(&listing).expect("nft prints JSON");
    json["nftables"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["counter"]["packets"].as_u64())
        .sum()
}
