//! What came of a run, as a fold over its events: for each name and port how often, with which verdict, and how
//! many bytes.
//!
//! It knows no columns and no words; whoever shows the rows puts them there.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;

use crate::facts::{FlowId, Name};
use crate::gate::Reason;

use super::{Closed, Decided, DnsEvent, Ending, Event, Over};

/// What a flow or a question was about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A name: claimed, asked for, or the one whose answer opened the address.
    Name(Name),
    /// An address that nobody named.
    Address(IpAddr),
    /// Nothing that could be read.
    Unread,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Unread => f.write_str("(unreadable)"),
        }
    }
}

impl Subject {
    /// Returns what a decision is about.
    pub(super) fn of(event: &Decided) -> Self {
        let opened_by = || event.evidence.as_ref().and_then(|evidence| evidence.chain.first());
        match event.name.as_ref().or_else(opened_by) {
            Some(name) => Self::Name(name.clone()),
            None => Self::Address(event.flow.destination.ip()),
        }
    }

    /// Returns what a question is about.
    pub(super) fn of_question(event: &DnsEvent) -> Self {
        event.name.clone().map_or(Self::Unread, Self::Name)
    }
}

/// How it went; the order is that of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It was refused.
    Denied,
    /// It was allowed, and the other side could not be reached.
    Failed,
    /// It passed, and would have been refused.
    Observed,
    /// It was allowed.
    Allowed,
}

/// Everything that went the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it was about.
    pub subject: Subject,
    /// The port; `None`: DNS questions.
    pub port: Option<u16>,
    /// How it went.
    pub outcome: Outcome,
    /// Why; where it only would have been refused, why that.
    pub reason: Reason,
    /// Connections or questions.
    pub times: u64,
    /// Bytes to the other side.
    pub sent: u64,
    /// Bytes from there.
    pub received: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    outcome: Outcome,
    subject: Subject,
    port: Option<u16>,
    /// As in [`Reason::ALL`].
    reason: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    times: u64,
    sent: u64,
    received: u64,
}

/// The fold.
#[derive(Debug, Default)]
pub struct Summary {
    rows: BTreeMap<Key, Sum>,
    /// The row of each open flow.
    open: HashMap<FlowId, Key>,
    beyond: u64,
    lost: u64,
}

impl Summary {
    /// Takes one event.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Decided(event) => self.decided(event),
            Event::Closed(event) => self.closed(event),
            Event::Dns(event) => self.question(event),
            Event::Gap(event) => self.lost = self.lost.saturating_add(event.lines),
            Event::Policy(_) | Event::Ruleset(_) | Event::Tap(_) | Event::Sandbox(_) => {}
        }
    }

    fn decided(&mut self, event: &Decided) {
        let (port, reason) = (event.flow.destination.port(), event.would.unwrap_or(event.reason));
        let outcome = match (event.reason.lets_pass(), event.would) {
            (false, _) => Outcome::Denied,
            (true, Some(_)) => Outcome::Observed,
            (true, None) => Outcome::Allowed,
        };
        let key = key(outcome, Subject::of(event), Some(port), reason);
        self.count(&key, times(event.over));
        if event.reason.lets_pass() && self.open.len() < MAX_OPEN {
            // What it carries counts for the first of its names.
            self.open.entry(event.flow.id).or_insert(key);
        }
    }

    fn closed(&mut self, event: &Closed) {
        let Some(key) = self.open.remove(&event.flow.id) else { return };
        if let Some(sum) = self.rows.get_mut(&key) {
            sum.sent = sum.sent.saturating_add(event.sent);
            sum.received = sum.received.saturating_add(event.received);
        }
        let (outcome, reason) = match event.ending {
            Ending::UpstreamFailed => (Outcome::Failed, Reason::UpstreamFailed),
            Ending::Revoked => (Outcome::Denied, Reason::Revoked),
            // A later name that was refused has a line of its own.
            Ending::NameChanged
            | Ending::Garbled
            | Ending::Closed
            | Ending::ClientReset
            | Ending::ServerReset
            | Ending::Idle
            | Ending::Drained => return,
        };
        self.count(&self::key(outcome, key.subject, key.port, reason), 1);
    }

    /// Questions that were answered stand for themselves in the connections that follow.
    fn question(&mut self, event: &DnsEvent) {
        let Some(reason) = event.denial() else { return };
        let outcome = if reason == Reason::UpstreamFailed { Outcome::Failed } else { Outcome::Denied };
        self.count(&key(outcome, Subject::of_question(event), None, reason), times(event.over));
    }

    fn count(&mut self, key: &Key, times: u64) {
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(key) {
            self.beyond = self.beyond.saturating_add(times);
            return;
        }
        let sum = self.rows.entry(key.clone()).or_default();
        sum.times = sum.times.saturating_add(times);
    }

    /// Returns the rows: what was denied first, then by name and port.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(key, sum): (&Key, &Sum)| Row {
            subject: key.subject.clone(),
            port: key.port,
            outcome: key.outcome,
            reason: Reason::ALL.get(key.reason).copied().unwrap_or(Reason::Garbled),
            times: sum.times,
            sent: sum.sent,
            received: sum.received,
        };
        self.rows.iter().map(row).collect()
    }

    /// Returns how many connections and questions stand in no row, because there were too many kinds of them.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Returns how many events the log lost before they could be counted.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// For how many an event stands.
fn times(over: Option<Over>) -> u64 {
    over.map_or(1, |over| over.repeated.saturating_add(1))
}

fn key(outcome: Outcome, subject: Subject, port: Option<u16>, reason: Reason) -> Key {
    Key { outcome, subject, port, reason: reason as usize }
}

/// Rows that are kept: names come from the workload, and it may think of any number.
const MAX_ROWS: usize = 4_096;
/// Open flows whose bytes are still to be counted; above any limit of connections that is usual.
const MAX_OPEN: usize = 1 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::samples::{self, Told, name};
    use super::*;

    /// Every row in one line.
    fn spelled(events: &[Event]) -> Vec<String> {
        let mut summary = Summary::default();
        events.iter().for_each(|event| summary.hear(event));
        let spell = |row: Row| {
            let port = row.port.map_or("dns".to_owned(), |port| port.to_string());
            let Row { subject, outcome, reason, times, sent, received, .. } = row;
            format!("{outcome:?} {subject} {port} {reason} {times} {sent}/{received}")
        };
        summary.rows().into_iter().map(spell).collect()
    }

    #[test]
    fn what_went_the_same_way_is_one_row_and_denials_come_first() {
        let web = Told::named("www.example.com").at("203.0.113.10:443");
        let events = [
            web.number(1).event(Reason::Allowed),
            web.number(2).event(Reason::Allowed),
            web.number(1).closed(Ending::Closed, 10, 100),
            web.number(2).closed(Ending::ClientReset, 1, 1),
            web.number(3).event(Reason::Allowed),
            Told::named("evil.example.com").at("203.0.113.66:443").event(Reason::NameNotAllowed),
            Told::nameless().at("203.0.113.67:22").event(Reason::Silent),
            Told::named("new.example.com").at("203.0.113.68:8443").would(Reason::PortNotAllowed),
            samples::refused("evil.example.com", Reason::NameNotAllowed),
            samples::refused("evil.example.com", Reason::NameNotAllowed),
            samples::refused("slow.example.com", Reason::UpstreamFailed),
            Event::Dns(samples::answered(&["www.example.com"], &["203.0.113.10"])),
        ];
        assert_eq!(
            spelled(&events),
            [
                "Denied evil.example.com dns name_not_allowed 2 0/0",
                "Denied evil.example.com 443 name_not_allowed 1 0/0",
                "Denied 203.0.113.67 22 silent 1 0/0",
                "Failed slow.example.com dns upstream_failed 1 0/0",
                "Observed new.example.com 8443 port_not_allowed 1 0/0",
                "Allowed www.example.com 443 allowed 3 11/101",
            ]
        );
    }

    #[test]
    fn an_end_that_is_a_denial_is_a_row_of_its_own() {
        let web = Told::named("www.example.com").at("203.0.113.10:80");
        let (also, evil) = (Told::named("also.example.com"), Told::named("evil.example.com"));
        let events = [
            web.number(1).event(Reason::Allowed),
            also.at("203.0.113.10:80").number(1).event(Reason::Allowed),
            evil.at("203.0.113.10:80").number(1).event(Reason::NameChanged),
            web.number(1).closed(Ending::NameChanged, 10, 100),
            web.number(2).event(Reason::Allowed),
            web.number(2).closed(Ending::UpstreamFailed, 0, 0),
            // An end whose beginning was never told.
            web.number(9).closed(Ending::NameChanged, 1, 1),
        ];
        assert_eq!(
            spelled(&events),
            [
                "Denied evil.example.com 80 name_changed 1 0/0",
                "Failed www.example.com 80 upstream_failed 1 0/0",
                "Allowed also.example.com 80 allowed 1 0/0",
                "Allowed www.example.com 80 allowed 2 10/100",
            ]
        );
    }

    #[test]
    fn a_flow_that_its_address_opened_goes_by_the_name_of_the_answer() {
        let event = Told::nameless().at("203.0.113.10:5432").opened_by(&["db.example.net"]);
        assert_eq!(spelled(&[event.event(Reason::Allowed)]), ["Allowed db.example.net 5432 allowed 1 0/0"]);
    }

    #[test]
    fn a_workload_that_thinks_of_names_without_end_fills_no_memory() {
        let mut summary = Summary::default();
        for number in 0..MAX_ROWS + 7 {
            summary.hear(&samples::refused(&format!("n{number}.test"), Reason::NameNotAllowed));
        }
        summary.hear(&samples::refused("n1.test", Reason::NameNotAllowed));
        assert_eq!((summary.rows().len(), summary.beyond()), (MAX_ROWS, 7));
        let row = summary.rows().into_iter().find(|row| row.subject == Subject::Name(name("n1.test")));
        assert_eq!(row.unwrap().times, 2);
    }

    #[test]
    fn every_sample_is_taken_and_losses_are_told() {
        let mut summary = Summary::default();
        samples::all().iter().for_each(|(_, event)| summary.hear(event));
        assert_eq!(summary.lost(), 17);
    }
}
