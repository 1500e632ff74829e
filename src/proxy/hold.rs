//! Waits for evidence that may still be on its way, and asks again.
//!
//! The gate never waits; this file does. Must not know where evidence comes from.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::facts::{Claim, Flow, Name};
use crate::gate::{Decision, Faces, Gate, Reason, Watch};
use crate::sys::clock;
use crate::who::Who;

use super::{ProxyConfig, SecondLook};

/// Between a wake that changed nothing and the next: the ledger may have no room for one more waiter, and
/// then wakes at once.
const PAUSE: Duration = Duration::from_millis(20);

/// What was decided after all waiting.
pub(super) struct Judged {
    pub(super) decision: Decision,
    /// The flow as every address of its client, where its own did not do.
    pub(super) faces: Option<Box<Faces>>,
    /// How long the flow was held.
    pub(super) held: Duration,
}

/// Ready once an address rule decides this flow. Sleeps between leases.
pub(super) fn by_address<'a>(
    gate: &'a Arc<Gate>,
    who: &'a Who,
    flow: &'a Flow,
) -> impl Future<Output = Judged> + Send + use<'a> {
    // On the heap: few ports have address rules.
    Box::pin(async move {
        let mut faces = Faces::new(*flow, who.known_siblings(flow.client()));
        if gate.decide_among_by_address(&faces, clock::now()).is_none() {
            faces = Faces::new(*flow, who.siblings(flow.client()).await);
        }
        if !gate.may_serve_any_by_address(&faces, clock::now()) {
            return pending().await;
        }
        let mut pause = Duration::ZERO;
        loop {
            // Before asking: a lease written in between wakes the next turn.
            let mut written = gate.watch_among(&faces, None);
            if let Some((_, decision)) = gate.decide_among_by_address(&faces, clock::now()) {
                let held = clock::tick().since(flow.at);
                return Judged { decision, faces: Some(Box::new(faces)), held };
            }
            ready(pause, &mut written).await;
            pause = PAUSE;
        }
    })
}

/// What a held flow waits with.
#[derive(Clone, Copy)]
pub(super) struct Hold<'a> {
    pub(super) gate: &'a Arc<Gate>,
    pub(super) config: &'a ProxyConfig,
    pub(super) who: &'a Who,
    pub(super) second_look: Option<&'a SecondLook>,
    pub(super) cut: &'a CancellationToken,
}

/// Decides. What its own address does not open is asked for every address of the client, and on a miss again at
/// every sign of new evidence until the hold is over.
pub(super) async fn decide(hold: Hold<'_>, flow: &Flow, claim: &Claim) -> Judged {
    let decision = hold.gate.decide(flow, claim, clock::now());
    if !hold.gate.may_differ_as_another(flow, claim, &decision) {
        return Judged { decision, faces: None, held: Duration::ZERO };
    }
    // On the heap: few flows come here, and every connection would carry the room for it.
    Box::pin(decide_among(hold, flow, claim)).await
}

async fn decide_among(hold: Hold<'_>, flow: &Flow, claim: &Claim) -> Judged {
    let mut siblings = hold.who.known_siblings(flow.client());
    let mut faces = Faces::new(*flow, siblings);
    let (_, mut decision) = hold.gate.decide_among(&faces, claim, clock::now());
    if hold.gate.may_differ_as_another(flow, claim, &decision) {
        siblings = hold.who.siblings(flow.client()).await;
        faces = Faces::new(*flow, siblings);
        (_, decision) = hold.gate.decide_among(&faces, claim, clock::now());
    }
    let by_address = hold.gate.may_serve_any_by_address(&faces, clock::now());
    let may_wait = !hold.config.hold.is_zero() || hold.second_look.is_some();
    let (decision, held) = if may_wait && worth_waiting(&decision, by_address) {
        wait(hold, &faces, claim, by_address).await
    } else {
        (decision, Duration::ZERO)
    };
    let faces = (!siblings.is_empty()).then(|| Box::new(faces));
    Judged { decision, faces, held }
}

async fn wait(hold: Hold<'_>, faces: &Faces, claim: &Claim, by_address: bool) -> (Decision, Duration) {
    let Hold { gate, config, second_look, cut, who: _ } = hold;
    let address = faces.destination().ip();
    let started = clock::tick();
    let mut looking = second_look.zip(claim.name()).map(|(look, name)| Looking::NotYet(look, name));
    // A second look has its own deadlines; this one is for the case that it forgets them.
    let patience = if looking.is_some() { config.hold.max(config.connect_timeout) } else { config.hold };
    let deadline = Instant::now() + patience;
    let mut over = patience.is_zero();
    let mut pause = Duration::ZERO;
    loop {
        // Before asking: no lease is missed that is written in between.
        let mut written = claim.name().map_or_else(Vec::new, |name| gate.watch_among(faces, Some(name)));
        if by_address {
            written.extend(gate.watch_among(faces, None));
        }
        let (client, decision) = gate.decide_among(faces, claim, clock::now());
        if over || !worth_waiting(&decision, by_address) {
            return (decision, clock::tick().since(started));
        }
        if let Some(Looking::NotYet(look, name)) = looking {
            looking = Some(Looking::Underway(look(client, name.clone(), address)));
        }
        tokio::select! {
            () = ready(pause, &mut written) => pause = PAUSE,
            () = answered(&mut looking) => {
                looking = None;
                over = config.hold.is_zero();
            }
            () = sleep_until(deadline) => over = true,
            () = cut.cancelled() => over = true,
        }
    }
}

/// The look-up of our own, once in the life of a flow.
enum Looking<'a> {
    NotYet(&'a SecondLook, &'a Name),
    Underway(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Ready when one of the watches is, but not before the pause is over. Watches count from when they were made.
async fn ready(pause: Duration, watches: &mut [Watch]) {
    if !pause.is_zero() {
        sleep(pause).await;
    }
    poll_fn(|cx| {
        let any = watches.iter_mut().any(|watch| Pin::new(watch).poll(cx).is_ready());
        if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn answered(looking: &mut Option<Looking<'_>>) {
    match looking {
        Some(Looking::Underway(answer)) => answer.await,
        Some(Looking::NotYet(..)) | None => pending().await,
    }
}

/// Whether evidence that may still come could turn this denial into an allow.
fn worth_waiting(decision: &Decision, by_address: bool) -> bool {
    if decision.is_allowed() {
        return false;
    }
    match decision.reason {
        Reason::AddressNotObserved | Reason::LeaseExpired => decision.may_hold(),
        // An address rule asks for no name, so that none of these stands in its way.
        Reason::NameNotAllowed
        | Reason::PortNotAllowed
        | Reason::Nameless
        | Reason::Garbled
        | Reason::Silent
        | Reason::EchNotAllowed
        | Reason::ProtocolNotAllowed => by_address,
        Reason::Allowed
        | Reason::Resolved
        | Reason::ObservedOnly
        | Reason::DeniedByRule
        | Reason::PrivateAddress
        | Reason::NameChanged
        | Reason::OwnAddress
        | Reason::OverLimit
        | Reason::ClientUnknown
        | Reason::Revoked
        | Reason::UpstreamFailed => false,
    }
}
