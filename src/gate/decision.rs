//! The outcome of the ladder, and the permit without which nothing is dialled.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::facts::{Name, Source, Tick, Via};

use super::{Pin, Reason, Rule};

/// The DNS answer that justified a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Who saw the answer.
    pub source: Source,
    /// When it was seen.
    pub answered_at: Tick,
    /// The TTL that came with the address, seconds.
    pub ttl_secs: u32,
    /// When the lease ends, floor and grace included.
    pub expires_at: Tick,
    /// The names on the CNAME chain, the asked one first.
    pub chain: Arc<[Name]>,
}

/// Leave to dial one address once. Only the gate makes it; using it up is by value.
#[derive(Debug)]
pub struct Permit {
    destination: SocketAddr,
    pin: Option<Pin>,
}

impl Permit {
    pub(super) fn new(destination: SocketAddr, pin: Option<Pin>) -> Self {
        Self { destination, pin }
    }

    /// Returns the judged address: the only one that may be dialled.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Ends the permit; what is left keeps the lease alive while the flow is open.
    pub fn into_pin(self) -> Option<Pin> {
        self.pin
    }
}

/// What the gate says to one flow.
#[derive(Debug)]
pub struct Decision {
    /// The one reason.
    pub reason: Reason,
    /// In observe mode: the denial that was not carried out.
    pub would: Option<Reason>,
    /// The rule that decided, or came nearest.
    pub rule: Option<Arc<Rule>>,
    /// The answer that justified an allow (or that has expired).
    pub evidence: Option<Evidence>,
    /// What was judged: where the name stood, or `Address`.
    pub via: Option<Via>,
    permit: Option<Permit>,
}

impl Decision {
    pub(super) fn allow(reason: Reason, permit: Permit) -> Self {
        Self { reason, would: None, rule: None, evidence: None, via: None, permit: Some(permit) }
    }

    pub(super) fn deny(reason: Reason) -> Self {
        Self { reason, would: None, rule: None, evidence: None, via: None, permit: None }
    }

    /// Whether the flow may pass.
    pub fn is_allowed(&self) -> bool {
        self.permit.is_some()
    }

    /// Whether evidence that is still on its way could turn this into an allow: the flow is denied for a
    /// miss. What observe mode let pass is not worth holding.
    pub fn may_hold(&self) -> bool {
        !self.reason.lets_pass() && self.reason.is_miss()
    }

    /// Takes the permit out; the decision stays behind for the log.
    pub fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }
}
