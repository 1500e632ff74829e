//! What is this machine's own: connections to the gate itself are refused whatever rules say.
//!
//! Must not know names or leases.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::facts::{Flow, Moment, Scope, scope};

use super::Policy;
use super::verdict::Ask;

/// What is this machine's own, and so never a destination.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Addresses of every interface.
    pub addresses: HashSet<IpAddr>,
    /// Ports of the gate's own listeners.
    pub ports: HashSet<u16>,
}

impl Own {
    /// Whether the gate itself is dialled: what it would proxy comes back to it for ever.
    pub(super) fn is_gate(&self, flow: &Flow) -> bool {
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
