//! `explain`: one connection that might be, asked of the real gate without sending anything.
//!
//! Evidence is assumed or withheld as the operator says. Must not judge by itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use serde_json::json;

use crate::dns::OnMiss;
use crate::facts::{
    Address, Claim, Flow, FlowId, Moment, Name, Named, Observation, Protocol, Source, Transport, Via,
};
use crate::gate::{Action, Decision, Gate, Policy, Reason};
use crate::sys::clock;

use super::hints;
use super::output::{Failure, Screen};
use super::serve::load;
use super::steps::{self, Line};
use super::target;
use super::tree::ExplainArgs;

/// The connection in question.
pub(super) struct Case {
    pub(super) name: Name,
    pub(super) flow: Flow,
    pub(super) claim: Claim,
    pub(super) ech: bool,
    /// An address rule is for this client and port.
    pub(super) reachable_by_address: bool,
    /// As the operator gave them.
    client: Option<IpAddr>,
    address: Option<IpAddr>,
}

impl Case {
    pub(super) fn client_text(&self) -> String {
        self.client.map_or("some client".to_owned(), |client| format!("client {client}"))
    }

    pub(super) fn address_text(&self) -> String {
        self.address.map_or("an address".to_owned(), |address| address.to_string())
    }

    pub(super) fn assumption(&self) -> String {
        let address =
            self.address.map_or("the address that it dials".to_owned(), |address| address.to_string());
        format!("DNS gave this client {address} for {}", self.name)
    }
}

pub(super) fn explain(arguments: &ExplainArgs, screen: &mut Screen) -> Result<ExitCode, Failure> {
    let settings = load(&arguments.config, screen)?;
    let mut case = case(arguments)?;
    let now = clock::now();
    let on_miss = settings.on_miss;
    let gate = Gate::new(settings.policy, settings.ledger);
    if arguments.observed || arguments.address.is_none() {
        gate.observe(&observation(&case, now), now);
    }
    case.reachable_by_address = gate.may_serve_by_address(&case.flow, now);
    let early = gate.decide_by_address(&case.flow, now);
    let by_address = early.is_some();
    let decision = early.unwrap_or_else(|| gate.decide(&case.flow, &case.claim, now));
    let lines = steps::lines(&case, &decision, by_address);
    let hint = hint(&case, &decision, &gate.policy(), on_miss);
    let text = if arguments.json {
        json_text(&case, &decision, &lines, hint.as_deref())
    } else {
        plain_text(&case, &decision, &lines, hint.as_deref())
    };
    screen.data(&text)?;
    Ok(if decision.is_allowed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn case(arguments: &ExplainArgs) -> Result<Case, Failure> {
    let target = target::parse(&arguments.target).map_err(|error| {
        Failure::usage(error).hint("https://example.com/, example.com:8443 or example.com")
    })?;
    let port = arguments.port.or(target.port).unwrap_or(443);
    let protocol = target.protocol.unwrap_or(if port == 80 { Protocol::Http } else { Protocol::Tls });
    let via = match protocol {
        Protocol::Tls | Protocol::Postgres => Via::Sni,
        Protocol::Http => Via::Host,
        Protocol::H2 => Via::Authority,
        Protocol::Quic => Via::Quic,
    };
    let client = SocketAddr::new(arguments.client.unwrap_or(SOME_CLIENT), SOME_PORT);
    let destination = SocketAddr::new(arguments.address.unwrap_or(SOME_ADDRESS), port);
    let flow = Flow::new(FlowId(0), client, destination, Transport::Tcp, clock::tick());
    let claim = Claim::Named(Named { name: target.name.clone(), protocol, via, ech: arguments.ech });
    Ok(Case {
        name: target.name,
        flow,
        claim,
        ech: arguments.ech,
        reachable_by_address: false,
        client: arguments.client,
        address: arguments.address,
    })
}

/// The answer that is assumed to have come.
fn observation(case: &Case, now: Moment) -> Observation {
    Observation {
        client: case.flow.client(),
        chain: vec![case.name.clone()],
        addresses: vec![Address { ip: case.flow.destination.ip(), ttl_secs: 60 }],
        source: Source::Forwarder,
        at: now.tick,
    }
}

fn hint(case: &Case, decision: &Decision, policy: &Policy, on_miss: OnMiss) -> Option<String> {
    let reason = decision.would.unwrap_or(decision.reason);
    let plain = hints::for_reason(reason)?;
    if reason == Reason::NameNotAllowed
        && let Some(near) = near_miss(case, policy)
    {
        return Some(near);
    }
    if reason.is_miss() && on_miss == OnMiss::Resolve {
        return Some(format!(
            "{plain}; else namegate asks its own upstream, and allows if that gives the address; --observed assumes it"
        ));
    }
    Some(if reason.is_miss() { format!("{plain}; --observed assumes it") } else { plain.to_owned() })
}

/// A rule that would have allowed the name for another client, or nearly names it.
fn near_miss(case: &Case, policy: &Policy) -> Option<String> {
    let allows = || policy.rules().iter().filter(|rule| rule.action == Action::Allow);
    if let Some(rule) = allows().find(|rule| rule.names.iter().any(|pattern| pattern.matches(&case.name))) {
        return Some(if case.client.is_none() && !rule.clients.is_empty() {
            format!("rule \"{}\" allows it for some clients; say which with --client", rule.id)
        } else {
            format!("rule \"{}\" names it, but is not for this client, or its `until` has passed", rule.id)
        });
    }
    let name = case.name.as_str();
    let near =
        |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
    let near_patterns = || {
        allows()
            .flat_map(|rule| rule.names.iter().map(move |pattern| (rule, pattern.as_str())))
            .filter(|(_, pattern)| near(pattern.trim_start_matches(['*', '.'])))
    };
    let starred = near_patterns().find(|(_, pattern)| pattern.starts_with('*'));
    let (rule, pattern) = starred.or_else(|| near_patterns().next())?;
    Some(match pattern.strip_prefix("*.").or(pattern.strip_prefix("**.")) {
        Some(suffix) if name == suffix => {
            format!("`{pattern}` in rule \"{}\" does not include `{suffix}` itself: add it", rule.id)
        }
        Some(suffix) => {
            format!("`{pattern}` in rule \"{}\" is exactly one label; `**.{suffix}` is one or more", rule.id)
        }
        None => format!("rule \"{}\" names `{pattern}` alone; `*.{pattern}` adds its subdomains", rule.id),
    })
}

fn verdict(decision: &Decision) -> &'static str {
    if decision.is_allowed() { "allowed" } else { "denied" }
}

fn plain_text(case: &Case, decision: &Decision, lines: &[Line], hint: Option<&str>) -> String {
    let address = case.address.map_or("an address that DNS gave".to_owned(), |address| address.to_string());
    let mut text = format!(
        "{} port {}: {} to {address}\n\n",
        case.name,
        case.flow.destination.port(),
        case.client_text()
    );
    for line in lines {
        let row = format!("  {:<12}  {:<7}  {}", line.step.title(), line.outcome.as_str(), line.detail);
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.push_str(&format!("\n{}: {}", verdict(decision), decision.reason));
    if let Some(would) = decision.would {
        text.push_str(&format!(" (enforced, it would be denied: {would})"));
    }
    if let Some(rule) = &decision.rule {
        text.push_str(&format!(", rule \"{}\"", rule.id));
    }
    text.push('\n');
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

fn json_text(case: &Case, decision: &Decision, lines: &[Line], hint: Option<&str>) -> String {
    let steps: Vec<_> = lines
        .iter()
        .map(|line| json!({ "step": line.step.title(), "outcome": line.outcome.as_str(), "detail": line.detail }))
        .collect();
    let value = json!({
        "name": case.name.as_str(),
        "port": case.flow.destination.port(),
        "client": case.client,
        "address": case.address,
        "steps": steps,
        "verdict": verdict(decision),
        "reason": decision.reason.code(),
        "would": decision.would.map(Reason::code),
        "rule": decision.rule.as_ref().map(|rule| rule.id.to_string()),
        "hint": hint,
    });
    format!("{value:#}\n")
}

/// Stand-ins from the documentation ranges (RFC 5737), which no real rule names.
const SOME_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));
const SOME_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 254));
const SOME_PORT: u16 = 40_000;
