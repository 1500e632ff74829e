//! The next step for every reason: what an operator can do about a denial.
//!
//! Words only; judges nothing.

use crate::gate::Reason;

/// Returns what to do about a denial; `None` where nothing was denied.
pub(super) fn for_reason(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Allowed | Reason::Resolved | Reason::ObservedOnly => return None,
        Reason::NameNotAllowed => "add the name to a rule's `names`, if this client should reach it",
        Reason::PortNotAllowed => "add the port to the rule's `ports`",
        Reason::DeniedByRule => "a deny rule wins over every allow; narrow it if this was not meant",
        Reason::AddressNotObserved => {
            "the client must first ask DNS for the name, through namegate or the tapped resolver, and get this address"
        }
        Reason::LeaseExpired => "the DNS answer is too old; the client asks again, or raise `ledger.grace`",
        Reason::PrivateAddress => {
            "`private = true` in the rule, if the name really lives on a private network"
        }
        Reason::Nameless => "connections without a name need a rule with `match = \"address\"`",
        Reason::Garbled => "the first bytes are broken or ambiguous, and are never let pass",
        Reason::Silent => "server-first protocols need a rule with `match = \"address\"`",
        Reason::EchNotAllowed => {
            "`ech = \"allow\"` in the rule: browsers send an ECH extension in every hello"
        }
        Reason::ProtocolNotAllowed => "add the protocol to the rule's `protocols`",
        Reason::NameChanged => "one connection asked for several names; each must be allowed",
        Reason::OwnAddress => "the gate itself is no destination",
        Reason::OverLimit => "raise the limit, or find out what the client does",
        Reason::ClientUnknown => "its socket was closed already, or its address went to another client",
        Reason::Revoked => "a newer policy no longer allows it",
        Reason::UpstreamFailed => "the server did not answer",
    })
}
