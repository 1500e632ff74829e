//! Who there is, and the policy for them: rules from the configuration and from labels, for those that Docker shows.
//!
//! One policy is in force at a time; a change of rules and a change of containers both make the next one here. Must not
//! know how Docker is asked.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::docker::{NetworkState, OVERSIZED, Picture};
use crate::facts::Container;
use crate::gate::{Gate, Policy, Roster, Rule};
use crate::record::{Event, PolicyEvent};
use crate::settings::{ALLOW, deny_all, label_rules};
use crate::sys::clock;

use super::local::Users;

/// Makes policies. The only one who puts them in force.
#[derive(Debug)]
pub(super) struct Residents {
    gate: Arc<Gate>,
    /// Counts up at each change of policy; open flows are then asked again.
    changes: watch::Sender<u64>,
    /// Whether labels are rules.
    labels: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The rules of the configuration.
    base: Policy,
    roster: Arc<Roster>,
    /// Those of labels.
    rules: Vec<Arc<Rule>>,
    /// The picture that roster and label rules are of.
    seen: Option<Arc<Picture>>,
    /// Containers whose label cannot be read: those that have been told of.
    told: HashSet<Arc<str>>,
}

impl Residents {
    /// Takes over the policy of a gate, for the users of this roster.
    pub(super) fn new(gate: Arc<Gate>, changes: watch::Sender<u64>, roster: Roster, labels: bool) -> Self {
        let base = gate.policy().among(Arc::default());
        let state =
            State { base, roster: Arc::new(roster), rules: Vec::new(), seen: None, told: HashSet::new() };
        let residents = Self { gate, changes, labels, state: Mutex::new(state) };
        residents.put_in_force(&residents.state.lock());
        residents
    }

    /// Puts other rules of the configuration in force, for the same containers, and for these users.
    pub(super) fn rebase(&self, policy: Policy, users: Users) {
        let mut state = self.state.lock();
        state.base = policy;
        state.roster = Arc::new(Roster::clone(&state.roster).naming(users));
        self.put_in_force(&state);
    }

    /// Puts the policy in force that follows from the present picture; `None`: nobody can say who has which address.
    /// Returns what is to be told of it. `present` is read when it is this call's turn: an older picture never follows
    /// a newer one.
    pub(super) fn see(&self, present: impl FnOnce() -> Option<Arc<Picture>>) -> Vec<Event> {
        let mut state = self.state.lock();
        let Some(picture) = present() else {
            if state.roster.is_sure() {
                state.roster = Arc::new(state.roster.suspend());
                state.seen = None;
                self.put_in_force(&state);
            }
            return Vec::new();
        };
        if state.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &picture)) {
            return Vec::new();
        }
        let roster = Roster::clone(&state.roster).within(subnets(&picture));
        state.roster = Arc::new(roster.succeed(&picture.containers, clock::tick()));
        let events = state.read_labels(&picture.containers, self.labels);
        state.seen = Some(picture);
        self.put_in_force(&state);
        events
    }

    /// Whether a container may be at an address that is not known yet.
    pub(super) fn may_be_new(&self, address: IpAddr) -> bool {
        self.gate.may_be_new(address)
    }

    fn put_in_force(&self, state: &State) {
        let policy = if state.rules.is_empty() {
            state.base.among(Arc::clone(&state.roster))
        } else {
            state.base.and(state.rules.iter().cloned()).among(Arc::clone(&state.roster))
        };
        self.gate.replace(policy);
        self.changes.send_modify(|generation| *generation += 1);
    }
}

impl State {
    /// Makes rules of labels, where they are rules. Who has a broken one is denied everything, and told of once; so is
    /// who has more labels than could be kept: one that is missing may be the one that a rule denies.
    fn read_labels(&mut self, containers: &[Arc<Container>], are_rules: bool) -> Vec<Event> {
        let mut events = Vec::new();
        self.rules.clear();
        self.told.retain(|id| containers.iter().any(|container| container.id == *id));
        for container in containers {
            let rules = if container.label(ALLOW) == Some(OVERSIZED) {
                Err("it has more labels than are read".to_owned())
            } else if are_rules {
                label_rules(container)
            } else {
                Ok(Vec::new())
            };
            match rules {
                Ok(rules) => self.rules.extend(rules.into_iter().map(Arc::new)),
                Err(why) => {
                    self.rules.extend(deny_all(container).map(Arc::new));
                    if self.told.insert(Arc::clone(&container.id)) {
                        events.push(self.broken(container, &why));
                    }
                }
            }
        }
        events
    }

    fn broken(&self, container: &Container, why: &str) -> Event {
        let why = format!("container {}: {why}: everything is denied to it", container.name);
        tracing::warn!(container = %container.name, "a label cannot be read: everything is denied to it");
        Event::Policy(PolicyEvent {
            at: clock::now(),
            rules: self.base.rules().len(),
            outcome: Err(why.into()),
        })
    }
}

fn subnets(picture: &Picture) -> Arc<[ipnet::IpNet]> {
    let found = picture.networks.iter().filter_map(|network| match &network.state {
        NetworkState::Found(bridge) => Some(&bridge.subnets),
        NetworkState::Missing
        | NetworkState::NotABridge { .. }
        | NetworkState::Ambiguous
        | NetworkState::Garbled { .. } => None,
    });
    found.flatten().copied().collect()
}
