//! What an open flow stands on: every name that was claimed on it, and the leases that allowed them.
//!
//! Asks the gate again when the policy changes or a later request claims a name, and keeps what the log is to hear of
//! names after the first. Must not know sockets.

use std::sync::Arc;
use std::time::Duration;

use crate::facts::{Claim, Flow, FlowId, Moment, Name};
use crate::gate::{Decision, Faces, Gate, Pin, Reason};
use crate::record::{Decided, Ending, Origin};

/// A flow that was let through.
#[derive(Debug)]
pub(super) struct Standing {
    gate: Arc<Gate>,
    pub(super) flow: Flow,
    pub(super) origin: Origin,
    /// The flow as every address of its client, where its own did not do.
    faces: Option<Box<Faces>>,
    first: Footing,
    /// Under other names than the first, each once.
    more: Vec<Footing>,
    /// Which was claimed last: the first, or one of the others.
    last: usize,
    /// What the log has not heard yet.
    told: Vec<Decided>,
}

/// A claim that was allowed. `Silent`: by the address, before anything was read.
#[derive(Debug)]
struct Footing {
    claim: Claim,
    _pin: Option<Pin>,
}

/// Different names on one connection. Browsers join a few hosts; beyond this somebody fills memory.
const NAMES: usize = 64;

/// Why a later request or hello may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) name: Option<Name>,
}

impl Refusal {
    /// Returns how a flow ends over this.
    pub(super) fn ending(&self) -> Ending {
        match self.reason {
            Reason::NameChanged | Reason::OverLimit => Ending::NameChanged,
            Reason::Garbled | Reason::Nameless | Reason::Silent => Ending::Garbled,
            // The name that was allowed before is not allowed any more.
            Reason::Allowed
            | Reason::Resolved
            | Reason::ObservedOnly
            | Reason::NameNotAllowed
            | Reason::PortNotAllowed
            | Reason::DeniedByRule
            | Reason::AddressNotObserved
            | Reason::LeaseExpired
            | Reason::PrivateAddress
            | Reason::EchNotAllowed
            | Reason::ProtocolNotAllowed
            | Reason::OwnAddress
            | Reason::ClientUnknown
            | Reason::Revoked
            | Reason::UpstreamFailed => Ending::Revoked,
        }
    }
}

impl Standing {
    /// Describes a flow that was allowed by this claim, or by its address alone.
    pub(super) fn new(
        gate: Arc<Gate>,
        (flow, origin): (Flow, Origin),
        faces: Option<Box<Faces>>,
        claim: Option<Claim>,
        pin: Option<Pin>,
    ) -> Self {
        let first = Footing { claim: claim.unwrap_or(Claim::Silent), _pin: pin };
        Self { gate, flow, origin, faces, first, more: Vec::new(), last: 0, told: Vec::new() }
    }

    /// Returns the name claimed last.
    pub(super) fn name(&self) -> Option<&Name> {
        let last = self.last.checked_sub(1).and_then(|at| self.more.get(at));
        last.unwrap_or(&self.first).claim.name()
    }

    /// Returns the flow's number.
    pub(super) fn flow(&self) -> FlowId {
        self.flow.id
    }

    /// Whether the policy in force still allows every name that was claimed.
    pub(super) fn holds(&self, now: Moment) -> bool {
        let mut footings = std::iter::once(&self.first).chain(&self.more);
        footings.all(|footing| self.decide(&footing.claim, now).is_allowed())
    }

    /// Whether the log is to hear of a name before more passes.
    pub(super) fn owes_lines(&self) -> bool {
        !self.told.is_empty()
    }

    /// Takes what the log is to hear.
    pub(super) fn lines(&mut self) -> Vec<Decided> {
        std::mem::take(&mut self.told)
    }

    fn decide(&self, claim: &Claim, now: Moment) -> Decision {
        match &self.faces {
            None => self.gate.decide(&self.flow, claim, now),
            Some(faces) => self.gate.decide_among(faces, claim, now).1,
        }
    }

    /// Judges a later claim on the same connection, for the same destination. On `Ok` the flow stands on it too.
    /// `may_change`: the protocol knows of other names here; without it another name is refused, allowed or
    /// not.
    pub(super) fn next(&mut self, claim: Claim, may_change: bool, now: Moment) -> Result<(), Refusal> {
        let mut decision = self.decide(&claim, now);
        let changed = claim.name() != self.name();
        let observed = decision.reason == Reason::ObservedOnly;
        let known = self.place_of(claim.name());
        let may_pass = may_change || observed || !changed;
        let over = known.is_none() && self.more.len() >= NAMES;
        let Some(permit) = decision.take_permit().filter(|_| may_pass && !over) else {
            let name = claim.name().cloned();
            if decision.reason.lets_pass() && may_pass {
                decision.reason = Reason::OverLimit;
            } else if changed && (name.is_some() || decision.reason.lets_pass()) {
                decision.reason = Reason::NameChanged;
            }
            self.tell(&claim, &decision, now);
            return Err(Refusal { reason: decision.reason, name });
        };
        if let Some(known) = known {
            self.last = known;
            return Ok(());
        }
        self.tell(&claim, &decision, now);
        self.more.push(Footing { claim, _pin: permit.into_pin() });
        self.last = self.more.len();
        Ok(())
    }

    /// Returns where a name is stood on already, as `last` counts.
    fn place_of(&self, name: Option<&Name>) -> Option<usize> {
        std::iter::once(&self.first).chain(&self.more).position(|footing| footing.claim.name() == name)
    }

    fn tell(&mut self, claim: &Claim, decision: &Decision, now: Moment) {
        let line = Decided::new(&self.flow, &self.origin, Some(claim), decision, Duration::ZERO, now);
        self.told.push(Decided { later: true, ..line });
    }
}
