//! Whether our rules are in force, and what holds traffic if they are not.
//!
//! Must not know other tables than ours.

use crate::doctor::facts::{Facts, Table};
use crate::doctor::finding::{Code, Finding};
use crate::facts::Transport;
use crate::nft::{self, Difference, Family, Form, FormChoice, MARK, Piece, ROUTE_TABLE, Steering};
use crate::settings::{Settings, TABLE};

use super::known;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let table = known(&facts.table, "ruleset", found);
    let steering = known(&facts.steering, "policy routing", found);
    let unfenced = steering.map(|steering| unfenced(settings, facts, steering, found)).unwrap_or_default();
    match table {
        Some(Table::Not(difference)) => not_in_force(difference, &unfenced, found),
        Some(Table::InForce(form)) => {
            for (interface, family) in &unfenced {
                let place = place(interface, *family);
                found.push(Finding::new(
                    Code::FenceMissing,
                    &place,
                    format!("{place} is routed, and has no `prohibit` rule"),
                    fence(interface, *family),
                ));
            }
            gate(settings, facts, found);
            still_fits(*form, settings, facts, found);
            let marks = *form == Form::Tproxy && !settings.capture.interfaces.is_empty();
            if let (true, Some(steering)) = (marks, steering) {
                home(steering, found);
            }
        }
        None => {}
    }
}

/// The captured interfaces, by family, that this host routes for without a fence of ours.
fn unfenced(
    settings: &Settings,
    facts: &Facts,
    steering: &Steering,
    found: &mut Vec<Finding>,
) -> Vec<(String, Family)> {
    let mut open = Vec::new();
    let captured = facts.forwarding.iter().filter(|one| settings.capture.interfaces.contains(&one.interface));
    for one in captured {
        for (family, routed) in [(Family::V4, &one.ipv4), (Family::V6, &one.ipv6)] {
            let place = place(&one.interface, family);
            let Some(routed) = known(routed, &format!("forwarding of {place}"), found) else { continue };
            if *routed && !steering.contains(&(family, Piece::Fence(one.interface.clone()))) {
                open.push((one.interface.clone(), family));
            }
        }
    }
    open
}

fn place(interface: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{interface}, IPv4"),
        Family::V6 => format!("{interface}, IPv6"),
    }
}

fn not_in_force(difference: &Difference, unfenced: &[(String, Family)], found: &mut Vec<Finding>) {
    let (code, what, fix) = match difference {
        Difference::Missing => (
            Code::TableMissing,
            format!("there is no table inet {TABLE}"),
            "systemctl start namegate, or namegate serve --config FILE",
        ),
        Difference::Other(what) => (
            Code::TableDiffers,
            format!("table inet {TABLE} is not that of this configuration: {what}"),
            "systemctl restart namegate, or end namegate serve and start it with this configuration",
        ),
    };
    for (interface, family) in unfenced {
        let place = place(interface, *family);
        found.push(Finding::new(
            Code::ForwardingUnfenced,
            &place,
            format!("{what}, and {place} is routed"),
            format!("{}, then start namegate serve", fence(interface, *family)),
        ));
    }
    found.push(Finding::new(code, format!("inet {TABLE}"), what, fix));
}

/// The command that stops the leak at once: a fence like that of serve, which `down` then removes as well.
fn fence(interface: &str, family: Family) -> String {
    let six = match family {
        Family::V4 => "",
        Family::V6 => "-6 ",
    };
    format!("ip {six}rule add iif {interface} priority 101 protocol 78 prohibit")
}

/// The port that connections are led to; processes of this host have one of their own.
pub(in crate::doctor) fn proxy_port(settings: &Settings) -> u16 {
    let capture = &settings.capture;
    let local = capture.local.as_ref().filter(|_| capture.interfaces.is_empty());
    local.map_or(capture.proxy_port, |local| local.proxy_port)
}

/// Whether somebody listens where the rules lead.
fn gate(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let Some(services) = known(&facts.services, "listening sockets", found) else { return };
    let port = proxy_port(settings);
    let mut there =
        services.iter().filter(|one| one.transport == Transport::Tcp && one.address.port() == port);
    let fix = "systemctl start namegate, or namegate serve --config FILE";
    let subject = format!("port {port}");
    match there.next().map(|service| &service.holder) {
        None => found.push(Finding::new(
            Code::GateNotRunning,
            subject,
            format!("nobody listens on port {port}"),
            fix,
        )),
        Some(Some(holder)) if !holder.name.starts_with("namegate") => {
            let what = format!("{} (process {}) listens on port {port}", holder.name, holder.pid);
            found.push(Finding::new(Code::GateNotRunning, subject, what, format!("end it, then {fix}")));
        }
        Some(_) => {}
    }
}

/// Whether what serve chose when it started is what it would choose now: dockerd switches bridge filtering on.
fn still_fits(form: Form, settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let auto = settings.capture.form == FormChoice::Auto;
    if let (true, Form::Tproxy, Some(Form::Redirect)) = (auto, form, suggested(settings, facts)) {
        found.push(Finding::new(
            Code::TproxyOnBridge,
            settings.capture.interfaces.join(", "),
            "the rules in force are of the tproxy form, and bridge-nf-call-iptables was switched on since",
            "systemctl restart namegate: it takes the redirect form then",
        ));
    }
}

/// Whether marked packets find home, in each family that is steered at all: a host may have no IPv6.
fn home(steering: &Steering, found: &mut Vec<Finding>) {
    let steered = |family| family == Family::V4 || steering.iter().any(|(known, _)| *known == family);
    for (family, word, six) in [(Family::V4, "IPv4", ""), (Family::V6, "IPv6", "-6 ")] {
        if steered(family) && !steering.contains(&(family, Piece::Home)) {
            found.push(Finding::new(
                Code::HomeMissing,
                format!("fwmark {MARK:#x}, {word}"),
                "the routing rule or route that brings captured packets to the gate is not there",
                format!(
                    "ip {six}rule add fwmark {MARK:#x} priority 100 lookup {ROUTE_TABLE}; ip {six}route replace local default dev lo table {ROUTE_TABLE}"
                ),
            ));
        }
    }
}

/// The form that serve would choose now.
fn suggested(settings: &Settings, facts: &Facts) -> Option<Form> {
    let links = facts.links.as_ref().ok()?.clone();
    let seen = nft::Facts { links, bridge_filtering: facts.bridge_filtering, ..Default::default() };
    Some(nft::suggested(&settings.capture, &seen))
}

/// The form in force, or else the one that would be.
pub(super) fn form(settings: &Settings, facts: &Facts) -> Option<Form> {
    match &facts.table {
        Ok(Table::InForce(form)) => Some(*form),
        Ok(Table::Not(_)) | Err(_) => suggested(settings, facts),
    }
}
