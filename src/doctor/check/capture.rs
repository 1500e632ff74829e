//! Whether the configured interfaces can be captured, and what else is plugged in there.
//!
//! Must not know what rules are in force.

use crate::doctor::facts::Facts;
use crate::doctor::finding::{Code, Finding};
use crate::nft::{self, NftError, NftVersion};
use crate::settings::{LocalSettings, LocalWho, Settings};
use crate::sys::interfaces::{Interface, Kind};

use super::known;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    if facts.looker.root && !facts.looker.net_admin {
        let fix = "run the gate with --cap-add NET_ADMIN, or AmbientCapabilities=CAP_NET_ADMIN in its unit";
        found.push(Finding::new(Code::NoNetAdmin, "this process", "root, but without CAP_NET_ADMIN", fix));
    }
    if let Some((what, fix)) = &facts.obstacle {
        found.push(Finding::new(Code::CaptureUndecided, "capture", what.clone(), fix.clone()));
    }
    if let Some(LocalSettings { who: LocalWho::These { users, .. }, .. }) = &settings.local
        && !users.is_empty()
    {
        let what = format!("processes are captured by user: {}", users.join(", "));
        let fix = "local = { cgroups = [\"system.slice/NAME.service\"] } captures whatever a service starts";
        found.push(Finding::new(Code::SetUidPrograms, "capture.local", what, fix));
    }
    let nft = known(&facts.nft, "nft", found).copied();
    let interfaces = known(&facts.interfaces, "interfaces", found);
    if let (Some(links), Some(interfaces)) = (known(&facts.links, "captured interfaces", found), interfaces) {
        // Addresses that the gate takes when it starts are its own.
        let gateways = settings.gateways.iter().map(ipnet::IpNet::addr);
        let seen = nft::Facts {
            links: links.clone(),
            bridge_filtering: facts.bridge_filtering,
            addresses: interfaces
                .iter()
                .flat_map(|one| one.addresses.iter().copied())
                .chain(gateways)
                .collect(),
            // An unknown version has been told of.
            nft: nft.unwrap_or(Some(NftVersion(u16::MAX, 0, 0))),
            net_admin: true,
        };
        found.extend(nft::objections(&settings.capture, &seen).iter().map(finding));
    }
    if let Some(interfaces) = interfaces {
        plugged_in(settings, facts, interfaces, found);
    }
}

/// Spells what speaks against capturing.
fn finding(error: &NftError) -> Finding {
    let (code, subject) = match error {
        NftError::NotInstalled => (Code::NftMissing, "nft".to_owned()),
        NftError::TooOld { .. } => (Code::NftTooOld, "nft".to_owned()),
        NftError::NoPrivilege => (Code::NoNetAdmin, "this process".to_owned()),
        NftError::NoInterface { name } => (Code::InterfaceMissing, name.clone()),
        NftError::OtherName { name, .. } => (Code::InterfaceAlias, name.clone()),
        NftError::Port { name, .. } => (Code::InterfaceIsPort, name.clone()),
        NftError::TproxyOnBridge { name, .. } => (Code::TproxyOnBridge, name.clone()),
        NftError::ResolverElsewhere { address } => (Code::ResolverElsewhere, address.to_string()),
        NftError::Plan(_)
        | NftError::Run(_)
        | NftError::Timeout(_)
        | NftError::Refused { .. }
        | NftError::ReadBack { .. }
        | NftError::Netlink { .. }
        | NftError::RoutingTable { .. } => (Code::NotSeen, "capture".to_owned()),
    };
    Finding::new(code, subject, error.to_string(), error.hint().unwrap_or_default())
}

fn plugged_in(settings: &Settings, facts: &Facts, interfaces: &[Interface], found: &mut Vec<Finding>) {
    for bridge in interfaces.iter().filter(|one| one.kind == Kind::Bridge) {
        let name = &bridge.name;
        let ports = || interfaces.iter().filter(|one| one.controller.as_ref() == Some(name));
        if !settings.capture.interfaces.contains(name) {
            if bridge.up && ports().next().is_some() {
                found.push(Finding::new(
                    Code::BridgeNotCaptured,
                    name,
                    format!("{name} has {} and is not captured", count(ports().count(), "port")),
                    format!("if a workload is behind it: [capture] interfaces = [..., \"{name}\"]"),
                ));
            }
            continue;
        }
        for device in ports().filter(|port| port.kind == Kind::Device) {
            let port = &device.name;
            found.push(Finding::new(
                Code::BridgeWithUplink,
                format!("{name}, {port}"),
                format!("the device {port} is a port of the captured bridge {name}"),
                format!("ip link set dev {port} nomaster"),
            ));
        }
        let open: Vec<&str> = ports()
            .filter(|port| !port.isolated && port.kind != Kind::Device)
            .map(|port| port.name.as_str())
            .collect();
        // Where bridged frames meet the IP hooks, neighbours are captured like any other destination.
        let seen_by_rules = facts.bridge_filtering.ipv4 && facts.bridge_filtering.ipv6;
        if open.len() > 1 && !seen_by_rules {
            found.push(Finding::new(
                Code::PortsNotIsolated,
                name,
                format!("{} ports of {name} are not isolated", open.len()),
                open.iter()
                    .map(|port| format!("bridge link set dev {port} isolated on"))
                    .collect::<Vec<_>>()
                    .join("; "),
            ));
        }
    }
}

/// Spells a number of things.
fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}
