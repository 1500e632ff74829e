//! Where answers come from, and how long a connection waits for them.
//!
//! Must not know Docker's resolver, which is the containers' matter.

use std::net::{IpAddr, SocketAddr};

use crate::dns::{OnMiss, Upstream};
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Code, Finding};
use crate::gate::Mode;
use crate::nft::DnsCapture;
use crate::settings::Settings;

use super::known;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    upstreams(settings, facts, found);
    patience(settings, found);
    observe(settings, facts, found);
}

fn upstreams(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let write = "[dns] upstreams = [\"udp://ADDR\"], with the address of another resolver";
    for upstream in &settings.dns.upstreams {
        let (servers, source): (Vec<SocketAddr>, _) = match upstream {
            Upstream::System => {
                let Some(servers) = known(&facts.name_servers, "/etc/resolv.conf", found) else { continue };
                if servers.is_empty() {
                    let what = "upstreams = [\"system\"], and /etc/resolv.conf names no server";
                    found.push(Finding::new(Code::NoUpstream, "system", what, write));
                }
                (servers.iter().map(|&ip| (ip, 53).into()).collect(), "/etc/resolv.conf names")
            }
            Upstream::Udp(server) | Upstream::Tcp(server) => (vec![*server], "upstreams names"),
            // What listens there speaks TLS; the gate does not.
            Upstream::Tls(..) | Upstream::Https(..) => continue,
        };
        for server in servers.into_iter().filter(|server| is_the_gate(*server, settings, facts)) {
            let what = format!("{source} {server}, which is the gate itself");
            found.push(Finding::new(Code::ResolverLoop, server.to_string(), what, write));
        }
    }
}

/// Whether the gate answers at this address.
fn is_the_gate(server: SocketAddr, settings: &Settings, facts: &Facts) -> bool {
    let own = |ip: IpAddr| {
        ip.is_loopback()
            || facts.interfaces.iter().flatten().any(|one| one.addresses.contains(&ip.to_canonical()))
    };
    settings.dns_listen.iter().any(|listen| {
        let same = listen.ip() == server.ip() || (listen.ip().is_unspecified() && own(server.ip()));
        same && listen.port() == server.port()
    })
}

fn patience(settings: &Settings, found: &mut Vec<Finding>) {
    let hold = settings.proxy.hold;
    match (&settings.capture.dns, settings.on_miss) {
        (DnsCapture::External(_), OnMiss::Deny) if hold.as_millis() < LATEST_FRAME => {
            let what = format!("on_miss = \"deny\", and hold is {} ms", hold.as_millis());
            let fix = "[dnstap] hold = \"2500ms\", or [dns] on_miss = \"resolve\"";
            found.push(Finding::new(Code::HoldTooShort, "dnstap.hold", what, fix));
        }
        (DnsCapture::Forwarder, OnMiss::Resolve) => {
            let what = "on_miss = \"resolve\" with the built-in forwarder, which misses no answer";
            found.push(Finding::new(Code::OnMissResolve, "dns.on_miss", what, "[dns] on_miss = \"deny\""));
        }
        (DnsCapture::External(_) | DnsCapture::Forwarder, OnMiss::Deny)
        | (DnsCapture::External(_), OnMiss::Resolve) => {}
    }
}

fn observe(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    let now = facts.clock.now;
    let goes_on = |until: Option<std::time::SystemTime>| until.is_none_or(|until| now < until);
    let defaults = settings.policy.defaults();
    if defaults.mode == Mode::Observe && goes_on(defaults.until) {
        let what = match defaults.until {
            Some(_) => "mode = \"observe\", for now",
            None => "mode = \"observe\", without an end",
        };
        let fix = "mode = \"enforce\"; meanwhile until = \"2026-12-31\", or whichever day it is to end";
        found.push(Finding::new(Code::ObserveMode, "mode", what, fix));
    }
    for rule in settings.policy.rules() {
        if rule.mode == Some(Mode::Observe) && goes_on(rule.until) {
            let what = format!("rule \"{}\" has mode = \"observe\"", rule.id);
            let fix = "take the line out of the rule, or give it an end: until = \"2026-12-31\"";
            found.push(Finding::new(Code::ObserveMode, format!("rule {}", rule.id), what, fix));
        }
    }
}

/// Milliseconds that the frames of most resolvers are late at most: libfstrm flushes every second, and needs two turns.
const LATEST_FRAME: u128 = 2_000;
