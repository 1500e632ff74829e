//! The last step of a verdict: an allow with its permit, or a denial, which observe mode does not carry out.
//!
//! Must not know how either was come to.

use crate::facts::{Flow, Source, Via};

use super::verdict::{Ask, Denial};
use super::{Decision, Evidence, Permit, Pin, Reason};

/// Makes an allow, unless a deny rule that only observes would have refused it.
pub(super) fn grant(
    ask: &Ask<'_>,
    flow: &Flow,
    rule: u32,
    (evidence, pin): (Evidence, Option<Pin>),
    via: Via,
    observed_deny: Option<u32>,
) -> Decision {
    let reason = match (observed_deny, evidence.source) {
        (Some(_), _) => Reason::ObservedOnly,
        (None, Source::Resolved) => Reason::Resolved,
        (None, Source::Forwarder | Source::Dnstap | Source::Granted) => Reason::Allowed,
    };
    let mut decision = Decision::allow(reason, Permit::new(flow.destination, pin));
    decision.would = observed_deny.map(|_| Reason::DeniedByRule);
    decision.rule = ask.policy.rule(observed_deny.unwrap_or(rule)).cloned();
    decision.evidence = Some(evidence);
    decision.via = Some(via);
    decision
}

/// Refuses a flow of which it is not known whose it is.
pub(super) fn unknown(ask: &Ask<'_>, flow: &Flow) -> Decision {
    settle(ask, flow, Denial::new(Reason::ClientUnknown, None), None, None)
}

/// Carries a denial out, or lets the flow pass when only observing.
pub(super) fn settle(
    ask: &Ask<'_>,
    flow: &Flow,
    denial: Denial,
    observed_deny: Option<u32>,
    via: Option<Via>,
) -> Decision {
    let mut decision;
    let mut rule = denial.rule;
    if ask.policy.observes(denial.rule, ask.wall) {
        decision = Decision::allow(Reason::ObservedOnly, Permit::new(flow.destination, None));
        decision.would = Some(denial.reason);
        // Enforced, the deny rule would have spoken first.
        if observed_deny.is_some() {
            decision.would = Some(Reason::DeniedByRule);
            rule = observed_deny;
        }
    } else {
        decision = Decision::deny(denial.reason);
    }
    decision.rule = rule.and_then(|at| ask.policy.rule(at)).cloned();
    decision.evidence = denial.evidence;
    decision.via = via;
    decision
}
