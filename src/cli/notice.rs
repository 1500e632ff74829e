//! The words for a denial at the moment it happens: what, why, and what would let it through.
//!
//! One line each, for whoever watches the command. Must not know which denials are worth it.

use std::net::SocketAddr;

use crate::facts::Limit;
use crate::gate::Reason;
use crate::record::{Denied, Notice, Subject};

/// Spells a notice, its newline included.
pub(super) fn line(notice: &Notice) -> String {
    match notice {
        Notice::More => {
            "namegate: more is denied than is told here; --report lists it at the end, --audit FILE tells each\n"
                .to_owned()
        }
        Notice::Denied(denied) => {
            let (what, why) = (what(denied), why(denied));
            let next = remedy(denied).map_or(String::new(), |next| format!("; {next}"));
            format!("namegate: denied {what}: {} ({why}){next}\n", denied.reason)
        }
    }
}

fn what(denied: &Denied) -> String {
    let resolved = denied.resolved_from.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    match (&denied.subject, denied.port) {
        (Subject::Address(address), Some(port)) => format!("{}{resolved}", SocketAddr::new(*address, port)),
        (subject, Some(port)) => format!("{subject}:{port}"),
        (Subject::Unread, None) => "a DNS question".to_owned(),
        (subject, None) => format!("{subject} (DNS)"),
    }
}

fn why(denied: &Denied) -> String {
    let words = match denied.reason {
        Reason::NameNotAllowed => "no rule allows it",
        Reason::PortNotAllowed => "it is allowed, but not on this port",
        Reason::DeniedByRule => {
            return match &denied.rule {
                Some(rule) => format!("rule \"{rule}\" denies it"),
                None => "a rule denies it".to_owned(),
            };
        }
        Reason::AddressNotObserved => "DNS never gave the command this address for it",
        Reason::LeaseExpired => "the DNS answer is too old",
        Reason::PrivateAddress => "it leads to an address that is not public",
        Reason::Nameless => "the connection names nothing",
        Reason::Garbled => "it is broken or ambiguous",
        Reason::Silent => "the connection said nothing",
        Reason::EchNotAllowed => "the hello may hide another name (ECH)",
        Reason::ProtocolNotAllowed if denied.port.is_none() => "questions of this type are not forwarded",
        Reason::ProtocolNotAllowed => "it is allowed, but not by this protocol",
        Reason::NameChanged => "a later request on the connection is for another name, which is not allowed",
        Reason::OwnAddress => "that is the gate itself",
        Reason::OverLimit if denied.limit == Some(Limit::NewNames) => "too many different names",
        Reason::OverLimit => "too many at once",
        Reason::ClientUnknown => "it is not known whose it is",
        Reason::Revoked => "it is allowed no more",
        Reason::UpstreamFailed => "the server did not answer",
        Reason::Allowed | Reason::Resolved | Reason::ObservedOnly => "it passed",
    };
    words.to_owned()
}

/// What would let it through, where anything would.
fn remedy(denied: &Denied) -> Option<String> {
    let name = match &denied.subject {
        Subject::Name(name) => Some(name),
        Subject::Address(_) => denied.resolved_from.as_ref(),
        Subject::Unread => None,
    };
    let words = match denied.reason {
        Reason::NameNotAllowed => match denied.port.filter(|port| !matches!(port, 80 | 443)) {
            Some(port) => format!("--allow {}:{port}", name?),
            None => format!("--allow {}", name?),
        },
        Reason::PortNotAllowed => format!("--allow {}:{}", name?, denied.port?),
        Reason::DeniedByRule => return Some("no --allow wins over that".to_owned()),
        Reason::AddressNotObserved => return Some("it has to look the name up first".to_owned()),
        Reason::LeaseExpired => "`grace` under [ledger] in a --policy file".to_owned(),
        Reason::PrivateAddress => "--private, or `private = true` in the rule".to_owned(),
        // There, an address stands for many names.
        Reason::Silent if matches!(denied.port, Some(80 | 443)) => return None,
        Reason::Nameless | Reason::Silent => match name {
            Some(name) => format!("--allow tcp:{name}:{}", denied.port?),
            None => format!("--allow tcp:NAME:{} for the name that it looks up", denied.port?),
        },
        Reason::EchNotAllowed => "a rule with `ech = \"allow\"` in a --policy file".to_owned(),
        Reason::ProtocolNotAllowed if denied.port.is_none() => {
            "`types` under [dns] in a --policy file".to_owned()
        }
        Reason::ProtocolNotAllowed => "`protocols` in the rule".to_owned(),
        Reason::OverLimit => format!("{} in a --policy file", setting(denied.limit?)),
        Reason::Garbled
        | Reason::NameChanged
        | Reason::OwnAddress
        | Reason::ClientUnknown
        | Reason::Revoked
        | Reason::UpstreamFailed
        | Reason::Allowed
        | Reason::Resolved
        | Reason::ObservedOnly => return None,
    };
    Some(format!("to allow: {words}"))
}

/// Where a limit of one command is set.
fn setting(limit: Limit) -> &'static str {
    match limit {
        Limit::OpenConnections => "`max_connections` under [proxy]",
        Limit::NewConnections => "`new_connections_per_second` under [proxy]",
        Limit::QuestionsUnderWay => "`max_inflight` under [dns]",
        Limit::Questions => "`questions_per_second` under [dns]",
        Limit::NewNames => "`new_names_per_minute` under [dns]",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Name;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn denied(subject: Subject, port: Option<u16>, reason: Reason) -> Denied {
        let rule = (reason == Reason::DeniedByRule).then(|| "deny".into());
        let limit = match port {
            Some(_) => Limit::OpenConnections,
            None => Limit::QuestionsUnderWay,
        };
        let limit = (reason == Reason::OverLimit).then_some(limit);
        Denied { subject, resolved_from: None, port, reason, rule, limit }
    }

    #[test]
    fn every_reason_has_its_words() {
        let mut text = String::new();
        for reason in Reason::ALL.into_iter().filter(|reason| !reason.lets_pass()) {
            for (subject, port) in [
                (Subject::Name(name("evil.example.com")), Some(443)),
                (Subject::Name(name("evil.example.com")), Some(8443)),
                (Subject::Name(name("evil.example.com")), None),
                (Subject::Address("2001:db8::9".parse().unwrap()), Some(5432)),
                (Subject::Unread, None),
            ] {
                text.push_str(&line(&Notice::Denied(denied(subject, port, reason))));
            }
        }
        let address = Subject::Address("203.0.113.9".parse().unwrap());
        for (port, reason) in [(5432, Reason::Silent), (443, Reason::Silent), (443, Reason::Nameless)] {
            let resolved_from = Some(name("db.example.net"));
            let denied = Denied { resolved_from, ..denied(address.clone(), Some(port), reason) };
            text.push_str(&line(&Notice::Denied(denied)));
        }
        text.push_str(&line(&Notice::More));
        insta::assert_snapshot!(text);
    }
}
