//! One flow of a client with several addresses: judged as each of them, one decision comes out.
//!
//! A deny rule for any of the addresses is the last word; else the first address that is allowed serves the
//! flow. Must not know how addresses were found to be one client's.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::facts::{Claim, Client, Flow, Moment, Name, Protocol, Siblings, Via};

use super::verdict::{Ask, Read};
use super::{Decision, Gate, Reason, Watch};

/// One flow, to be judged as each address of its client: its own first.
#[derive(Debug, Clone, Copy)]
pub struct Faces {
    flow: Flow,
    siblings: Siblings,
}

impl Faces {
    /// Joins a flow and the other addresses of its client.
    pub fn new(flow: Flow, siblings: Siblings) -> Self {
        Self { flow, siblings }
    }

    /// Returns where the flow leads.
    pub fn destination(&self) -> SocketAddr {
        self.flow.destination
    }

    /// Returns the flow as each address would have it.
    pub fn iter(&self) -> impl Iterator<Item = Flow> {
        let flow = self.flow;
        std::iter::once(flow).chain(self.siblings.iter().map(move |client| flow.seen_as(client)))
    }
}

impl Gate {
    /// Judges a flow as every address of its client, and says as which it was judged.
    ///
    /// Denied as all of them, it is denied for the reason that came furthest on the ladder.
    pub fn decide_among(self: &Arc<Self>, faces: &Faces, claim: &Claim, now: Moment) -> (Client, Decision) {
        let mut judged = (faces.flow.client(), self.decide(&faces.flow, claim, now));
        for face in faces.iter().skip(1) {
            let decision = self.decide(&face, claim, now);
            // Among equals the first one: its own address, where that is one of them.
            if Rank::of(&decision) > Rank::of(&judged.1) {
                judged = (face.client(), decision);
            }
        }
        self.denied_by_name(faces, &judged, claim.protocol(), now).unwrap_or(judged)
    }

    /// As [`Gate::decide_by_address`], for every address of the client. A deny rule for one of them is left to
    /// [`Gate::decide_among`].
    pub fn decide_among_by_address(
        self: &Arc<Self>,
        faces: &Faces,
        now: Moment,
    ) -> Option<(Client, Decision)> {
        let found =
            faces.iter().find_map(|face| Some((face.client(), self.decide_by_address(&face, now)?)))?;
        self.denied_by_name(faces, &found, None, now).is_none().then_some(found)
    }

    /// As [`Gate::may_serve_by_address`], for any address of the client.
    pub fn may_serve_any_by_address(&self, faces: &Faces, now: Moment) -> bool {
        faces.iter().any(|face| self.may_serve_by_address(&face, now))
    }

    /// Whether an address rule could serve anybody at this port: elsewhere a flow that names nothing is refused,
    /// whoever it comes from.
    pub fn has_address_rules_at(&self, port: u16) -> bool {
        self.policy().has_address_rules_at(port)
    }

    /// Returns watches for every address of the client: see [`Gate::watch`].
    pub fn watch_among(self: &Arc<Self>, faces: &Faces, name: Option<&Name>) -> Vec<Watch> {
        faces.iter().map(|face| self.watch(face.client(), name, face.destination.ip())).collect()
    }

    /// Whether any rule allows the name to anybody: if not, no other address of a client will do.
    pub fn is_for_somebody(&self, name: &Name) -> bool {
        self.policy().allows_somebody(name)
    }

    /// Whether being known by another address could change what was decided.
    pub fn may_differ_as_another(&self, flow: &Flow, claim: &Claim, decision: &Decision) -> bool {
        match decision.would.unwrap_or(decision.reason) {
            Reason::NameNotAllowed => {
                claim.name().is_some_and(|name| self.is_for_somebody(name))
                    || self.has_address_rules_at(flow.destination.port())
            }
            Reason::PortNotAllowed
            | Reason::ProtocolNotAllowed
            | Reason::EchNotAllowed
            | Reason::PrivateAddress
            | Reason::AddressNotObserved
            | Reason::LeaseExpired => true,
            // No name: only an address rule could serve.
            Reason::Nameless | Reason::Garbled | Reason::Silent => {
                self.has_address_rules_at(flow.destination.port())
            }
            Reason::Allowed
            | Reason::Resolved
            | Reason::ObservedOnly
            | Reason::DeniedByRule
            | Reason::NameChanged
            | Reason::OwnAddress
            | Reason::OverLimit
            | Reason::ClientUnknown
            | Reason::Revoked
            | Reason::UpstreamFailed => false,
        }
    }

    /// An address rule lets a flow pass for a name that nobody claimed; a deny rule may refuse that name to another
    /// address of the same client, whose own leases would not have told.
    fn denied_by_name(
        &self,
        faces: &Faces,
        (winner, decision): &(Client, Decision),
        protocol: Option<Protocol>,
        now: Moment,
    ) -> Option<(Client, Decision)> {
        let (evidence, rule) = (decision.evidence.as_ref()?, decision.rule.as_ref()?);
        if !decision.is_allowed() || decision.via != Some(Via::Address) {
            return None;
        }
        let policy = self.policy();
        let read = Read { protocol, ech: false };
        let meant = |name: &&Name| rule.names.iter().any(|pattern| pattern.matches(name));
        for face in faces.iter().filter(|face| face.client() != *winner) {
            let (client, port) = (face.client(), face.destination.port());
            let ask = Ask { policy: &policy, client, port, closed: false, wall: now.wall };
            let mut names = evidence.chain.iter().filter(meant);
            if let Some(at) = names.find_map(|name| ask.standing(name, read, None).denied) {
                let mut denial = Decision::deny(Reason::DeniedByRule);
                denial.rule = policy.rule(at).cloned();
                denial.via = Some(Via::Address);
                return Some((client, denial));
            }
        }
        None
    }
}

/// Which decision counts among several for one flow; the greater one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Denied, and how far it came.
    Denied(u8),
    /// Let pass, though it would have been denied.
    Observed,
    /// Allowed in earnest.
    Allowed,
    /// Let pass, though a deny rule would have refused it.
    ObservedDeny,
    /// Refused by a deny rule, or because the gate itself is dialled.
    Refused,
}

impl Rank {
    fn of(decision: &Decision) -> Self {
        let rung = match decision.reason {
            Reason::Allowed | Reason::Resolved => return Self::Allowed,
            Reason::ObservedOnly if decision.would == Some(Reason::DeniedByRule) => {
                return Self::ObservedDeny;
            }
            Reason::ObservedOnly => return Self::Observed,
            Reason::DeniedByRule | Reason::OwnAddress => return Self::Refused,
            Reason::LeaseExpired => 7,
            Reason::AddressNotObserved => 6,
            Reason::PrivateAddress => 5,
            Reason::EchNotAllowed => 4,
            Reason::ProtocolNotAllowed => 3,
            Reason::PortNotAllowed => 2,
            Reason::NameNotAllowed => 1,
            Reason::Nameless
            | Reason::Garbled
            | Reason::Silent
            | Reason::NameChanged
            | Reason::OverLimit
            | Reason::ClientUnknown
            | Reason::Revoked
            | Reason::UpstreamFailed => 0,
        };
        Self::Denied(rung)
    }
}
