//! The forwarder: its sockets, its tasks and its limits.
//!
//! It does not know how a question is judged or answered.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::facts::{Client, Name, Transport};
use crate::gate::Gate;
use crate::rate::{NewNames, Rate};
use crate::record::Log;
use crate::sys::clock;
use crate::sys::udp::{CapturedUdp, Datagram};
use crate::who::{Who, Whose};

use super::DnsConfig;
use super::cache::Cache;
use super::exchange::{Asked, Corridor};
use super::limits::{Admission, Limits, MAX_CLIENTS};
use super::lookup::Lookups;
use super::stream;
use super::upstream::Resolve;

/// Answers the questions of captured clients. Cheap to clone; clones share limits and tasks.
#[derive(Debug, Clone)]
pub struct Forwarder {
    corridor: Arc<Corridor>,
    questions: Arc<Admission>,
    connections: Arc<Limits>,
    lookups: Arc<Lookups>,
    tasks: TaskTracker,
    whose: Whose,
}

/// Open TCP connections in all, and of one client. DNS over TCP is short-lived.
const CONNECTIONS: usize = 1024;
const CONNECTIONS_PER_CLIENT: usize = 64;

/// Largest query taken over UDP, bytes. Real ones have less than 512.
const LARGEST: usize = 4096;

/// After an error of a socket or of the system's tables: long enough not to spin.
const BREATHER: Duration = Duration::from_millis(100);

impl Forwarder {
    /// Builds a forwarder without sockets.
    pub fn new(
        config: DnsConfig,
        gate: Arc<Gate>,
        log: Log,
        resolve: Arc<dyn Resolve>,
        who: Arc<Who>,
    ) -> Self {
        let under_way = Limits::new(config.max_inflight, config.max_inflight_per_client);
        let questions = Arc::new(Admission::new(config.questions_per_second, under_way));
        let names = NewNames::new(Rate::per_minute(config.new_names_per_minute), MAX_CLIENTS);
        let (no_ipv6, cache) = (config.no_ipv6.into(), Cache::new(config.cache));
        let corridor = Arc::new(Corridor { config, gate, log, resolve, who, names, cache, no_ipv6 });
        let lookups = Arc::new(Lookups::new(Arc::clone(&corridor)));
        let connections = Limits::new(CONNECTIONS, CONNECTIONS_PER_CLIENT);
        Self { corridor, questions, connections, lookups, tasks: TaskTracker::new(), whose: Whose::Link }
    }

    /// Returns the same forwarder for sockets whose clients are told in this way.
    pub fn of(&self, whose: Whose) -> Self {
        Self { whose, ..self.clone() }
    }

    /// Returns whose place a question takes, before it is known whose it is.
    fn place_of(&self, peer: SocketAddr) -> Client {
        Client::at(self.whose.source(peer).ip())
    }

    pub(super) fn asked<'m>(
        &self,
        message: &'m [u8],
        peer: SocketAddr,
        server: SocketAddr,
        transport: Transport,
    ) -> Asked<'m> {
        Asked { message, peer, client: self.place_of(peer), whose: self.whose, server, transport }
    }

    /// Says whether this host has lost, or found, its way to IPv6: without one, AAAA is answered NODATA.
    pub fn set_no_ipv6(&self, no_ipv6: bool) {
        self.corridor.no_ipv6.store(no_ipv6, Ordering::Relaxed);
    }

    /// Answers what comes by this socket until cancelled. Questions under way then go on:
    /// see [`Forwarder::drained`].
    pub async fn serve_udp(&self, socket: CapturedUdp, cancel: CancellationToken) {
        let socket = Arc::new(socket);
        let mut buffer = vec![0; LARGEST];
        let mut cancelled = pin!(cancel.cancelled());
        loop {
            let got = tokio::select! {
                biased;
                () = &mut cancelled => return,
                got = socket.recv(&mut buffer) => got,
            };
            match got {
                Ok(datagram) => {
                    let message = buffer.get(..datagram.len).unwrap_or(&[]);
                    self.take_datagram(&socket, datagram, message).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot receive DNS queries");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    async fn take_datagram(&self, socket: &Arc<CapturedUdp>, datagram: Datagram, message: &[u8]) {
        let Datagram { peer, destination: server, cut, .. } = datagram;
        // What did not fit is no query: an empty message is judged in its place, and logged.
        let message = if cut { &[] } else { message };
        let over = match self.questions.take(self.place_of(peer), clock::tick()) {
            Ok(place) => {
                let (this, socket, message) = (self.clone(), Arc::clone(socket), message.to_vec());
                let mut work = Box::pin(async move {
                    let asked = this.asked(&message, peer, server, Transport::Udp);
                    if let Some(reply) = this.corridor.exchange(asked).await {
                        send(&socket, &reply, asked).await;
                    }
                    drop(place);
                });
                // What is denied or known is answered at once; what has to be asked for goes on in a task.
                if poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await.is_pending() {
                    self.tasks.spawn(work);
                }
                return;
            }
            Err(over) => over,
        };
        // Here, not in a task: a flood costs the flooded socket's time, not memory.
        let asked = self.asked(message, peer, server, Transport::Udp);
        if let Some(reply) = self.corridor.refuse_over_limit(asked, over).await {
            send(socket, &reply, asked).await;
        }
    }

    /// Answers what comes by connections to this listener until cancelled. Connections then end once the
    /// questions under way are answered.
    pub async fn serve_tcp(&self, listener: TcpListener, cancel: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((connection, peer)) => {
                    let Ok(place) = self.connections.take(self.place_of(peer)) else {
                        tracing::debug!(%peer, "DNS connection refused: too many open");
                        continue;
                    };
                    let (this, cancel) = (self.clone(), cancel.child_token());
                    self.tasks.spawn(async move {
                        stream::serve(&this, connection, peer, cancel).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept DNS connections");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    /// Answers a message that came by a connection. The place counts as for a datagram.
    pub(super) async fn answer(&self, asked: Asked<'_>) -> Option<Vec<u8>> {
        match self.questions.take(asked.client, clock::tick()) {
            Ok(_place) => self.corridor.exchange(asked).await,
            Err(over) => self.corridor.refuse_over_limit(asked, over).await,
        }
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Looks a claimed name up for a client: A or AAAA by the destination's family. Ready when the answer
    /// is in the ledger, or none came.
    pub async fn lookup(&self, client: Client, name: Name, destination: IpAddr) {
        self.lookups.look(client, name, destination).await;
    }

    /// Waits until every question under way is answered; call it once the serving functions have returned.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn send(socket: &CapturedUdp, reply: &[u8], asked: Asked<'_>) {
    if let Err(error) = socket.send_from(reply, asked.peer, asked.server).await {
        tracing::debug!(peer = %asked.peer, %error, "DNS reply not sent");
    }
}
