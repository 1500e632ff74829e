//! Rules compiled so that many decide as fast as few.
//!
//! What a rule means at an instant is answered here; in which order the questions are asked is
//! `verdict`'s matter. Must not know the ledger.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use crate::facts::{Client, Name, Protocol};

use super::cover;
use super::patterns::Patterns;
use super::reach::Reach;
use super::{Action, ClientMatch, Ech, MatchBy, Mode, Roster, Rule};

/// What holds where a rule says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults {
    /// Whether denials are carried out.
    pub mode: Mode,
    /// When `mode = observe` turns into enforce; `None`: when somebody writes so.
    pub until: Option<SystemTime>,
    /// Encrypted Client Hello.
    pub ech: Ech,
}

/// Why rules do not make a policy; indexes are positions in the given list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyFault {
    /// Two rules carry one id.
    DuplicateId {
        /// The first.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A rule that can never decide anything: an earlier rule with the same action covers it, or a deny
    /// rule, wherever it stands, covers this allow rule.
    Unreachable {
        /// The rule.
        rule: usize,
        /// The one that covers it.
        by: usize,
    },
}

/// A compiled policy, and who its rules are for at present.
#[derive(Debug)]
pub struct Policy {
    /// The rules of the configuration.
    base: Arc<Compiled>,
    /// Rules that come and go; numbered after the others.
    more: Arc<Compiled>,
    /// All of them.
    rules: Vec<Arc<Rule>>,
    audiences: Vec<Audience>,
    roster: Arc<Roster>,
}

/// What rules say, whoever they are for.
#[derive(Debug)]
struct Compiled {
    rules: Vec<Arc<Rule>>,
    /// The number of the first.
    first: u32,
    /// For each rule: it denies everything about its names, so not even questions are answered.
    hides: Vec<bool>,
    defaults: Defaults,
    patterns: Patterns,
    by_address: Reach,
    by_name: Reach,
}

/// The clients of one rule, arranged for look-up.
#[derive(Debug)]
struct Audience {
    everyone: bool,
    /// Sorted.
    single: Box<[IpAddr]>,
    nets: Box<[IpNet]>,
    users: Box<[u32]>,
    /// Whom the roster knows; sorted.
    members: Box<[Client]>,
    /// The rule denies something to containers: whoever may be one is meant.
    suspects: bool,
}

impl Compiled {
    fn of(rules: Vec<Arc<Rule>>, first: u32, defaults: Defaults) -> Self {
        let mut patterns = Patterns::default();
        let (mut by_address, mut by_name) = (Reach::default(), Reach::default());
        for (at, rule) in (first..).zip(&rules) {
            for pattern in &rule.names {
                patterns.file(pattern, at);
            }
            match (rule.action, rule.by) {
                (Action::Allow, MatchBy::Address) => by_address.add(rule, at),
                (Action::Allow, MatchBy::NameAndAddress) => by_name.add(rule, at),
                (Action::Deny, MatchBy::Address | MatchBy::NameAndAddress) => {}
            }
        }
        let hides = rules.iter().map(|rule| hides_names(rule)).collect();
        let (by_address, by_name) = (by_address.finish(), by_name.finish());
        Self { rules, first, hides, defaults, patterns, by_address, by_name }
    }
}

impl Policy {
    /// Compiles rules. Rules for containers, and for users by name, are for nobody until [`Policy::among`] says who
    /// there is.
    ///
    /// # Errors
    /// All faults, not only the first.
    pub fn compile(rules: Vec<Rule>, defaults: Defaults) -> Result<Self, Vec<PolicyFault>> {
        let compiled = Compiled::of(rules.into_iter().map(Arc::new).collect(), 0, defaults);
        let faults = cover::faults(&compiled.rules, &compiled.patterns, defaults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let first = u32::try_from(compiled.rules.len()).unwrap_or(u32::MAX);
        let more = Compiled::of(Vec::new(), first, defaults);
        Ok(Self::with(Arc::new(compiled), Arc::new(more), Arc::default()))
    }

    /// Returns the same policy for those who are on this roster.
    #[must_use]
    pub fn among(&self, roster: Arc<Roster>) -> Self {
        Self::with(Arc::clone(&self.base), Arc::clone(&self.more), roster)
    }

    /// Returns the policy that has these rules besides its own, after them, in place of earlier ones that it had
    /// besides. Whether they can decide anything is not asked: they come and go with those they are for.
    #[must_use]
    pub fn and(&self, rules: impl IntoIterator<Item = Arc<Rule>>) -> Self {
        let more = Compiled::of(rules.into_iter().collect(), self.more.first, self.base.defaults);
        Self::with(Arc::clone(&self.base), Arc::new(more), Arc::clone(&self.roster))
    }

    fn with(base: Arc<Compiled>, more: Arc<Compiled>, roster: Arc<Roster>) -> Self {
        let rules: Vec<Arc<Rule>> = base.rules.iter().chain(&more.rules).cloned().collect();
        let audiences = rules.iter().map(|rule| Audience::of(rule, &roster)).collect();
        Self { base, more, rules, audiences, roster }
    }

    fn parts(&self) -> impl Iterator<Item = &Compiled> {
        let more = Some(&*self.more).filter(|more| !more.rules.is_empty());
        std::iter::once(&*self.base).chain(more)
    }

    /// Returns who there is.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Returns the rules in their order.
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Returns the defaults.
    pub fn defaults(&self) -> Defaults {
        self.base.defaults
    }

    pub(super) fn rule(&self, at: u32) -> Option<&Arc<Rule>> {
        self.rules.get(usize::try_from(at).ok()?)
    }

    /// Calls `found` for every rule that names the name, is for the client and in force; a rule may be
    /// named more than once.
    pub(super) fn speaking_of(
        &self,
        name: &Name,
        client: Client,
        wall: SystemTime,
        mut found: impl FnMut(u32, &Rule),
    ) {
        for part in self.parts() {
            part.patterns.matching(name, |at| {
                if let Some(rule) = self.speaking_to(at, client, wall) {
                    found(at, rule);
                }
            });
        }
    }

    /// Whether an allow rule names the name, whoever it is for.
    pub(super) fn allows_somebody(&self, name: &Name) -> bool {
        let mut found = false;
        for part in self.parts() {
            part.patterns.matching(name, |at| {
                found |= self.rule(at).is_some_and(|rule| rule.action == Action::Allow);
            });
        }
        found
    }

    /// Whether denials are not carried out: by the mode of the rule concerned, else by the default.
    pub(super) fn observes(&self, at: Option<u32>, wall: SystemTime) -> bool {
        let ahead = |until: Option<SystemTime>| until.is_none_or(|until| wall < until);
        match at.and_then(|at| self.rule(at)) {
            Some(rule) if rule.mode == Some(Mode::Enforce) => false,
            Some(rule) if rule.mode == Some(Mode::Observe) && ahead(rule.until) => true,
            Some(_) | None => self.base.defaults.mode == Mode::Observe && ahead(self.base.defaults.until),
        }
    }

    pub(super) fn permits_ech(&self, rule: &Rule) -> bool {
        rule.ech.unwrap_or(self.base.defaults.ech) == Ech::Allow
    }

    /// Whether it is a deny rule without a way round: then not even the addresses may be learnt.
    pub(super) fn hides_names(&self, at: u32) -> bool {
        let (part, at) = match at.checked_sub(self.more.first) {
            Some(at) => (&self.more, at),
            None => (&self.base, at),
        };
        usize::try_from(at).is_ok_and(|at| part.hides.get(at).copied().unwrap_or(false))
    }

    /// Whether there are address rules at all.
    pub(super) fn has_address_rules(&self) -> bool {
        self.parts().any(|part| !part.by_address.is_empty())
    }

    /// Whether an address rule could serve anybody at the port.
    pub(super) fn has_address_rules_at(&self, port: u16) -> bool {
        self.parts().any(|part| !part.by_address.rules(port).is_empty())
    }

    /// Returns one address rule of each kind that could serve the client at the port.
    pub(super) fn address_rules(
        &self,
        client: Client,
        port: u16,
        protocol: Option<Protocol>,
        wall: SystemTime,
    ) -> impl Iterator<Item = (u32, &Rule)> {
        self.parts()
            .flat_map(move |part| self.reaching(&part.by_address, client, port, wall))
            .filter(move |(_, rule)| permits_protocol(rule, protocol))
    }

    /// Whether a rule that reads names could serve the client at the port.
    pub(super) fn reads_names(&self, client: Client, port: u16, wall: SystemTime) -> bool {
        self.parts().any(|part| self.reaching(&part.by_name, client, port, wall).next().is_some())
    }

    fn reaching<'a>(
        &'a self,
        reach: &'a Reach,
        client: Client,
        port: u16,
        wall: SystemTime,
    ) -> impl Iterator<Item = (u32, &'a Rule)> {
        reach
            .rules(port)
            .iter()
            .filter_map(move |&at| Some((at, self.speaking_to(at, client, wall)?)))
            .filter(move |(_, rule)| rule.ports.contains(port))
    }

    /// Returns the rule when it is for the client and in force.
    fn speaking_to(&self, at: u32, client: Client, wall: SystemTime) -> Option<&Rule> {
        let at = usize::try_from(at).ok()?;
        let rule = self.rules.get(at)?;
        let ended = match rule.mode {
            // Then `until` ends the observing, not the rule.
            Some(Mode::Observe) => false,
            Some(Mode::Enforce) | None => rule.until.is_some_and(|until| wall >= until),
        };
        (!ended && self.audiences.get(at)?.contains(client, &rule.clients, &self.roster)).then_some(rule)
    }
}

/// Whether an allow rule permits the protocol; one that could not be read fits no list.
pub(super) fn permits_protocol(rule: &Rule, protocol: Option<Protocol>) -> bool {
    rule.protocols.is_empty() || protocol.is_some_and(|protocol| rule.protocols.contains(&protocol))
}

/// Whether a deny rule refuses the protocol; one that could not be read is refused by every list.
pub(super) fn refuses_protocol(rule: &Rule, protocol: Option<Protocol>) -> bool {
    rule.protocols.is_empty() || protocol.is_none_or(|protocol| rule.protocols.contains(&protocol))
}

fn hides_names(rule: &Rule) -> bool {
    rule.action == Action::Deny && rule.protocols.is_empty() && cover::is_every_port(&rule.ports)
}

impl Audience {
    fn of(rule: &Rule, roster: &Roster) -> Self {
        let (mut single, mut nets, mut users) = (Vec::new(), Vec::new(), Vec::new());
        for one in &rule.clients {
            match one {
                ClientMatch::Net(net) if net.prefix_len() == net.max_prefix_len() => single.push(net.addr()),
                ClientMatch::Net(net) => nets.push(*net),
                ClientMatch::User(uid) => users.push(*uid),
                ClientMatch::Container(_)
                | ClientMatch::Label { .. }
                | ClientMatch::Service(_)
                | ClientMatch::UserName(_) => {}
            }
        }
        single.sort_unstable();
        Self {
            everyone: rule.clients.is_empty(),
            single: single.into(),
            nets: nets.into(),
            users: users.into(),
            members: roster.members(&rule.clients),
            suspects: rule.action == Action::Deny && rule.clients.iter().any(ClientMatch::is_of_containers),
        }
    }

    fn contains(&self, client: Client, matches: &[ClientMatch], roster: &Roster) -> bool {
        if self.everyone {
            return true;
        }
        let by_itself = match client {
            Client::At(address, _) => {
                self.single.binary_search(&address).is_ok()
                    || self.nets.iter().any(|net| net.contains(&address))
            }
            Client::User(uid) => self.users.contains(&uid),
        };
        by_itself
            || self.members.binary_search(&client).is_ok()
            || (self.suspects && roster.is_suspect(client, matches))
    }
}
