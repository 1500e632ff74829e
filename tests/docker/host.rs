//! The gate on the daemon's own host: networks by name, clients by container, labels as rules.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::world::wait_until;
use crate::project::forged;
use crate::world::{Run, World, alone};

/// A gate of the host; ended, and its rules removed, when dropped.
struct Gate<'w> {
    world: &'w World,
    child: Child,
}

const CONFIG: &str = "/run/world/host.toml";
const AUDIT: &str = "/run/world/host.jsonl";
const LOG: &str = "/run/world/host.log";

/// Makes the network that is captured, with the bridge's name if one is given.
fn make_network(world: &World, options: &str) {
    world.must(&format!("docker network create --subnet 10.8.0.0/24 {options} egress"));
}

fn remove_network(world: &World) {
    world.must(
        "docker ps -aq --filter network=egress | xargs -r docker rm -f; docker network rm egress || true",
    );
}

/// Starts a container on the network, which waits for orders.
fn start(world: &World, name: &str, options: &str) {
    world.must(&format!(
        "docker run -d --name {name} --network egress --dns 10.8.0.1 {options} namegate-test-app /bin/sleep 600"
    ));
}

/// Runs a command line in a container, whatever its status.
fn curl(world: &World, container: &str, args: &str) -> Run {
    world.inside(container, &format!("curl -sS --max-time 8 {args}"))
}

/// Writes the configuration of the host's gate.
fn configure(socket: &str, rules: &str) {
    let text = format!(
        "[capture]\ndocker_networks = [\"egress\"]\n[docker]\nsocket = \"{socket}\"\nlabels = true\n\
         [dns]\nupstreams = [\"192.0.2.53\"]\n[audit]\nto = [\"{AUDIT}\"]\n{rules}"
    );
    fs::write(CONFIG, text).unwrap();
}

fn spawn() -> Child {
    let log = File::create(LOG).unwrap();
    Command::new(env!("CARGO_BIN_EXE_namegate"))
        .args(["serve", "--config", CONFIG])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl<'w> Gate<'w> {
    fn start(world: &'w World, rules: &str) -> Self {
        Self::start_by(world, "/run/world/docker.sock", rules)
    }

    fn start_by(world: &'w World, socket: &str, rules: &str) -> Self {
        let _ = fs::remove_file(AUDIT);
        configure(socket, rules);
        let gate = Self { world, child: spawn() };
        wait_until("the rules are in place", Duration::from_secs(20), || {
            events("ruleset").iter().any(|event| event["event"]["reason"] == "installed")
        });
        gate
    }

    /// Runs curl in a container, which must fail, with one decision of this reason; returns it.
    fn refused(&self, container: &str, args: &str, reason: &str) -> Value {
        let seen = events("decision").len();
        let run = curl(self.world, container, args);
        assert!(!run.greeted(), "{container} {args}: {run:?}");
        wait_until("a decision", Duration::from_secs(5), || events("decision").len() > seen);
        let mut new = events("decision").split_off(seen);
        assert_eq!(new.len(), 1, "{new:?}");
        let line = new.remove(0);
        assert_eq!(line["event"]["reason"], reason, "{container} {args}: {line}");
        line
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(LOG).unwrap_or_default());
        }
        self.world.host([env!("CARGO_BIN_EXE_namegate"), "down"]);
    }
}

fn events(action: &str) -> Vec<Value> {
    let log = fs::read_to_string(AUDIT).unwrap_or_default();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"]["action"] == action).collect()
}

/// Ends what a test made, also when it failed.
struct Tidy<'w>(&'w World);

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        remove_network(self.0);
    }
}

const RULES: &str = "
[[rule]]
id = \"web\"
names = [\"example.com\"]
clients = [\"container:web\"]
[[rule]]
id = \"ci\"
names = [\"www.example.com\"]
clients = [\"label:tier=ci\"]
[[rule]]
id = \"all\"
names = [\"www.example.net\"]
";

#[test]
fn containers_are_known_by_name_and_label_and_their_own_labels_are_rules() {
    alone(|world| {
        make_network(world, "");
        let _tidy = Tidy(world);
        start(world, "web", "--label color=green");
        let gate = Gate::start(world, RULES);
        // These come later: nobody tells the gate but Docker.
        start(world, "worker", "--label tier=ci");
        start(world, "shop", "--label namegate.allow=example.com:443");
        for (container, url, greeted) in [
            ("web", "https://example.com/", true),
            ("web", "https://www.example.com/", false),
            ("worker", "https://www.example.com/", true),
            ("worker", "https://example.com/", false),
            ("shop", "https://example.com/", true),
            ("shop", "http://example.com/", false),
            ("shop", "https://www.example.com/", false),
            ("web", "https://www.example.net/", true),
            ("shop", "https://www.example.net/", true),
        ] {
            let run = curl(world, container, url);
            assert_eq!(run.greeted(), greeted, "{container} {url}: {run:?}");
        }
        let allowed =
            events("decision").into_iter().find(|line| line["event"]["reason"] == "allowed").unwrap();
        let id = world.must("docker inspect -f '{{.Id}}' web");
        assert_eq!(allowed["container"]["id"], id.trim());
        assert_eq!(allowed["container"]["name"], "web");
        assert_eq!(allowed["container"]["image"]["name"], "namegate-test-app");
        assert_eq!(allowed["container"]["labels"]["color"], "green");
        assert_eq!(allowed["rule"]["id"], "web");
        let of_label = |line: &&Value| line["rule"]["id"] == "container:shop";
        assert!(events("decision").iter().any(|line| of_label(&line)));
        assert!(
            events("dns").iter().all(|line| line["container"]["name"].is_string()),
            "{:?}",
            events("dns")
        );
        assert!(events("close").iter().all(|line| line["container"]["name"].is_string()));

        // Who makes an image grants nothing.
        world.must(
            "printf 'FROM namegate-test-app\\nLABEL namegate.allow=www.example.com\\n' | docker build -q -t namegate-test-grant -",
        );
        let image = |name: &str, options: &str| {
            world.must(&format!(
                "docker run -d --name {name} --network egress --dns 10.8.0.1 {options} namegate-test-grant /bin/sleep 600"
            ));
        };
        image("selfgrant", "");
        image("granted", "--label namegate.allow=example.com");
        assert!(!curl(world, "selfgrant", "https://www.example.com/").greeted());
        assert!(curl(world, "selfgrant", "https://www.example.net/").greeted());
        assert!(curl(world, "granted", "https://example.com/").greeted());

        // The bypasses, from a container that may reach something.
        gate.refused("web", "https://203.0.113.66/ -k", "nameless");
        gate.refused("web", &forged("example.com", "203.0.113.66"), "address_not_observed");
        gate.refused("worker", &forged("example.com", "203.0.113.10"), "name_not_allowed");
        gate.refused("shop", &forged("www.example.net", "203.0.113.10"), "address_not_observed");
        assert!(curl(world, "web", "--max-time 3 http://10.8.0.1:15001/").code != 0);
        assert_eq!(world.inside("web", "ping -c1 -W1 203.0.113.10").code, 1);
        assert_eq!(world.strays(), []);
    });
}

#[test]
fn a_container_that_sends_with_anothers_address_is_not_heard() {
    alone(|world| {
        make_network(world, "");
        let _tidy = Tidy(world);
        start(world, "web", "--ip 10.8.0.20");
        let gate = Gate::start(world, RULES);
        start(world, "raw", "--ip 10.8.0.21 --cap-add NET_RAW");
        let pinned = || world.host(["nft", "list", "table", "bridge", "namegate"]).out;
        wait_until("both ports are pinned", Duration::from_secs(8), || {
            let pins = pinned();
            pins.contains("10.8.0.20") && pins.contains("10.8.0.21")
        });
        let asked = |name: &str| {
            let about = |line: &&Value| line["dns"]["question"]["name"] == name;
            events("dns")
                .iter()
                .filter(about)
                .map(|line| line["source"]["ip"].to_string())
                .collect::<Vec<_>>()
        };
        for (source, name) in [
            ("10.8.0.20", "web.forged.test"),
            ("10.8.0.77", "nobody.forged.test"),
            ("10.8.0.21", "own.forged.test"),
        ] {
            let run = world.inside("raw", &format!("attack query {source} 10.8.0.1 {name}"));
            assert!(run.out.contains("sent"), "{run:?}");
        }
        wait_until("its own question comes", Duration::from_secs(5), || !asked("own.forged.test").is_empty());
        assert_eq!(asked("own.forged.test"), ["\"10.8.0.21\""]);
        assert!(asked("web.forged.test").is_empty() && asked("nobody.forged.test").is_empty());
        // Nor is its claim to the address believed, and who is spoken of is not hindered.
        world.inside("raw", "attack arp eth0 10.8.0.20");
        assert!(curl(world, "web", "https://example.com/").greeted());
        world.must("nft delete table bridge namegate");
        wait_until("the pins are back", Duration::from_secs(2), || pinned().contains("10.8.0.20"));
        drop(gate);
        assert!(!pinned().contains("namegate"), "removed with the rest");
    });
}

#[test]
fn the_first_packet_of_a_new_container_waits_for_word_of_it() {
    alone(|world| {
        make_network(world, "");
        let _tidy = Tidy(world);
        let _gate = Gate::start(world, RULES);
        for turn in 0..5 {
            let run = world.host([
                "docker",
                "run",
                "--rm",
                "--network",
                "egress",
                "--dns",
                "10.8.0.1",
                "--label",
                "tier=ci",
                "namegate-test-app",
                "/bin/sh",
                "-c",
                "curl -sS --max-time 8 https://www.example.com/",
            ]);
            assert!(run.greeted(), "{turn}: {run:?} {:?}", events("dns").last());
        }
    });
}

#[test]
fn an_address_that_moves_to_another_container_takes_nothing_along() {
    alone(|world| {
        make_network(world, "");
        let _tidy = Tidy(world);
        start(world, "web", "--ip 10.8.0.77");
        let gate = Gate::start(world, RULES);
        assert!(curl(world, "web", "https://example.com/").greeted());
        assert!(curl(world, "web", "https://www.example.net/").greeted());
        world.must("docker rm -f web");
        start(world, "other", "--ip 10.8.0.77");
        // Neither its rule nor, for the rule of all, what it resolved.
        gate.refused("other", &forged("example.com", "203.0.113.10"), "name_not_allowed");
        let line = gate.refused("other", &forged("www.example.net", "203.0.113.12"), "address_not_observed");
        assert_eq!(
            (&line["source"]["ip"], &line["container"]["name"]),
            (&"10.8.0.77".into(), &"other".into())
        );
        assert!(curl(world, "other", "https://www.example.net/").greeted(), "by its own question");
        // The same container, started again, is another run.
        world.must("docker restart -t 0 other");
        gate.refused("other", &forged("www.example.net", "203.0.113.12"), "address_not_observed");
        // Another container under the old name has its rule; the address has none.
        world.must("docker rm -f other");
        start(world, "web", "--ip 10.8.0.78");
        assert!(curl(world, "web", "https://example.com/").greeted());
    });
}

#[test]
fn a_broken_label_denies_its_container_everything_and_others_nothing() {
    alone(|world| {
        make_network(world, "");
        let _tidy = Tidy(world);
        start(world, "web", "--label namegate.allow=*.com");
        start(world, "shop", "--label namegate.allow=example.com");
        let gate = Gate::start(world, RULES);
        gate.refused("web", &forged("example.com", "203.0.113.10"), "denied_by_rule");
        assert_eq!(curl(world, "web", "https://www.example.net/").code, 6, "not even a question");
        assert!(curl(world, "shop", "https://example.com/").greeted());
        let told: Vec<_> =
            events("policy").into_iter().filter(|line| line["event"]["outcome"] == "failure").collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let message = told[0]["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("container web: namegate.allow: \"*.com\": "), "{message}");
        // Another run with a sound label is free of it.
        world.must("docker rm -f web");
        start(world, "web", "--label namegate.allow=www.example.com");
        assert!(curl(world, "web", "https://www.example.com/").greeted());
        assert!(curl(world, "web", "https://example.com/").greeted());
    });
}

#[test]
fn a_network_that_is_made_again_is_captured_again() {
    alone(|world| {
        make_network(world, "");
        let _tidy = Tidy(world);
        let gate = Gate::start(world, RULES);
        let bridge = || {
            let id = world.must("docker network inspect -f '{{.Id}}' egress");
            format!("br-{}", &id[..12])
        };
        let first = bridge();
        world.must("docker network rm egress");
        wait_until("word of it", Duration::from_secs(5), || {
            events("ruleset").iter().any(|line| line["event"]["reason"] == "network_missing")
        });
        make_network(world, "");
        let second = bridge();
        assert_ne!(first, second);
        let start_of = Instant::now();
        wait_until("the new bridge is captured", Duration::from_secs(5), || {
            world.must("nft list set inet namegate captured").contains(&second)
        });
        println!("captured again after {:?}", start_of.elapsed());
        start(world, "web", "");
        assert!(curl(world, "web", "https://example.com/").greeted());
        gate.refused("web", "https://203.0.113.66/ -k", "nameless");
        assert!(world.must("ip rule").contains(&second));
        assert!(!world.must("ip rule").contains(&first));
        assert_eq!(world.strays(), []);
    });
}

#[test]
fn while_docker_is_silent_rules_for_containers_are_for_nobody() {
    alone(|world| {
        make_network(world, "");
        let _tidy = Tidy(world);
        start(world, "web", "");
        let relay = || {
            let child = Command::new("socat")
                .args([
                    "UNIX-LISTEN:/run/world/relay.sock,fork,unlink-early",
                    "UNIX-CONNECT:/run/world/docker.sock",
                ])
                .process_group(0)
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            wait_until("the relay listens", Duration::from_secs(5), || {
                fs::exists("/run/world/relay.sock").unwrap()
            });
            child
        };
        let end = |mut relay: Child| {
            let group = rustix::process::Pid::from_child(&relay);
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
            relay.wait().unwrap();
            fs::remove_file("/run/world/relay.sock").unwrap();
        };
        start(world, "bad", "--label namegate.allow=*.com");
        let first = relay();
        let gate = Gate::start_by(world, "/run/world/relay.sock", RULES);
        assert!(curl(world, "web", "https://example.com/").greeted());
        end(first);
        wait_until("it is noticed", Duration::from_secs(5), || {
            fs::read_to_string(LOG).unwrap_or_default().contains("does not answer")
        });
        gate.refused("web", &forged("example.com", "203.0.113.10"), "name_not_allowed");
        let began = Instant::now();
        assert!(curl(world, "web", "https://www.example.net/").greeted(), "the rule for everybody goes on");
        assert!(began.elapsed() < Duration::from_millis(1_500), "at once: {:?}", began.elapsed());
        gate.refused("bad", &forged("www.example.net", "203.0.113.12"), "denied_by_rule");
        let second = relay();
        wait_until("it is known again", Duration::from_secs(10), || {
            fs::read_to_string(LOG).unwrap_or_default().contains("answers again")
        });
        assert!(
            curl(world, "web", &forged("example.com", "203.0.113.10")).greeted(),
            "what it resolved before counts"
        );
        drop(gate);
        end(second);
    });
}

#[test]
fn what_docker_cannot_tell_ends_the_start_with_a_next_step() {
    alone(|world| {
        for (socket, network, says, hint) in [
            ("/run/world/none.sock", "egress", "there is no Docker socket", "hint:"),
            (
                "/run/world/docker.sock",
                "egress",
                "there is none of this name",
                "docker network create egress",
            ),
            ("/run/world/docker.sock", "host", "its driver is host", "hint:"),
        ] {
            configure(socket, RULES);
            let text = fs::read_to_string(CONFIG).unwrap().replace("\"egress\"", &format!("\"{network}\""));
            fs::write(CONFIG, text).unwrap();
            let run = world.host([env!("CARGO_BIN_EXE_namegate"), "serve", "--config", CONFIG]);
            assert_eq!(run.code, 3, "{run:?}");
            assert!(run.err.contains(says) && run.err.contains(hint), "{}", run.err);
            assert!(!world.must("nft list tables").contains("namegate"));
        }
    });
}
