//! Containers on captured networks that can get around the gate, or be taken for another.
//!
//! Must not know how containers are asked about.

use crate::docker::Posture;
use crate::doctor::facts::{ContainerFacts, Containers, Facts};
use crate::doctor::finding::{Code, Finding};
use crate::facts::Container;
use crate::settings::{Settings, label_rules};

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let containers = match &facts.containers {
        Containers::NoDocker => {
            let fix = "nothing, unless workloads run in Docker: then run doctor where its socket is";
            found.push(not_seen(settings, "there is no Docker socket", fix));
            return;
        }
        Containers::Unreachable { why, fix } => {
            found.push(not_seen(settings, why, fix));
            return;
        }
        Containers::Running(containers) => containers,
    };
    let captured = |container: &ContainerFacts| is_captured(container, settings);
    for container in containers {
        if settings.docker.as_ref().is_some_and(|docker| docker.labels) {
            label(container, found);
        }
        // As Docker spells it: `host`, `none`, `container:ID`, or a network's name.
        match container.posture.network_mode.split_once(':') {
            Some(("container", other)) => {
                let other = containers.iter().find(|one| one.id == other || one.name == other);
                if let Some(other) = other.filter(|other| captured(other)) {
                    shared(container, other, found);
                    powers(container, found);
                }
            }
            _ if container.posture.network_mode == "host" => host_network(container, found),
            _ if captured(container) => {
                powers(container, found);
                ways(container, settings, facts, found);
            }
            _ => {}
        }
    }
}

fn not_seen(settings: &Settings, why: &str, fix: &str) -> Finding {
    match &settings.docker {
        Some(docker) => {
            let fix = format!(
                "systemctl start docker, or [docker] socket = \"{}\" as it really is",
                docker.socket.display()
            );
            Finding::new(Code::DockerUnreachable, "Docker", why, fix)
        }
        None => Finding::new(Code::DockerNotSeen, "Docker", why, fix),
    }
}

fn is_captured(container: &ContainerFacts, settings: &Settings) -> bool {
    let bridges = container.networks.iter().filter_map(|network| network.bridge.as_ref());
    bridges.into_iter().any(|bridge| settings.capture.interfaces.contains(bridge))
}

/// Whether its rules can be read, as serve reads them.
fn label(container: &ContainerFacts, found: &mut Vec<Finding>) {
    let labelled = Container {
        id: container.id.as_str().into(),
        name: container.name.as_str().into(),
        image: "".into(),
        labels: container.labels.clone(),
        started_at: "".into(),
        addresses: Vec::new(),
    };
    if let Err(why) = label_rules(&labelled) {
        let fix = "namegate.allow=example.com,*.example.net:443 and start it again; names as `exec --allow` takes them";
        found.push(Finding::new(Code::ContainerLabelBroken, &container.name, why, fix));
    }
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
    let (name, posture) = (&container.name, &container.posture);
    for path in &posture.docker_sockets {
        let what = format!("the Docker socket of this host shows in it at {path}");
        let fix = format!("take the mount of {path} out; a filtering proxy of the socket if it must read it");
        found.push(Finding::new(Code::ContainerDockerSocket, name, what, fix));
    }
    if let Some((what, fix)) = owner(posture) {
        found.push(Finding::new(Code::ContainerPrivileged, name, what, fix));
        return;
    }
    if posture.may("NET_ADMIN") {
        let fix = "take NET_ADMIN out of cap_add";
        found.push(Finding::new(Code::ContainerNetAdmin, name, "it has the capability NET_ADMIN", fix));
    }
    if posture.may("NET_RAW") {
        let fix = "cap_drop: [NET_RAW] in its compose service, or --cap-drop NET_RAW";
        found.push(Finding::new(Code::ContainerNetRaw, name, "it has the capability NET_RAW", fix));
    }
}

/// Why root in it owns this host, if it does, and what to change.
fn owner(posture: &Posture) -> Option<(String, String)> {
    if posture.privileged {
        let fix = "take `privileged: true` out, and add the one capability or device that it needs";
        return Some(("it is privileged".to_owned(), fix.to_owned()));
    }
    let capability = OWNING.iter().find(|capability| posture.may(capability));
    if let Some(capability) = capability {
        let what = format!("it has the capability {capability}");
        return Some((what, format!("take {capability} (or ALL) out of cap_add")));
    }
    let traces = posture.pid_mode == "host" && posture.may("SYS_PTRACE");
    traces.then(|| {
        let what = "it sees the processes of this host, and has the capability SYS_PTRACE";
        (what.to_owned(), "take `pid: host` out, or SYS_PTRACE out of cap_add".to_owned())
    })
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
    if container.posture.dns.is_empty() && embedded {
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
const OWNING: [&str; 3] = ["SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"];
