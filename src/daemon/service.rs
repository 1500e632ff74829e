//! What the service manager is told: ready, reloading, stopping, and a sign of life that is earned.
//!
//! Without a service manager nothing is said. Must not know what it makes of it.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::facts::{Claim, Flow, FlowId, Transport};
use crate::gate::Gate;
use crate::record::Log;
use crate::sys::clock;

use super::vitals::Vitals;

/// A message to the service manager.
pub(super) enum Word {
    /// Captured and serving.
    Ready(String),
    /// A reload begins; `Ready` ends it.
    Reloading,
    /// The end begins, and may take this long.
    Stopping(Duration),
    /// Alive.
    Alive,
}

/// Says it. Whoever does not listen is not waited for.
pub(super) async fn tell(word: Word) {
    let send = tokio::task::spawn_blocking(move || send(&word));
    match timeout(PATIENCE, send).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot tell the service manager"),
        Ok(Err(_)) | Err(_) => tracing::warn!("the service manager does not listen"),
    }
}

fn send(word: &Word) -> std::io::Result<()> {
    match word {
        Word::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
        Word::Reloading => {
            let now = NotifyState::monotonic_usec_now()?;
            sd_notify::notify(&[NotifyState::Reloading, now, NotifyState::Status("reading the rules again")])
        }
        Word::Stopping(within) => {
            let micros = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
            let status = NotifyState::Status("open connections may end; the captured interfaces stay closed");
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros), status])
        }
        Word::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
    }
}

/// Feels the gate's pulse until cancelled: notes what does not move on, and tells the service manager's watchdog only
/// when everything does.
pub(super) async fn feel_pulse(
    gate: Arc<Gate>,
    log: Log,
    vitals: Arc<Vitals>,
    loops: Vec<Handle>,
    cancel: CancellationToken,
) {
    let watchdog = sd_notify::watchdog_enabled().filter(|period| !period.is_zero());
    // Twice within the watchdog's period, and time to spare.
    let period = watchdog.map_or(PULSE, |period| PULSE.min(period / 3));
    let mut every = interval(period);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(every.tick()).await.is_some() {
        let stuck = pulse(&gate, &log, (&vitals, &loops), period.max(LEAST_PATIENCE)).await.err();
        if let Some(what) = stuck {
            tracing::error!(what, "the gate does not move on");
        } else if watchdog.is_some() {
            tell(Word::Alive).await;
        }
        vitals.stuck(stuck);
    }
}

/// Goes the way of a connection as far as nothing is seen of it: every event loop takes a task, the gate judges, every
/// part of the ledger is unlocked, the log takes a line.
async fn pulse(
    gate: &Arc<Gate>,
    log: &Log,
    (vitals, loops): (&Vitals, &[Handle]),
    within: Duration,
) -> Result<(), &'static str> {
    for handle in loops.iter().chain([&Handle::current()]) {
        let judge = Arc::clone(gate);
        let judged = handle.spawn(async move {
            let now = clock::now();
            let nobody = ([192, 0, 2, 0], 0).into();
            let flow = Flow::new(FlowId(0), nobody, nobody, Transport::Tcp, now.tick);
            // In observe mode even this may pass; it is answered, that is all.
            let _ = judge.decide(&flow, &Claim::Silent, now);
            judge.lease_count()
        });
        match timeout(within, judged).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err("the gate judges nothing"),
        }
    }
    if timeout(within, log.has_room()).await.is_err() {
        return Err("the audit log takes no line, so nothing passes");
    }
    if vitals.unswept_for() > UNSWEPT {
        return Err("the ledger is not swept");
    }
    // Whoever stops, stops listening.
    if vitals.all_listen() || vitals.is_stopping() { Ok(()) } else { Err("a listener has ended") }
}

/// How often the pulse is felt, where no watchdog wants it more often.
const PULSE: Duration = Duration::from_secs(5);
/// A busy machine may take this long.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// For the service manager to take a datagram.
const PATIENCE: Duration = Duration::from_secs(1);
/// The ledger is swept every second.
const UNSWEPT: Duration = Duration::from_secs(15);
