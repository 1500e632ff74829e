//! The kernel ruleset: from configuration to text, applied in one transaction, verified, removed.
//!
//! `choose` (a form this machine can carry) -> `Plan` -> `Ruleset` -> `Installed`. One table of our own; no
//! rule, route or switch of anybody else is touched, and `ip_forward` neither read nor set. Must not know
//! connections, questions, names or verdicts.

mod apply;
mod compare;
mod error;
mod host;
mod inside;
mod listing;
mod local;
mod netfilter;
mod others;
mod pins;
mod plan;
mod queries;
mod route;
mod ruleset;
#[cfg(test)]
pub(crate) mod scripted;

pub use apply::{Installed, Leftovers, Standing, remove_leftovers};
pub use compare::{Difference, compare};
pub use error::NftError;
pub use host::{Facts, choose, objections, suggested};
pub use inside::inside;
pub use local::{Cgroup, DOCKER_RESOLVER, LocalConfig, Locals};
pub use netfilter::{Netfilter, Nft, NftVersion, Pending, loader};
pub use others::{BaseChain, Known, Mention};
pub use pins::{Binding, Pins};
pub use plan::{CaptureConfig, DnsCapture, Form, FormChoice, Plan, PlanError};
pub use route::{Family, Piece, ROUTE_TABLE, Steering};
pub use ruleset::{MARK, Ruleset, TableFamily};
