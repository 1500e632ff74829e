//! Limits and the clock.
//!
//! Must not judge.

use crate::doctor::check::proxy_port;
use crate::doctor::facts::{Clock, Limits, Seen, Service};
use crate::settings::Settings;
use crate::sys::{clock as clocks, limits as own, switches};

use super::told;

/// `services` tells which process is the gate, if it runs and may be looked into: its limits are the ones that count.
pub(super) fn limits(settings: Option<&Settings>, services: &Seen<Vec<Service>>) -> Limits {
    let port = settings.map(proxy_port);
    let gate = services.iter().flatten().filter(|service| Some(service.address.port()) == port);
    let gate =
        gate.filter_map(|service| service.holder.as_ref()).find(|holder| holder.name.starts_with("namegate"));
    let (descriptors, of_gate) = match gate {
        Some(gate) => (own::most_descriptors_of(gate.pid).map_err(|error| told(&error)), true),
        None => (Ok(own::most_descriptors()), false),
    };
    let numbers = |name: &str| switches::numbers(name).map_err(|error| told(&error));
    Limits {
        descriptors,
        of_gate,
        tracked: numbers("net/netfilter/nf_conntrack_max").map(|found| found?.first().copied()),
        local_ports: numbers("net/ipv4/ip_local_port_range").map(|found| match found?.as_slice() {
            [first, last] => u16::try_from(*first).ok().zip(u16::try_from(*last).ok()),
            _ => None,
        }),
        reserved_ports: switches::read("net/ipv4/ip_local_reserved_ports").ok().flatten().unwrap_or_default(),
    }
}

pub(super) fn clock() -> Clock {
    let program = std::env::current_exe().and_then(std::fs::metadata).and_then(|file| file.modified());
    Clock {
        now: clocks::now().wall,
        program_made: program.ok(),
        synchronised: clocks::is_synchronised().map_err(|error| told(&error)),
    }
}
