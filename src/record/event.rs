//! The events. One value each; how they are spelled on paper is `line`'s matter.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::facts::{Client, Container, Fault, Flow, FlowId, Moment, Name, Process, Protocol, Transport, Via};
use crate::gate::{Decision, Evidence, Reason, Rule};

use super::Over;

/// Anything that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A flow was judged. Exactly one per flow, before a byte leaves; of those that are over a limit one may stand for
    /// many on paper.
    Decided(Decided),
    /// A flow ended.
    Closed(Closed),
    /// A question was answered or refused.
    Dns(DnsEvent),
    /// A policy was put in force, or a new one refused.
    Policy(PolicyEvent),
    /// The kernel ruleset was installed, removed, or found changed.
    Ruleset(RulesetEvent),
    /// A dnstap sender came, went, was turned away, or sent something that counts for nothing.
    Tap(TapEvent),
    /// A command was about to start in its sandbox.
    Sandbox(SandboxEvent),
    /// Lines were lost.
    Gap(Gap),
}

impl Event {
    /// Returns when it happened.
    pub fn at(&self) -> Moment {
        match self {
            Self::Decided(event) => event.at,
            Self::Closed(event) => event.at,
            Self::Dns(event) => event.at,
            Self::Policy(event) => event.at,
            Self::Ruleset(event) => event.at,
            Self::Tap(event) => event.at,
            Self::Sandbox(event) => event.at,
            Self::Gap(event) => event.at,
        }
    }

    /// Whether the event has a line of its own; the others are only counted.
    pub fn has_line(&self) -> bool {
        match self {
            Self::Tap(event) => match event.what {
                TapWhat::Connected | TapWhat::Disconnected(_) | TapWhat::Refused { .. } => true,
                TapWhat::BadFrame(_) | TapWhat::Ignored => false,
            },
            Self::Decided(_)
            | Self::Closed(_)
            | Self::Dns(_)
            | Self::Policy(_)
            | Self::Ruleset(_)
            | Self::Sandbox(_)
            | Self::Gap(_) => true,
        }
    }
}

/// What is known of a client besides its address or number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The container that it is.
    pub container: Option<Arc<Container>>,
    /// The process of this host that it was seen as.
    pub process: Option<Arc<Process>>,
}

/// A judged flow.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The flow.
    pub flow: Flow,
    /// Who asks.
    pub origin: Origin,
    /// When it was decided.
    pub at: Moment,
    /// The claimed name.
    pub name: Option<Name>,
    /// The protocol, where known.
    pub protocol: Option<Protocol>,
    /// Where the name stood, or `Address`.
    pub via: Option<Via>,
    /// The hello carries an ECH extension, GREASE included.
    pub ech: bool,
    /// What was broken, for `garbled`.
    pub fault: Option<Fault>,
    /// The reason.
    pub reason: Reason,
    /// In observe mode: the denial that was not carried out.
    pub would: Option<Reason>,
    /// The rule that decided.
    pub rule: Option<Arc<Rule>>,
    /// The answer that justified it.
    pub evidence: Option<Evidence>,
    /// How long the flow was held for evidence.
    pub held: Duration,
    /// For `over_limit`: the limit.
    pub over: Option<Over>,
    /// It is of a name after the flow's first; such are no decisions of their own.
    pub later: bool,
}

impl Decided {
    /// Copies what the log keeps of a decision.
    pub fn new(
        flow: &Flow,
        origin: &Origin,
        claim: Option<&crate::facts::Claim>,
        decision: &Decision,
        held: Duration,
        at: Moment,
    ) -> Self {
        use crate::facts::Claim;
        let fault = match claim {
            Some(Claim::Garbled(fault)) => Some(*fault),
            Some(Claim::Named(_) | Claim::Nameless(_) | Claim::Silent) | None => None,
        };
        let ech = match claim {
            Some(Claim::Named(named)) => named.ech,
            Some(Claim::Nameless(_) | Claim::Garbled(_) | Claim::Silent) | None => false,
        };
        Self {
            flow: *flow,
            origin: origin.clone(),
            at,
            name: claim.and_then(Claim::name).cloned(),
            protocol: claim.and_then(Claim::protocol),
            via: decision.via,
            ech,
            fault,
            reason: decision.reason,
            would: decision.would,
            rule: decision.rule.clone(),
            evidence: decision.evidence.clone(),
            held,
            over: None,
            later: false,
        }
    }
}

/// How a flow that was let through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both sides closed in order.
    Closed,
    /// The client reset it.
    ClientReset,
    /// The server reset it.
    ServerReset,
    /// No byte either way for too long.
    Idle,
    /// The gate shut down before the end.
    Drained,
    /// The policy no longer allows it (`revoked`).
    Revoked,
    /// The server could not be reached (`upstream_failed`).
    UpstreamFailed,
    /// A later request on the connection claimed another name that is not allowed (`name_changed`).
    NameChanged,
    /// A later request on the connection could not be read, or names nothing (`garbled`).
    Garbled,
}

impl Ending {
    /// Every ending, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Closed,
        Self::ClientReset,
        Self::ServerReset,
        Self::Idle,
        Self::Drained,
        Self::Revoked,
        Self::UpstreamFailed,
        Self::NameChanged,
        Self::Garbled,
    ];

    /// Returns the stable code, `event.reason` of a `close` line.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClientReset => "client_reset",
            Self::ServerReset => "server_reset",
            Self::Idle => "idle",
            Self::Drained => "drained",
            Self::Revoked => "revoked",
            Self::UpstreamFailed => "upstream_failed",
            Self::NameChanged => "name_changed",
            Self::Garbled => "garbled",
        }
    }
}

/// A flow that was let through, and ended.
#[derive(Debug, Clone)]
pub struct Closed {
    /// The flow.
    pub flow: Flow,
    /// Who asked.
    pub origin: Origin,
    /// The claimed name.
    pub name: Option<Name>,
    /// When it ended.
    pub at: Moment,
    /// How.
    pub ending: Ending,
    /// Bytes the client sent and the server got.
    pub sent: u64,
    /// Bytes the server sent and the client got.
    pub received: u64,
    /// The error of the system, where one ended it.
    pub error: Option<Arc<str>>,
}

/// A DNS question and what became of it.
#[derive(Debug, Clone)]
pub struct DnsEvent {
    /// Identifies the question in the log.
    pub id: FlowId,
    /// Who asked.
    pub client: Client,
    /// What else is known of it.
    pub origin: Origin,
    /// Where the question came from; the port is zero where it is unknown.
    pub source: SocketAddr,
    /// The server that the client wanted to ask, where known.
    pub server: Option<IpAddr>,
    /// UDP or TCP.
    pub transport: Transport,
    /// When it was decided.
    pub at: Moment,
    /// The asked name; `None`: it could not be read.
    pub name: Option<Name>,
    /// Query type as on the wire.
    pub qtype: Option<u16>,
    /// `allowed`, `observed_only`, `name_not_allowed`, `denied_by_rule`, `protocol_not_allowed` (query type), `garbled`, `over_limit`, `upstream_failed`.
    pub reason: Reason,
    /// In observe mode: the denial that was not carried out.
    pub would: Option<Reason>,
    /// The rule that decided.
    pub rule: Option<Arc<Rule>>,
    /// Response code as sent.
    pub rcode: Option<u16>,
    /// The chain and the addresses that were given.
    pub chain: Vec<Name>,
    /// Addresses that the client was given.
    pub addresses: Vec<IpAddr>,
    /// Addresses that were taken out because they are private.
    pub stripped: usize,
    /// `true`: seen by a dnstap sender, not answered here.
    pub tapped: bool,
    /// For `over_limit`: the limit.
    pub over: Option<Over>,
}

impl DnsEvent {
    /// Returns why the client got nothing, where the gate is why: a refusal, or an answer of private addresses
    /// alone, which were all taken out.
    pub fn denial(&self) -> Option<Reason> {
        if self.reason.lets_pass() {
            let emptied = self.stripped > 0 && self.addresses.is_empty();
            return emptied.then_some(Reason::PrivateAddress);
        }
        Some(self.reason)
    }
}

/// A change of policy.
#[derive(Debug, Clone)]
pub struct PolicyEvent {
    /// When.
    pub at: Moment,
    /// How many rules are in force.
    pub rules: usize,
    /// `Err`: the new policy was refused and the old one stays; the first line of why.
    pub outcome: Result<(), Arc<str>>,
}

/// A change of the kernel ruleset.
#[derive(Debug, Clone)]
pub struct RulesetEvent {
    /// When.
    pub at: Moment,
    /// `installed`, `removed`, `missing`, `changed`.
    pub what: &'static str,
    /// The table.
    pub table: Arc<str>,
}

/// Why a dnstap sender was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TapRefusal {
    /// Its user or its address is not among those that may send.
    NotAllowed,
    /// As many senders as may be are connected.
    TooMany,
    /// It did not finish the handshake in time.
    Silent,
    /// What it sent first is no Frame Streams handshake for dnstap.
    Handshake(Fault),
}

impl TapRefusal {
    /// Returns the stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::TooMany => "over_limit",
            Self::Silent => "silent",
            Self::Handshake(_) => "garbled",
        }
    }
}

/// What one dnstap sender sent while it was connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapTally {
    /// Data frames.
    pub frames: u64,
    /// Of those: answers to a client.
    pub answers: u64,
    /// Of those: broken ones.
    pub bad: u64,
    /// What ended the connection, where it was not the sender's wish.
    pub fault: Option<Fault>,
}

/// What happened with a dnstap sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapWhat {
    /// The handshake is done.
    Connected,
    /// It is gone.
    Disconnected(TapTally),
    /// It was turned away.
    Refused {
        /// Why.
        why: TapRefusal,
        /// How many senders were, since the last such event, this one included.
        times: u64,
    },
    /// One frame of it does not parse. Counted, no line.
    BadFrame(Fault),
    /// One frame of it tells of no answer to a client. Counted, no line.
    Ignored,
}

/// An event of the dnstap tap.
#[derive(Debug, Clone)]
pub struct TapEvent {
    /// When.
    pub at: Moment,
    /// Who: `unix:uid=112,pid=4242` or `tcp:127.0.0.1:50412`.
    pub sender: Arc<str>,
    /// What.
    pub what: TapWhat,
}

/// A command in its sandbox.
#[derive(Debug, Clone)]
pub struct SandboxEvent {
    /// When.
    pub at: Moment,
    /// The protective layers that are in place.
    pub layers: Vec<&'static str>,
    /// Those that this machine does not have.
    pub missing: Vec<&'static str>,
    /// Whether the promise needs one of the missing; the operator wanted the command to run all the same.
    pub breached: bool,
    /// The program. Its arguments are not told: they may hold secrets.
    pub command: Arc<str>,
}

/// Lines that the log lost.
#[derive(Debug, Clone)]
pub struct Gap {
    /// Time of the last lost event.
    pub at: Moment,
    /// Time of the first lost event.
    pub since: Moment,
    /// How many lines.
    pub lines: u64,
}
