//! The verdict ladder: one flow and one claim against one policy and one ledger.
//!
//! Steps as in docs/design.md. Must not know bytes, sockets or clocks.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::facts::{
    Claim, Client, Container, Flow, Moment, Name, Named, Observation, Protocol, Tick, Transport, Via,
    canonical,
};

use super::ledger::{Look, Rank};
use super::own::Own;
use super::settle::{grant, settle, unknown};
use super::shard::{Answer, MAX_CHAIN};
use super::verdict::{Ask, Denial, Read, Rung};
use super::{Action, Decision, Lease, Ledger, LedgerConfig, MatchBy, Policy, Reason, Rule, Watch};

/// What the gate says to a DNS question.
#[derive(Debug, Clone)]
pub struct QuestionVerdict {
    /// `Allowed`, `ObservedOnly`, `NameNotAllowed`, `DeniedByRule` or `ClientUnknown`.
    pub reason: Reason,
    /// In observe mode: the denial that was not carried out.
    pub would: Option<Reason>,
    /// The rule that decided.
    pub rule: Option<Arc<Rule>>,
    /// Whether private addresses may stay in the answer.
    pub private: bool,
    /// Whether denials are not carried out for this question.
    pub observes: bool,
}

/// The one place where yes and no are said.
#[derive(Debug)]
pub struct Gate {
    policy: ArcSwap<Policy>,
    own: ArcSwap<Own>,
    ledger: Arc<Ledger>,
}

impl Gate {
    /// Builds a gate with an empty ledger.
    pub fn new(policy: Policy, ledger: LedgerConfig) -> Arc<Self> {
        Arc::new(Self {
            policy: ArcSwap::from_pointee(policy),
            own: ArcSwap::from_pointee(Own::default()),
            ledger: Ledger::new(ledger),
        })
    }

    /// Puts a new policy in force at once; open flows are re-asked by their corridors.
    pub fn replace(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Returns the policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Returns the client at an address on a captured link.
    pub fn client_at(&self, address: IpAddr) -> Client {
        self.policy.load().roster().client_at(canonical(address))
    }

    /// Whether a container may be at an address that is not known yet: word of it may be on its way.
    pub fn may_be_new(&self, address: IpAddr) -> bool {
        self.policy.load().roster().may_be_new(canonical(address))
    }

    /// Returns the client that was told something at that instant; none when somebody else had the address then.
    pub fn client_then(&self, address: IpAddr, at: Tick) -> Option<Client> {
        self.policy.load().roster().client_then(canonical(address), at)
    }

    /// Returns the container that a client is, where that is known.
    pub fn container(&self, client: Client) -> Option<Arc<Container>> {
        self.policy.load().roster().container(client).cloned()
    }

    /// Says what is this machine's own.
    pub fn set_own(&self, own: Own) {
        self.own.store(Arc::new(own));
    }

    /// Step 0 of the ladder, before a byte is read: an address rule, or a refusal that needs no name.
    /// `None`: read the claim and ask [`Gate::decide`].
    pub fn decide_by_address(self: &Arc<Self>, flow: &Flow, now: Moment) -> Option<Decision> {
        let (policy, own) = (self.policy.load(), self.own.load());
        if own.is_gate(flow) {
            return Some(Decision::deny(Reason::OwnAddress));
        }
        let ask = own.ask(&policy, flow, now);
        if !policy.roster().is_current(flow.client()) {
            return Some(unknown(&ask, flow));
        }
        self.by_address(&ask, flow, None, now).and_then(Result::ok)
    }

    /// Judges a flow by what it claims. An address rule is asked first here too: its evidence may have
    /// come while the claim was read.
    pub fn decide(self: &Arc<Self>, flow: &Flow, claim: &Claim, now: Moment) -> Decision {
        let (policy, own) = (self.policy.load(), self.own.load());
        if own.is_gate(flow) {
            return Decision::deny(Reason::OwnAddress);
        }
        let ask = own.ask(&policy, flow, now);
        if !policy.roster().is_current(flow.client()) {
            return unknown(&ask, flow);
        }
        let miss = match self.by_address(&ask, flow, claim.protocol(), now) {
            Some(Ok(decision)) => return decision,
            // Where names are read too, the missing name is what is wrong, not the missing lease.
            Some(Err(denial)) => Some(denial).filter(|_| !policy.reads_names(ask.client, ask.port, ask.wall)),
            None => None,
        };
        let reason = match claim {
            Claim::Named(named) => return self.by_name(&ask, flow, named, now),
            Claim::Nameless(_) => Reason::Nameless,
            Claim::Garbled(_) => Reason::Garbled,
            Claim::Silent => Reason::Silent,
        };
        let via = miss.as_ref().map(|_| Via::Address);
        settle(&ask, flow, miss.unwrap_or_else(|| Denial::new(reason, None)), None, via)
    }

    /// Makes the decision for a flow that a limit of the corridor refuses, before anything is read. A
    /// limit protects the gate itself, so observe mode does not lift it.
    pub fn over_limit(&self, _flow: &Flow) -> Decision {
        Decision::deny(Reason::OverLimit)
    }

    /// Judges a question: may this client learn this name's addresses?
    ///
    /// A deny rule for some ports or protocols does not hide a name that another rule allows.
    pub fn question(&self, client: Client, name: &Name, now: Moment) -> QuestionVerdict {
        let policy = self.policy.load();
        if client == Client::NOBODY {
            let observes = policy.observes(None, now.wall);
            let (reason, would) = if observes {
                (Reason::ObservedOnly, Some(Reason::ClientUnknown))
            } else {
                (Reason::ClientUnknown, None)
            };
            return QuestionVerdict { reason, would, rule: None, private: observes, observes };
        }
        let (mut denied, mut observed, mut allowed) = (None::<u32>, None::<u32>, None::<u32>);
        let mut private = false;
        policy.speaking_of(name, client, now.wall, |at, rule| {
            let observes = policy.observes(Some(at), now.wall);
            let kept = match rule.action {
                Action::Allow => {
                    private |= rule.private || observes;
                    &mut allowed
                }
                Action::Deny if !policy.hides_names(at) => return,
                Action::Deny if observes => &mut observed,
                Action::Deny => &mut denied,
            };
            *kept = Some(kept.map_or(at, |kept| kept.min(at)));
        });
        let verdict = |reason, would, at: Option<u32>, private| QuestionVerdict {
            reason,
            would,
            rule: at.and_then(|at| policy.rule(at)).cloned(),
            private,
            observes: policy.observes(at, now.wall),
        };
        if denied.is_some() {
            return verdict(Reason::DeniedByRule, None, denied, false);
        }
        if allowed.is_none() && !policy.observes(None, now.wall) {
            return verdict(Reason::NameNotAllowed, None, None, false);
        }
        match (observed, allowed) {
            (Some(_), _) => verdict(Reason::ObservedOnly, Some(Reason::DeniedByRule), observed, true),
            (None, Some(_)) => verdict(Reason::Allowed, None, allowed, private),
            (None, None) => verdict(Reason::ObservedOnly, Some(Reason::NameNotAllowed), None, true),
        }
    }

    /// Writes an observation into the ledger and wakes the flows that wait for it. Names that the client
    /// may not ask for get no leases: nothing could use them.
    ///
    /// Of a chain longer than 16 names or a kilobyte the rest counts for nothing.
    pub fn observe(&self, observation: &Observation, now: Moment) {
        let policy = self.policy.load();
        let client = observation.client;
        let mut bytes = 0;
        let fits = |name: &&Name| {
            bytes += name.as_str().len();
            bytes <= MAX_CHAIN_BYTES
        };
        let length = observation.chain.iter().take(MAX_CHAIN).take_while(fits).count();
        let chain = observation.chain.get(..length).unwrap_or_default();
        let (mut kept, mut by_address) = (0, 0);
        for (place, name) in chain.iter().enumerate() {
            if !self.question(client, name, now).reason.lets_pass() {
                continue;
            }
            kept |= 1 << place;
            if policy.has_address_rules() {
                policy.speaking_of(name, client, now.wall, |_, rule| {
                    if rule.action == Action::Allow && rule.by == MatchBy::Address {
                        by_address |= 1 << place;
                    }
                });
            }
        }
        if kept != 0 {
            let (source, at) = (observation.source, observation.at.min(now.tick));
            let addresses = &observation.addresses;
            let answer = Answer { client, chain, kept, by_address, addresses, source, at };
            self.ledger.record(&answer, now.tick);
        }
    }

    /// Returns a future that is ready once a lease for this pair is (or was, since the call) written.
    /// Without a name: for any name of an address rule.
    pub fn watch(self: &Arc<Self>, client: Client, name: Option<&Name>, address: IpAddr) -> Watch {
        Watch::new(self.ledger.clone(), client, name, address)
    }

    /// Returns whether an address rule could serve this client at this port at all: then a miss may be held
    /// before anything is read.
    pub fn may_serve_by_address(&self, flow: &Flow, now: Moment) -> bool {
        let policy = self.policy.load();
        policy.address_rules(flow.client(), flow.destination.port(), None, now.wall).next().is_some()
    }

    /// Forgets leases that ended an hour ago or more, looking at up to `budget` places in all, and
    /// returns how many it forgot. Writes do a little of this by themselves; calling it every few
    /// seconds frees the memory of an idle gate.
    pub fn sweep(&self, now: Tick, budget: usize) -> usize {
        self.ledger.sweep(now, budget)
    }

    /// Returns how many leases are kept, ended ones that are still remembered included.
    pub fn lease_count(&self) -> usize {
        self.ledger.len()
    }

    /// Returns how many leases gave way to others while they still counted: of a client that had as many as it may, or
    /// in a ledger that was full.
    pub fn leases_evicted(&self) -> u64 {
        self.ledger.evicted()
    }

    /// Copies the ledger, shard by shard: not one instant's picture.
    pub fn leases(&self) -> Vec<Lease> {
        self.ledger.leases()
    }

    /// Asks the address rules. `None`: none could serve the flow, whatever DNS said.
    fn by_address(
        &self,
        ask: &Ask<'_>,
        flow: &Flow,
        protocol: Option<Protocol>,
        now: Moment,
    ) -> Option<Result<Decision, Denial>> {
        let unobserved = ask.unobserved(protocol)?;
        let read = Read { protocol, ech: false };
        let rank = |name: &Name, live: bool| {
            let standing = ask.standing(name, read, Some(MatchBy::Address));
            let (rung, at) = standing.nearest.filter(|(rung, _)| *rung >= Rung::Private)?;
            let (outcome, at) = match (standing.denied, rung) {
                (Some(deny), _) => (Outcome::Denied, deny),
                (None, Rung::Ledger) if live => (Outcome::Served, at),
                (None, Rung::Ledger) => (Outcome::Expired, at),
                (None, Rung::Port | Rung::Protocol | Rung::Ech | Rung::Private) => (Outcome::Private, at),
            };
            Some(Candidate { outcome, rule: Reverse(at), observed_deny: standing.observed_deny })
        };
        let address = flow.destination.ip();
        let found = self.ledger.best_at(ask.client, address, proves(flow), now.tick, rank);
        let Some((best, evidence, pin)) = found else { return Some(Err(unobserved)) };
        let rule = Some(best.rule.0);
        Some(match best.outcome {
            Outcome::Served => {
                Ok(grant(ask, flow, best.rule.0, (evidence, pin), Via::Address, best.observed_deny))
            }
            Outcome::Expired => Err(Denial { reason: Reason::LeaseExpired, rule, evidence: Some(evidence) }),
            Outcome::Private => Err(Denial::new(Reason::PrivateAddress, rule)),
            Outcome::Denied => Err(Denial::new(Reason::DeniedByRule, rule)),
        })
    }

    /// Steps 2 to 5 of the ladder.
    fn by_name(&self, ask: &Ask<'_>, flow: &Flow, named: &Named, now: Moment) -> Decision {
        let read = Read { protocol: Some(named.protocol), ech: named.ech };
        let standing = ask.standing(&named.name, read, None);
        let (denial, via) = match (standing.denied, standing.nearest) {
            (Some(deny), _) => (Denial::new(Reason::DeniedByRule, Some(deny)), named.via),
            (None, None) => (Denial::new(Reason::NameNotAllowed, None), named.via),
            (None, Some((Rung::Ledger, at))) => {
                let by = ask.policy.rule(at).map(|rule| rule.by);
                let via = if by == Some(MatchBy::Address) { Via::Address } else { named.via };
                let address = flow.destination.ip();
                match self.ledger.find(ask.client, &named.name, address, proves(flow), now.tick) {
                    Look::Live(evidence, pin) => {
                        return grant(ask, flow, at, (evidence, Some(pin)), via, standing.observed_deny);
                    }
                    Look::Expired(evidence) => (
                        Denial { reason: Reason::LeaseExpired, rule: Some(at), evidence: Some(evidence) },
                        via,
                    ),
                    Look::Never => (Denial::new(Rung::Ledger.reason(), Some(at)), via),
                }
            }
            (None, Some((rung, at))) => (Denial::new(rung.reason(), Some(at)), named.via),
        };
        settle(ask, flow, denial, standing.observed_deny, Some(via))
    }
}

/// What address rules say of one lease; the better outcome is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Denied,
    Private,
    Expired,
    Served,
}

/// One lease at a destination, judged; among equal outcomes the first rule's is the greater.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    outcome: Outcome,
    rule: Reverse<u32>,
    observed_deny: Option<u32>,
}

impl Rank for Candidate {
    fn holds(&self) -> bool {
        self.outcome == Outcome::Served
    }
}

/// Whether the flow shows that its client's address is real: a handshake came back from it.
fn proves(flow: &Flow) -> bool {
    match flow.transport {
        Transport::Tcp => true,
        Transport::Udp => false,
    }
}

/// Bytes of a chain that are kept: many times what real chains have, and a bound for what a stranger's
/// zone can make the gate remember.
const MAX_CHAIN_BYTES: usize = 1024;
