//! What a run needed, as a fold over its events: the smallest set of rules that lets it happen again.
//!
//! A rule is for names that were really claimed or looked up, at the ports that were really dialled; no wildcard
//! is thought of. How rules are written is `learned`'s matter. Must not know files.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::SystemTime;

use crate::facts::{FlowId, Name, Scope, Source, scope};
use crate::gate::Reason;

use super::answers::Answers;
use super::{Closed, Decided, Event, Subject, learned};

/// The fold.
#[derive(Debug, Default)]
pub struct Learner {
    answers: Answers,
    /// Flows on which nothing was said yet, each with what it would need.
    silent: HashMap<FlowId, (Need, Proof)>,
    needs: BTreeMap<Need, Proof>,
    uncovered: BTreeMap<Uncovered, Proof>,
    beyond: u64,
}

/// A name at a port. There is one for each kind of rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    pub(super) by_address: bool,
    pub(super) name: Name,
    pub(super) port: u16,
}

/// A destination that no rule is written for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Uncovered {
    pub(super) subject: Subject,
    pub(super) port: u16,
    pub(super) why: Why,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// DNS did not give the address, for the name or for any.
    Unresolved,
    /// A rule is there, but the answer was too old.
    Stale,
    /// It is a port of this host.
    HostPort,
    /// It was refused even so, for the reason with this code.
    Denied(&'static str),
}

/// What was seen of it.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub(super) connections: u64,
    /// Protocols, or why none could be read.
    pub(super) spoken: BTreeSet<&'static str>,
    /// The first few.
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) more_addresses: bool,
    pub(super) first: SystemTime,
    /// An address was not public.
    pub(super) private: bool,
    /// A hello carried an ECH extension.
    pub(super) ech: bool,
    /// Other names that were looked up on the way to this one.
    pub(super) asked: BTreeSet<Name>,
}

impl Learner {
    /// Takes one event.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Decided(event) => self.decided(event),
            Event::Closed(event) => self.closed(event),
            Event::Dns(event) => self.answers.hear(event),
            Event::Policy(_) | Event::Ruleset(_) | Event::Tap(_) | Event::Sandbox(_) | Event::Gap(_) => {}
        }
    }

    fn decided(&mut self, event: &Decided) {
        let proof = Proof::of(event);
        let port = event.flow.destination.port();
        let uncovered = |why| Uncovered { subject: Subject::of(event), port, why };
        if !event.reason.lets_pass() {
            return self.leave(uncovered(Why::Denied(event.reason.code())), proof);
        }
        if event.would == Some(Reason::DeniedByRule) {
            return self.leave(uncovered(Why::Denied(Reason::DeniedByRule.code())), proof);
        }
        if event.evidence.as_ref().is_some_and(|evidence| evidence.source == Source::Granted) {
            return self.leave(uncovered(Why::HostPort), proof);
        }
        if event.would == Some(Reason::LeaseExpired) {
            self.leave(uncovered(Why::Stale), proof.clone());
        }
        let Some((by_address, asked)) = self.need(event) else {
            return self.leave(uncovered(Why::Unresolved), proof);
        };
        let (name, proof) = match &event.name {
            Some(claimed) if !by_address => (claimed.clone(), proof.asked_for(asked, claimed)),
            Some(_) | None => (asked, proof),
        };
        let need = Need { by_address, name, port };
        // Whether a client that said nothing got anything for it, its end will tell.
        if event.name.is_none() && event.would == Some(Reason::Silent) && self.silent.len() < MAX_SILENT {
            self.silent.insert(event.flow.id, (need, proof));
        } else {
            self.add(need, proof);
        }
    }

    /// Returns whether the address alone is to decide, and the name that was asked for.
    fn need(&self, event: &Decided) -> Option<(bool, Name)> {
        let address = event.flow.destination.ip();
        let chain = event.evidence.as_ref().map_or(&[][..], |evidence| &evidence.chain);
        if let Some(claimed) = &event.name {
            let asked = chain.first().filter(|_| chain.contains(claimed));
            if let Some(asked) = asked.or_else(|| self.answers.asked_for(claimed, address)) {
                return Some((false, asked.clone()));
            }
            // The address was opened by another name than is spoken there.
            return chain.first().map(|asked| (true, asked.clone()));
        }
        chain.first().or_else(|| self.answers.asked_last(address)).map(|asked| (true, asked.clone()))
    }

    /// A connection that carried no byte, such as the slower one of two attempts, needs no rule.
    fn closed(&mut self, event: &Closed) {
        if let Some((need, proof)) = self.silent.remove(&event.flow.id)
            && (event.sent > 0 || event.received > 0)
        {
            self.add(need, proof);
        }
    }

    fn add(&mut self, need: Need, proof: Proof) {
        if !keep(&mut self.needs, need, proof) {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    fn leave(&mut self, what: Uncovered, proof: Proof) {
        if !keep(&mut self.uncovered, what, proof) {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    /// Returns the rules as a file that `namegate exec --policy` takes: sound whatever was heard.
    pub fn rules(&self) -> String {
        let mut needs = self.needs.clone();
        for (need, proof) in self.silent.values() {
            // Still open: it is there for something.
            keep(&mut needs, need.clone(), proof.clone());
        }
        // What an address rule opens needs no rule by name.
        let opened: Vec<Need> = needs.keys().filter(|need| need.by_address).cloned().collect();
        for need in opened {
            let named = needs.remove(&Need { by_address: false, ..need.clone() });
            if let (Some(named), Some(known)) = (named, needs.get_mut(&need)) {
                known.merge(named);
            }
        }
        learned::write(&needs, &self.uncovered, self.beyond)
    }
}

/// Adds what was seen to what is known of it; `false`: it is new, and there is no room.
fn keep<T: Ord>(known: &mut BTreeMap<T, Proof>, what: T, proof: Proof) -> bool {
    let full = known.len() >= MAX_NEEDS;
    match known.entry(what) {
        Entry::Occupied(mut seen) => seen.get_mut().merge(proof),
        Entry::Vacant(_) if full => return false,
        Entry::Vacant(place) => drop(place.insert(proof)),
    }
    true
}

impl Proof {
    fn of(event: &Decided) -> Self {
        let address = event.flow.destination.ip();
        let settled = event.would.unwrap_or(event.reason);
        let spoken = match event.protocol {
            Some(protocol) => protocol.as_str(),
            None if event.reason.lets_pass() && event.would.is_none() => "unread",
            None => settled.code(),
        };
        Self {
            connections: 1,
            spoken: BTreeSet::from([spoken]),
            addresses: BTreeSet::from([address]),
            more_addresses: false,
            first: event.at.wall,
            private: scope(address) != Scope::Public || settled == Reason::PrivateAddress,
            ech: event.ech,
            asked: BTreeSet::new(),
        }
    }

    fn asked_for(mut self, asked: Name, claimed: &Name) -> Self {
        if asked != *claimed {
            self.asked.insert(asked);
        }
        self
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.spoken.extend(other.spoken);
        for address in other.addresses {
            if self.addresses.len() < MAX_ADDRESSES || self.addresses.contains(&address) {
                self.addresses.insert(address);
            } else {
                self.more_addresses = true;
            }
        }
        self.more_addresses |= other.more_addresses;
        self.first = self.first.min(other.first);
        self.private |= other.private;
        self.ech |= other.ech;
        for name in other.asked {
            if self.asked.len() < MAX_ASKED {
                self.asked.insert(name);
            }
        }
    }
}

/// Names and ports that rules are written for; a file of more is read by nobody.
const MAX_NEEDS: usize = 4_096;
/// Open flows on which nothing was said.
const MAX_SILENT: usize = 65_536;
/// Addresses that stand in the evidence of one name.
const MAX_ADDRESSES: usize = 3;
/// Names that one name was looked up by.
const MAX_ASKED: usize = 16;

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
