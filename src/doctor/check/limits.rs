//! Whether there is enough of everything, and the clock.
//!
//! Must not know how limits are set.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Code, Finding};
use crate::nft::Form;
use crate::settings::Settings;

use super::known;
use super::rules::form;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let connections = settings.proxy.max_connections as u64;
    descriptors(connections, facts, found);
    tracking(connections, settings, facts, found);
    ports(settings, facts, found);
}

fn descriptors(connections: u64, facts: &Facts, found: &mut Vec<Finding>) {
    let needed = connections.saturating_mul(2).saturating_add(BESIDE_CONNECTIONS);
    let Some(Some(limit)) = known(&facts.limits.descriptors, "descriptor limit", found) else { return };
    if *limit >= needed {
        return;
    }
    let whose = if facts.limits.of_gate { "the running gate" } else { "a process started from here" };
    let most = limit.saturating_sub(BESIDE_CONNECTIONS) / 2;
    found.push(Finding::new(
        Code::DescriptorsTooFew,
        "RLIMIT_NOFILE",
        format!("{whose} may hold {limit} descriptors; max_connections = {connections} takes {needed}"),
        format!("LimitNOFILE={needed} in its unit, --ulimit nofile={needed} in a container, or [proxy] max_connections = {most}"),
    ));
}

fn tracking(connections: u64, settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    if form(settings, facts) != Some(Form::Redirect) {
        return;
    }
    let Some(Some(most)) = known(&facts.limits.tracked, "nf_conntrack_max", found) else { return };
    let needed = connections.saturating_mul(2);
    if *most < needed {
        let what =
            format!("{most} connections are tracked at most; max_connections = {connections} takes {needed}");
        let fix = format!("sysctl -w net.netfilter.nf_conntrack_max={}", needed.saturating_mul(2));
        found.push(Finding::new(Code::ConntrackTooSmall, "nf_conntrack_max", what, fix));
    }
}

fn ports(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let Some(Some((first, last))) = known(&facts.limits.local_ports, "ip_local_port_range", found) else {
        return;
    };
    let reserved = &facts.limits.reserved_ports;
    for port in [settings.capture.proxy_port, settings.capture.dns_port] {
        if (*first..=*last).contains(&port) && !is_listed(reserved, port) {
            let what = format!("port {port} is one of those that outgoing connections take ({first}-{last})");
            let list = if reserved.is_empty() { port.to_string() } else { format!("{reserved},{port}") };
            let fix = format!("sysctl -w net.ipv4.ip_local_reserved_ports={list}");
            found.push(Finding::new(Code::PortsOverlap, format!("port {port}"), what, fix));
        }
    }
}

/// Whether a list such as `8080,15000-15999` holds a port.
fn is_listed(list: &str, port: u16) -> bool {
    list.split(',').any(|item| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let number = |text: &str| text.trim().parse::<u16>().ok();
        number(first).zip(number(last)).is_some_and(|(first, last)| (first..=last).contains(&port))
    })
}

/// The clock concerns every door.
pub(super) fn check_clock(facts: &Facts, found: &mut Vec<Finding>) {
    let clock = &facts.clock;
    let fix = "timedatectl set-ntp true (systemd-timesyncd), or start chrony";
    if clock.program_made.is_some_and(|made| clock.now < made) {
        let what = "the clock is earlier than the time when this program was installed";
        found.push(Finding::new(Code::ClockBehindProgram, "clock", what, fix));
    }
    match &clock.synchronised {
        Ok(true) => {}
        Ok(false) => {
            let what = "the kernel does not know of a reference that the clock follows";
            found.push(Finding::new(Code::ClockNotSynchronised, "clock", what, fix));
        }
        Err(why) => {
            let fix = "nothing, if the host keeps it; `timedatectl` there shows whether it does";
            found.push(Finding::new(Code::ClockNotSeen, "clock", why.clone(), fix));
        }
    }
}

/// Listeners, the log, questions under way, pipes of bulk transfers.
const BESIDE_CONNECTIONS: u64 = 512;
