//! Facts in, verdict out: patterns, policy, the ledger of DNS answers, and the decision.
//!
//! Pure but for the ledger's locks and one pointer swap; never awaits, never reads a clock, does no I/O.

mod chains;
mod cover;
mod decision;
mod faces;
mod index;
mod ladder;
mod lease;
mod ledger;
mod own;
mod pattern;
mod patterns;
mod policy;
mod reach;
mod reason;
mod room;
mod roster;
mod rule;
mod settle;
mod shard;
mod slab;
mod verdict;
mod watch;

pub use decision::{Decision, Evidence, Permit};
pub use faces::Faces;
pub use ladder::{Gate, QuestionVerdict};
pub use ledger::{Lease, Ledger, LedgerConfig, Pin, Watch};
pub use own::Own;
pub use pattern::{Pattern, PatternFault};
pub use policy::{Defaults, Policy, PolicyFault};
pub use reason::Reason;
pub use roster::Roster;
pub use rule::{Action, ClientMatch, Ech, MatchBy, Mode, Ports, Rule};
