//! What an open flow stands on: its last claim, and the lease that allowed it.
//!
//! Asks the gate again when the policy changes or a later request claims a name. Must not know sockets.

use std::sync::Arc;

use crate::facts::{Claim, Flow, FlowId, Moment, Name};
use crate::gate::{Decision, Faces, Gate, Pin, Reason};
use crate::record::Ending;

/// A flow that was let through.
#[derive(Debug)]
pub(super) struct Standing {
    gate: Arc<Gate>,
    flow: Flow,
    /// The flow as every address of its client, where its own did not do.
    faces: Option<Box<Faces>>,
    /// `Silent`: it was allowed by its address, before anything was read.
    claim: Claim,
    pin: Option<Pin>,
}

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
            Reason::NameChanged => Ending::NameChanged,
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
            | Reason::OverLimit
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
        flow: Flow,
        faces: Option<Box<Faces>>,
        claim: Option<Claim>,
        pin: Option<Pin>,
    ) -> Self {
        Self { gate, flow, faces, claim: claim.unwrap_or(Claim::Silent), pin }
    }

    /// Returns the name claimed last.
    pub(super) fn name(&self) -> Option<&Name> {
        self.claim.name()
    }

    /// Returns the flow's number.
    pub(super) fn flow(&self) -> FlowId {
        self.flow.id
    }

    /// Whether the policy in force still allows the flow.
    pub(super) fn holds(&self, now: Moment) -> bool {
        self.decide(&self.claim, now).is_allowed()
    }

    fn decide(&self, claim: &Claim, now: Moment) -> Decision {
        match &self.faces {
            None => self.gate.decide(&self.flow, claim, now),
            Some(faces) => self.gate.decide_among(faces, claim, now).1,
        }
    }

    /// Judges a later claim on the same connection, for the same destination. On `Ok` the flow stands on it.
    /// `may_change`: the protocol knows of other names here; without it another name is refused, allowed or
    /// not.
    pub(super) fn next(&mut self, claim: Claim, may_change: bool, now: Moment) -> Result<(), Refusal> {
        let mut decision = self.decide(&claim, now);
        let changed = claim.name() != self.name();
        let observed = decision.reason == Reason::ObservedOnly;
        let Some(permit) = decision.take_permit().filter(|_| may_change || observed || !changed) else {
            let name = claim.name().cloned();
            let reason = if changed && name.is_some() { Reason::NameChanged } else { decision.reason };
            return Err(Refusal { reason, name });
        };
        if changed {
            self.pin = permit.into_pin();
        }
        self.claim = claim;
        Ok(())
    }
}
