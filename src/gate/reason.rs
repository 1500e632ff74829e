//! The closed set of reasons. Codes are stable: they stand in audit lines, metric labels and refusals.

use std::fmt;

/// Why a flow or a question was allowed or denied. Exactly one per decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Name and address fit a rule and an observed answer.
    Allowed,
    /// As `Allowed`, the answer being one of our own look-up.
    Resolved,
    /// Would have been denied; observe mode let it pass.
    ObservedOnly,
    /// No rule allows the name for this client.
    NameNotAllowed,
    /// A rule allows the name, but not on this port.
    PortNotAllowed,
    /// A `deny` rule matches.
    DeniedByRule,
    /// DNS was never seen to give this address for this name to this client.
    AddressNotObserved,
    /// It was, but too long ago.
    LeaseExpired,
    /// The address is private, loopback, link-local, multicast or this machine's own.
    PrivateAddress,
    /// Well-formed, but it names nothing.
    Nameless,
    /// Broken or ambiguous.
    Garbled,
    /// Said nothing in time.
    Silent,
    /// Encrypted Client Hello, and the rule does not permit it.
    EchNotAllowed,
    /// The rule does not permit this protocol.
    ProtocolNotAllowed,
    /// A later request or hello claimed another name that is not allowed.
    NameChanged,
    /// The gate itself was dialled.
    OwnAddress,
    /// A limit of connections, bytes or questions was reached.
    OverLimit,
    /// It is not known whose it is: the socket is closed already, or the address has gone to another client.
    ClientUnknown,
    /// The policy changed under an open flow.
    Revoked,
    /// Allowed, but the server could not be reached.
    UpstreamFailed,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 20] = [
        Self::Allowed,
        Self::Resolved,
        Self::ObservedOnly,
        Self::NameNotAllowed,
        Self::PortNotAllowed,
        Self::DeniedByRule,
        Self::AddressNotObserved,
        Self::LeaseExpired,
        Self::PrivateAddress,
        Self::Nameless,
        Self::Garbled,
        Self::Silent,
        Self::EchNotAllowed,
        Self::ProtocolNotAllowed,
        Self::NameChanged,
        Self::OwnAddress,
        Self::OverLimit,
        Self::ClientUnknown,
        Self::Revoked,
        Self::UpstreamFailed,
    ];

    /// Returns the stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Resolved => "resolved",
            Self::ObservedOnly => "observed_only",
            Self::NameNotAllowed => "name_not_allowed",
            Self::PortNotAllowed => "port_not_allowed",
            Self::DeniedByRule => "denied_by_rule",
            Self::AddressNotObserved => "address_not_observed",
            Self::LeaseExpired => "lease_expired",
            Self::PrivateAddress => "private_address",
            Self::Nameless => "nameless",
            Self::Garbled => "garbled",
            Self::Silent => "silent",
            Self::EchNotAllowed => "ech_not_allowed",
            Self::ProtocolNotAllowed => "protocol_not_allowed",
            Self::NameChanged => "name_changed",
            Self::OwnAddress => "own_address",
            Self::OverLimit => "over_limit",
            Self::ClientUnknown => "client_unknown",
            Self::Revoked => "revoked",
            Self::UpstreamFailed => "upstream_failed",
        }
    }

    /// Whether a flow with this reason is let through.
    pub const fn lets_pass(self) -> bool {
        matches!(self, Self::Allowed | Self::Resolved | Self::ObservedOnly)
    }

    /// Whether DNS evidence that is still on its way could turn this into an allow.
    pub const fn is_miss(self) -> bool {
        matches!(self, Self::AddressNotObserved | Self::LeaseExpired)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_three_of_them_pass() {
        let codes: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert_eq!(Reason::ALL.iter().filter(|reason| reason.lets_pass()).count(), 3);
    }
}
