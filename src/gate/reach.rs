//! Which ports a kind of rule speaks of at all, and for whom: asked before any name is known.
//!
//! Rules that say the same are kept once, so a policy of many rules is asked in a few steps. Must not
//! know names.

use std::time::SystemTime;

use crate::facts::Protocol;

use super::{ClientMatch, Mode, Rule};

/// The ports and clients of some rules.
#[derive(Debug)]
pub(super) struct Reach {
    /// One bit a port.
    ports: Box<[u64]>,
    /// One rule, the first, of each kind that differs in clients, ports, protocols, times or permissions.
    rules: Vec<u32>,
    seen: hashbrown::HashSet<Kind>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    ports: Vec<(u16, u16)>,
    clients: Vec<ClientMatch>,
    observes: Option<bool>,
    until: Option<SystemTime>,
    private: bool,
    protocols: Vec<Protocol>,
}

impl Default for Reach {
    fn default() -> Self {
        Self { ports: vec![0; 1024].into(), rules: Vec::new(), seen: hashbrown::HashSet::new() }
    }
}

impl Reach {
    /// Adds a rule. Rules come in their order.
    pub(super) fn add(&mut self, rule: &Rule, at: u32) {
        let kind = Kind {
            ports: rule.ports.0.clone(),
            clients: rule.clients.clone(),
            observes: rule.mode.map(|mode| mode == Mode::Observe),
            until: rule.until,
            private: rule.private,
            protocols: rule.protocols.clone(),
        };
        if !self.seen.insert(kind) {
            return;
        }
        self.rules.push(at);
        for &(first, last) in &rule.ports.0 {
            for port in first..=last {
                if let Some(word) = self.ports.get_mut(usize::from(port / 64)) {
                    *word |= 1 << (port % 64);
                }
            }
        }
    }

    /// Ends the collecting.
    pub(super) fn finish(mut self) -> Self {
        self.seen = hashbrown::HashSet::new();
        self
    }

    /// Returns one rule of each kind, if the port is spoken of; each is still to be asked for this port,
    /// client and time.
    pub(super) fn rules(&self, port: u16) -> &[u32] {
        let word = self.ports.get(usize::from(port / 64)).copied().unwrap_or(0);
        if word & (1 << (port % 64)) == 0 { &[] } else { &self.rules }
    }

    /// Whether there is no such rule.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}
