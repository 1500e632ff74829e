//! Which process of this host a flow comes from: for the record, never for the verdict.
//!
//! It does not know how a process is found by its socket.

use std::path::PathBuf;
use std::sync::Arc;

/// A process, as it was seen soon after the flow began; it may have ended since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number in the process's own view of this host.
    pub pid: u32,
    /// The program it ran, where that could be seen.
    pub executable: Option<PathBuf>,
    /// The name of its user, where the user database has one.
    pub user: Option<Arc<str>>,
}
