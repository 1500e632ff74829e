//! Counters in the Prometheus text format 0.0.4.
//!
//! Every label value is a word of ours: nothing that a client chose, a name or an address, is in it, so the number of
//! series is fixed. Must not know where the counters come from.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use crate::facts::Limit;
use crate::gate::Reason;
use crate::record::{Ending, Snapshot};

use super::{Ruleset, Status};

/// Writes a whole page.
pub(super) fn write(status: &Status, counters: &Snapshot) -> String {
    let mut page = Page(String::new());
    gate(&mut page, status);
    flows(&mut page, counters);
    dns(&mut page, status, counters);
    page.0
}

fn gate(page: &mut Page, status: &Status) {
    page.gauge("namegate_build_info", "The program.").labelled(&[("version", status.version)], 1);
    let since = status.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    page.gauge("namegate_start_time_seconds", "When the gate began to serve, seconds since 1970.")
        .value(format_args!("{:.3}", since.as_secs_f64()));
    page.gauge("namegate_healthy", "1 when /healthz says 200.").value(u8::from(status.problems().is_empty()));
    page.gauge("namegate_ruleset_intact", "1 when the kernel rules are as installed.")
        .value(u8::from(status.capture.ruleset == Ruleset::Intact));
    page.gauge("namegate_policy_rules", "Rules in force.").value(status.rules);
}

fn flows(page: &mut Page, counters: &Snapshot) {
    let mut flows = page.counter("namegate_flows_total", "Connections judged, by verdict and reason.");
    for reason in Reason::ALL {
        flows.labelled(&[("verdict", verdict(reason)), ("reason", reason.code())], counters.flows(reason));
    }
    let mut over = page.counter(
        "namegate_over_limit_total",
        "Connections and questions refused because of a limit, by limit.",
    );
    for limit in Limit::ALL {
        over.labelled(&[("limit", limit.code())], counters.over(limit));
    }
    page.gauge("namegate_flows_open", "Connections that were let through and have not ended.")
        .value(counters.open_flows);
    page.counter("namegate_flows_would_deny_total", "Connections that observe mode let pass.")
        .value(counters.would_deny);
    page.counter("namegate_flows_held_total", "Connections that waited for evidence.").value(counters.held);
    page.counter("namegate_flows_held_seconds_total", "How long they waited, summed.")
        .value(format_args!("{:.6}", counters.held_for.as_secs_f64()));
    let mut endings =
        page.counter("namegate_flow_endings_total", "Connections that were let through, by how they ended.");
    for ending in Ending::ALL {
        endings.labelled(&[("ending", ending.code())], counters.endings(ending));
    }
    let mut bytes = page
        .counter("namegate_bytes_total", "Bytes of ended connections: sent by clients, received by them.");
    bytes.labelled(&[("direction", "sent")], counters.sent);
    bytes.labelled(&[("direction", "received")], counters.received);
}

fn dns(page: &mut Page, status: &Status, counters: &Snapshot) {
    let mut questions =
        page.counter("namegate_dns_questions_total", "DNS questions judged, tapped ones included.");
    for reason in Reason::ALL {
        questions
            .labelled(&[("verdict", verdict(reason)), ("reason", reason.code())], counters.questions(reason));
    }
    page.counter("namegate_dns_private_addresses_total", "Private addresses taken out of DNS answers.")
        .value(counters.stripped);
    page.gauge("namegate_leases", "Pairs of name and address in the ledger, for all clients.")
        .value(status.leases);
    page.counter("namegate_leases_evicted_total", "Leases that gave way to others while they still counted.")
        .value(status.leases_evicted);
    let tap = counters.tap;
    page.gauge("namegate_dnstap_senders", "dnstap senders connected.").value(tap.senders);
    page.counter("namegate_dnstap_senders_refused_total", "dnstap senders turned away.").value(tap.refused);
    let mut frames = page.counter("namegate_dnstap_frames_total", "dnstap frames, by what was made of them.");
    for (outcome, number) in [("answer", tap.answers), ("ignored", tap.ignored), ("bad", tap.bad)] {
        frames.labelled(&[("outcome", outcome)], number);
    }
    let mut policies = page.counter("namegate_policy_loads_total", "Policies that were read, by outcome.");
    policies.labelled(&[("outcome", "in_force")], counters.policies);
    policies.labelled(&[("outcome", "refused")], counters.policies_refused);
    page.counter("namegate_ruleset_alarms_total", "Times the kernel rules were found missing or changed.")
        .value(counters.ruleset_alarms);
    page.counter("namegate_audit_lines_lost_total", "Lines that the audit log lost.").value(counters.gaps);
}

fn verdict(reason: Reason) -> &'static str {
    match reason.lets_pass() {
        true if reason == Reason::ObservedOnly => "observed",
        true => "allowed",
        false => "denied",
    }
}

struct Page(String);

/// The series of one name.
struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Page {
    fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { out: &mut self.0, name }
    }
}

impl Family<'_> {
    fn value(&mut self, value: impl Display) {
        let _ = writeln!(self.out, "{} {value}", self.name);
    }

    fn labelled(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(key, word)| format!("{key}=\"{word}\"")).collect();
        let _ = writeln!(self.out, "{}{{{}}} {value}", self.name, labels.join(","));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::HashSet;

    use super::super::desk::tests::{counted, well};
    use super::*;

    #[test]
    fn every_series_has_its_help_and_type_and_stands_once() {
        let page = write(&well(), &counted());
        let mut known = HashSet::new();
        let mut seen = HashSet::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let words: Vec<&str> = rest.splitn(3, ' ').collect();
                match words[0] {
                    "HELP" => assert!(known.insert(words[1]), "{line}"),
                    "TYPE" => {
                        assert!(
                            known.contains(words[1]) && matches!(words[2], "counter" | "gauge"),
                            "{line}"
                        );
                        assert_eq!(words[2] == "counter", words[1].ends_with("_total"), "{line}");
                    }
                    other => panic!("{other}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series), "{line}");
            let name = series.split('{').next().unwrap();
            assert!(known.contains(name) && name.starts_with("namegate_"), "{line}");
        }
        assert_eq!(known.len(), 23);
    }

    #[test]
    fn the_counters_are_those_of_the_log() {
        let page = write(&well(), &counted());
        for line in [
            "namegate_flows_total{verdict=\"allowed\",reason=\"resolved\"} 2",
            "namegate_flows_total{verdict=\"denied\",reason=\"garbled\"} 1",
            "namegate_flows_total{verdict=\"observed\",reason=\"observed_only\"} 1",
            "namegate_flows_open 2",
            "namegate_over_limit_total{limit=\"new_connections\"} 1",
            "namegate_bytes_total{direction=\"received\"} 5678901",
            "namegate_dns_questions_total{verdict=\"denied\",reason=\"name_not_allowed\"} 1",
            "namegate_dnstap_frames_total{outcome=\"bad\"} 1",
            "namegate_flow_endings_total{ending=\"upstream_failed\"} 1",
            "namegate_audit_lines_lost_total 17",
            "namegate_leases 12",
            "namegate_leases_evicted_total 3",
            "namegate_healthy 1",
        ] {
            assert!(page.lines().any(|seen| seen == line), "{line}\n{page}");
        }
    }
}
