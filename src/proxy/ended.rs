//! What is left of a carried flow: how it ended, what passed, and what the client is still to be told.
//!
//! Must not know how bytes were carried.

use std::sync::Arc;

use crate::record::Ending;

/// How a carried flow ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) ending: Ending,
    /// Bytes that the server's socket took.
    pub(super) sent: u64,
    /// Bytes that the client's socket took.
    pub(super) received: u64,
    /// The system's words, where an error ended it.
    pub(super) error: Option<Arc<str>>,
    /// Last words that the client is still to be told.
    pub(super) untold: Option<Box<[u8]>>,
}

impl Ended {
    /// Describes a flow that ended before it could carry anything.
    pub(super) fn empty(ending: Ending, error: impl Into<Arc<str>>) -> Self {
        Self { ending, sent: 0, received: 0, error: Some(error.into()), untold: None }
    }
}
