//! What operators and their monitoring ask a running gate: its status, its counters, whether it is well. HTTP over a
//! unix socket, or over loopback with a token.
//!
//! Answers questions and takes no orders. Must not know the rooms it tells of: the daemon gives it the facts, and
//! nothing that a client chose is ever repeated.

mod ask;
mod config;
mod desk;
mod exposition;
mod serve;
mod status;
mod token;

pub use ask::{AskError, DEADLINE, ask};
pub use config::AdminConfig;
pub use serve::{Admin, AdminError, Facts};
pub use status::{Capture, Listener, Reload, Ruleset, Status};
pub use token::TokenError;
