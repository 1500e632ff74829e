//! The walk-through of `docs/from-on-his-name.md`, its commands as they stand there: a Docker network by name, patterns as
//! plain arguments, and a resolver of the operator's whose dnstap feed is the evidence. unbound stands in for CoreDNS,
//! with the configuration that is shipped for it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::alone;
use crate::common::world::wait_until;
use crate::world::{World, alone as in_the_world};

const DOCUMENT: &str = include_str!("../../docs/from-on-his-name.md");

/// The commands of the document that begin so.
fn commands(beginning: &str) -> Vec<&'static str> {
    DOCUMENT.lines().filter(|line| line.starts_with(beginning)).collect()
}

/// Programs of the host that end with the test.
struct Programs(Vec<Child>);

impl Programs {
    fn start(&mut self, folder: &Path, name: &str, line: &str) {
        let log = File::create(folder.join(name)).unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("exec {line}")])
            .current_dir(folder)
            .env("PATH", alone::PATH)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.0.push(child.unwrap());
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// unbound as it is shipped (and for this host, which Docker masquerades when it asks itself), on the network's gateway address, asking the world's name server.
fn unbound(folder: &Path) -> String {
    let shipped = include_str!("../../config/resolvers/unbound.conf");
    let socket = folder.join("tap.sock").display().to_string();
    let mut shipped = shipped.to_owned();
    for (from, to) in [
        ("172.18.0.1", "172.30.9.1"),
        ("172.18.0.0/16", "172.30.9.0/24"),
        ("/run/namegate/dnstap.sock", &socket),
    ] {
        assert!(shipped.contains(from), "{from}");
        shipped = shipped.replace(from, to);
    }
    let included = folder.join("namegate.conf");
    fs::write(&included, shipped).unwrap();
    let stub = |zone| format!("stub-zone:\n name: \"{zone}\"\n stub-addr: 192.0.2.53\n");
    format!(
        "server:\n access-control: 192.0.2.1/32 allow\n username: \"\"\n chroot: \"\"\n directory: \"{}\"\n pidfile: \"\"\n use-syslog: no\n module-config: \"iterator\"\n\
         remote-control:\n control-enable: no\n{}{}include: \"{}\"\n",
        folder.display(),
        stub("example.com"),
        stub("example.net"),
        included.display()
    )
}

/// Runs a `docker run` of the document, with a curl of our own.
fn run(world: &World, line: &str) -> (i32, String) {
    let image = "curlimages/curl";
    assert!(line.contains(image), "{line}");
    let line = line.replace(image, "namegate-test-app /usr/bin/curl -sS --max-time 20");
    let run = world.host(["sh", "-euc", &line]);
    (run.code, run.out + &run.err)
}

/// The reasons of the decisions in the gate's log.
fn reasons(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["event"]["action"] == "decision")
        .map(|line| line["event"]["reason"].as_str().unwrap_or("").to_owned())
        .collect()
}

#[test]
fn the_walk_through_of_on_his_name_goes_as_its_document_says() {
    in_the_world(|world| {
        let folder = Path::new("/run/world/walk");
        fs::remove_dir_all(folder).ok();
        fs::create_dir(folder).unwrap();
        // Where namegate expects Docker.
        world.must("ln -sf /run/world/docker.sock /run/docker.sock");
        let [create] = commands("docker network create")[..] else { panic!("one network") };
        world.must(create);
        let mut programs = Programs(Vec::new());
        let [serve] = commands("namegate serve")[..] else { panic!("one gate") };
        programs.start(folder, "gate.log", &serve.replacen("namegate", env!("CARGO_BIN_EXE_namegate"), 1));
        let log = folder.join("gate.log");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let status = format!(
            "{} status --json --socket {}/admin.sock",
            env!("CARGO_BIN_EXE_namegate"),
            folder.display()
        );
        wait_until("the gate is well", Duration::from_secs(20), || {
            assert!(!said().contains("error:"), "{}", said());
            world.host(["sh", "-c", &status]).code == 0
        });
        fs::write(folder.join("unbound.conf"), unbound(folder)).unwrap();
        programs.start(folder, "unbound.log", "unbound -d -c unbound.conf");
        let resolver = folder.join("unbound.log");
        wait_until("the resolver answers", Duration::from_secs(10), || {
            let asked =
                world.host(["dig", "+short", "+tries=1", "+time=1", "@172.30.9.1", "www.example.com"]);
            let log = fs::read_to_string(&resolver).unwrap_or_default();
            assert!(!log.contains("error"), "{asked:?} {log}");
            asked.out.contains("203.0.113.11")
        });

        let [allowed, refused, swapped] = commands("docker run")[..] else { panic!("three commands") };
        let (code, told) = run(world, allowed);
        assert!(code == 0 && told.contains("hello from 203.0.113.11"), "{told}\n{}", said());
        let arrived = world.far.all_connections();
        for line in [refused, swapped] {
            let (code, told) = run(world, line);
            assert!(code == 35 && !told.contains("hello"), "{code} {told}\n{}", said());
        }
        assert_eq!(world.far.all_connections(), arrived);
        let reasons = reasons(&log);
        assert!(reasons[0] == "allowed" || reasons[0] == "resolved", "{reasons:?}");
        assert_eq!(reasons[1..], ["name_not_allowed", "name_not_allowed"]);

        let told: Value = serde_json::from_str(&world.must(&status)).unwrap();
        assert_eq!(told["capture"]["networks"], serde_json::json!(["on-his-name"]), "{told}");
        assert_eq!(told["docker"]["connected"], true, "{told}");
        assert_eq!(told["flows"]["denied"], 2, "{told}");
        let page = world
            .must(&format!("curl -s --unix-socket {}/admin.sock http://localhost/metrics", folder.display()));
        for series in DOCUMENT.split("`namegate_").skip(1).filter_map(|rest| rest.split(['`', '{']).next()) {
            assert!(page.contains(&format!("\nnamegate_{series}")), "{series} is not in\n{page}");
        }

        // The gate gone, the network stays closed; its rules are taken by `down`.
        drop(programs);
        let (code, told) = run(world, allowed);
        assert!(code != 0 && !told.contains("hello"), "{told}");
        assert_eq!(world.far.all_connections(), arrived);
        world.must(&format!(
            "{} down; docker network rm on-his-name; rm /run/docker.sock",
            env!("CARGO_BIN_EXE_namegate")
        ));
    });
}
