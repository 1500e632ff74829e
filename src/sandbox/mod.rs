//! One command in namespaces of its own, whose only way out are the listeners that were made inside and are served
//! outside.
//!
//! Three processes: the *supervisor* (this program, outside, which serves the listeners), the *keeper* (process 1
//! inside: builds the inside, then reaps and hands signals on) and the *command*. Must not know names, rules or
//! what is carried over the listeners.

mod command;
mod diagnosis;
mod error;
mod identity;
mod inside;
mod keeper;
mod layers;
mod message;
mod network;
mod sockets;
mod streams;
mod supervisor;
mod view;

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::PathBuf;

pub use diagnosis::{Diagnosis, Obstacle};
pub use error::Error;
pub use layers::{Layer, Layers};
pub use message::Ended;
pub use supervisor::{Running, Sandbox, Told};

/// What is to be built.
pub struct Spec {
    /// The program and its arguments; at least one.
    pub command: Vec<OsString>,
    /// How every port is captured; `None`: only `ports` are.
    pub capture: Option<Capture>,
    /// The ports that are listened on where `capture` is not to be had.
    pub ports: Vec<u16>,
    /// Ports of the inside's `127.0.0.1` that are handed out as they are.
    pub host_ports: Vec<u16>,
    /// The command's addresses: what it sends comes from there.
    pub home: (Ipv4Addr, Ipv6Addr),
    /// Unix sockets of the host that stay reachable.
    pub allow_sockets: Vec<PathBuf>,
    /// Device nodes besides the ones that every program expects.
    pub allow_devices: Vec<PathBuf>,
    /// Files that are nothing inside: the gate's own, which the user may write.
    pub hidden: Vec<PathBuf>,
    /// Go on where a layer that the promise needs cannot be had.
    pub best_effort: bool,
    /// Whether the command may have the session's terminal.
    pub interactive: bool,
    /// Whether nothing is said on standard error when the gate is gone.
    pub quiet: bool,
}

/// How every TCP port is brought to two transparent listeners.
pub struct Capture {
    /// The program that loads a ruleset from its standard input.
    pub loader: PathBuf,
    /// Its arguments.
    pub arguments: &'static [&'static str],
    /// Spells the ruleset for the port of the listeners, and with IPv6 or without.
    pub script: Box<dyn Fn(u16, bool) -> String>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("loader", &self.loader).finish_non_exhaustive()
    }
}

/// How connections of the inside come to the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Whatever the port.
    EveryPort,
    /// At the listeners' own ports only; others are refused by the kernel.
    ListedPorts,
}

/// The inside's listeners, to be served from outside. All carry the original destination as their local address.
#[derive(Debug)]
pub struct Listeners {
    /// How connections come to `proxy`.
    pub form: Form,
    /// Captured connections.
    pub proxy: Vec<TcpListener>,
    /// Questions over TCP.
    pub dns_tcp: Vec<TcpListener>,
    /// Questions over UDP.
    pub dns_udp: Vec<UdpSocket>,
    /// Connections to the host's own ports.
    pub host: Vec<TcpListener>,
}
