//! `[capture]` and `[proxy]`: whose traffic is taken, and the limits of one connection.
//!
//! Must not know rules or names.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::nft::{CaptureConfig, DnsCapture, Form, FormChoice, Locals, Plan};
use crate::proxy::ProxyConfig;

use super::TABLE;
use super::dns::DnsSettings;
use super::docker;
use super::finding::Finding;
use super::gateways;
use super::local::{self, LocalSettings};
use super::sandbox::FOR_ONE;
use super::scalar::{Complaint, interface};
use super::section::Section;

/// What is captured.
pub(super) struct Capture {
    /// By name.
    pub(super) config: CaptureConfig,
    /// Docker networks, whose interfaces are found at the start.
    pub(super) networks: Vec<String>,
    /// Networks whose default gateway we are to be: their links are found at the start.
    pub(super) gateways: Vec<IpNet>,
    /// Processes of this host.
    pub(super) local: Option<LocalSettings>,
}

/// Reads `[capture]` and brings together what the kernel ruleset depends on.
pub(super) fn read_capture(
    mut section: Section<'_>,
    (proxy_port, local_port): (u16, u16),
    dns: &DnsSettings,
) -> Capture {
    let before = section.sheet.errors();
    let networks = section.parsed_list("docker_networks", docker::network).unwrap_or_default();
    let gateways = gateways::read(&mut section);
    let local = local::read(&mut section, local_port, dns.local_port);
    let elsewhere = !networks.is_empty() || local.is_some() || section.value("gateways").is_some();
    let needed = !elsewhere && section.sheet.errors() == before;
    let interfaces = read_interfaces(&mut section, needed);
    let form = section
        .choice(
            "form",
            &[("auto", FormChoice::Auto), ("redirect", FormChoice::Redirect), ("tproxy", FormChoice::Tproxy)],
        )
        .map_or(FormChoice::default(), |(form, _)| form);
    let resolution = dns.resolver.clone().map_or(DnsCapture::Forwarder, DnsCapture::External);
    let config = CaptureConfig {
        interfaces,
        form,
        proxy_port,
        dns_port: dns.port,
        dns: resolution,
        dns_listen: dns.listen.clone(),
        local: None,
        table: TABLE.to_owned(),
    };
    let at_gateway = |listen: &&SocketAddr| gateways.iter().any(|gateway| gateway.addr() == listen.ip());
    if let Some(listen) = dns.listen.iter().find(at_gateway) {
        section.missing(
            &format!(
                "`dns.listen` {listen} is a gateway address, which is taken after the listeners are open"
            ),
            "leave it out: every question to port 53 is answered, whatever address it goes to",
        );
    }
    // Who is meant is not known yet; that does not matter to names and ports.
    let local_config = local.as_ref().map(|local| local.config(Locals::AllButGate, 0));
    let mut tried = CaptureConfig { local: local_config, ..config.clone() };
    if !gateways.is_empty() {
        // Nor does it matter which link it will be.
        tried.interfaces.push("gateway".to_owned());
    }
    if section.sheet.errors() == before
        && !(tried.interfaces.is_empty() && tried.local.is_none())
        && let Err(error) = Plan::new(tried, Form::Redirect)
    {
        section.missing(
            &error.to_string(),
            "`proxy.port`, `proxy.local_port`, `dns.port`, `dns.local_port`, `dns.listen` and `dns.resolver` share \
             this host",
        );
    }
    section.finish();
    Capture { config, networks, gateways, local }
}

fn read_interfaces(section: &mut Section<'_>, needed: bool) -> Vec<String> {
    let hint = "[capture] interfaces = [\"br-egress\"]: the bridge or link by which the workload's traffic \
                enters this host";
    let before = section.sheet.errors();
    let Some(texts) = section.texts("interfaces") else {
        if needed && section.sheet.errors() == before {
            section.missing("nothing is captured", hint);
        }
        return Vec::new();
    };
    if needed && texts.is_empty() && section.sheet.errors() == before {
        section.missing("nothing is captured: `interfaces` is empty", hint);
    }
    let mut seen = HashSet::new();
    let mut interfaces = Vec::new();
    for text in texts {
        match interface(text.value) {
            Ok(name) if seen.insert(text.value) => interfaces.push(name),
            Ok(_) => section.complain(text.span, Complaint::new("this interface is listed twice")),
            Err(complaint) => section.complain(text.span, complaint),
        }
    }
    interfaces
}

/// Reads `[proxy]`: its ports, for interfaces and for processes of this host, and limits. `hold` comes from
/// `[dnstap]`.
pub(super) fn read_proxy(mut section: Section<'_>, hold: Duration) -> ((u16, u16), ProxyConfig) {
    let port = section.number("port", 1..=u16::MAX).unwrap_or(DEFAULT_PORT);
    let local_port = section.number("local_port", 1..=u16::MAX).unwrap_or(DEFAULT_LOCAL_PORT);
    let limits = read_limits(&mut section, hold, Duration::from_secs(10), NEW_CONNECTIONS);
    let max_connections = limits.max_connections;
    let of_one = section.number("max_connections_per_client", 1..=MOST_CONNECTIONS);
    if of_one.is_some_and(|of_one| of_one > max_connections)
        && let Some(value) = section.value("max_connections_per_client")
    {
        let message = "`max_connections_per_client` is larger than `max_connections`";
        let finding = Finding::error(section.span(value.span()), message);
        section
            .sheet
            .push(finding.hint(format!("at most {max_connections}: one client may not starve the others")));
    }
    section.finish();
    let max_connections_per_client = of_one.unwrap_or((max_connections / 4).clamp(1, 4_096));
    ((port, local_port), ProxyConfig { max_connections_per_client, ..limits })
}

/// Reads `[proxy]` for one command, which is the only client.
pub(super) fn read_proxy_for_one(mut section: Section<'_>) -> ProxyConfig {
    let hint = "its connections are handed over without one";
    section.without_effect(&["port", "local_port"], FOR_ONE, hint);
    let hint = "there is one client: `max_connections` is its limit";
    section.without_effect(&["max_connections_per_client"], FOR_ONE, hint);
    // Who waits for the command wants its exit code, not the end of what it left behind.
    let limits = read_limits(&mut section, Duration::ZERO, Duration::from_secs(1), NEW_CONNECTIONS_OF_ONE);
    section.finish();
    limits
}

/// Reads the limits; one client may have them all. `new`: connections a second when nothing is said.
fn read_limits(section: &mut Section<'_>, hold: Duration, drain: Duration, new: u32) -> ProxyConfig {
    let seconds = Duration::from_secs;
    let sniff_timeout =
        section.duration("sniff_timeout", seconds(5), Duration::from_millis(10)..=seconds(300));
    let connect_timeout =
        section.duration("connect_timeout", seconds(10), Duration::from_millis(10)..=seconds(300));
    let idle_timeout = section.duration("idle_timeout", seconds(3_600), seconds(1)..=seconds(30 * 86_400));
    let drain = section.duration("drain", drain, Duration::ZERO..=seconds(3_600));
    let max_connections =
        section.number("max_connections", LEAST_CONNECTIONS..=MOST_CONNECTIONS).unwrap_or(16_384);
    let new_connections_per_second =
        section.number("new_connections_per_second", 1..=MOST_A_SECOND).unwrap_or(new);
    ProxyConfig {
        sniff_timeout,
        sniff_bytes: SNIFF_BYTES,
        hold,
        connect_timeout,
        idle_timeout,
        max_connections,
        max_connections_per_client: max_connections,
        new_connections_per_second,
        drain,
    }
}

/// Port of the TCP listener.
const DEFAULT_PORT: u16 = 15_001;

/// Port of the TCP listener for processes of this host.
const DEFAULT_LOCAL_PORT: u16 = 15_002;

/// The largest hello that is read, in bytes: a ClientHello is under 64 KiB in TLS records of any cut.
const SNIFF_BYTES: usize = 64 * 1024;

/// New connections of one client in a second: a busy service that keeps none open makes some hundred.
const NEW_CONNECTIONS: u32 = 500;

/// The same for one command: more than a build or a load test gets through a gate.
const NEW_CONNECTIONS_OF_ONE: u32 = 20_000;

/// More than anybody gets through a gate: no limit.
const MOST_A_SECOND: u32 = 1_000_000;

/// A listener that waits for a connection holds the place for it: with fewer places than listeners, those of
/// one address family could be without any.
const LEAST_CONNECTIONS: usize = 16;

/// More descriptors than a process can be given by default (`fs.nr_open` is 1,048,576, two a connection).
const MOST_CONNECTIONS: usize = 500_000;
