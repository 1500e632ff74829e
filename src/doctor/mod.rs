//! What is wrong with this machine and its configuration, worst first, each with the exact fix.
//!
//! Looking and judging are apart: [`look()`] reads [`Facts`] and changes nothing, [`diagnose`] is a pure function of a
//! configuration and facts. What could not be seen is told as unseen. Stands beside the daemon: it sees the same
//! rooms, and runs none of them.

mod check;
mod facts;
mod finding;
mod look;

pub use check::diagnose;
pub use facts::{
    Clock, ContainerFacts, Containers, Facts, Files, Forwarding, Limits, Looker, LookupService, Lookups,
    NetworkFacts, Place, SandboxFacts, Seen, Service, Table,
};
pub use finding::{Code, Finding, Severity};
pub use look::{look, look_at_sandbox};

/// The whole outcome in one number: 0 nothing is wrong, 1 something is, 3 something that matters was not seen.
/// Advice counts for nothing.
pub fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.severity).min() {
        Some(Severity::Leak | Severity::Broken | Severity::Risk) => 1,
        Some(Severity::Unseen) => 3,
        Some(Severity::Advice) | None => 0,
    }
}
