//! namegate: an egress gate. A workload reaches only the names it may, and only at the addresses
//! that DNS really gave for them.
//!
//! Rooms, from the ground up: `facts` are the nouns; `wire` turns bytes into facts; `gate` turns facts
//! into a verdict; `rate` counts how often; `sys` is the kernel; `record` keeps what happened; `who` tells whose a flow is; `docker`
//! knows containers; `proxy`, `dns` and `nft` carry verdicts out; `admin` tells how it is; `settings` reads
//! what the operator wants; `daemon` is where they meet; `doctor` says what is wrong; `demo` tries to get past
//! it; `conformance` tries that on any filter; `props` is what both stages need; `cli` speaks.

pub mod admin;
pub mod cli;
pub mod conformance;
pub mod daemon;
pub mod demo;
pub mod dns;
pub mod docker;
pub mod doctor;
pub mod facts;
pub mod gate;
pub mod nft;
pub mod props;
pub mod proxy;
pub mod rate;
pub mod record;
pub mod sandbox;
pub mod settings;
pub mod sys;
pub mod who;
pub mod wire;
