//! What is refused whatever rules say: connections to the gate itself, and clients that are no longer who they were.
//!
//! Must not know names or leases.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::facts::{Flow, Moment, Scope, scope};

use super::verdict::Ask;
use super::{Policy, Reason, Roster};

/// What is this machine's own, and so never a destination.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Addresses of every interface.
    pub addresses: HashSet<IpAddr>,
    /// Ports of the gate's own listeners.
    pub ports: HashSet<u16>,
}

impl Own {
    /// Whether the flow is refused whatever rules say: to the gate itself, or of a client whose address has gone to
    /// another one meanwhile.
    pub(super) fn forbids(&self, flow: &Flow, roster: &Roster) -> Option<Reason> {
        if self.is_gate(flow) {
            return Some(Reason::OwnAddress);
        }
        (!roster.is_current(flow.client())).then_some(Reason::Revoked)
    }

    /// Whether the gate itself is dialled: what it would proxy comes back to it for ever.
    fn is_gate(&self, flow: &Flow) -> bool {
        let address = flow.destination.ip();
        self.ports.contains(&flow.destination.port())
            && (self.addresses.contains(&address)
                || scope(address) == Scope::Loopback
                // Linux takes the unspecified address for loopback.
                || address.is_unspecified())
    }

    pub(super) fn ask<'a>(&self, policy: &'a Policy, flow: &Flow, now: Moment) -> Ask<'a> {
        let address = flow.destination.ip();
        let closed = scope(address) != Scope::Public || self.addresses.contains(&address);
        Ask { policy, client: flow.client(), port: flow.destination.port(), closed, wall: now.wall }
    }
}
