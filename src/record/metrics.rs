//! Counters as a fold over the events, with atomics alone.
//!
//! It knows no format: whoever shows the counters takes a [`Snapshot`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::facts::Limit;
use crate::gate::Reason;

use super::{Ending, Event, Over, TapWhat};

/// Everything counted since the start of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    flows: [AtomicU64; Reason::ALL.len()],
    questions: [AtomicU64; Reason::ALL.len()],
    endings: [AtomicU64; Ending::ALL.len()],
    over: [AtomicU64; Limit::ALL.len()],
    open: AtomicI64,
    would: AtomicU64,
    held: AtomicU64,
    held_nanos: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    tapped: AtomicU64,
    stripped: AtomicU64,
    rules: AtomicU64,
    policies: AtomicU64,
    policies_refused: AtomicU64,
    ruleset_alarms: AtomicU64,
    layers_missing: AtomicU64,
    gaps: AtomicU64,
    senders: AtomicI64,
    senders_refused: AtomicU64,
    frames_bad: AtomicU64,
    frames_ignored: AtomicU64,
}

/// The counters of the dnstap tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapCounts {
    /// Senders connected now.
    pub senders: u64,
    /// Senders turned away.
    pub refused: u64,
    /// Answers to a client that were seen.
    pub answers: u64,
    /// Frames that do not parse.
    pub bad: u64,
    /// Frames that tell of no answer to a client.
    pub ignored: u64,
}

/// One reading of the counters. They are read one after another, not at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    flows: [u64; Reason::ALL.len()],
    questions: [u64; Reason::ALL.len()],
    endings: [u64; Ending::ALL.len()],
    over: [u64; Limit::ALL.len()],
    /// Flows let through that have not ended.
    pub open_flows: u64,
    /// Flows that observe mode let pass.
    pub would_deny: u64,
    /// Flows that were held for evidence.
    pub held: u64,
    /// How long they were held, summed.
    pub held_for: Duration,
    /// Bytes that clients sent and servers got.
    pub sent: u64,
    /// Bytes that servers sent and clients got.
    pub received: u64,
    /// Private addresses taken out of answers.
    pub stripped: u64,
    /// Rules in force.
    pub rules: u64,
    /// Policies put in force.
    pub policies: u64,
    /// Policies refused.
    pub policies_refused: u64,
    /// Times the kernel ruleset was found missing or changed.
    pub ruleset_alarms: u64,
    /// Protective layers that sandboxes had to do without.
    pub layers_missing: u64,
    /// Lines that the log lost, summed over its targets.
    pub gaps: u64,
    /// The dnstap tap.
    pub tap: TapCounts,
}

impl Snapshot {
    /// Returns how many flows were decided for this reason.
    pub fn flows(&self, reason: Reason) -> u64 {
        self.flows.get(reason as usize).copied().unwrap_or(0)
    }

    /// Returns how many questions were decided for this reason, tapped ones included.
    pub fn questions(&self, reason: Reason) -> u64 {
        self.questions.get(reason as usize).copied().unwrap_or(0)
    }

    /// Returns how many flows ended this way.
    pub fn endings(&self, ending: Ending) -> u64 {
        self.endings.get(ending as usize).copied().unwrap_or(0)
    }

    /// Returns how many flows and questions this limit refused.
    pub fn over(&self, limit: Limit) -> u64 {
        self.over.get(limit as usize).copied().unwrap_or(0)
    }
}

impl Metrics {
    /// Counts one event.
    pub fn count(&self, event: &Event) {
        match event {
            // A flow is counted once.
            Event::Decided(event) if event.later => {}
            Event::Decided(event) => {
                bump(&self.flows, event.reason as usize);
                self.count_over(event.over);
                if event.reason.lets_pass() {
                    self.open.fetch_add(1, Ordering::Relaxed);
                }
                if event.would.is_some() {
                    add(&self.would, 1);
                }
                if !event.held.is_zero() {
                    add(&self.held, 1);
                    add(&self.held_nanos, u64::try_from(event.held.as_nanos()).unwrap_or(u64::MAX));
                }
            }
            Event::Closed(event) => {
                bump(&self.endings, event.ending as usize);
                self.open.fetch_sub(1, Ordering::Relaxed);
                add(&self.sent, event.sent);
                add(&self.received, event.received);
            }
            Event::Dns(event) => {
                bump(&self.questions, event.reason as usize);
                self.count_over(event.over);
                add(&self.stripped, u64::try_from(event.stripped).unwrap_or(u64::MAX));
                if event.tapped {
                    add(&self.tapped, 1);
                }
            }
            Event::Policy(event) => match event.outcome {
                Ok(()) => {
                    add(&self.policies, 1);
                    self.rules.store(u64::try_from(event.rules).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
                Err(_) => add(&self.policies_refused, 1),
            },
            Event::Ruleset(event) => {
                if matches!(event.what, "missing" | "changed") {
                    add(&self.ruleset_alarms, 1);
                }
            }
            Event::Tap(event) => self.count_tap(&event.what),
            Event::Sandbox(event) => {
                add(&self.layers_missing, u64::try_from(event.missing.len()).unwrap_or(u64::MAX));
            }
            Event::Gap(event) => add(&self.gaps, event.lines),
        }
    }

    fn count_over(&self, over: Option<Over>) {
        if let Some(over) = over {
            bump(&self.over, over.limit as usize);
        }
    }

    fn count_tap(&self, what: &TapWhat) {
        match what {
            TapWhat::Connected => {
                self.senders.fetch_add(1, Ordering::Relaxed);
            }
            TapWhat::Disconnected(_) => {
                self.senders.fetch_sub(1, Ordering::Relaxed);
            }
            TapWhat::Refused { times, .. } => add(&self.senders_refused, *times),
            TapWhat::BadFrame(_) => add(&self.frames_bad, 1),
            TapWhat::Ignored => add(&self.frames_ignored, 1),
        }
    }

    /// Reads the counters.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // A gauge may be read between an end and its beginning: below zero is none.
        let gauge = |gauge: &AtomicI64| u64::try_from(gauge.load(Ordering::Relaxed)).unwrap_or(0);
        Snapshot {
            flows: self.flows.each_ref().map(read),
            questions: self.questions.each_ref().map(read),
            endings: self.endings.each_ref().map(read),
            over: self.over.each_ref().map(read),
            open_flows: gauge(&self.open),
            would_deny: read(&self.would),
            held: read(&self.held),
            held_for: Duration::from_nanos(read(&self.held_nanos)),
            sent: read(&self.sent),
            received: read(&self.received),
            stripped: read(&self.stripped),
            rules: read(&self.rules),
            policies: read(&self.policies),
            policies_refused: read(&self.policies_refused),
            ruleset_alarms: read(&self.ruleset_alarms),
            layers_missing: read(&self.layers_missing),
            gaps: read(&self.gaps),
            tap: TapCounts {
                senders: gauge(&self.senders),
                refused: read(&self.senders_refused),
                answers: read(&self.tapped),
                bad: read(&self.frames_bad),
                ignored: read(&self.frames_ignored),
            },
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn bump(counters: &[AtomicU64], index: usize) {
    if let Some(counter) = counters.get(index) {
        add(counter, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_reason_and_every_ending_has_its_own_counter() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, index);
        }
        for (index, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, index);
        }
    }

    #[test]
    fn counters_are_a_fold_over_the_events() {
        let metrics = Metrics::default();
        for (_, event) in samples::all() {
            metrics.count(&event);
        }
        let seen = metrics.snapshot();
        assert_eq!(seen.flows(Reason::Allowed), 1);
        assert_eq!(seen.flows(Reason::Resolved), 2);
        assert_eq!(seen.flows(Reason::ObservedOnly), 1);
        assert_eq!(seen.flows(Reason::Garbled), 1);
        assert_eq!((seen.flows(Reason::OverLimit), seen.over(Limit::NewConnections)), (1, 1));
        assert_eq!(seen.questions(Reason::Allowed), 2);
        assert_eq!(seen.questions(Reason::NameNotAllowed), 1);
        assert_eq!((seen.endings(Ending::Closed), seen.endings(Ending::UpstreamFailed)), (1, 1));
        assert_eq!((seen.open_flows, seen.would_deny, seen.held), (2, 1, 1));
        assert_eq!(seen.held_for, Duration::from_millis(40));
        assert_eq!((seen.sent, seen.received), (1_234, 5_678_901));
        assert_eq!((seen.stripped, seen.gaps), (2, 17));
        assert_eq!((seen.rules, seen.policies, seen.policies_refused), (3, 1, 1));
        assert_eq!((seen.ruleset_alarms, seen.layers_missing), (1, 1));
        assert_eq!(seen.tap, TapCounts { senders: 0, refused: 9, answers: 1, bad: 1, ignored: 1 });
    }

    #[test]
    fn an_end_seen_before_its_beginning_is_not_a_huge_gauge() {
        let metrics = Metrics::default();
        for (name, event) in samples::all() {
            if name.starts_with("closed") {
                metrics.count(&event);
            }
        }
        assert_eq!(metrics.snapshot().open_flows, 0);
    }
}
