//! The nouns every room speaks: names, addresses, flows, claims, observations, instants.
//!
//! Plain values. This room does no I/O, reads no clock and knows no policy.

mod address;
mod claim;
mod client;
mod container;
mod flow;
mod limit;
mod name;
mod observation;
mod process;
mod tick;

pub use address::{Scope, canonical, scope};
pub use claim::{Claim, Fault, Named, Protocol, Via};
pub use client::{Client, Life, Siblings};
pub use container::Container;
pub use flow::{Flow, FlowId, Transport};
pub use limit::Limit;
pub use name::{Name, NameFault};
pub use observation::{Address, Observation, Source};
pub use process::Process;
pub use tick::{Moment, Tick};
