//! The corridor: one captured TCP connection from its acceptance to its end, top to bottom.
//!
//! Must not know how connections are captured, nor what the kernel does with them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::facts::{Claim, Flow, Limit, Name, Protocol, Via};
use crate::gate::{Decision, Permit, Reason};
use crate::record::{Closed, Decided, Ending, Event, Origin, Over};
use crate::sys::clock;
use crate::who::Whose;
use crate::wire::http_requests::Requests;

use super::bell::Seat;
use super::ended::Ended;
use super::hold::{Hold, Judged};
use super::later::Later;
use super::limits::Place;
use super::pipe::{Bounds, Pipe};
use super::postgres::{self, Answer};
use super::refuse::{refuse, reset, words};
use super::retry::Retry;
use super::sniff::Heard;
use super::standing::Standing;
use super::{Dialled, Proxy, hold};

/// A connection with both its ends, and what it stands on.
pub(super) struct Open {
    client: TcpStream,
    server: TcpStream,
    /// What the client said before it was judged.
    first: Vec<u8>,
    later: Option<Box<Later>>,
    standing: Standing,
    _place: Place,
}

impl Proxy {
    /// Carries an open flow to its end.
    pub(super) async fn carry(&self, mut open: Box<Open>, seat: Seat) {
        let bounds = Bounds {
            idle: self.config.idle_timeout,
            head: self.config.sniff_timeout,
            head_bytes: self.config.sniff_bytes,
        };
        let Open { client, server, first, later, standing, .. } = &mut *open;
        let words = (std::mem::take(first), later.take());
        let mut pipe = Pipe::new((client, server), words, standing, (bounds, &self.bulk));
        let ended = pipe.run(seat, &self.log).await;
        drop(pipe);
        Box::pin(self.close(open, ended)).await;
    }

    /// Records the end, and says last words where there are some.
    async fn close(&self, open: Box<Open>, ended: Ended) {
        let Open { client, server, standing, .. } = *open;
        // Whoever waits for the end need not wait for the log.
        drop(server);
        let client = ended.untold.is_some().then_some(client);
        self.record_closed(&standing.flow, standing.origin.clone(), standing.name(), &ended).await;
        if let Some((client, words)) = client.zip(ended.untold) {
            refuse(client, Some(words)).await;
        }
    }

    /// Hears, judges and dials; what is refused is told so.
    pub(super) async fn open(
        self: Arc<Self>,
        client: TcpStream,
        peer: SocketAddr,
        destination: SocketAddr,
        whose: Whose,
        cut: CancellationToken,
    ) -> Option<Box<Open>> {
        let (whose, cut) = (whose.towards(destination), &cut);
        let flow = self.flow(peer, destination, whose).await;
        // Who it is, for the record.
        let process = self.who.process(whose, peer);
        let mut origin = Origin { container: self.gate.container(flow.client()), process: None };
        let place = match self.clients.enter(flow.client(), clock::tick()) {
            Ok(place) => place,
            Err(limit) => {
                // On the heap: every connection would carry the room for it.
                Box::pin(self.record_over_limit(&flow, &origin, limit)).await;
                reset(client);
                return None;
            }
        };
        let limit = self.config.sniff_bytes;
        let mut heard = Heard::default();
        let (claim, judged) = self.judge(&mut heard, &client, &flow, cut).await;
        let Judged { mut decision, faces, held } = judged;
        if let Some(process) = process {
            origin.process = process.await.ok().flatten();
        }

        self.record_decided(&flow, &origin, claim.as_ref(), &decision, held).await;

        let name = claim.as_ref().and_then(Claim::name);
        let Some(permit) = decision.take_permit() else {
            refuse(client, words(&heard.refusing(decision.reason, name, flow.id))).await;
            return None;
        };

        let mut dialled = match self.reach(permit, heard.answered, cut).await {
            Ok(dialled) => dialled,
            Err(ended) => {
                self.record_closed(&flow, origin, name, &ended).await;
                refuse(client, words(&heard.refusing(Reason::UpstreamFailed, name, flow.id))).await;
                return None;
            }
        };

        let later = later_names(&mut heard, claim.as_ref(), &decision, limit);
        let gate = Arc::clone(&self.gate);
        let standing = Standing::new(gate, (flow, origin), faces, claim, dialled.pin.take());
        let first = heard.bytes;
        Some(Box::new(Open { client, server: dialled.server, first, later, standing, _place: place }))
    }

    /// Decides by the address alone where that will do; else by what the client says of itself.
    async fn judge(
        &self,
        heard: &mut Heard,
        client: &TcpStream,
        flow: &Flow,
        cut: &CancellationToken,
    ) -> (Option<Claim>, Judged) {
        if let Some(decision) = self.gate.decide_by_address(flow, clock::now()) {
            return (None, Judged { decision, faces: None, held: Duration::ZERO });
        }
        let (gate, who, limit) = (&self.gate, &*self.who, self.config.sniff_bytes);
        let deadline = Instant::now() + self.config.sniff_timeout;
        let by_address = self.gate.has_address_rules_at(flow.destination.port());
        tokio::select! {
            biased;
            judged = hold::by_address(gate, who, flow), if by_address => (None, judged),
            claim = heard.listen(client, limit, deadline, cut) => {
                let (config, second_look) = (&self.config, self.second_look.as_ref());
                let hold = Hold { gate, config, who, second_look, cut };
                let judged = hold::decide(hold, flow, &claim).await;
                (Some(claim), judged)
            }
        }
    }

    /// Dials within the deadline, and has the server keep what its client was told; on failure says how the flow
    /// ended.
    async fn reach(
        &self,
        permit: Permit,
        answered: Option<Answer>,
        cut: &CancellationToken,
    ) -> Result<Dialled, Ended> {
        let dialling = timeout(self.config.connect_timeout, async {
            let dialled = self.dial.dial(permit).await?;
            if answered == Some(Answer::Tls) {
                postgres::ask_for_tls(&dialled.server).await?;
            }
            io::Result::Ok(dialled)
        });
        tokio::select! {
            biased;
            () = cut.cancelled() => Err(Ended::empty(Ending::Drained, "shut down while connecting")),
            dialled = dialling => match dialled {
                Ok(Ok(dialled)) => Ok(dialled),
                Ok(Err(error)) => Err(Ended::empty(Ending::UpstreamFailed, error.to_string())),
                Err(_) => Err(Ended::empty(Ending::UpstreamFailed, "connection timed out")),
            },
        }
    }

    async fn record_decided(
        &self,
        flow: &Flow,
        origin: &Origin,
        claim: Option<&Claim>,
        decision: &Decision,
        held: Duration,
    ) {
        let decided = Decided::new(flow, origin, claim, decision, held, clock::now());
        self.log.record(Event::Decided(decided)).await;
    }

    async fn record_over_limit(&self, flow: &Flow, origin: &Origin, limit: Limit) {
        let decision = self.gate.over_limit(flow);
        let decided = Decided::new(flow, origin, None, &decision, Duration::ZERO, clock::now());
        self.log.record(Event::Decided(Decided { over: Some(Over::once(limit)), ..decided })).await;
    }

    async fn record_closed(&self, flow: &Flow, origin: Origin, name: Option<&Name>, ended: &Ended) {
        let closed = Closed {
            flow: *flow,
            origin,
            name: name.cloned(),
            at: clock::now(),
            ending: ended.ending,
            sent: ended.sent,
            received: ended.received,
            error: ended.error.clone(),
        };
        self.log.record(Event::Closed(closed)).await;
    }
}

/// Tells where more names may be claimed. Only a flow that was allowed by the name it claimed can lose that
/// by another; an address rule opens whatever is behind the address, and what observe mode let pass unread
/// stays unread.
fn later_names(
    heard: &mut Heard,
    claim: Option<&Claim>,
    decision: &Decision,
    limit: usize,
) -> Option<Box<Later>> {
    let named = match claim {
        Some(Claim::Named(named)) if decision.via != Some(Via::Address) => Some(named.protocol),
        // Observed: it had no name, but it was read, and so can be what follows.
        Some(Claim::Nameless(Some(protocol @ (Protocol::Http | Protocol::H2))))
            if decision.via != Some(Via::Address) && heard.has_read() =>
        {
            Some(*protocol)
        }
        Some(Claim::Named(_) | Claim::Nameless(_) | Claim::Garbled(_) | Claim::Silent) | None => None,
    };
    let later = match named {
        Some(Protocol::Http) => Later::Requests(Requests::after(heard.request?, limit)),
        Some(protocol @ (Protocol::Tls | Protocol::Postgres)) => Later::Retry(Retry::after(protocol)),
        Some(Protocol::H2) => {
            let mut streams = heard.streams.take()?;
            streams.approve();
            Later::Streams(streams)
        }
        Some(Protocol::Quic) => return None,
        // Unread, but for the answer to a greeting of our own.
        None => {
            let mut streams = heard.streams.take()?;
            if streams.go_blind() {
                return None;
            }
            Later::Streams(streams)
        }
    };
    // On the heap: most flows are soon free of it.
    Some(Box::new(later))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use tokio::sync::watch;

    use crate::facts::{FlowId, Transport};
    use crate::gate::{Defaults, Gate, LedgerConfig, Policy};
    use crate::proxy::bell::Bell;
    use crate::proxy::{ProxyConfig, TcpDial, Wiring};
    use crate::record::Log;
    use crate::sys::neighbours::Neighbours;
    use crate::who::Who;

    use super::*;

    /// What a connection costs besides its sockets: the corridor's own state.
    #[tokio::test]
    async fn an_open_connection_has_a_small_future() {
        let ledger = LedgerConfig {
            min_ttl: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            max_leases: 1,
            max_leases_per_client: 1,
        };
        let config = ProxyConfig {
            sniff_timeout: Duration::from_secs(1),
            sniff_bytes: 1024,
            hold: Duration::ZERO,
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            max_connections: 1,
            max_connections_per_client: 1,
            new_connections_per_second: 1,
            drain: Duration::ZERO,
        };
        let gate = Gate::new(Policy::compile(vec![], Defaults::default()).unwrap(), ledger);
        let proxy = Proxy::new(Wiring {
            config,
            gate: Arc::clone(&gate),
            log: Log::memory().0,
            dial: Arc::new(TcpDial),
            second_look: None,
            who: Arc::new(Who::new(Arc::clone(&gate), Neighbours::none())),
            policy_changes: watch::channel(0).1,
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let seat = Arc::new(Bell::default()).seat();
        let flow = Flow::new(FlowId(1), address, address, Transport::Tcp, clock::tick());
        let place = proxy.clients.enter(flow.client(), clock::tick()).unwrap();
        let standing = Standing::new(gate, (flow, Origin::default()), None, None, None);
        let open = Open { client, server, first: Vec::new(), later: None, standing, _place: place };
        let size = size_of_val(&proxy.carry(Box::new(open), seat)) + size_of::<Open>();
        assert!(size <= 1280, "{size} bytes");
    }
}
