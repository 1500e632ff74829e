//! The rungs of the verdict ladder as people read them, and where one decision stopped.
//!
//! The gate decides; this only tells its one reason as the steps before it, the step it names, and the
//! steps that were not reached.

use crate::facts::{Claim, scope};
use crate::gate::{Action, Decision, Reason, Rule};

use super::explain::Case;

/// A rung, in the order of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    AddressRule,
    Claim,
    Name,
    Port,
    Protocol,
    Ech,
    Address,
    Answer,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::AddressRule,
        Self::Claim,
        Self::Name,
        Self::Port,
        Self::Protocol,
        Self::Ech,
        Self::Address,
        Self::Answer,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::AddressRule => "address rule",
            Self::Claim => "claim",
            Self::Name => "name",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::Ech => "ech",
            Self::Address => "address",
            Self::Answer => "dns answer",
        }
    }
}

/// What became of a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    Assumed,
    Stop,
    NotReached,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "ok",
            Self::Assumed => "assumed",
            Self::Stop => "no",
            Self::NotReached => "-",
        }
    }
}

/// One line of the explanation.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) step: Step,
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

/// Tells a decision step by step. `by_address`: it was made before anything was read.
pub(super) fn lines(case: &Case, decision: &Decision, by_address: bool) -> Vec<Line> {
    let stop = stops_at(decision.would.unwrap_or(decision.reason));
    let decided = if by_address { Some(Step::AddressRule) } else { stop };
    let mut lines = Vec::with_capacity(Step::ALL.len());
    for step in Step::ALL {
        let outcome = match decided {
            Some(end) if step > end => Outcome::NotReached,
            Some(end) if step == end && stop.is_some() => Outcome::Stop,
            Some(_) | None if step == Step::Answer => Outcome::Assumed,
            Some(_) | None => Outcome::Pass,
        };
        let detail = match outcome {
            Outcome::NotReached => String::new(),
            Outcome::Pass | Outcome::Assumed | Outcome::Stop => {
                detail(case, decision, step, outcome, by_address)
            }
        };
        lines.push(Line { step, outcome, detail });
    }
    lines
}

/// The rung that a reason names; `None`: none, it lets pass.
fn stops_at(reason: Reason) -> Option<Step> {
    Some(match reason {
        Reason::Allowed | Reason::Resolved | Reason::ObservedOnly => return None,
        Reason::Nameless | Reason::Garbled | Reason::Silent | Reason::NameChanged => Step::Claim,
        Reason::NameNotAllowed | Reason::DeniedByRule | Reason::ClientUnknown | Reason::Revoked => Step::Name,
        Reason::PortNotAllowed => Step::Port,
        Reason::ProtocolNotAllowed => Step::Protocol,
        Reason::EchNotAllowed => Step::Ech,
        Reason::PrivateAddress | Reason::OwnAddress => Step::Address,
        Reason::AddressNotObserved | Reason::LeaseExpired | Reason::OverLimit | Reason::UpstreamFailed => {
            Step::Answer
        }
    })
}

fn detail(case: &Case, decision: &Decision, step: Step, outcome: Outcome, by_address: bool) -> String {
    let rule = decision.rule.as_deref();
    let stopped = outcome == Outcome::Stop;
    let port = case.flow.destination.port();
    match step {
        Step::AddressRule => match rule.filter(|_| by_address) {
            Some(rule) => format!(
                "rule \"{}\" lets the address through; nothing is read (assumed: {})",
                rule.id,
                case.assumption()
            ),
            None if case.reachable_by_address => {
                "one is for this client and port, but for no name that has this address".to_owned()
            }
            None => "none is for this client and port".to_owned(),
        },
        Step::Claim => match &case.claim {
            Claim::Named(named) => {
                format!("{}, read from {} ({})", named.name, named.protocol.as_str(), named.via.as_str())
            }
            Claim::Nameless(_) | Claim::Garbled(_) | Claim::Silent => "no name".to_owned(),
        },
        Step::Name => match rule {
            Some(rule) => format!("{} by rule \"{}\"{}", verb(rule.action), rule.id, matching(rule, case)),
            None => format!("no rule allows {} for {}", case.name, case.client_text()),
        },
        Step::Port => match rule.filter(|_| stopped) {
            Some(rule) => format!("{port} is not among {}", ports(rule)),
            None => port.to_string(),
        },
        Step::Protocol => case.claim.protocol().map_or("unknown", |protocol| protocol.as_str()).to_owned(),
        Step::Ech if stopped => {
            "the hello carries an ECH extension, and the rule does not permit it".to_owned()
        }
        Step::Ech if case.ech => "permitted".to_owned(),
        Step::Ech => "none".to_owned(),
        Step::Address => {
            let kind = format!("{:?}", scope(case.flow.destination.ip())).to_ascii_lowercase();
            format!("{}: {kind}", case.address_text())
        }
        Step::Answer if stopped => {
            format!(
                "DNS was not seen to tell {} that {} is at {}",
                case.client_text(),
                case.name,
                case.address_text()
            )
        }
        Step::Answer => case.assumption(),
    }
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Allow => "allowed",
        Action::Deny => "denied",
    }
}

fn matching(rule: &Rule, case: &Case) -> String {
    let pattern = rule.names.iter().find(|pattern| pattern.matches(&case.name));
    pattern.map_or(String::new(), |pattern| format!(" ({})", pattern.as_str()))
}

fn ports(rule: &Rule) -> String {
    let spell = |&(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let listed: Vec<String> = rule.ports.0.iter().map(spell).collect();
    format!("those of rule \"{}\": {}", rule.id, listed.join(", "))
}
