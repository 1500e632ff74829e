//! The services of a Compose file, and what the gate among them told.

use std::time::Duration;

use serde_json::Value;

use crate::common::world::wait_until;
use crate::world::{Run, World};

/// The services of one Compose file, up.
pub(crate) struct Project<'w> {
    pub(crate) world: &'w World,
    file: &'static str,
    name: &'static str,
}

impl<'w> Project<'w> {
    /// Brings up whatever is not up.
    pub(crate) fn up(world: &'w World, file: &'static str, name: &'static str) -> Self {
        let project = Self { world, file, name };
        let running = world.must("docker ps --format '{{.Names}}'");
        let runs = |service: &&str| running.lines().any(|name| name == project.container(service));
        if !["gateway", "shop", "blog"].iter().all(runs) {
            project.compose("up -d");
        }
        project
    }

    /// Runs Compose on the file as it stands; it must succeed.
    pub(crate) fn compose(&self, words: &str) -> String {
        self.world.must(&format!("docker-compose -f {} -p {} {words} 2>&1", self.file, self.name))
    }

    /// The container of a service.
    pub(crate) fn container(&self, service: &str) -> String {
        format!("{}_{service}_1", self.name)
    }

    /// Runs a command line in a service, whatever its status.
    pub(crate) fn run(&self, service: &str, line: &str) -> Run {
        self.world.inside(&self.container(service), line)
    }

    /// Whether a service is greeted by a server at this URL.
    pub(crate) fn greets(&self, service: &str, url: &str) -> bool {
        self.run(service, &format!("curl -sS --max-time 8 {url}")).greeted()
    }

    /// Runs a command line of the host in the gateway's network namespace.
    pub(crate) fn gateway(&self, line: &str) -> Run {
        let pid =
            self.world.must(&format!("docker inspect -f '{{{{.State.Pid}}}}' {}", self.container("gateway")));
        self.world.host(["nsenter", "-t", pid.trim(), "--net", "sh", "-c", line])
    }

    /// Waits until the gate's rules are in place, and this address is on one of its links.
    pub(crate) fn wait_for_gate(&self, address: &str) {
        wait_until("the gate is the gateway of its network", Duration::from_secs(20), || {
            self.gateway("nft list table inet namegate && ip address").out.contains(&format!(" {address}/"))
        });
    }

    /// Audit lines of one action.
    pub(crate) fn events(&self, action: &str) -> Vec<Value> {
        let log = self.world.must(&format!("docker logs {} 2>/dev/null", self.container("gateway")));
        let lines = log.lines().map(|line| serde_json::from_str(line).expect("an audit line is JSON"));
        lines.filter(|line: &Value| line["event"]["action"] == action).collect()
    }

    /// What `work` adds to the lines of an action; waits for the first.
    pub(crate) fn told(&self, action: &str, work: impl FnOnce()) -> Vec<Value> {
        let seen = self.events(action).len();
        work();
        wait_until(&format!("a line about a {action}"), Duration::from_secs(10), || {
            self.events(action).len() > seen
        });
        self.events(action).split_off(seen)
    }

    /// Runs curl in a container, which must fail, with one decision of this reason about a client of this address.
    pub(crate) fn refused(&self, (container, address): (&str, &str), args: &str, reason: &str) {
        let lines = self.told("decision", || {
            let run = self.world.inside(container, &format!("curl -sS --max-time 8 {args}"));
            assert!(!run.greeted(), "{container} {args}: {run:?}");
        });
        assert_eq!(lines.len(), 1, "one decision: {lines:?}");
        assert_eq!(lines[0]["event"]["reason"], reason, "{container} {args}: {}", lines[0]);
        assert_eq!(lines[0]["event"]["outcome"], "failure", "{}", lines[0]);
        assert_eq!(lines[0]["source"]["ip"], address, "{}", lines[0]);
    }
}

/// Arguments by which curl claims a name at an address that DNS did not give for it.
pub(crate) fn forged(name: &str, address: &str) -> String {
    format!("--resolve {name}:443:{address} https://{name}/")
}
