//! Which denials are worth a word at once, as a fold over the events: each name's once, and not without end.
//!
//! It chooses; the words, and what would let the name through, are for whoever says them.

use std::collections::HashSet;
use std::sync::Arc;

use crate::facts::{Limit, Name};
use crate::gate::Reason;

use super::answers::Answers;
use super::{Decided, DnsEvent, Event, Subject};

/// One denial, told for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What was refused.
    pub subject: Subject,
    /// Where DNS gave an address that nobody named on the wire: for which name.
    pub resolved_from: Option<Name>,
    /// The port; `None`: a DNS question.
    pub port: Option<u16>,
    /// Why.
    pub reason: Reason,
    /// The rule that refused it, or came nearest.
    pub rule: Option<Arc<str>>,
    /// The limit that refused it.
    pub limit: Option<Limit>,
}

/// Something to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A denial.
    Denied(Denied),
    /// There are more, and they will not be told one by one.
    More,
}

/// The fold.
#[derive(Debug, Default)]
pub struct Notices {
    told: HashSet<(Subject, Option<u16>, Reason)>,
    answers: Answers,
    silent: bool,
}

impl Notices {
    /// Takes one event; returns what is worth saying of it.
    pub fn hear(&mut self, event: &Event) -> Option<Notice> {
        let denied = match event {
            Event::Decided(event) => self.decided(event),
            // What a later name was refused for has a line of its own.
            Event::Closed(_) => None,
            Event::Dns(event) => {
                self.answers.hear(event);
                question(event)
            }
            Event::Policy(_) | Event::Ruleset(_) | Event::Tap(_) | Event::Sandbox(_) | Event::Gap(_) => None,
        }?;
        // Another port is another grant; whatever else is refused of a name is refused at every port.
        let port = denied.port.filter(|_| denied.reason == Reason::PortNotAllowed);
        let key = (denied.subject.clone(), port, denied.reason);
        if self.silent || self.told.contains(&key) {
            return None;
        }
        if self.told.len() >= MAX_NOTICES {
            self.silent = true;
            return Some(Notice::More);
        }
        self.told.insert(key);
        Some(Notice::Denied(denied))
    }

    fn decided(&self, event: &Decided) -> Option<Denied> {
        if event.reason.lets_pass() {
            return None;
        }
        let subject = Subject::of(event);
        let resolved_from = match subject {
            Subject::Address(address) => self.answers.asked_last(address).cloned(),
            Subject::Name(_) | Subject::Unread => None,
        };
        Some(Denied {
            subject,
            resolved_from,
            port: Some(event.flow.destination.port()),
            reason: event.reason,
            rule: event.rule.as_ref().map(|rule| Arc::clone(&rule.id)),
            limit: event.over.map(|over| over.limit),
        })
    }
}

/// An upstream that does not answer has refused nothing; whoever asked hears of it.
fn question(event: &DnsEvent) -> Option<Denied> {
    let reason = event.denial().filter(|reason| *reason != Reason::UpstreamFailed)?;
    Some(Denied {
        subject: Subject::of_question(event),
        resolved_from: None,
        port: None,
        reason,
        rule: event.rule.as_ref().map(|rule| Arc::clone(&rule.id)),
        limit: event.over.map(|over| over.limit),
    })
}

/// Denials that are told one by one: more than fit on a screen help nobody.
const MAX_NOTICES: usize = 24;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::samples::{self, Told, name};
    use crate::record::Ending;

    use super::*;

    fn told(events: &[Event]) -> Vec<String> {
        let mut notices = Notices::default();
        let spell = |notice| match notice {
            Notice::Denied(denied) => {
                let port = denied.port.map_or("dns".to_owned(), |port| port.to_string());
                let from = denied.resolved_from.map_or(String::new(), |name| format!(" ({name})"));
                format!("{}{from} {port} {}", denied.subject, denied.reason)
            }
            Notice::More => "more".to_owned(),
        };
        events.iter().filter_map(|event| notices.hear(event)).map(spell).collect()
    }

    #[test]
    fn a_name_is_told_once_and_the_question_comes_before_the_connection() {
        let evil = Told::named("evil.example.com").at("203.0.113.66:443");
        let events = [
            samples::refused("evil.example.com", Reason::NameNotAllowed),
            samples::refused("evil.example.com", Reason::NameNotAllowed),
            evil.event(Reason::NameNotAllowed),
            evil.event(Reason::NameNotAllowed),
            Told::named("www.example.com").at("203.0.113.10:8443").event(Reason::PortNotAllowed),
            Told::named("www.example.com").at("203.0.113.10:9443").event(Reason::PortNotAllowed),
            Told::named("www.example.com").at("203.0.113.10:9443").event(Reason::PortNotAllowed),
        ];
        assert_eq!(
            told(&events),
            [
                "evil.example.com dns name_not_allowed",
                "www.example.com 8443 port_not_allowed",
                "www.example.com 9443 port_not_allowed",
            ]
        );
    }

    #[test]
    fn an_address_without_a_name_goes_by_the_answer_that_gave_it() {
        let events = [
            Event::Dns(samples::answered(&["db.example.net"], &["203.0.113.10"])),
            Told::nameless().at("203.0.113.10:5432").event(Reason::Silent),
            Told::nameless().at("203.0.113.11:5432").event(Reason::Nameless),
        ];
        assert_eq!(
            told(&events),
            ["203.0.113.10 (db.example.net) 5432 silent", "203.0.113.11 5432 nameless"]
        );
    }

    #[test]
    fn what_passes_or_was_not_refused_is_not_told() {
        let web = Told::named("www.example.com").at("203.0.113.10:443");
        let events = [
            web.event(Reason::Allowed),
            web.would(Reason::NameNotAllowed),
            web.closed(Ending::Closed, 1, 1),
            samples::refused("slow.example.com", Reason::UpstreamFailed),
        ];
        assert_eq!(told(&events), Vec::<String>::new());
        let other = Told::named("evil.example.com").at("203.0.113.10:443");
        let cut = [
            web.event(Reason::Allowed),
            other.event(Reason::NameChanged),
            web.closed(Ending::NameChanged, 1, 1),
        ];
        assert_eq!(told(&cut), ["evil.example.com 443 name_changed"]);
    }

    #[test]
    fn after_so_many_there_is_one_word_of_more_and_then_silence() {
        let events: Vec<_> = (0..200)
            .map(|number| samples::refused(&format!("n{number}.test"), Reason::NameNotAllowed))
            .collect();
        let mut notices = Notices::default();
        let said: Vec<_> = events.iter().filter_map(|event| notices.hear(event)).collect();
        assert_eq!(said.len(), MAX_NOTICES + 1);
        assert_eq!(said.last(), Some(&Notice::More));
        assert_eq!(notices.told.len(), MAX_NOTICES);
    }

    #[test]
    fn an_answer_of_private_addresses_alone_is_told_like_the_connection_that_it_prevents() {
        let emptied = DnsEvent { stripped: 1, ..samples::answered(&["in.example.com"], &[]) };
        let some = DnsEvent { stripped: 1, ..samples::answered(&["www.example.com"], &["203.0.113.10"]) };
        let events = [
            Event::Dns(emptied),
            Event::Dns(some),
            Told::named("in.example.com").at("10.0.0.1:443").event(Reason::PrivateAddress),
        ];
        assert_eq!(told(&events), ["in.example.com dns private_address"]);
    }

    #[test]
    fn the_rule_that_refused_is_named() {
        let event = Told::named("www.example.com").at("203.0.113.10:443").event(Reason::DeniedByRule);
        let Event::Decided(decided) = &event else { panic!("{event:?}") };
        let decided = Decided { rule: Some(samples::rule("deny", None)), ..decided.clone() };
        let notice = Notices::default().hear(&Event::Decided(decided));
        let Some(Notice::Denied(denied)) = notice else { panic!("{notice:?}") };
        assert_eq!(denied.rule.as_deref(), Some("deny"));
        assert_eq!(denied.subject, Subject::Name(name("www.example.com")));
    }
}
