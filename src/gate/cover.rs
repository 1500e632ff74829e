//! Faults between rules: one id twice, and rules that can never decide anything.
//!
//! Says so only when it is certain. The work is bounded for each rule: among thousands of rules for one
//! name a hidden one may go unnoticed, which is the safe mistake.

use std::sync::Arc;

use hashbrown::HashMap;

use super::patterns::Patterns;
use super::{Action, ClientMatch, Defaults, Ech, Mode, PolicyFault, Ports, Rule};

/// Returns every fault, in rule order.
pub(super) fn faults(rules: &[Arc<Rule>], patterns: &Patterns, defaults: Defaults) -> Vec<PolicyFault> {
    let mut faults = Vec::new();
    let mut ids: HashMap<&str, usize> = HashMap::new();
    for (at, rule) in rules.iter().enumerate() {
        match ids.get(&*rule.id) {
            Some(first) => faults.push(PolicyFault::DuplicateId { first: *first, second: at }),
            None => drop(ids.insert(&rule.id, at)),
        }
        if let Some(by) = covering_rule(at, rule, rules, patterns, defaults) {
            faults.push(PolicyFault::Unreachable { rule: at, by });
        }
    }
    faults
}

/// Finds the first rule that leaves nothing to this one.
fn covering_rule(
    at: usize,
    rule: &Rule,
    rules: &[Arc<Rule>],
    patterns: &Patterns,
    defaults: Defaults,
) -> Option<usize> {
    let mut names = rule.names.iter();
    let mut candidates: Vec<usize> = patterns
        .covering(names.next()?, CANDIDATES)
        .into_iter()
        .filter_map(|by| usize::try_from(by).ok())
        .filter(|by| *by != at && rules.get(*by).is_some_and(|other| hides(other, *by < at, rule, defaults)))
        .collect();
    for name in names {
        if candidates.is_empty() {
            return None;
        }
        let covering = patterns.covering(name, CANDIDATES);
        candidates.retain(|by| u32::try_from(*by).is_ok_and(|by| covering.binary_search(&by).is_ok()));
    }
    candidates.first().copied()
}

/// Whether `by` leaves nothing to `rule`, given that it means all its names.
fn hides(by: &Rule, earlier: bool, rule: &Rule, defaults: Defaults) -> bool {
    let same_time = by.mode == rule.mode && by.until == rule.until;
    let whole =
        covers_ports(&by.ports, &rule.ports) && covers_clients(by, rule) && covers_protocols(by, rule);
    if !whole {
        return false;
    }
    match (by.action, rule.action) {
        (Action::Deny, Action::Allow) => by.mode != Some(Mode::Observe) && by.until.is_none(),
        (Action::Deny, Action::Deny) => earlier && same_time,
        (Action::Allow, Action::Allow) => {
            let ech = |rule: &Rule| rule.ech.unwrap_or(defaults.ech);
            earlier
                && same_time
                && by.by == rule.by
                && (by.private || !rule.private)
                && (ech(by) == Ech::Allow || ech(rule) == Ech::Deny)
        }
        (Action::Allow, Action::Deny) => false,
    }
}

fn covers_ports(by: &Ports, ports: &Ports) -> bool {
    let mut ranges: Vec<(u32, u32)> = by.0.iter().map(|&(first, last)| (first.into(), last.into())).collect();
    ranges.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(open) if first <= open.1 + 1 => open.1 = open.1.max(last),
            Some(_) | None => joined.push((first, last)),
        }
    }
    ports.0.iter().all(|&(first, last)| {
        joined.iter().any(|&(from, to)| from <= u32::from(first) && u32::from(last) <= to)
    })
}

fn covers_clients(by: &Rule, rule: &Rule) -> bool {
    if by.clients.is_empty() {
        return true;
    }
    if by.clients.len().saturating_mul(rule.clients.len()) > CLIENT_PAIRS {
        return by.clients == rule.clients;
    }
    !rule.clients.is_empty() && rule.clients.iter().all(|one| by.clients.iter().any(|by| includes(by, one)))
}

/// Whether whoever is meant by the second is meant by the first, whoever there is.
fn includes(by: &ClientMatch, one: &ClientMatch) -> bool {
    match (by, one) {
        (ClientMatch::Net(wider), ClientMatch::Net(net)) => wider.contains(net),
        (
            ClientMatch::Net(_)
            | ClientMatch::Container(_)
            | ClientMatch::Label { .. }
            | ClientMatch::Service(_)
            | ClientMatch::User(_)
            | ClientMatch::UserName(_),
            _,
        ) => by == one,
    }
}

fn covers_protocols(by: &Rule, rule: &Rule) -> bool {
    by.protocols.is_empty()
        || (!rule.protocols.is_empty()
            && rule.protocols.iter().all(|protocol| by.protocols.contains(protocol)))
}

/// Whether a rule speaks of every port that can be dialled.
pub(super) fn is_every_port(ports: &Ports) -> bool {
    covers_ports(ports, &Ports(vec![(1, u16::MAX)]))
}

/// Rules of each kind that are compared with one rule.
const CANDIDATES: usize = 64;
/// Pairs of client networks that are compared for one pair of rules.
const CLIENT_PAIRS: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::{MatchBy, Pattern, Policy};
    use super::*;
    use crate::facts::Protocol;

    fn rule(id: &str, names: &[&str]) -> Rule {
        Rule {
            id: id.into(),
            names: names.iter().map(|name| Pattern::parse(name, true).unwrap()).collect(),
            ports: Ports::default(),
            clients: Vec::new(),
            action: Action::Allow,
            by: MatchBy::NameAndAddress,
            protocols: Vec::new(),
            private: false,
            ech: None,
            mode: None,
            until: None,
            comment: None,
        }
    }

    fn clients(texts: &[&str]) -> Vec<ClientMatch> {
        texts.iter().map(|text| ClientMatch::Net(text.parse().unwrap())).collect()
    }

    fn compile(rules: Vec<Rule>) -> Vec<PolicyFault> {
        Policy::compile(rules, Defaults::default()).err().unwrap_or_default()
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = compile(vec![
            rule("a", &["example.com"]),
            rule("a", &["example.net"]),
            rule("b", &["example.com"]),
        ]);
        assert_eq!(
            faults,
            [PolicyFault::DuplicateId { first: 0, second: 1 }, PolicyFault::Unreachable { rule: 2, by: 0 }]
        );
    }

    #[test]
    fn a_rule_is_unreachable_only_when_everything_of_it_is_covered() {
        let wide = || rule("wide", &["**.example.com", "example.com"]);
        let narrow = || rule("narrow", &["a.example.com", "example.com"]);
        let cases: [(&str, Rule, Rule, bool); 17] = [
            ("same", wide(), narrow(), true),
            ("wider below", narrow(), wide(), false),
            ("one name more", wide(), rule("n", &["a.example.com", "example.net"]), false),
            ("other port", wide(), Rule { ports: Ports(vec![(443, 444)]), ..narrow() }, false),
            ("joined ports", Rule { ports: Ports(vec![(80, 442), (443, 443)]), ..wide() }, narrow(), true),
            ("gap", Rule { ports: Ports(vec![(1, 79), (81, 999)]), ..wide() }, narrow(), false),
            ("fewer clients", Rule { clients: clients(&["192.0.2.0/24"]), ..wide() }, narrow(), false),
            (
                "clients within",
                Rule { clients: clients(&["192.0.2.0/24"]), ..wide() },
                Rule { clients: clients(&["192.0.2.7/32", "192.0.2.128/25"]), ..narrow() },
                true,
            ),
            ("protocols", Rule { protocols: vec![Protocol::Tls], ..wide() }, narrow(), false),
            (
                "protocols within",
                Rule { protocols: vec![Protocol::Tls, Protocol::H2], ..wide() },
                Rule { protocols: vec![Protocol::H2], ..narrow() },
                true,
            ),
            ("address", wide(), Rule { by: MatchBy::Address, ..narrow() }, false),
            ("private", wide(), Rule { private: true, ..narrow() }, false),
            ("ech", wide(), Rule { ech: Some(Ech::Allow), ..narrow() }, false),
            ("mode", wide(), Rule { mode: Some(Mode::Observe), ..narrow() }, false),
            ("until", Rule { until: Some(SystemTime::now()), ..wide() }, narrow(), false),
            ("allow over deny", wide(), Rule { action: Action::Deny, ..narrow() }, false),
            ("deny over allow", Rule { action: Action::Deny, ..wide() }, narrow(), true),
        ];
        for (what, first, second, unreachable) in cases {
            let expected =
                if unreachable { vec![PolicyFault::Unreachable { rule: 1, by: 0 }] } else { vec![] };
            assert_eq!(compile(vec![first, second]), expected, "{what}");
        }
    }

    #[test]
    fn a_later_deny_rule_hides_an_allow_rule_unless_it_ends_or_observes() {
        let deny = || Rule { action: Action::Deny, by: MatchBy::Address, ..rule("no", &["*.example.com"]) };
        let faults = |deny| compile(vec![rule("yes", &["a-*.example.com"]), deny]);
        assert_eq!(faults(deny()), [PolicyFault::Unreachable { rule: 0, by: 1 }]);
        let later = Some(SystemTime::now() + Duration::from_secs(60));
        assert_eq!(faults(Rule { until: later, ..deny() }), []);
        assert_eq!(faults(Rule { mode: Some(Mode::Observe), ..deny() }), []);
    }

    #[test]
    fn many_rules_for_one_name_compile_in_bounded_time() {
        let rules = (0..20_000_u32)
            .map(|at| Rule {
                clients: clients(&[&format!("{}/32", std::net::Ipv4Addr::from(at + 1))]),
                ..rule(&at.to_string(), &["example.com", "*.example.net"])
            })
            .collect();
        assert_eq!(compile(rules), []);
    }
}
