//! How a gate is, and whether that is well.
//!
//! A problem is what somebody has to see to now: the gate does not do what it is for. A warning can wait. Must not
//! know how the facts were come by.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};

use crate::gate::{Mode, Reason};
use crate::record::Snapshot;

/// What stands in the kernel of what was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruleset {
    /// As installed.
    Intact,
    /// Somebody took it.
    Missing,
    /// Somebody changed it.
    Changed,
    /// The kernel could not be asked.
    Unknown,
}

/// What is captured, and how.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Interfaces.
    pub interfaces: Vec<String>,
    /// Processes of this host, as people call them.
    pub local: Vec<String>,
    /// Docker networks.
    pub networks: Vec<String>,
    /// Docker networks that should be captured and are not there.
    pub missing: Vec<String>,
    /// `redirect` or `tproxy`.
    pub form: &'static str,
    /// The kernel's rules, when they were looked at last.
    pub ruleset: Ruleset,
    /// When that was.
    pub checked: SystemTime,
    /// How long ago that is.
    pub checked_ago: Duration,
}

/// Somebody who takes connections or questions.
#[derive(Debug, Clone)]
pub struct Listener {
    /// What it takes.
    pub what: &'static str,
    /// Whether it still does.
    pub alive: bool,
}

/// The last reload.
#[derive(Debug, Clone)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// Why the new policy was refused, if it was.
    pub refused: Option<Arc<str>>,
}

/// A gate at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Version of the program.
    pub version: &'static str,
    /// When it began to serve.
    pub since: SystemTime,
    /// Whether it is about to end.
    pub stopping: bool,
    /// What no rule says otherwise.
    pub mode: Mode,
    /// Rules in force.
    pub rules: usize,
    /// Policies put in force since the start, the first not counted.
    pub generation: u64,
    /// The last reload.
    pub reload: Option<Reload>,
    /// DNS answers in the ledger.
    pub leases: usize,
    /// Leases that gave way to others while they still counted.
    pub leases_evicted: u64,
    /// What is captured.
    pub capture: Capture,
    /// Who listens.
    pub listeners: Vec<Listener>,
    /// What does not move on inside the gate.
    pub stuck: Option<&'static str>,
    /// Whether the Docker socket answers; `None`: it is not needed.
    pub docker: Option<bool>,
}

impl Status {
    /// Returns what is wrong; nothing: the gate is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.stopping {
            problems.push("the gate is stopping".to_owned());
        }
        match self.capture.ruleset {
            Ruleset::Intact => {}
            Ruleset::Missing => problems.push("the kernel rules are missing".to_owned()),
            Ruleset::Changed => problems.push("the kernel rules were changed".to_owned()),
            Ruleset::Unknown => problems.push("the kernel rules cannot be read".to_owned()),
        }
        if self.capture.checked_ago > STALE {
            problems.push(format!(
                "the kernel rules were not looked at for {} s",
                self.capture.checked_ago.as_secs()
            ));
        }
        // Whoever stops, stops listening.
        let dead = self.listeners.iter().filter(|listener| !listener.alive && !self.stopping);
        problems.extend(dead.map(|listener| format!("nobody listens for {} any more", listener.what)));
        problems.extend(self.stuck.map(str::to_owned));
        problems
    }

    fn warnings(&self, counters: &Snapshot) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = self.reload.as_ref().and_then(|reload| reload.refused.as_deref()) {
            warnings.push(format!("the last reload was refused, the policy before it is in force: {why}"));
        }
        if self.docker == Some(false) {
            warnings
                .push("the Docker socket does not answer: containers that start are not known".to_owned());
        }
        for network in &self.capture.missing {
            warnings.push(format!("the Docker network {network} is not there: it is captured once it is"));
        }
        if counters.gaps > 0 {
            warnings.push(format!("the audit log lost lines: {}", counters.gaps));
        }
        if self.rules == 0 {
            warnings.push("there is no rule: everything is denied".to_owned());
        }
        warnings
    }
}

/// Spells a status as JSON.
pub(super) fn spell(status: &Status, counters: &Snapshot) -> String {
    let problems = status.problems();
    let (passed, refused): (Vec<Reason>, Vec<Reason>) =
        Reason::ALL.into_iter().partition(|reason| reason.lets_pass());
    let sum = |reasons: &[Reason]| reasons.iter().map(|reason| counters.flows(*reason)).sum::<u64>();
    let mut value = json!({
        "healthy": problems.is_empty(),
        "problems": problems,
        "warnings": status.warnings(counters),
        "version": status.version,
        "since": stamp(status.since),
        "mode": mode(status.mode),
        "policy": { "rules": status.rules, "generation": status.generation },
        "leases": status.leases,
        "flows": {
            "open": counters.open_flows,
            "allowed": sum(&passed),
            "denied": sum(&refused),
        },
        "capture": {
            "interfaces": status.capture.interfaces,
            "local": status.capture.local,
            "networks": status.capture.networks,
            "missing": status.capture.missing,
            "form": status.capture.form,
            "ruleset": ruleset(status.capture.ruleset),
            "checked": stamp(status.capture.checked),
        },
        "listeners": status.listeners.iter().map(spell_listener).collect::<Vec<_>>(),
        "log": { "lost": counters.gaps },
    });
    if let Some(reload) = &status.reload {
        let outcome = if reload.refused.is_some() { "refused" } else { "in force" };
        value["policy"]["reload"] =
            json!({ "at": stamp(reload.at), "outcome": outcome, "why": reload.refused.as_deref() });
    }
    if let Some(connected) = status.docker {
        value["docker"] = json!({ "connected": connected });
    }
    format!("{value:#}\n")
}

fn spell_listener(listener: &Listener) -> Value {
    json!({ "for": listener.what, "alive": listener.alive })
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

fn ruleset(ruleset: Ruleset) -> &'static str {
    match ruleset {
        Ruleset::Intact => "intact",
        Ruleset::Missing => "missing",
        Ruleset::Changed => "changed",
        Ruleset::Unknown => "unknown",
    }
}

/// Spells an instant to the second, in UTC.
fn stamp(at: SystemTime) -> String {
    let exact = Timestamp::try_from(at).unwrap_or(Timestamp::MIN);
    exact.round(Unit::Second).unwrap_or(exact).to_string()
}

/// They are looked at every few seconds, and a look takes milliseconds.
const STALE: Duration = Duration::from_secs(60);
