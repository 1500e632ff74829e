//! `[dns]`: who answers the workload's questions, and who answers ours.
//!
//! Must not know dnstap's keys, only whether there is a tap.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::dns::{Denial, DnsConfig, OnMiss, Upstream};

use super::endpoint::upstream;
use super::finding::{Finding, Span};
use super::qtype::{self, query_type};
use super::sandbox::FOR_ONE;
use super::scalar::{Complaint, server, socket};
use super::section::Section;

/// What `[dns]` says.
pub(super) struct DnsSettings {
    /// The operator's resolvers in external mode; `None`: the built-in forwarder.
    pub(super) resolver: Option<Vec<SocketAddr>>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) port: u16,
    /// For processes of this host.
    pub(super) local_port: u16,
    pub(super) on_miss: OnMiss,
    pub(super) config: DnsConfig,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DnsMode {
    Forward,
    External,
}

/// Reads `[dns]`. `tapped`: whether there is a dnstap listener.
pub(super) fn read(mut section: Section<'_>, tapped: bool) -> DnsSettings {
    let mode = section.choice("mode", &[("forward", DnsMode::Forward), ("external", DnsMode::External)]);
    let external = mode.is_some_and(|(mode, _)| mode == DnsMode::External);
    if let Some((DnsMode::External, span)) = mode
        && !tapped
    {
        let finding = Finding::error(span, "an external resolver without dnstap gives no evidence");
        section.sheet.push(
            finding.hint(
                "[dnstap] listen = [\"unix:/run/namegate/dnstap.sock\"], and let the resolver send there",
            ),
        );
    }
    let resolver = read_resolver(&mut section, external);
    let on_miss = section
        .choice("on_miss", &[("deny", OnMiss::Deny), ("resolve", OnMiss::Resolve)])
        .map_or(if external { OnMiss::Resolve } else { OnMiss::Deny }, |(on_miss, _)| on_miss);
    if external {
        let because = "with `mode = \"external\"`";
        let hint = "questions go to the resolver, which answers or refuses them by its own rules";
        section.without_effect(
            &["listen", "types", "denial", "cache", "questions_per_second"],
            because,
            hint,
        );
    }
    if external && on_miss == OnMiss::Deny {
        let because = "with `mode = \"external\"` and `on_miss = \"deny\"`";
        section.without_effect(
            &["upstreams", "ca_file", "timeout"],
            because,
            "namegate asks nobody itself then",
        );
    }
    let listen = if external { Vec::new() } else { read_listen(&mut section) };
    let own = resolver.as_deref().filter(|resolvers| !resolvers.is_empty());
    let default = own.map_or(vec![Upstream::System], |own| own.iter().copied().map(Upstream::Udp).collect());
    let config = read_config(&mut section, external, default, SOME);
    let port = section.number("port", 1..=u16::MAX).unwrap_or(DEFAULT_PORT);
    let local_port = section.number("local_port", 1..=u16::MAX).unwrap_or(DEFAULT_LOCAL_PORT);
    section.finish();
    DnsSettings { resolver, listen, port, local_port, on_miss, config }
}

/// Reads `[dns]` for one command: the built-in forwarder answers it, and nobody else. `given`: upstreams that
/// were given besides the file, and hold in place of its own.
pub(super) fn read_for_one(mut section: Section<'_>, given: Option<Vec<Upstream>>) -> DnsConfig {
    if let Some((DnsMode::External, span)) =
        section.choice("mode", &[("forward", DnsMode::Forward), ("external", DnsMode::External)])
    {
        let finding = Finding::error(span, "an external resolver cannot answer one command");
        section.sheet.push(finding.hint("leave `mode` out: the built-in forwarder answers it"));
    }
    let hint = "the built-in forwarder answers every question of the command; it asks `upstreams`";
    section.without_effect(&["resolver", "listen", "port", "local_port"], FOR_ONE, hint);
    let hint = "what DNS did not give the command is denied; the answer is known before it is";
    section.without_effect(&["on_miss"], FOR_ONE, hint);
    let hint = "there is one client: `max_inflight` is its limit";
    section.without_effect(&["max_inflight_per_client"], FOR_ONE, hint);
    let default = given.clone().unwrap_or(vec![Upstream::System]);
    let config = read_config(&mut section, false, default, OF_ONE);
    section.finish();
    let upstreams = given.unwrap_or(config.upstreams);
    DnsConfig { upstreams, max_inflight_per_client: config.max_inflight, ..config }
}

fn read_resolver(section: &mut Section<'_>, external: bool) -> Option<Vec<SocketAddr>> {
    if !external {
        section.without_effect(
            &["resolver"],
            "without `mode = \"external\"`",
            "the built-in forwarder asks `upstreams`; set `mode = \"external\"` to send the workload's questions to \
             your own resolver",
        );
        return None;
    }
    let mut resolvers: Vec<SocketAddr> = Vec::new();
    for text in section.texts("resolver").unwrap_or_default() {
        match server(text.value, 53) {
            Ok(resolver) if resolvers.iter().any(|other| other.is_ipv4() == resolver.is_ipv4()) => {
                let complaint = Complaint::new("a second resolver of the same address family");
                section.complain(text.span, complaint.hint("at most one IPv4 and one IPv6 address"));
            }
            Ok(resolver) => resolvers.push(resolver),
            Err(complaint) => section.complain(text.span, complaint),
        }
    }
    Some(resolvers)
}

fn read_listen(section: &mut Section<'_>) -> Vec<SocketAddr> {
    let mut sockets = Vec::new();
    for text in section.texts("listen").unwrap_or_default() {
        match socket(text.value, 53) {
            Ok(socket) => {
                warn_if_open(section, text.span, socket.ip());
                if sockets.contains(&socket) {
                    section.complain(text.span, Complaint::new(format!("`{socket}` is listed twice")));
                }
                sockets.push(socket);
            }
            Err(complaint) => section.complain(text.span, complaint),
        }
    }
    sockets
}

fn warn_if_open(section: &Section<'_>, span: Span, address: IpAddr) {
    if address.is_unspecified() {
        let finding = Finding::warning(span, "the forwarder listens on every network of this host");
        section
            .sheet
            .push(finding.hint("captured questions need no listen address; else name the one address"));
    }
}

fn read_config(
    section: &mut Section<'_>,
    external: bool,
    default: Vec<Upstream>,
    rates: (u32, u32),
) -> DnsConfig {
    let before = section.sheet.errors();
    let upstreams = section.parsed_list("upstreams", upstream);
    if upstreams.as_ref().is_some_and(Vec::is_empty) && section.sheet.errors() == before {
        section.missing("`upstreams` is empty: nothing could be resolved", "upstreams = [\"system\"]");
    }
    let upstreams = upstreams.unwrap_or(default);
    let certified = upstreams.iter().any(|upstream| match upstream {
        Upstream::Tls(..) | Upstream::Https(..) => true,
        Upstream::System | Upstream::Udp(_) | Upstream::Tcp(_) => false,
    });
    let ca_file = section.text("ca_file");
    if let Some(text) = ca_file.filter(|_| !certified) {
        let finding =
            Finding::warning(text.span, "`ca_file` has no effect without a tls:// or https:// upstream");
        section.sheet.push(finding);
    }
    let denial = section
        .choice("denial", &[("refused", Denial::Refused), ("nxdomain", Denial::NxDomain)])
        .map_or(Denial::default(), |(denial, _)| denial);
    let seconds = Duration::from_secs;
    let timeout = section.duration("timeout", seconds(2), Duration::from_millis(50)..=seconds(60));
    let max_inflight = section.number("max_inflight", 1..=1_000_000).unwrap_or(4_096);
    let of_one = section.number("max_inflight_per_client", 1..=1_000_000);
    DnsConfig {
        upstreams,
        ca_file: ca_file.map(|text| section.base.join(text.value)),
        types: if external { qtype::DEFAULT.to_vec() } else { read_types(section) },
        denial,
        timeout,
        cache: section.number("cache", 0..=1_000_000).unwrap_or(DEFAULT_CACHE),
        max_inflight,
        max_inflight_per_client: of_one.unwrap_or(256).min(max_inflight),
        questions_per_second: section.number("questions_per_second", 1..=MOST).unwrap_or(rates.0),
        new_names_per_minute: section.number("new_names_per_minute", 1..=MOST).unwrap_or(rates.1),
        // Whether this host has an IPv6 route is found out when the gate starts.
        no_ipv6: false,
    }
}

fn read_types(section: &mut Section<'_>) -> Vec<u16> {
    let Some(texts) = section.texts("types") else { return qtype::DEFAULT.to_vec() };
    if texts.is_empty() {
        section.missing(
            "`types` is empty: every question would be refused",
            "leave it out for the default types",
        );
    }
    let mut types = Vec::new();
    for text in texts {
        match query_type(text.value) {
            Ok(number) => {
                if qtype::TUNNELS.contains(&number) {
                    let message = format!("{} records are what DNS tunnels talk in", text.value);
                    let finding = Finding::warning(text.span, message);
                    section.sheet.push(finding.hint("they can carry data out under any allowed name's zone"));
                }
                types.push(number);
            }
            Err(complaint) => section.complain(text.span, complaint),
        }
    }
    types
}

/// Questions of one client in a second, and names in a minute that it had not asked for lately. A client without a
/// cache asks twice for each connection; what it connects to is mostly the same.
const SOME: (u32, u32) = (1_000, 600);

/// The same for one command: more than a build asks for.
const OF_ONE: (u32, u32) = (40_000, 6_000);

/// No limit that anybody reaches.
const MOST: u32 = 1_000_000;

/// Answers kept: at most some 20 MB, in fact some 2.
const DEFAULT_CACHE: usize = 4_096;

/// Port of the DNS listener that captured questions are handed to.
const DEFAULT_PORT: u16 = 15_353;

/// Port of the DNS listener for processes of this host.
const DEFAULT_LOCAL_PORT: u16 = 15_054;
