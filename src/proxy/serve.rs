//! Takes connections in and looks after them until the last one is gone.
//!
//! Must not know what happens on a connection: `tcp` does.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::facts::{Flow, Transport};
use crate::gate::Gate;
use crate::record::Log;
use crate::sys::origdst::{Capture, original_destination};
use crate::sys::{clock, socket};
use crate::who::{Who, Whose};

use super::bell::Bell;
use super::limits::{Clients, FlowIds};
use super::stream::BulkRoom;
use super::{Dial, ProxyConfig, SecondLook};

/// What a proxy is connected with.
pub struct Wiring {
    /// Limits and deadlines.
    pub config: ProxyConfig,
    /// Says yes and no.
    pub gate: Arc<Gate>,
    /// Keeps what happened.
    pub log: Log,
    /// The way out.
    pub dial: Arc<dyn Dial>,
    /// Asked on a miss, while the flow is held.
    pub second_look: Option<SecondLook>,
    /// Tells clients apart.
    pub who: Arc<Who>,
    /// Counts up at each change of policy; open flows are then asked again.
    pub policy_changes: watch::Receiver<u64>,
}

/// The connection corridor, shared by all listeners.
pub struct Proxy {
    pub(super) config: ProxyConfig,
    pub(super) gate: Arc<Gate>,
    pub(super) log: Log,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) second_look: Option<SecondLook>,
    pub(super) who: Arc<Who>,
    pub(super) policy_changes: watch::Receiver<u64>,
    pub(super) clients: Arc<Clients>,
    pub(super) ids: FlowIds,
    pub(super) bulk: BulkRoom,
    slots: Arc<Semaphore>,
}

/// First and longest wait after `accept` failed for want of descriptors or memory.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Between two turns of an event loop that has connections. A deadline beyond the loop's next turn costs no call to move
/// that turn forward, and all deadlines of connections are longer than this.
const BEAT: Duration = Duration::from_millis(500);

/// Memory of all bulky directions beyond their first chunk, bytes.
const BULK: usize = 64 << 20;

impl Proxy {
    /// Connects a proxy.
    pub fn new(wiring: Wiring) -> Arc<Self> {
        let Wiring { config, gate, log, dial, second_look, who, policy_changes } = wiring;
        let slots = config.max_connections.min(Semaphore::MAX_PERMITS);
        let clients = Clients::new(config.max_connections_per_client, config.new_connections_per_second);
        Arc::new(Self {
            config,
            gate,
            log,
            dial,
            second_look,
            who,
            policy_changes,
            clients,
            ids: FlowIds::new(),
            bulk: BulkRoom::new(BULK),
            slots: Arc::new(Semaphore::new(slots)),
        })
    }

    /// Serves captured connections until cancelled, then lets open ones go on for `config.drain` and cuts
    /// what is left. Ready when the last connection is gone.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        capture: Capture,
        whose: Whose,
        cancel: CancellationToken,
    ) {
        let destination = move |stream: &TcpStream| original_destination(stream, capture);
        self.serve_with(listener, destination, whose, cancel).await;
    }

    /// As [`Proxy::serve`], for connections whose destination is known in another way.
    pub async fn serve_with(
        self: Arc<Self>,
        listener: TcpListener,
        destination: impl Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync + 'static,
        whose: Whose,
        cancel: CancellationToken,
    ) {
        // Without this option flows are slower, not less safe.
        let _ = socket::send_at_once(&listener);
        let tasks = TaskTracker::new();
        let (cut, bell) = (CancellationToken::new(), Arc::new(Bell::default()));
        let mut changes = self.policy_changes.clone();
        changes.mark_unchanged();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (slot, client, peer) = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = change(&mut changes) => {
                    bell.changed();
                    continue;
                }
                _ = beat.tick(), if !tasks.is_empty() => continue,
                admitted = self.admit(&listener) => admitted,
            };
            let destination = match destination(&client) {
                Ok(destination) => destination,
                Err(error) => {
                    tracing::debug!(%peer, %error, "original destination is not known");
                    continue;
                }
            };
            // Before the first question, so that no change of policy is missed.
            let (proxy, seat) = (Arc::clone(&self), bell.seat());
            // On the heap, and only until it is known what becomes of it: an open flow needs no room for this.
            let opening = Box::pin(Arc::clone(&self).open(client, peer, destination, whose, cut.clone()));
            tasks.spawn(async move {
                let _slot = slot;
                if let Some(open) = opening.await {
                    proxy.carry(open, seat).await;
                }
            });
        }
        // From here on the kernel refuses new connections.
        drop(listener);
        tasks.close();
        let drained = timeout(self.config.drain, async {
            loop {
                tokio::select! {
                    () = tasks.wait() => break,
                    () = change(&mut changes) => bell.changed(),
                }
            }
        });
        if drained.await.is_err() {
            tracing::info!(open = tasks.len(), "cutting connections that outlived the drain");
            cut.cancel();
            bell.over();
            tasks.wait().await;
        }
    }

    /// Describes a connection, once it is known whose it is.
    pub(super) async fn flow(&self, peer: SocketAddr, destination: SocketAddr, whose: Whose) -> Flow {
        let (id, at) = (self.ids.next(), clock::tick());
        let flow = Flow::new(id, whose.source(peer), destination, Transport::Tcp, at);
        flow.seen_as(self.who.client(whose, peer).await)
    }

    /// Takes one connection as soon as there is a slot for it; until then it waits in the kernel's queue.
    async fn admit(&self, listener: &TcpListener) -> (OwnedSemaphorePermit, TcpStream, SocketAddr) {
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            // Only a closed semaphore fails, and nobody closes this one.
            return std::future::pending().await;
        };
        let mut backoff = BACKOFF.0;
        loop {
            match listener.accept().await {
                Ok((client, source)) => return (slot, client, source),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; waiting");
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }
}

/// Ready at the next change of policy; never, where nobody changes it any more.
async fn change(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Whether `accept` told of a connection that failed in the queue, the next one being unharmed (accept(2),
/// "Error handling").
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPERM
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
        )
    )
}
