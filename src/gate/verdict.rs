//! How far one flow gets with one name: every rule that speaks of the name is asked, and the one that
//! comes furthest is remembered.
//!
//! Everything but the ledger. Must not know leases or locks.

use std::time::SystemTime;

use crate::facts::{Client, Name, Protocol};

use super::policy::{permits_protocol, refuses_protocol};
use super::{Action, Evidence, MatchBy, Policy, Reason, Rule};

/// What is asked, apart from the name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) policy: &'a Policy,
    pub(super) client: Client,
    pub(super) port: u16,
    /// The destination is not on the public Internet, or is this machine's own.
    pub(super) closed: bool,
    pub(super) wall: SystemTime,
}

/// What was read from the flow, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) protocol: Option<Protocol>,
    pub(super) ech: bool,
}

/// Where an allow rule stops a flow, in the order of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rung {
    /// At the port.
    Port,
    /// At the protocol.
    Protocol,
    /// At Encrypted Client Hello.
    Ech,
    /// At a destination that is not public.
    Private,
    /// Nowhere: the ledger has the last word.
    Ledger,
}

impl Rung {
    /// Returns why a flow that stops here is denied; at the last rung, when nothing was observed.
    pub(super) fn reason(self) -> Reason {
        match self {
            Self::Port => Reason::PortNotAllowed,
            Self::Protocol => Reason::ProtocolNotAllowed,
            Self::Ech => Reason::EchNotAllowed,
            Self::Private => Reason::PrivateAddress,
            Self::Ledger => Reason::AddressNotObserved,
        }
    }
}

/// What the rules say of a name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// The first deny rule that is carried out.
    pub(super) denied: Option<u32>,
    /// The first deny rule that only observes.
    pub(super) observed_deny: Option<u32>,
    /// The allow rule that comes furthest, the first among equals.
    pub(super) nearest: Option<(Rung, u32)>,
}

/// A denial before the mode is asked.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) reason: Reason,
    pub(super) rule: Option<u32>,
    pub(super) evidence: Option<Evidence>,
}

impl Denial {
    /// Makes a denial without evidence.
    pub(super) fn new(reason: Reason, rule: Option<u32>) -> Self {
        Self { reason, rule, evidence: None }
    }
}

impl Ask<'_> {
    /// Asks every rule that speaks of the name. `by`: only allow rules of this kind.
    pub(super) fn standing(&self, name: &Name, read: Read, by: Option<MatchBy>) -> Standing {
        let mut standing = Standing::default();
        let first = |kept: &mut Option<u32>, at: u32| *kept = Some(kept.map_or(at, |kept| kept.min(at)));
        self.policy.speaking_of(name, self.client, self.wall, |at, rule| match rule.action {
            Action::Deny => {
                if rule.ports.contains(self.port) && refuses_protocol(rule, read.protocol) {
                    let observed = self.policy.observes(Some(at), self.wall);
                    first(if observed { &mut standing.observed_deny } else { &mut standing.denied }, at);
                }
            }
            Action::Allow if by.is_some_and(|by| by != rule.by) => {}
            Action::Allow => {
                let rung = self.rung(rule, read);
                let further = |(best, kept)| rung > best || (rung == best && at < kept);
                if standing.nearest.is_none_or(further) {
                    standing.nearest = Some((rung, at));
                }
            }
        });
        standing
    }

    /// Returns how far an allow rule that names the name lets the flow come.
    fn rung(&self, rule: &Rule, read: Read) -> Rung {
        if !rule.ports.contains(self.port) {
            Rung::Port
        } else if !permits_protocol(rule, read.protocol) {
            Rung::Protocol
        } else if read.ech && rule.by == MatchBy::NameAndAddress && !self.policy.permits_ech(rule) {
            Rung::Ech
        } else if self.closed && !rule.private {
            Rung::Private
        } else {
            Rung::Ledger
        }
    }

    /// Returns what the address rules that could serve this flow say when the ledger has nothing for
    /// them; `None` when there is no such rule.
    pub(super) fn unobserved(&self, protocol: Option<Protocol>) -> Option<Denial> {
        let mut nearest: Option<(Rung, u32)> = None;
        for (at, rule) in self.policy.address_rules(self.client, self.port, protocol, self.wall) {
            let rung = if self.closed && !rule.private { Rung::Private } else { Rung::Ledger };
            if nearest.is_none_or(|(best, _)| rung > best) {
                nearest = Some((rung, at));
            }
        }
        nearest.map(|(rung, at)| Denial::new(rung.reason(), Some(at)))
    }
}
