//! The world of the containers: their host with its daemon, the images, and the Internet.
//!
//! ```text
//! shop 10.9.0.11 ─┐
//!                 ├─ workloads ── gateway ── outside ── [this host] wan ── far: 203.0.113.0/24, 2001:db8:1::/48
//! blog 10.9.0.12 ─┘  10.9.0.1, .254                     192.0.2.1          dns: 192.0.2.53
//! ```
//!
//! Images are made of what is on the machine. The far side counts every packet that must not come.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use crate::alone;
use crate::common::far::{Far, Record};
use crate::common::namespace::{netns, sh};
use crate::common::world::{text, wait_until};

/// Runs the calling test's work in the one world, when nobody else does.
pub(crate) fn alone<Work: Fn(&World)>(work: Work) {
    // `docker::module::test::{{closure}}`: the work is a closure of the test.
    let path = std::any::type_name::<Work>();
    let test = path.split_once("::").and_then(|(_, rest)| rest.rsplit_once("::")).expect("a closure").0;
    if !alone::is_inside() {
        return alone::outside(test);
    }
    static WORLD: OnceLock<Option<Mutex<World>>> = OnceLock::new();
    let build = || std::panic::catch_unwind(|| Mutex::new(World::new())).ok();
    let world = WORLD.get_or_init(build).as_ref().expect("the world stands; who built it says what failed");
    let world = world.lock();
    let start = std::time::Instant::now();
    world.tidy();
    work(&world);
    // Seen with `--nocapture`.
    println!("{test}: {:?}", start.elapsed());
}

/// The one world.
pub(crate) struct World {
    /// The Internet.
    pub(crate) far: Far,
    /// Ended by the kernel with everybody else.
    daemon: Child,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Run {
    /// Exit status.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Run {
    /// Whether a server of the far side greeted.
    pub(crate) fn greeted(&self) -> bool {
        self.code == 0 && self.out.contains("hello from ")
    }
}

impl World {
    fn new() -> Self {
        sh("mount -t tmpfs tmpfs /run; mkdir -p /run/netns /run/world; ip link set lo up");
        netns("far");
        sh(include_str!("topology.sh"));
        fs::write(file("resolv.conf"), "nameserver 192.0.2.53\n").expect("written");
        let real = fs::canonicalize("/etc/resolv.conf").expect("a resolver configuration exists");
        sh(&format!("mount --bind /run/world/resolv.conf {}", real.display()));
        let far = Far::start_in(Some("far"), Path::new("/run/world"));
        let four = |last| vec![Record::A(300, [203, 0, 113, last].into())];
        far.set("example.com", four(10));
        far.set("www.example.com", four(11));
        far.set("www.example.net", four(12));
        let world = Self { far, daemon: start_daemon() };
        world.make_images();
        world
    }

    /// Takes away what tests add besides their projects, and starts counting anew.
    pub(crate) fn tidy(&self) {
        self.host(["docker", "rm", "-f", "raw", "published"]);
        self.must("nsenter --net=/run/netns/far nft reset counters >/dev/null");
    }

    /// Runs a program of the host against the daemon.
    pub(crate) fn host<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Run {
        let mut words = words.into_iter();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "60"]).arg(words.next().expect("a program")).args(words);
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", alone::PATH)
            .env("HOME", "/run/world")
            .env("LANG", "C.UTF-8")
            .env("DOCKER_HOST", SOCKET)
            .env("DOCKER_BUILDKIT", "1")
            .env("NAMEGATE_IMAGE", "namegate-test")
            .env("NAMEGATE_APP_IMAGE", "namegate-test-app");
        let output = command.output().expect("timeout, of coreutils");
        Run { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a command line of the host against the daemon; it must succeed.
    pub(crate) fn must(&self, line: &str) -> String {
        let run = self.host(["sh", "-euc", line]);
        assert!(run.code == 0, "{line}\n{}{}\n{}", run.out, run.err, self.daemon_log());
        run.out
    }

    /// Runs a command line in a container, whatever its status.
    pub(crate) fn inside(&self, container: &str, line: &str) -> Run {
        self.host(["docker", "exec", container, "/bin/sh", "-c", line])
    }

    /// The end of what the daemon said.
    pub(crate) fn daemon_log(&self) -> String {
        let log = fs::read_to_string(file("dockerd.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        format!("--- daemon {} (newest first)\n{}", self.daemon.id(), lines.join("\n"))
    }

    /// Packets that came to the far side though nothing may send them, by kind.
    pub(crate) fn strays(&self) -> Vec<(String, u64)> {
        let listing = self.must("nsenter --net=/run/netns/far nft -j list counters table inet watch");
        let json: Value = serde_json::from_str(&listing).expect("nft prints JSON");
        let counters = json["nftables"].as_array().expect("a list").iter().map(|item| &item["counter"]);
        counters
            .filter(|counter| counter["packets"].as_u64().is_some_and(|packets| packets > 0))
            .map(|counter| {
                (counter["name"].as_str().unwrap_or("").to_owned(), counter["packets"].as_u64().unwrap_or(0))
            })
            .collect()
    }

    /// Makes the image of the gate by the Dockerfile, and one of programs that a workload, or an attacker, would have.
    fn make_images(&self) {
        let gate = format!(
            "mkdir -p /run/world/gate/out /run/world/loader/out /run/world/app/bin
             strip -o /run/world/gate/out/namegate {}
             {}",
            env!("CARGO_BIN_EXE_namegate"),
            copy(&["/usr/sbin/nft"], "/run/world/loader/out"),
        );
        self.must(&gate);
        // This build is linked dynamically, unlike the one that the Dockerfile makes: linking it again would take minutes.
        self.must(&libraries(env!("CARGO_BIN_EXE_namegate"), "/run/world/gate/out"));
        fs::write(file("attack.c"), include_str!("attack.c")).expect("written");
        self.must(&format!(
            "gcc -O1 -static -Wall -Werror -o /run/world/app/bin/attack /run/world/attack.c
             cp $(command -v busybox) /run/world/app/bin/busybox
             for tool in sh sleep ping nc nslookup ip cat ls id; do ln -s busybox /run/world/app/bin/$tool; done
             {}
             cp /run/world/ca.pem /run/world/app/",
            copy(&["/usr/bin/curl", "/usr/bin/dig"], "/run/world/app"),
        ));
        for (name, change) in [("gate", ""), ("loader", ""), ("app", "--change 'ENV CURL_CA_BUNDLE=/ca.pem'")]
        {
            self.must(&format!(
                "tar -C /run/world/{name} -c . | docker import {change} - namegate-test-{name}"
            ));
        }
        self.must(
            "docker build -q -t namegate-test --build-arg GATE=namegate-test-gate --build-arg LOADER=namegate-test-loader .",
        );
        sh("rm -r /run/world/gate /run/world/loader /run/world/app");
    }
}

/// The command line that copies programs and exactly the libraries they are linked with, as the Dockerfile does.
fn copy(programs: &[&str], to: &str) -> String {
    let copies = programs
        .iter()
        .map(|program| format!("cp --parents --dereference {program} {to}\n{}", libraries(program, to)));
    copies.collect::<Vec<_>>().join("\n")
}

fn libraries(program: &str, to: &str) -> String {
    format!("cp --parents --dereference $(ldd {program} | grep -o '/[^ ]*') {to}")
}

fn file(name: &str) -> PathBuf {
    Path::new("/run/world").join(name)
}

/// Starts a daemon on this network namespace, and waits until it answers.
fn start_daemon() -> Child {
    let log = fs::File::create(file("dockerd.log")).expect("log");
    let daemon = Command::new("dockerd")
        .args(["--data-root=/run/world/data", "--exec-root=/run/world/exec", "--pidfile=/run/world/pid"])
        .arg(format!("--host={SOCKET}"))
        .arg(format!("--cgroup-parent=/{}", alone::cgroup()))
        .arg("--exec-opt=native.cgroupdriver=cgroupfs")
        .env("PATH", alone::PATH)
        .env("HOME", "/run/world")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log)
        .spawn()
        .expect("dockerd starts");
    wait_until("the daemon answers", Duration::from_secs(30), || {
        let asked = Command::new("docker").args(["-H", SOCKET, "version"]).env("PATH", alone::PATH).output();
        asked.is_ok_and(|output| output.status.success())
    });
    daemon
}

const SOCKET: &str = "unix:///run/world/docker.sock";
