//! Every way in which a step can go wrong is noticed, whoever of the three witnesses says so.

use serde_json::json;

use crate::demo::map::{GOOD, Map, OTHER};
use crate::demo::story::story;
use crate::gate::Reason;
use crate::props::Question;

use super::*;

const ID: &str = "00000000000000ab";

fn step(tried: &str) -> Step {
    story(&Map::INTERNET).into_iter().find(|step| step.tried == tried).unwrap()
}

/// What is measured when everything is as it should be.
fn fine(step: &Step) -> Measured {
    let (to, host) = (target(&step.order), first_host(&step.order).to_owned());
    let arrival =
        Arrival { bytes: request(&host, false).len(), hosts: vec![host.clone()], ..Arrival::new(to, to) };
    let (heard, arrivals) = match (&step.fate, &step.order) {
        (Fate::Passes, _) => (Heard::Passed, vec![arrival]),
        (Fate::CutOff, _) => (Heard::Forbidden, vec![arrival]),
        (Fate::Denied(_), Order::Https { .. }) => (Heard::AccessDenied, vec![]),
        (Fate::Denied(_), _) => (Heard::Forbidden, vec![]),
        (Fate::Unasked(_), _) => (Heard::DnsRefused, vec![]),
        (Fate::Truth(_), _) => (Heard::Passed, vec![]),
        (Fate::Dead, _) => (Heard::Refused, vec![]),
    };
    let reason = step.fate.reason().map(Reason::code);
    let mut answer = Answer::new(heard, page(to, &host));
    answer.reason = reason.map(str::to_owned);
    answer.flow = (heard == Heard::Forbidden).then(|| ID.to_owned());
    answer.pages = usize::from(!arrivals.is_empty());
    if let Fate::Truth(address) = step.fate {
        answer.addresses = vec![address.into()];
    }
    Measured {
        answer,
        notes: Notes { arrivals, questions: Vec::new() },
        line: reason.map(|reason| json!({ "event": { "reason": reason, "id": ID } })),
        took: Duration::from_millis(3),
    }
}

fn fault(tried: &str, spoil: impl FnOnce(&mut Measured)) -> String {
    let step = step(tried);
    let mut measured = fine(&step);
    spoil(&mut measured);
    measured.judge(&step).unwrap_err()
}

#[test]
fn a_step_is_fine_when_all_three_agree() {
    for step in story(&Map::INTERNET) {
        assert_eq!(fine(&step).judge(&step), Ok(()), "{}", step.tried);
    }
}

#[test]
fn a_byte_that_should_not_have_arrived_is_the_worst_fault() {
    let at = SocketAddr::from(([203, 0, 113, 66], 443));
    let leak = |measured: &mut Measured| {
        measured.notes.arrivals = vec![Arrival { bytes: 517, ..Arrival::new(at, at) }];
        measured.line = None;
    };
    for step in story(&Map::INTERNET) {
        let mut measured = fine(&step);
        leak(&mut measured);
        assert!(measured.judge(&step).unwrap_err().contains("arrived"), "{}", step.tried);
    }
    let said = fault("allowed SNI at the attacker's address", leak);
    assert_eq!(said, "a connection arrived at 203.0.113.66:443, with 517 bytes");
}

#[test]
fn a_question_that_should_not_have_travelled_is_a_fault() {
    let resolver = Map::INTERNET.dns_at(Map::INTERNET.resolver);
    let rogue = Map::INTERNET.dns_at(Map::INTERNET.attacker);
    let asked = |at| {
        move |measured: &mut Measured| {
            measured.notes.questions = vec![Question { at, name: "a.test".to_owned() }];
        }
    };
    assert!(fault("data in a DNS name", asked(resolver)).contains("travelled"));
    assert!(fault("hard-coded address", asked(resolver)).contains("travelled"));
    let step = step("rogue resolver over TCP, allowed name");
    let mut measured = fine(&step);
    asked(resolver)(&mut measured);
    assert_eq!(measured.judge(&step), Ok(()));
    assert!(fault(step.tried, asked(rogue)).contains("was asked"));
}

#[test]
fn a_second_request_that_slipped_through_is_a_fault() {
    let tried = "Host swapped on keep-alive";
    let host = |measured: &mut Measured| measured.notes.arrivals[0].hosts.push(OTHER.to_owned());
    assert!(fault(tried, host).contains(OTHER));
    assert!(fault(tried, |measured| measured.notes.arrivals[0].bytes += 1).contains("bytes arrived"));
    assert!(fault(tried, |measured| measured.answer.pages = 0).contains("the client heard"));
}

#[test]
fn what_the_client_hears_must_fit() {
    let passed = |measured: &mut Measured| measured.answer.heard = Heard::Passed;
    let silent = |measured: &mut Measured| measured.answer.heard = Heard::Timeout;
    for step in story(&Map::INTERNET) {
        assert!(fault(step.tried, silent).starts_with("the client heard: silence"), "{}", step.tried);
        if step.fate != Fate::Passes && !matches!(step.fate, Fate::Truth(_)) {
            assert!(fault(step.tried, passed).starts_with("the client heard: passed"), "{}", step.tried);
        }
    }
    let other_page = |measured: &mut Measured| measured.answer.detail = "hello".to_owned();
    assert!(fault("HTTPS to an allowed name", other_page).contains("the client heard"));
    assert!(fault("the gate is killed", |measured| measured.took = AT_ONCE).contains("the client heard"));
    let other_flow = |measured: &mut Measured| measured.answer.flow = Some("cd".to_owned());
    assert!(fault("allowed Host at the attacker's address", other_flow).contains("the client heard"));
    let other_reason = |measured: &mut Measured| measured.answer.reason = None;
    assert!(fault("data in a DNS name", other_reason).contains("the client heard"));
}

#[test]
fn the_audit_log_must_give_the_reason() {
    for step in story(&Map::INTERNET).into_iter().filter(|step| step.fate != Fate::Dead) {
        let silent = |measured: &mut Measured| measured.line = None;
        assert_eq!(fault(step.tried, silent), "no audit line", "{}", step.tried);
    }
    let other = |measured: &mut Measured| measured.line = Some(json!({ "event": { "reason": "silent" } }));
    assert_eq!(fault("no SNI", other), "the audit log says silent");
}

#[test]
fn the_line_of_a_step_is_known_by_kind_destination_and_port() {
    let line = |action: &str, ip: &str, port: u16| {
        json!({
            "event": { "action": action },
            "source": { "ip": "198.18.0.1", "port": port },
            "destination": { "ip": ip, "port": 443 },
        })
    };
    let denied = step("no SNI");
    assert!(belongs(&line("decision", "203.0.113.10", 4000), &denied, 4000));
    assert!(!belongs(&line("close", "203.0.113.10", 4000), &denied, 4000));
    assert!(!belongs(&line("decision", "203.0.113.66", 4000), &denied, 4000));
    assert!(!belongs(&line("decision", "203.0.113.10", 4001), &denied, 4000));
    let question = json!({
        "event": { "action": "dns" },
        "source": { "ip": "198.18.0.1", "port": 4000 },
        "network": { "transport": "tcp" },
        "dns": { "question": { "name": GOOD } },
    });
    assert!(belongs(&question, &step("rogue resolver over TCP, allowed name"), 4000));
    assert!(!belongs(&question, &step("rogue resolver over TCP, denied name"), 4000));
    assert!(!belongs(&question, &step("data in a TXT question for an allowed name"), 4000));
}
