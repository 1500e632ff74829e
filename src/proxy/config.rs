//! Limits of the connection corridor.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::facts::{Client, Name};

/// Limits and deadlines of one corridor. Durations are wall time.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// From accept to a complete claim.
    pub sniff_timeout: Duration,
    /// Bytes read in search of a claim.
    pub sniff_bytes: usize,
    /// How long a flow waits for evidence that may be on its way; zero: not at all.
    pub hold: Duration,
    /// From permit to connected.
    pub connect_timeout: Duration,
    /// No byte either way.
    pub idle_timeout: Duration,
    /// Open connections in all; beyond it, new ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Open connections of one client; beyond it, new ones are refused (`over_limit`).
    pub max_connections_per_client: usize,
    /// New connections of one client in a second, and at once; beyond it, they are refused (`over_limit`).
    pub new_connections_per_second: u32,
    /// How long open flows may go on after SIGTERM.
    pub drain: Duration,
}

/// Asks a trusted resolver for a name and writes what it says into the ledger, for `on_miss = "resolve"`.
/// Ready when the answer is in the ledger, or none came.
pub type SecondLook =
    Arc<dyn Fn(Client, Name, IpAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
