//! The filter is gone, or its rules are. These come last.

use super::super::map::{A_RECORD, ATTACKER, GOOD, SHARED};
use super::super::trial::{Step, Trial, Verdict, ask, bytes, https};

/// What is asked while nobody filters.
const MEANWHILE: &str = "meanwhile.tunnel.attacker.test";

pub(super) fn trials() -> Vec<Trial> {
    vec![
        Trial::attack(45, "killed", "anything, after the filter's processes were killed")
            .knowing(GOOD)
            .step(Step::Kill)
            .act(https(ATTACKER, GOOD))
            .act(https(SHARED, GOOD))
            .act(bytes(ATTACKER, 25, "data")),
        Trial::attack(45, "killed-dns", "data in a question meanwhile")
            .act(ask(MEANWHILE, A_RECORD))
            .judged(Verdict::Unasked(MEANWHILE)),
        Trial::attack(45, "flushed", "a hard-coded address, just after somebody flushed all rules")
            .step(Step::Flush)
            .act(bytes(ATTACKER, 25, "data"))
            .act(https(ATTACKER, GOOD)),
    ]
}
