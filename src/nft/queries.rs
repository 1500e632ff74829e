//! The rules about queries to port 53: who answers them, in each form and mode, and nobody else.
//!
//! Pure text, one function a chain. Must not know the chains that these rules stand in.

use std::net::{IpAddr, SocketAddr};

use super::plan::{DNS_PORT, DnsCapture, Form, Plan};

/// Which packets of a query are meant.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Query,
    Reply,
}

/// In the transparent form: what stays tracked, since an external resolver's queries are translated.
pub(super) fn tracked(plan: &Plan, side: Side) -> Vec<String> {
    let DnsCapture::External(resolvers) = &plan.config().dns else { return Vec::new() };
    let mut rules = Vec::new();
    match side {
        Side::Query => rules.push(format!("{QUERY} accept")),
        Side::Reply if resolvers.is_empty() => rules.push(format!("{BOTH} th sport {DNS_PORT} accept")),
        Side::Reply => {}
    }
    for resolver in resolvers {
        let (ip, address) = family(resolver.ip());
        match side {
            Side::Query if resolver.port() == DNS_PORT => {}
            Side::Query => rules.push(format!("{} accept", service(resolver))),
            Side::Reply => {
                rules.push(format!("{ip} saddr {address} {BOTH} th sport {} accept", resolver.port()));
            }
        }
    }
    rules
}

/// What the guard lets through to a DNS listener or resolver.
pub(super) fn guard(plan: &Plan) -> Vec<String> {
    let mut rules = listen(plan);
    match &plan.config().dns {
        DnsCapture::Forwarder => match plan.form() {
            Form::Redirect => rules.push(format!("{QUERY} accept")),
            // Reached only when nobody listens.
            Form::Tproxy => rules.push(format!("{QUERY} goto refuse")),
        },
        DnsCapture::External(resolvers) if resolvers.is_empty() => {
            rules.push(format!("{QUERY} accept"));
        }
        DnsCapture::External(resolvers) => {
            rules.extend(resolvers.iter().map(|resolver| {
                let protocol = nfproto(resolver.ip());
                format!("meta nfproto {protocol} {QUERY} accept")
            }));
            let elsewhere = resolvers.iter().filter(|resolver| resolver.port() != DNS_PORT);
            rules.extend(elsewhere.map(|resolver| format!("{} accept", service(resolver))));
            rules.push(format!("{QUERY} goto refuse"));
        }
    }
    rules
}

/// Where queries go. The client's own source address stays: the resolver has to tell clients apart.
pub(super) fn translate(plan: &Plan) -> Vec<String> {
    let config = plan.config();
    match &config.dns {
        DnsCapture::Forwarder => vec![format!("{QUERY} redirect to :{}", config.dns_port)],
        DnsCapture::External(resolvers) if resolvers.is_empty() => {
            vec![format!("{QUERY} redirect to :{DNS_PORT}")]
        }
        DnsCapture::External(resolvers) => {
            let asked = resolvers.iter().map(|resolver| format!("{} accept", service(resolver)));
            let captured = resolvers.iter().map(|resolver| {
                let (ip, _) = family(resolver.ip());
                format!("meta nfproto {} {QUERY} dnat {ip} to {resolver}", nfproto(resolver.ip()))
            });
            asked.chain(captured).collect()
        }
    }
}

/// What of it the input chain knows again.
pub(super) fn input(plan: &Plan) -> Vec<String> {
    let config = plan.config();
    match &config.dns {
        DnsCapture::Forwarder => match plan.form() {
            // Translating port 53 to itself leaves no trace, and is no other port.
            Form::Redirect if config.dns_port == DNS_PORT => vec![format!("{QUERY} accept")],
            Form::Redirect => vec![format!("ct status dnat {BOTH} th dport {} accept", config.dns_port)],
            Form::Tproxy => Vec::new(),
        },
        DnsCapture::External(resolvers) if resolvers.is_empty() => vec![format!("{QUERY} accept")],
        DnsCapture::External(resolvers) => {
            resolvers.iter().map(|resolver| format!("{} accept", service(resolver))).collect()
        }
    }
}

/// Listen addresses of the forwarder on ports that are not captured anyway; loopback is out of reach.
pub(super) fn listen(plan: &Plan) -> Vec<String> {
    let reachable = |address: &&SocketAddr| address.port() != DNS_PORT && !address.ip().is_loopback();
    plan.config().dns_listen.iter().filter(reachable).map(|a| format!("{} accept", service(a))).collect()
}

/// Matches one service, TCP and UDP; the unspecified address stands for every address of this host.
pub(super) fn service(address: &SocketAddr) -> String {
    let port = address.port();
    let (ip, literal) = family(address.ip());
    if address.ip().is_unspecified() {
        format!("meta nfproto {} fib daddr type local {BOTH} th dport {port}", nfproto(address.ip()))
    } else {
        format!("{ip} daddr {literal} {BOTH} th dport {port}")
    }
}

fn family(address: IpAddr) -> (&'static str, IpAddr) {
    (if address.is_ipv4() { "ip" } else { "ip6" }, address)
}

const fn nfproto(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

const BOTH: &str = "meta l4proto { tcp, udp }";

/// Any query, to whomever.
pub(super) const QUERY: &str = "meta l4proto { tcp, udp } th dport 53";
