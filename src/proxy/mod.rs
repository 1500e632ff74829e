//! One connection: accept, sniff, ask the gate, dial what was judged, pipe, or say no.
//!
//! Must not know how evidence is made, nor how packets came here.

mod bell;
mod config;
mod dial;
mod ended;
mod hold;
mod later;
mod limits;
mod pipe;
mod postgres;
mod refuse;
mod retry;
mod serve;
mod sniff;
mod standing;
mod stream;
mod streams;
mod tcp;

pub use config::{ProxyConfig, SecondLook};
pub use dial::{Dial, Dialled, Dialling, TcpDial};
pub use serve::{Proxy, Wiring};
