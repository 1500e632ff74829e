//! `[ledger]` and `[audit]`: how long answers count, and where lines go.
//!
//! Must not know what is in them.

use std::time::Duration;

use crate::gate::LedgerConfig;
use crate::record::{RecordConfig, Target, WhenFull};

use super::endpoint::audit_target;
use super::finding::Finding;
use super::sandbox::FOR_ONE;
use super::scalar::Complaint;
use super::section::Section;

/// Reads `[ledger]`.
pub(super) fn read_ledger(mut section: Section<'_>) -> LedgerConfig {
    let limits = read_leases(&mut section);
    let max_leases = limits.max_leases;
    let of_one = section.number("max_leases_per_client", 1..=MOST_LEASES);
    if of_one.is_some_and(|of_one| of_one > max_leases)
        && let Some(value) = section.value("max_leases_per_client")
    {
        let message = "`max_leases_per_client` is larger than `max_leases`";
        let finding = Finding::error(section.span(value.span()), message);
        section
            .sheet
            .push(finding.hint(format!("at most {max_leases}: a client that floods may lose only its own")));
    }
    section.unavailable("state", "leases start empty after a restart; workloads ask DNS again");
    section.finish();
    LedgerConfig { max_leases_per_client: of_one.unwrap_or(100_000).min(max_leases), ..limits }
}

/// Reads `[ledger]` for one command, which is the only client.
pub(super) fn read_ledger_for_one(mut section: Section<'_>) -> LedgerConfig {
    let hint = "there is one client: `max_leases` is its limit";
    section.without_effect(&["max_leases_per_client"], FOR_ONE, hint);
    section.without_effect(&["state"], FOR_ONE, "a command starts with an empty ledger, and asks DNS");
    let limits = read_leases(&mut section);
    section.finish();
    limits
}

/// Reads times and sizes; one client may have them all.
fn read_leases(section: &mut Section<'_>) -> LedgerConfig {
    let seconds = Duration::from_secs;
    let min_ttl = section.duration("min_ttl", seconds(5), Duration::ZERO..=seconds(3_600));
    let grace = section.duration("grace", seconds(300), Duration::ZERO..=seconds(7 * 86_400));
    let max_leases = section.number("max_leases", 1..=MOST_LEASES).unwrap_or(1_000_000);
    LedgerConfig { min_ttl, grace, max_leases, max_leases_per_client: max_leases }
}

/// Reads `[audit]`. `default`: where lines go when it does not say.
pub(super) fn read_audit(mut section: Section<'_>, default: Option<Target>) -> RecordConfig {
    let mut to: Vec<Target> = Vec::new();
    let texts = section.texts("to");
    if let (Some(texts), Some(at)) = (&texts, section.at)
        && texts.is_empty()
    {
        let finding = Finding::warning(at, "no audit log is kept: `to` is empty");
        section.sheet.push(finding.hint("to = [\"-\"] writes it to standard output"));
    }
    for text in texts.iter().flatten() {
        match audit_target(text.value, section.base) {
            Ok(target) if to.contains(&target) => {
                section.complain(text.span, Complaint::new("this target is listed twice"));
            }
            Ok(target) => to.push(target),
            Err(complaint) => section.complain(text.span, complaint),
        }
    }
    if texts.is_none() {
        to.extend(default);
    }
    let when_full = section
        .choice("when_full", &[("block", WhenFull::Block), ("shed", WhenFull::Shed)])
        .map_or(WhenFull::default(), |(when_full, _)| when_full);
    let queue = section.number("queue", 16..=1_048_576).unwrap_or(16_384);
    section.finish();
    RecordConfig { to, when_full, queue }
}

/// About 9 GB of memory at 87 bytes a lease.
const MOST_LEASES: usize = 100_000_000;
