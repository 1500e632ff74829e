//! `[[rule]]`: one table to one checked rule, then all of them to one policy.
//!
//! Must not know how rules are searched or judged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use toml::de::DeValue;

use crate::facts::Protocol;
use crate::gate::{
    Action, ClientMatch, Defaults, Ech, MatchBy, Mode, Pattern, Policy, PolicyFault, Ports, Rule,
};

use super::docker;
use super::finding::{Finding, Severity, Sheet, Span};
use super::instant::instant;
use super::names;
use super::scalar::{Complaint, network, port_range};
use super::section::{Section, choose, integer};

/// The spellings of `mode`, at the top and in rules.
pub(super) const MODES: [(&str, Mode); 2] = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];

/// The spellings of `ech`, at the top and in rules.
pub(super) const ECH: [(&str, Ech); 2] = [("deny", Ech::Deny), ("allow", Ech::Allow)];

/// Reads every rule and compiles them. `None`: there are errors, and they have been said.
pub(super) fn read(document: &mut Section<'_>, defaults: Defaults, now: SystemTime) -> Option<Policy> {
    let before = document.sheet.errors();
    let sections = document.sections("rule");
    if sections.is_empty() && document.sheet.errors() == before {
        let finding = Finding::absence(Severity::Warning, "there is no [[rule]]: everything is denied");
        document.sheet.push(finding.hint("[[rule]] id = \"web\", names = [\"example.com\"]"));
    }
    compile(document.sheet, sections, defaults, now).filter(|_| document.sheet.errors() == before)
}

/// Reads these rules and compiles them. `None`: there are errors, and they have been said.
pub(super) fn compile(
    sheet: &Sheet,
    sections: Vec<Section<'_>>,
    defaults: Defaults,
    now: SystemTime,
) -> Option<Policy> {
    let before = sheet.errors();
    let mut ids: HashMap<String, Span> = HashMap::with_capacity(sections.len());
    let (mut rules, mut places) = (Vec::with_capacity(sections.len()), Vec::with_capacity(sections.len()));
    for mut section in sections {
        let (id, place) = read_id(&mut section, &mut ids);
        let rule = read_rule(&mut section, id.as_deref(), now);
        section.finish();
        if let Some(rule) = rule {
            rules.push(rule);
            places.push(place);
        }
    }
    match Policy::compile(rules, defaults) {
        Ok(policy) if sheet.errors() == before => Some(policy),
        Ok(_) => None,
        Err(faults) => {
            for fault in faults {
                sheet.push(fault_finding(&fault, &places));
            }
            None
        }
    }
}

/// Reads the id, which must be the first of its kind.
fn read_id(section: &mut Section<'_>, ids: &mut HashMap<String, Span>) -> (Option<String>, Option<Span>) {
    let before = section.sheet.errors();
    let Some(text) = section.text("id") else {
        if section.sheet.errors() == before {
            section
                .missing("the rule has no `id`", "id = \"web\": it stands in the audit log and in refusals");
        }
        return (None, section.at);
    };
    let plain = text.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte));
    if text.value.is_empty() || text.value.len() > LONGEST_ID || !plain {
        let hint = format!("1 to {LONGEST_ID} letters, digits, '-', '_', '.', '/', ':', '@'");
        section.complain(text.span, Complaint::new("not a rule id").hint(hint));
        return (None, Some(text.span));
    }
    if let Some(first) = ids.get(text.value) {
        section.sheet.push(duplicate(Some(*first), Some(text.span)));
        return (None, Some(text.span));
    }
    ids.insert(text.value.to_owned(), text.span);
    (Some(text.value.to_owned()), Some(text.span))
}

/// Reads everything but the id. `None`: the rule has errors, or no usable id.
fn read_rule(section: &mut Section<'_>, id: Option<&str>, now: SystemTime) -> Option<Rule> {
    let before = section.sheet.errors();
    let action = section
        .choice("action", &[("allow", Action::Allow), ("deny", Action::Deny)])
        .map_or(Action::default(), |(action, _)| action);
    let by =
        section.choice("match", &[("name+address", MatchBy::NameAndAddress), ("address", MatchBy::Address)]);
    let (wide, _) = section.flag("wide");
    let names = names::read(section, wide);
    let ports = read_ports(section, action);
    if action == Action::Deny {
        let hint = "a deny rule refuses the name, whatever else holds";
        section.without_effect(&["private", "ech", "match"], "with `action = \"deny\"`", hint);
    } else if let Some((MatchBy::Address, span)) = by {
        let hint = "with `match = \"address\"` nothing is read from the connection";
        section.without_effect(&["protocols", "ech"], "with `match = \"address\"`", hint);
        if let Some(ports) = &ports {
            let instead = "leave `match` out where the connection says its name (TLS, HTTP)";
            warn_of_shared_ports(section.sheet, span, ports, instead);
        }
    }
    let (private, _) = section.flag("private");
    let clients = section.parsed_list("clients", client);
    if clients.as_ref().is_some_and(Vec::is_empty) && section.sheet.errors() == before {
        section.missing("`clients` is empty: the rule is for nobody", "leave it out for everyone captured");
    }
    let protocols = read_protocols(section);
    let ech = section.choice("ech", &ECH).map(|(ech, _)| ech);
    let mode = section.choice("mode", &MODES).map(|(mode, _)| mode);
    let until = read_until(section, now, "the date has passed: the rule, or its `mode`, no longer holds");
    let comment = section.text("comment").map(|text| Arc::from(text.value));
    let (names, ports, id): (Vec<Pattern>, Ports, &str) = (names?, ports?, id?);
    (section.sheet.errors() == before).then(|| Rule {
        id: Arc::from(id),
        names,
        ports,
        clients: clients.unwrap_or_default(),
        action,
        by: by.map_or(MatchBy::default(), |(by, _)| by),
        protocols,
        private,
        ech,
        mode,
        until,
        comment,
    })
}

fn read_ports(section: &mut Section<'_>, action: Action) -> Option<Ports> {
    let before = section.sheet.errors();
    let Some(value) = section.value("ports") else {
        // What a deny rule does not name it would let through.
        return Some(match action {
            Action::Allow => Ports::default(),
            Action::Deny => Ports(vec![(1, u16::MAX)]),
        });
    };
    let mut ranges = Vec::new();
    let items: Vec<_> = match value.get_ref().as_array() {
        Some(items) => items.iter().collect(),
        None => vec![value],
    };
    for item in items {
        let span = section.span(item.span());
        let parsed = match (section.as_text(item), integer(item)) {
            (Some(text), _) => port_range(text.value),
            (None, Some(number)) => port_range(&number.map_or(String::new(), |number| number.to_string())),
            (None, None) => {
                let finding = section.mistyped(item, "ports", "a list of port numbers and ranges");
                section.sheet.push(finding.hint("ports = [443, \"8000-8010\"]"));
                continue;
            }
        };
        match parsed {
            Ok(range) => {
                warn_of_dns_port(section.sheet, span, range);
                ranges.push(range);
            }
            Err(complaint) => section.complain(span, complaint),
        }
    }
    if ranges.is_empty() && section.sheet.errors() == before {
        section.missing("`ports` is empty: the rule is for no port", "leave it out for 80 and 443");
    }
    (section.sheet.errors() == before).then_some(Ports(ranges))
}

/// Warns where a port stands that no connection comes to.
pub(super) fn warn_of_dns_port(sheet: &Sheet, span: Span, range: (u16, u16)) {
    if range == (53, 53) {
        let finding =
            Finding::warning(span, "port 53 is always answered as DNS, so no connection to it is judged");
        sheet.push(finding);
    }
}

/// Warns of an address rule at a port where many names share an address.
pub(super) fn warn_of_shared_ports(sheet: &Sheet, span: Span, ports: &Ports, instead: &str) {
    if let Some(port) = [80, 443].into_iter().find(|port| ports.contains(*port)) {
        let message = format!(
            "this opens everything behind that address and port {port}, whatever name it is asked for"
        );
        let finding = Finding::warning(span, message);
        sheet.push(finding.hint(instead));
    }
}

fn client(text: &str) -> Result<ClientMatch, Complaint> {
    docker::client(text).unwrap_or_else(|| network(text).map(ClientMatch::Net))
}

fn read_protocols(section: &mut Section<'_>) -> Vec<Protocol> {
    let before = section.sheet.errors();
    let Some(texts) = section.texts("protocols") else { return Vec::new() };
    if texts.is_empty() && section.sheet.errors() == before {
        section.missing(
            "`protocols` is empty: the rule is for no protocol",
            "leave it out for any that carries a name",
        );
    }
    let words = Protocol::ALL.map(|protocol| (protocol.as_str(), protocol));
    let mut protocols = Vec::new();
    for text in texts {
        match choose(text.value, &words) {
            Ok(protocol @ (Protocol::Tls | Protocol::Http | Protocol::H2 | Protocol::Postgres)) => {
                protocols.push(protocol);
            }
            Ok(Protocol::Quic) => {
                let what = format!("names are not read from {} in this version", text.value);
                let hint = "\"tls\", \"http\", \"h2\" and \"postgres\" are";
                section.complain(text.span, Complaint::new(what).hint(hint));
            }
            Err(complaint) => section.complain(text.span, complaint),
        }
    }
    protocols
}

/// Reads `until`; a date that has passed is worth a warning.
pub(super) fn read_until(section: &mut Section<'_>, now: SystemTime, passed: &str) -> Option<SystemTime> {
    let value = section.value("until")?;
    let span = section.span(value.span());
    let parsed = match value.get_ref() {
        DeValue::Datetime(datetime) => instant(datetime),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => {
            let finding = section.mistyped(value, "until", "a date");
            section.sheet.push(finding.hint("without quotes: until = 2026-12-31"));
            return None;
        }
    };
    match parsed {
        Ok(until) => {
            if until <= now {
                section.sheet.push(Finding::warning(span, passed));
            }
            Some(until)
        }
        Err(complaint) => {
            section.complain(span, complaint);
            None
        }
    }
}

fn fault_finding(fault: &PolicyFault, places: &[Option<Span>]) -> Finding {
    let place = |index: usize| places.get(index).copied().flatten();
    match *fault {
        PolicyFault::DuplicateId { first, second } => duplicate(place(first), place(second)),
        PolicyFault::Unreachable { rule, by } => {
            let finding = at(place(rule), "this rule can never decide anything")
                .hint("remove it, or narrow the rule that covers it");
            match place(by) {
                Some(span) => finding.other(span, "covered by this one"),
                None => finding,
            }
        }
    }
}

fn duplicate(first: Option<Span>, second: Option<Span>) -> Finding {
    let finding = at(second, "two rules carry this id").hint("ids tell rules apart in the audit log");
    match first {
        Some(span) => finding.other(span, "first used here"),
        None => finding,
    }
}

fn at(span: Option<Span>, message: &str) -> Finding {
    match span {
        Some(span) => Finding::error(span, message),
        None => Finding::absence(Severity::Error, message),
    }
}

/// Long enough for a sentence, short enough for a metric label.
const LONGEST_ID: usize = 64;
