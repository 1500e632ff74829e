//! What happened: events, the log that keeps them, and folds over them: counters, a summary, notices, rules.
//!
//! Knows the gate's decisions, nothing of sockets or bytes.

mod answers;
mod dns_words;
mod event;
mod json;
mod learned;
mod learner;
mod line;
mod log;
mod metrics;
mod notices;
mod repeats;
#[cfg(test)]
pub(crate) mod samples;
mod sink;
mod summary;
mod writer;

pub use event::{
    Closed, Decided, DnsEvent, Ending, Event, Gap, Origin, PolicyEvent, RulesetEvent, SandboxEvent, TapEvent,
    TapRefusal, TapTally, TapWhat,
};
pub use learner::Learner;
pub use log::{Listener, Log, LogError, RecordConfig, Recorded, Target, WhenFull};
pub use metrics::{Metrics, Snapshot, TapCounts};
pub use notices::{Denied, Notice, Notices};
pub use repeats::Over;
pub use sink::{FileSink, ScriptedSink, Sink};
pub use summary::{Outcome, Row, Subject, Summary};
