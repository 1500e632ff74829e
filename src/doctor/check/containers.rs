//! Containers on captured networks that can get around the gate, or be taken for another.
//!
//! Must not know how containers are asked about.

use crate::doctor::facts::{ContainerFacts, Containers, Facts, NetworkMode};
use crate::doctor::finding::{Code, Finding};
use crate::settings::Settings;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let containers = match &facts.containers {
        Containers::NoDocker => {
            let fix = "nothing, unless workloads run in Docker: then run doctor where its socket is";
            found.push(Finding::new(Code::DockerNotSeen, "Docker", "there is no Docker socket", fix));
            return;
        }
        Containers::Unreachable(why) => {
            found.push(Finding::new(Code::DockerNotSeen, "Docker", why.clone(), "sudo namegate doctor"));
            return;
        }
        Containers::Running(containers) => containers,
    };
    let captured = |container: &ContainerFacts| is_captured(container, settings);
    for container in containers {
        match &container.network_mode {
            NetworkMode::Host => host_network(container, found),
            NetworkMode::Container(other) => {
                let other = containers.iter().find(|one| one.id == *other || one.name == *other);
                if let Some(other) = other.filter(|other| captured(other)) {
                    shared(container, other, found);
                    powers(container, found);
                }
            }
            NetworkMode::Own if captured(container) => {
                powers(container, found);
                ways(container, settings, facts, found);
            }
            NetworkMode::Own => {}
        }
    }
}

fn is_captured(container: &ContainerFacts, settings: &Settings) -> bool {
    let bridges = container.networks.iter().filter_map(|network| network.bridge.as_ref());
    bridges.into_iter().any(|bridge| settings.capture.interfaces.contains(bridge))
}

fn host_network(container: &ContainerFacts, found: &mut Vec<Finding>) {
    found.push(Finding::new(
        Code::ContainerHostNetwork,
        &container.name,
        "network_mode: host",
        "if it is a workload: put it on a captured network instead",
    ));
}

fn shared(container: &ContainerFacts, other: &ContainerFacts, found: &mut Vec<Finding>) {
    found.push(Finding::new(
        Code::ContainerSharesNetwork,
        &container.name,
        format!("it uses the network of container {}", other.name),
        format!("give it a network of its own, or allow {} nothing that it may not reach", other.name),
    ));
}

/// What it may do to this host and its neighbours.
fn powers(container: &ContainerFacts, found: &mut Vec<Finding>) {
    let name = &container.name;
    let added = |wanted: &str| container.cap_add.iter().any(|cap| cap == wanted || cap == "ALL");
    let owning = OWNING.iter().find(|cap| added(cap));
    if container.privileged {
        let fix = "take `privileged: true` out, and add the one capability or device that it needs";
        found.push(Finding::new(Code::ContainerPrivileged, name, "it is privileged", fix));
    } else if let Some(capability) = owning {
        let what = format!("it has the capability {capability}");
        let fix = format!("take {capability} (or ALL) out of cap_add");
        found.push(Finding::new(Code::ContainerPrivileged, name, what, fix));
    }
    if container.docker_socket {
        let fix = "take the mount of docker.sock out; a filtering proxy of the socket if it must read it";
        found.push(Finding::new(Code::ContainerDockerSocket, name, "docker.sock is mounted in it", fix));
    }
    if container.privileged || owning.is_some() {
        return;
    }
    if added("NET_ADMIN") {
        let fix = "take NET_ADMIN out of cap_add";
        found.push(Finding::new(Code::ContainerNetAdmin, name, "it has the capability NET_ADMIN", fix));
    }
    let dropped = container.cap_drop.iter().any(|cap| cap == "NET_RAW" || cap == "ALL");
    if added("NET_RAW") || !dropped {
        let fix = "cap_drop: [NET_RAW] in its compose service, or --cap-drop NET_RAW";
        found.push(Finding::new(Code::ContainerNetRaw, name, "it has the capability NET_RAW", fix));
    }
}

/// Ways out beside the captured network.
fn ways(container: &ContainerFacts, settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let name = &container.name;
    let captured =
        |bridge: &Option<String>| bridge.as_ref().is_some_and(|b| settings.capture.interfaces.contains(b));
    for network in container.networks.iter().filter(|network| !captured(&network.bridge) && !network.internal)
    {
        let other = &network.name;
        let what = format!("it is connected to {other} too, which is not captured");
        let fix = format!("docker network disconnect {other} {name}, or capture {other}");
        found.push(Finding::new(Code::ContainerSecondNetwork, name, what, fix));
    }
    // On Docker's default network there is no resolver in between.
    let embedded = container.networks.iter().any(|network| network.name != "bridge");
    if container.dns.is_empty() && embedded {
        let what = "no `dns:` is set, and Docker's own resolver answers";
        found.push(Finding::new(Code::ContainerDnsUnset, name, what, dns_fix(container, settings, facts)));
    }
}

fn dns_fix(container: &ContainerFacts, settings: &Settings, facts: &Facts) -> String {
    let bridges: Vec<&String> =
        container.networks.iter().filter_map(|network| network.bridge.as_ref()).collect();
    let captured = |name: &String| bridges.contains(&name) && settings.capture.interfaces.contains(name);
    let mut interfaces = facts.interfaces.iter().flatten().filter(|one| captured(&one.name));
    let address = interfaces.find_map(|one| one.addresses.iter().find(|address| address.is_ipv4()));
    match address {
        Some(address) => format!("dns: [\"{address}\"] in its compose service, or --dns {address}"),
        None => "dns: in its compose service, with the address of the network's gateway".to_owned(),
    }
}

/// Each of them is as good as root on this host.
const OWNING: [&str; 4] = ["ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"];
