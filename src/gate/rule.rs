//! One rule as the operator wrote it, checked. How rules are found fast is `policy`'s matter.

use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use crate::facts::Protocol;

use super::Pattern;

/// Whether denials are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Denied flows are refused.
    #[default]
    Enforce,
    /// Denied flows pass; the decision says what would have happened.
    Observe,
}

/// What a matching rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Lets the flow through when the evidence fits.
    #[default]
    Allow,
    /// Refuses it, whatever other rules say.
    Deny,
}

/// What must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatchBy {
    /// The name on the wire and the address it was resolved to.
    #[default]
    NameAndAddress,
    /// The address alone: for protocols that send no name.
    Address,
}

/// What to do with an Encrypted Client Hello extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ech {
    /// Refuse.
    #[default]
    Deny,
    /// Judge the outer name.
    Allow,
}

/// Whom a rule speaks of. Who that is at present is the roster's matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClientMatch {
    /// Whoever has an address of this network on a captured link.
    Net(IpNet),
    /// The container of this name, or whose identifier begins with these 12 or more digits.
    Container(Arc<str>),
    /// Containers with this label.
    Label {
        /// The whole key.
        key: Arc<str>,
        /// The whole value.
        value: Arc<str>,
    },
    /// Containers of this Compose service.
    Service(Arc<str>),
    /// A user of this host, by number.
    User(u32),
    /// A user of this host, by name.
    UserName(Arc<str>),
}

/// The ports of a rule: inclusive ranges, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(pub Vec<(u16, u16)>);

impl Ports {
    /// Whether the port is one of them.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&port))
    }
}

impl Default for Ports {
    /// 80 and 443.
    fn default() -> Self {
        Self(vec![(80, 80), (443, 443)])
    }
}

/// One checked rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique within a policy.
    pub id: Arc<str>,
    /// At least one.
    pub names: Vec<Pattern>,
    /// Ports the rule speaks of.
    pub ports: Ports,
    /// Empty: everyone captured.
    pub clients: Vec<ClientMatch>,
    /// Allow or deny.
    pub action: Action,
    /// What must fit.
    pub by: MatchBy,
    /// Empty: any protocol that carries a name.
    pub protocols: Vec<Protocol>,
    /// Whether private addresses may be reached.
    pub private: bool,
    /// Overrides the policy's default.
    pub ech: Option<Ech>,
    /// Overrides the policy's mode for flows this rule denies, or fails to allow, by itself.
    pub mode: Option<Mode>,
    /// `mode = observe` ends here; an `enforce` rule itself ends here.
    pub until: Option<SystemTime>,
    /// The operator's words.
    pub comment: Option<Arc<str>>,
}
