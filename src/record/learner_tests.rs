//! What is learned from runs, as the file that is written. Knows the samples.

use super::super::samples::{Told, answered};
use super::super::{DnsEvent, Ending};
use super::*;

fn rules(events: &[Event]) -> String {
    let mut learner = Learner::default();
    events.iter().for_each(|event| learner.hear(event));
    learner.rules()
}

fn dns(chain: &[&str], addresses: &[&str]) -> Event {
    Event::Dns(DnsEvent { reason: Reason::ObservedOnly, ..answered(chain, addresses) })
}

#[test]
fn a_run_becomes_rules_with_their_evidence() {
    let missing = Reason::NameNotAllowed;
    let events = [
        dns(&["www.example.com"], &["203.0.113.10", "203.0.113.11"]),
        Told::named("www.example.com").at("203.0.113.10:443").would(missing),
        Told::named("www.example.com").at("203.0.113.11:443").would(missing),
        Told::named("www.example.com").at("203.0.113.10:80").would(missing),
        dns(&["both.example.com"], &["203.0.113.10"]),
        Told::named("both.example.com").at("203.0.113.10:443").would(missing),
        Told::named("both.example.com").at("203.0.113.10:80").would(missing),
        // Allowed already: it belongs to what the run needed.
        dns(&["api.example.org", "edge.example.net"], &["203.0.113.20"]),
        Told::named("api.example.org").at("203.0.113.20:443").event(Reason::Allowed),
        // The last name of a chain is claimed, which nobody asked for.
        Told::named("edge.example.net").at("203.0.113.20:443").would(missing),
        dns(&["ech.example.org"], &["203.0.113.21"]),
        Told::named("ech.example.org").at("203.0.113.21:443").ech().would(missing),
        dns(&["in.example.org"], &["10.0.0.1"]),
        Told::named("in.example.org").at("10.0.0.1:8443").would(missing),
        dns(&["db.example.net"], &["203.0.113.30"]),
        Told::nameless().at("203.0.113.30:5432").number(1).would(Reason::Silent),
        Told::nameless().at("203.0.113.30:5432").number(1).closed(Ending::Closed, 9, 9),
        Told::nameless().at("203.0.113.30:6379").would(Reason::Nameless),
        // Nothing can cover these.
        Told::nameless().at("203.0.113.99:443").would(Reason::Nameless),
        Told::named("www.example.com").at("203.0.113.98:443").would(missing),
    ];
    insta::assert_snapshot!("learned", rules(&events));
}

#[test]
fn what_was_refused_is_told_and_left_out() {
    let events = [
        dns(&["www.example.com"], &["203.0.113.10"]),
        Told::named("www.example.com").at("203.0.113.10:443").event(Reason::DeniedByRule),
        Told::named("www.example.com").at("203.0.113.10:80").would(Reason::DeniedByRule),
        Told::named("www.example.com").at("203.0.113.10:8443").would(Reason::LeaseExpired),
        Told::nameless().at("127.0.0.1:8080").granted().event(Reason::Allowed),
    ];
    insta::assert_snapshot!("left_out", rules(&events));
}

#[test]
fn a_connection_that_carried_nothing_needs_no_rule() {
    let silent = Told::nameless().at("203.0.113.10:443");
    let events = [
        dns(&["www.example.com"], &["203.0.113.10"]),
        silent.number(1).would(Reason::Silent),
        silent.number(1).closed(Ending::Closed, 0, 0),
        Told::named("www.example.com").at("203.0.113.10:443").number(2).would(Reason::NameNotAllowed),
    ];
    let text = rules(&events);
    assert!(!text.contains("address\""), "{text}");
    let open = rules(&events[..2]);
    assert!(open.contains("match = \"address\""), "{open}");
}

#[test]
fn a_name_that_its_address_opens_is_not_named_twice() {
    let events = [
        dns(&["db.example.net"], &["203.0.113.30"]),
        Told::nameless().at("203.0.113.30:5432").would(Reason::Nameless),
        Told::named("db.example.net").at("203.0.113.30:5432").would(Reason::NameNotAllowed),
    ];
    let text = rules(&events);
    assert_eq!(text.matches("\"db.example.net\"").count(), 1, "{text}");
    assert!(text.contains("2 connections (nameless, tls)"), "{text}");
}

#[test]
fn a_run_without_connections_is_a_file_without_rules() {
    let text = rules(&[]);
    assert!(text.contains("no connection") && text.parse::<toml::Table>().unwrap().is_empty(), "{text}");
}

#[test]
fn a_workload_that_thinks_of_names_without_end_fills_no_memory() {
    let mut learner = Learner::default();
    for number in 0..MAX_NEEDS + 5 {
        let name = format!("n{number}.test");
        learner.hear(&dns(&[&name], &["203.0.113.10"]));
        learner.hear(&Told::named(&name).at("203.0.113.10:443").would(Reason::NameNotAllowed));
    }
    assert_eq!((learner.needs.len(), learner.beyond), (MAX_NEEDS, 5));
    assert!(learner.rules().parse::<toml::Table>().is_ok());
}
