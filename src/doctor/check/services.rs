//! Services of this host that captured clients could reach were it not for our table.
//!
//! Must not know containers.

use std::net::IpAddr;

use crate::doctor::facts::{Facts, Service, Table};
use crate::doctor::finding::{Code, Finding};
use crate::nft::DnsCapture;
use crate::settings::Settings;

pub(super) fn check(settings: &Settings, facts: &Facts, found: &mut Vec<Finding>) {
    // With the table as configured they are closed; what was not seen has been told of.
    let (Ok(Table::Not(_)), Ok(services), Ok(interfaces)) =
        (&facts.table, &facts.services, &facts.interfaces)
    else {
        return;
    };
    for interface in interfaces.iter().filter(|one| settings.capture.interfaces.contains(&one.name)) {
        let mut open: Vec<String> = services
            .iter()
            .filter(|service| is_reachable(service, &interface.addresses) && !is_ours(service, settings))
            .map(spell)
            .collect();
        open.sort();
        open.dedup();
        if open.is_empty() {
            continue;
        }
        let listed = open.join(", ");
        found.push(Finding::new(
            Code::ServicesReachable,
            &interface.name,
            format!("these wait at an address that {} leads to: {listed}", interface.name),
            "start namegate serve, or bind them to 127.0.0.1",
        ));
    }
}

fn is_reachable(service: &Service, addresses: &[IpAddr]) -> bool {
    let at = service.address.ip();
    at.is_unspecified() || addresses.contains(&at.to_canonical())
}

/// Listeners that are there for captured clients.
fn is_ours(service: &Service, settings: &Settings) -> bool {
    let (capture, port) = (&settings.capture, service.address.port());
    let resolver = match &capture.dns {
        DnsCapture::Forwarder => port == capture.dns_port,
        DnsCapture::External(resolvers) => {
            resolvers.iter().any(|resolver| resolver.port() == port) || (resolvers.is_empty() && port == 53)
        }
    };
    resolver || port == capture.proxy_port || capture.dns_listen.iter().any(|listen| listen.port() == port)
}

fn spell(service: &Service) -> String {
    let (port, transport) = (service.address.port(), service.transport.as_str());
    match &service.holder {
        Some(holder) => format!("{} ({port}/{transport})", holder.name),
        None => format!("{port}/{transport}"),
    }
}
