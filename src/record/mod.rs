//! What happened: events, the log that keeps them, and counters as a fold over them.
//!
//! Knows the gate's decisions, nothing of sockets or bytes.

mod event;
mod json;
mod line;
mod log;
mod metrics;
#[cfg(test)]
mod samples;
mod sink;
mod writer;

pub use event::{
    Closed, Decided, DnsEvent, Ending, Event, Gap, PolicyEvent, RulesetEvent, SandboxEvent, TapEvent,
    TapRefusal, TapTally, TapWhat,
};
pub use log::{Listener, Log, LogError, RecordConfig, Recorded, Target, WhenFull};
pub use metrics::{Metrics, Snapshot, TapCounts};
pub use sink::{FileSink, ScriptedSink, Sink};
