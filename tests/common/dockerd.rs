//! A Docker daemon of a test's own: in network, mount and process namespaces of its own, with nothing of it left when it
//! is dropped.
//!
//! It needs root of the machine, `dockerd` and a client (Debian's `docker.io`), and a static busybox. Must not know what
//! is tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::namespace::sh;
use super::world::{text, wait_until};

/// The image that is always there: busybox, and nothing else.
pub const IMAGE: &str = "namegate-test";

/// A daemon, and the namespaces it lives in.
#[derive(Debug)]
pub struct Dockerd {
    dir: tempfile::TempDir,
    /// Name of the network namespace, and of the control group.
    name: String,
    /// Keeps the namespaces; all that is inside ends with it.
    keeper: Child,
    daemon: Option<Child>,
}

impl Dockerd {
    /// Starts a daemon with [`IMAGE`]. Where that is impossible it says why, loudly, and returns none; with
    /// `NAMEGATE_TEST_ALL=1` that is a failure.
    pub fn start(test: &str) -> Option<Self> {
        if let Some(why) = obstacle() {
            let notice = format!("SKIPPED {test}: {why}");
            assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "{notice}");
            // Past the capture of the test harness: a skip that nobody sees is a lie.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("\n{notice}\n"));
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ngd-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        sh(&format!("ip netns add {name}; ip -n {name} link set lo up"));
        let dir = tempfile::Builder::new().prefix("namegate-dockerd-").tempdir().expect("temporary folder");
        let keeper = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "nsenter", &format!("--net=/run/netns/{name}")])
            .args([
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                REAPER,
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("setpriv, nsenter and unshare, of util-linux");
        let mut started = Self { dir, name, keeper, daemon: None };
        started.start_daemon();
        started.import(IMAGE);
        Some(started)
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The folder that is removed at the end.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The network namespace with the bridges, by name.
    pub fn netns(&self) -> &str {
        &self.name
    }

    /// Runs the client; it must succeed. Returns what it printed.
    pub fn docker(&self, line: &str) -> String {
        sh(&format!("DOCKER_HOST=unix://{} {CLIENT} {line}", self.socket().display())).trim_end().to_owned()
    }

    /// Asks for something that the client does not offer.
    pub fn post(&self, path: &str, body: &str) -> serde_json::Value {
        let socket = self.socket();
        let said = sh(&format!(
            "curl -sf -m 20 --unix-socket {} -H 'Content-Type: application/json' -d '{body}' http://docker/v1.41/{path}",
            socket.display()
        ));
        serde_json::from_str(&said).expect("Docker answers in JSON")
    }

    /// Runs a container of [`IMAGE`] that does nothing; `options` stand before the image. Returns its identifier.
    pub fn run(&self, options: &str) -> String {
        self.docker(&format!("run -d --stop-timeout 0 {options} {IMAGE} /bin/busybox sleep 1000"))
    }

    /// Ends the daemon as a crash does. Containers end with it, or stay without anybody who answers for them.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("a running daemon");
        let inner = self.inner(daemon.id());
        sh(&format!("kill -KILL {inner}"));
        daemon.wait().expect("ends");
    }

    /// Starts the daemon again after [`Dockerd::kill_daemon`].
    pub fn start_daemon(&mut self) {
        assert!(self.daemon.is_none(), "it runs");
        let (dir, socket) = (self.dir.path().display().to_string(), self.socket());
        // What a killed one leaves; it would think that it runs.
        fs::remove_file(format!("{dir}/docker.pid")).ok();
        let log = fs::File::create(format!("{dir}/dockerd.log")).expect("log");
        let holder = self.inner(self.keeper.id());
        let daemon = Command::new("nsenter")
            .args([&format!("--target={holder}"), "--mount", "--pid", "--net", "dockerd"])
            .args([format!("--data-root={dir}/data"), format!("--exec-root={dir}/exec")])
            .args([format!("--host=unix://{}", socket.display()), format!("--pidfile={dir}/docker.pid")])
            .arg(format!("--cgroup-parent=/{}", self.name))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("nsenter, of util-linux");
        self.daemon = Some(daemon);
        let ping = format!("curl -sf -m 2 --unix-socket {} http://docker/_ping", socket.display());
        wait_until("dockerd to answer", Duration::from_secs(30), || {
            Command::new("sh").args(["-c", &ping]).output().is_ok_and(|ping| text(&ping.stdout) == "OK")
        });
    }

    /// Makes an image from scratch: a static busybox, and an account that is not root.
    pub fn import(&self, name: &str) {
        let root = self.dir.path().join("root");
        sh(&format!(
            "mkdir -p {0}/bin {0}/etc {0}/tmp; cp {BUSYBOX} {0}/bin/busybox; for name in sh sleep nc ip ping cat; do ln -sf busybox {0}/bin/$name; done; \
             printf 'root:x:0:0::/:/bin/sh\\napp:x:1000:1000::/:/bin/sh\\n' > {0}/etc/passwd",
            root.display()
        ));
        sh(&format!(
            "tar -C {} -c . | DOCKER_HOST=unix://{} {CLIENT} import - {name}",
            root.display(),
            self.socket().display()
        ));
    }

    /// The child of a process of ours: `unshare` and `nsenter` fork into a namespace of processes.
    fn inner(&self, outer: u32) -> u32 {
        let children = format!("/proc/{outer}/task/{outer}/children");
        let mut inner = None;
        wait_until("a process inside the namespaces", Duration::from_secs(5), || {
            let list = fs::read_to_string(&children).unwrap_or_default();
            inner = list.split_whitespace().next().and_then(|pid| pid.parse().ok());
            inner.is_some()
        });
        inner.expect("found")
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("dockerd.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("--- dockerd.log (newest first)\n{}", tail.join("\n"));
        }
        // The first process of a process namespace takes all others with it, and the mounts go with the last one.
        self.keeper.kill().ok();
        self.keeper.wait().ok();
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait().ok();
        }
        let name = &self.name;
        let tidy = format!(
            "ip netns del {name}; for try in 1 2 3 4 5 6 7 8 9 10; do left=$(find /sys/fs/cgroup -depth -type d -path '*/{name}*' 2>/dev/null); \
             [ -z \"$left\" ] && exit 0; rmdir $left 2>/dev/null; sleep 0.1; done; echo \"$left\"; exit 1"
        );
        match Command::new("sh").args(["-c", &tidy]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("left behind: {}{}", text(&output.stdout), text(&output.stderr)),
            Err(error) => eprintln!("left behind: {error}"),
        }
    }
}

/// Why no daemon can be started here.
fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a Docker daemon needs root of the machine".to_owned());
    }
    for tool in ["/usr/sbin/dockerd", CLIENT] {
        if !Path::new(tool).exists() {
            return Some(format!("{tool} is not installed (apt install docker.io)"));
        }
    }
    for tool in ["curl", "nsenter", "unshare", "setpriv", "ip", "tar"] {
        let found =
            ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(tool).exists());
        if !found {
            return Some(format!("{tool} is not installed"));
        }
    }
    (!Path::new(BUSYBOX).exists()).then(|| format!("{BUSYBOX} is not installed (apt install busybox-static)"))
}

/// The first process: a shell that waits also buries those whose parents died.
const REAPER: &str = "while :; do sleep 3600; done";
/// The client that belongs to the daemon: a newer one may refuse to speak to it.
const CLIENT: &str = "/usr/bin/docker";
const BUSYBOX: &str = "/bin/busybox";
