//! What has to be looked after while the gate runs: its own addresses, the ledger's past, the log's debts.
//!
//! Must not know connections or questions.

use std::collections::HashSet;
use std::net::{Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::dns::Forwarder;
use crate::gate::{Gate, Own};
use crate::record::Log;
use crate::sys::{clock, host};

/// How often the ledger is swept; a step costs microseconds.
const SWEEP: Duration = Duration::from_secs(1);
/// Leases looked at in one step.
const SWEEP_BUDGET: usize = 50_000;
/// How often the log is asked for what it owes; such a line is due after a second.
const TELL: Duration = Duration::from_secs(1);
/// How often addresses are read. The kernel rules refuse own addresses by themselves, at once.
const LOOK: Duration = Duration::from_secs(5);

/// Sweeps the ledger until cancelled; `swept` is called after each step.
pub(super) async fn sweep(gate: Arc<Gate>, swept: impl Fn(), cancel: CancellationToken) {
    let mut every = interval(SWEEP);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(every.tick()).await.is_some() {
        gate.sweep(clock::tick(), SWEEP_BUDGET);
        swept();
    }
}

/// Has the log tell what it owes of refusals that it put off, until cancelled.
pub(super) async fn tell_repeats(log: Log, cancel: CancellationToken) {
    let mut every = interval(TELL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(every.tick()).await.is_some() {
        log.tell_repeats(clock::tick()).await;
    }
}

/// Tells the gate which addresses are this machine's.
pub(super) async fn learn_own(gate: &Gate, ports: &HashSet<u16>) -> std::io::Result<()> {
    let addresses = host::addresses().await?.into_iter().collect();
    gate.set_own(Own { addresses, ports: ports.clone() });
    Ok(())
}

/// Whether this host has a route to the IPv6 Internet. No packet is sent.
pub(super) fn has_ipv6_route() -> bool {
    // Of 2000::/3, global unicast (RFC 4291 section 2.4), and of no special range.
    let somewhere = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1), 53);
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect(somewhere)).is_ok()
}

/// Keeps what gate and forwarder know of this machine's addresses and routes fresh until cancelled.
pub(super) async fn follow_own(
    gate: Arc<Gate>,
    forwarder: Arc<Forwarder>,
    ports: HashSet<u16>,
    cancel: CancellationToken,
) {
    let mut every = interval(LOOK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(every.tick()).await.is_some() {
        if let Err(error) = learn_own(&gate, &ports).await {
            tracing::warn!(%error, "cannot list this machine's addresses; the last list stays in force");
        }
        forwarder.set_no_ipv6(!has_ipv6_route());
    }
}
