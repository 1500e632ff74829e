//! The corridor of one question, top to bottom: read, judge, ask, observe, log, and only then reply.
//!
//! It does not know how messages come and go, nor who the upstreams are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::facts::{
    Client, FlowId, Limit, Moment, Name, Observation, Siblings, Source, Transport, canonical,
};
use crate::gate::{Gate, QuestionVerdict, Reason};
use crate::rate::NewNames;
use crate::record::{self, DnsEvent, Event, Log, Origin};
use crate::sys::clock;
use crate::who::{Who, Whose};
use crate::wire::dns::{self, Ask, Query, QueryFault, Reply, ede, qtype, rcode};

use super::cache::Cache;
use super::limits::Over;
use super::upstream::{Resolve, UpstreamError};
use super::{Denial, DnsConfig};

/// A message that came, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'m> {
    pub(super) message: &'m [u8],
    pub(super) peer: SocketAddr,
    /// Whose question it is; until that is found out, whose place it takes.
    pub(super) client: Client,
    pub(super) whose: Whose,
    /// Where it was sent to.
    pub(super) server: SocketAddr,
    pub(super) transport: Transport,
}

/// What every question needs.
#[derive(Debug)]
pub(super) struct Corridor {
    pub(super) config: DnsConfig,
    pub(super) gate: Arc<Gate>,
    pub(super) log: Log,
    pub(super) resolve: Arc<dyn Resolve>,
    pub(super) who: Arc<Who>,
    /// How much each client may say in names.
    pub(super) names: NewNames,
    /// What upstreams said lately. Each client is judged, and what it is told observed, as if it were new.
    pub(super) cache: Cache,
    /// Whether AAAA is answered NODATA; may change while we run.
    pub(super) no_ipv6: AtomicBool,
}

/// The gate's word on a question, with the forwarder's own on its type.
struct Judged {
    reason: Reason,
    would: Option<Reason>,
    verdict: QuestionVerdict,
    private: bool,
}

impl Corridor {
    /// Answers one message. `None`: nothing may or need be sent back.
    pub(super) async fn exchange(&self, asked: Asked<'_>) -> Option<Vec<u8>> {
        let whose = match asked.transport {
            Transport::Tcp => asked.whose.towards(asked.server),
            Transport::Udp => asked.whose,
        };
        let client = self.who.client(whose, asked.peer).await;
        let (asked, now) = (Asked { client, ..asked }, clock::now());
        let query = match dns::query(asked.message) {
            Ok(query) => query,
            Err(fault) => return self.refuse_broken(asked, fault, now).await,
        };
        let (client, judged) = self.judge_client(asked.client, &query, now).await;
        let origin = Origin { container: self.gate.container(asked.client), process: None };
        let event = DnsEvent { origin, ..asked.event(&query, now) }.judged(&judged);
        if !judged.reason.lets_pass() {
            return self.refuse(asked, &query, event).await;
        }
        if !self.names.take(asked.client, &query.question.name, now.tick) {
            return self.refuse_query_over_limit(asked, &query, event, Limit::NewNames).await;
        }
        let limit = asked.limit(&query);
        if self.no_ipv6.load(Ordering::Relaxed) && query.question.qtype == qtype::AAAA {
            let nodata = dns::refusal(&query, rcode::NOERROR, None, limit);
            self.record(DnsEvent { rcode: Some(rcode::NOERROR), ..event }).await;
            return Some(nodata);
        }
        let reply =
            |answer| dns::reply(answer, &query, judged.private, limit).map_err(|_| UpstreamError::Garbled);
        let ask = Ask::of(&query);
        let told = match self.cache.answer(&ask, now.tick) {
            Some(answer) => reply(answer),
            // On the heap: what is known already needs no room for it.
            None => Box::pin(self.ask(&ask)).await.and_then(|answer| {
                let kept = self.cache.worth(&answer);
                let told = reply(answer)?;
                self.cache.keep(ask, kept, clock::tick());
                Ok(told)
            }),
        };
        match told {
            Ok(reply) => Some(self.let_through(client, reply, event).await),
            Err(error) => self.fail(asked, &query, event, &error).await,
        }
    }

    /// Asks upstream, with a deadline whatever is behind the trait.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        let servers = u32::try_from(self.config.upstreams.len()).unwrap_or(u32::MAX).max(SYSTEM_SERVERS);
        let patience = self.config.timeout.saturating_mul(servers).saturating_add(MARGIN);
        timeout(patience, self.resolve.ask(ask)).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    /// Judges a question, and says as whose: a name that no rule allows to the asking address may be allowed to
    /// another address of the same client, and then the answer is that one's.
    async fn judge_client(&self, own: Client, query: &Query<'_>, now: Moment) -> (Client, Judged) {
        let mut chosen = (own, self.gate.question(own, &query.question.name, now));
        if !may_differ_as_another(&chosen.1) || !self.gate.is_for_somebody(&query.question.name) {
            let (client, verdict) = chosen;
            return (client, self.judge(verdict, query));
        }
        chosen = self.choose(chosen, self.who.known_siblings(own), query, now);
        if may_differ_as_another(&chosen.1) {
            // On the heap: most questions are for allowed names.
            let siblings = Box::pin(self.who.siblings(own)).await;
            chosen = self.choose(chosen, siblings, query, now);
        }
        let (client, verdict) = chosen;
        (client, self.judge(verdict, query))
    }

    fn choose(
        &self,
        own: (Client, QuestionVerdict),
        siblings: Siblings,
        query: &Query<'_>,
        now: Moment,
    ) -> (Client, QuestionVerdict) {
        let mut chosen = own;
        for client in siblings.iter() {
            let verdict = self.gate.question(client, &query.question.name, now);
            if weight(&verdict) > weight(&chosen.1) {
                chosen = (client, verdict);
            }
        }
        chosen
    }

    fn judge(&self, verdict: QuestionVerdict, query: &Query<'_>) -> Judged {
        let (mut reason, mut would) = (verdict.reason, verdict.would);
        let observing = verdict.observes;
        if reason.lets_pass() && !self.config.types.contains(&query.question.qtype) {
            if observing {
                (reason, would) = (Reason::ObservedOnly, would.or(Some(Reason::ProtocolNotAllowed)));
            } else {
                reason = Reason::ProtocolNotAllowed;
            }
        }
        Judged { reason, would, private: verdict.private || observing, verdict }
    }

    /// Ledger, then log, then reply.
    async fn let_through(&self, client: Client, reply: Reply, event: DnsEvent) -> Vec<u8> {
        let now = clock::now();
        let Reply { bytes, answer, stripped } = reply;
        let addresses = answer.addresses.iter().map(|address| address.ip).collect();
        let chain = answer.chain.clone();
        self.observe(client, answer, Source::Forwarder, now);
        let rcode = Some(answer_code(&bytes));
        self.record(DnsEvent { at: now, rcode, chain, addresses, stripped, ..event }).await;
        bytes
    }

    /// Writes what an answer says into the ledger.
    pub(super) fn observe(&self, client: Client, answer: dns::Answer, source: Source, now: Moment) {
        if answer.addresses.is_empty() {
            return;
        }
        let dns::Answer { chain, addresses, .. } = answer;
        self.gate.observe(&Observation { client, chain, addresses, source, at: now.tick }, now);
    }

    async fn refuse(&self, asked: Asked<'_>, query: &Query<'_>, event: DnsEvent) -> Option<Vec<u8>> {
        // A type that is not forwarded says nothing of the name, which NXDOMAIN would deny as a whole (RFC 8020).
        let code = match self.config.denial {
            Denial::NxDomain if event.reason != Reason::ProtocolNotAllowed => rcode::NXDOMAIN,
            Denial::NxDomain | Denial::Refused => rcode::REFUSED,
        };
        let text = said(event.reason, &query.question.name);
        let reply = dns::refusal(query, code, Some((ede::BLOCKED, &text)), asked.limit(query));
        self.record(DnsEvent { rcode: Some(code), ..event }).await;
        Some(reply)
    }

    async fn fail(
        &self,
        asked: Asked<'_>,
        query: &Query<'_>,
        event: DnsEvent,
        error: &UpstreamError,
    ) -> Option<Vec<u8>> {
        tracing::debug!(name = %query.question.name, %error, "no answer");
        let reason = Reason::UpstreamFailed;
        let text = said(reason, &query.question.name);
        let error = Some((ede::NETWORK_ERROR, text.as_str()));
        let reply = dns::refusal(query, rcode::SERVFAIL, error, asked.limit(query));
        self.record(DnsEvent { at: clock::now(), reason, rcode: Some(rcode::SERVFAIL), ..event }).await;
        Some(reply)
    }

    /// One short answer where one may be sent: it is smaller than the message, so nobody gains by forging.
    async fn refuse_broken(&self, asked: Asked<'_>, fault: QueryFault, now: Moment) -> Option<Vec<u8>> {
        let code = match fault {
            QueryFault::NoQuery => None,
            QueryFault::Malformed => Some(rcode::FORMERR),
            QueryFault::Opcode => Some(rcode::NOTIMP),
            QueryFault::Class | QueryFault::Name => Some(rcode::REFUSED),
            QueryFault::Version => Some(rcode::BADVERS),
        };
        let reply = code.and_then(|code| dns::format_error(asked.message, code));
        self.record(DnsEvent { rcode: code, ..asked.unread(Reason::Garbled, now) }).await;
        reply
    }

    /// Refuses a message for which there is no room.
    pub(super) async fn refuse_over_limit(&self, asked: Asked<'_>, over: Over) -> Option<Vec<u8>> {
        let now = clock::now();
        // What is answered to nobody is not read.
        let Some(query) = over.tell.then(|| dns::query(asked.message).ok()).flatten() else {
            let event = asked.unread(Reason::OverLimit, now);
            self.record(DnsEvent { over: Some(record::Over::once(over.limit)), ..event }).await;
            return None;
        };
        self.refuse_query_over_limit(asked, &query, asked.event(&query, now), over.limit).await
    }

    async fn refuse_query_over_limit(
        &self,
        asked: Asked<'_>,
        query: &Query<'_>,
        event: DnsEvent,
        limit: Limit,
    ) -> Option<Vec<u8>> {
        let over = Some(record::Over::once(limit));
        let event = DnsEvent { reason: Reason::OverLimit, would: None, over, ..event };
        let text = said(event.reason, &query.question.name);
        let reply = dns::refusal(query, rcode::REFUSED, Some((ede::BLOCKED, &text)), asked.limit(query));
        self.record(DnsEvent { rcode: Some(rcode::REFUSED), ..event }).await;
        Some(reply)
    }

    async fn record(&self, event: DnsEvent) {
        self.log.record(Event::Dns(event)).await;
    }
}

/// `system` stands for up to three servers (resolv.conf(5)).
const SYSTEM_SERVERS: u32 = 3;
/// What the last upstream may take beyond its own deadline.
const MARGIN: Duration = Duration::from_secs(1);

/// Whether the same question from another address of the client could fare better.
fn may_differ_as_another(verdict: &QuestionVerdict) -> bool {
    verdict.would.unwrap_or(verdict.reason) == Reason::NameNotAllowed
}

/// Which verdict counts among those for several addresses of one client: the greater. A deny rule has the last word.
fn weight(verdict: &QuestionVerdict) -> u8 {
    if verdict.reason == Reason::DeniedByRule {
        4
    } else if verdict.would == Some(Reason::DeniedByRule) {
        3
    } else if verdict.reason.lets_pass() && verdict.would.is_none() {
        2
    } else {
        u8::from(verdict.reason.lets_pass())
    }
}

/// The text of an extended error: the stable code and the name, as everywhere a client hears no.
fn said(reason: Reason, name: &Name) -> String {
    format!("{}: {name}", reason.code())
}

/// The response code in the header, which is where a client without EDNS looks for it.
fn answer_code(message: &[u8]) -> u16 {
    message.get(3).map_or(0, |flags| u16::from(flags & 0xf))
}

impl Asked<'_> {
    /// The largest answer, bytes.
    fn limit(&self, query: &Query<'_>) -> usize {
        match self.transport {
            Transport::Udp => query.udp_limit(),
            Transport::Tcp => usize::from(u16::MAX),
        }
    }

    fn unread(&self, reason: Reason, at: Moment) -> DnsEvent {
        DnsEvent {
            id: FlowId(rand::random()),
            client: self.client,
            origin: Origin::default(),
            source: self.whose.source(self.peer),
            server: Some(canonical(self.server.ip())),
            transport: self.transport,
            at,
            name: None,
            qtype: None,
            reason,
            would: None,
            rule: None,
            rcode: None,
            chain: Vec::new(),
            addresses: Vec::new(),
            stripped: 0,
            tapped: false,
            over: None,
        }
    }

    fn event(&self, query: &Query<'_>, at: Moment) -> DnsEvent {
        DnsEvent {
            name: Some(query.question.name.clone()),
            qtype: Some(query.question.qtype),
            ..self.unread(Reason::Garbled, at)
        }
    }
}

impl DnsEvent {
    fn judged(self, judged: &Judged) -> Self {
        Self { reason: judged.reason, would: judged.would, rule: judged.verdict.rule.clone(), ..self }
    }
}
