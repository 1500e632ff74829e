//! What can be seen of a machine, as far as it could be seen.
//!
//! Nouns only: must not know how they are looked at nor what follows from them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::docker::Posture;
use crate::facts::Transport;
use crate::nft::{BaseChain, Difference, Form, NftVersion, Steering};
use crate::sys::host::{BridgeFiltering, Link};
use crate::sys::interfaces::Interface;
use crate::sys::listeners::Holder;

/// Something that was seen, or why it was not.
pub type Seen<T> = Result<T, String>;

/// All of it.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who looks.
    pub looker: Looker,
    /// Why it cannot be told what is captured, and what to do about it: a network is missing, say.
    pub obstacle: Option<(String, String)>,
    /// The `nft` that would be run; none: not installed.
    pub nft: Seen<Option<NftVersion>>,
    /// Interfaces, ours and others.
    pub interfaces: Seen<Vec<Interface>>,
    /// Each configured interface, and what there is under that name.
    pub links: Seen<Vec<(String, Option<Link>)>>,
    /// Whether bridged frames meet the IP hooks.
    pub bridge_filtering: BridgeFiltering,
    /// Whether packets are routed that enter by each configured interface.
    pub forwarding: Vec<Forwarding>,
    /// Our table, as compared with the configuration's.
    pub table: Seen<Table>,
    /// Our policy routing.
    pub steering: Seen<Steering>,
    /// The base chains of all tables.
    pub chains: Seen<Vec<BaseChain>>,
    /// Whether rules of iptables-legacy are in force.
    pub legacy_tables: Seen<bool>,
    /// Sockets that wait for strangers.
    pub services: Seen<Vec<Service>>,
    /// The name servers of this host (resolv.conf(5)).
    pub name_servers: Seen<Vec<IpAddr>>,
    /// How programs of this host look hosts up.
    pub lookups: Lookups,
    /// The clock.
    pub clock: Clock,
    /// What there is enough of.
    pub limits: Limits,
    /// What `exec` needs.
    pub sandbox: SandboxFacts,
    /// Files and folders that the configuration names.
    pub files: Files,
    /// Containers of this host.
    pub containers: Containers,
}

/// Our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// It is the configuration's, in this form.
    InForce(Form),
    /// It is not there, or another.
    Not(Difference),
}

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub struct Looker {
    /// Whether it is root, at least of this user namespace.
    pub root: bool,
    /// Whether it holds `CAP_NET_ADMIN`, and may hand it on.
    pub net_admin: bool,
}

/// Whether packets that enter by an interface are routed on.
#[derive(Debug, Clone)]
pub struct Forwarding {
    /// The interface.
    pub interface: String,
    /// IPv4.
    pub ipv4: Seen<bool>,
    /// IPv6.
    pub ipv6: Seen<bool>,
}

/// A socket that waits for strangers.
#[derive(Debug, Clone)]
pub struct Service {
    /// What is spoken.
    pub transport: Transport,
    /// Where it waits.
    pub address: SocketAddr,
    /// A process that holds it; none: not to be seen, or the kernel's own.
    pub holder: Option<Holder>,
}

/// How programs of this host look hosts up.
#[derive(Debug, Clone)]
pub struct Lookups {
    /// What the line `hosts:` of nsswitch.conf(5) says; empty: there is none.
    pub line: Seen<String>,
    /// Whose sockets are there.
    pub services: Vec<LookupService>,
}

/// A service that looks names up for programs, by a socket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupService {
    /// nss-resolve(8).
    Resolved,
    /// nscd(8).
    Nscd,
    /// sssd(8).
    Sssd,
}

impl LookupService {
    /// Every service.
    pub const ALL: [Self; 3] = [Self::Resolved, Self::Nscd, Self::Sssd];

    /// Returns the socket's path.
    pub const fn socket(self) -> &'static str {
        match self {
            Self::Resolved => "/run/systemd/resolve/io.systemd.Resolve",
            Self::Nscd => "/run/nscd/socket",
            Self::Sssd => "/var/lib/sss/pipes/nss",
        }
    }
}

/// The wall clock.
#[derive(Debug, Clone)]
pub struct Clock {
    /// The time.
    pub now: SystemTime,
    /// When this program's file was made.
    pub program_made: Option<SystemTime>,
    /// Whether it follows a reference.
    pub synchronised: Seen<bool>,
}

/// What there is enough of.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Descriptors that the gate may hold; none: any number.
    pub descriptors: Seen<Option<u64>>,
    /// Whether that is the running gate's limit; else it is the looker's.
    pub of_gate: bool,
    /// Connections that the kernel tracks at most; none: it tracks none.
    pub tracked: Seen<Option<u64>>,
    /// First and last of the ports that outgoing connections take.
    pub local_ports: Seen<Option<(u16, u16)>>,
    /// Those of them that they do not take, as written in the switch.
    pub reserved_ports: String,
}

/// What `exec` needs.
#[derive(Debug, Clone)]
pub struct SandboxFacts {
    /// Whether namespaces can be made; else what stands in the way, and what to do about it.
    pub namespaces: Result<(), (String, String)>,
    /// Whether the kernel has filters of system calls.
    pub call_filters: bool,
    /// The version of Landlock; none: it is not there.
    pub landlock: Option<u32>,
}

/// Files and folders that the configuration names.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// The configuration, and who besides its owner may write it: permission bits.
    pub configuration: Option<(PathBuf, Seen<u32>)>,
    /// Audit files.
    pub audit: Vec<(PathBuf, Seen<Place>)>,
    /// dnstap sockets.
    pub taps: Vec<(PathBuf, Seen<Place>)>,
    /// AppArmor profiles in force of resolvers that send dnstap: the file for local additions, and all of the text.
    pub profiles: Vec<(PathBuf, String)>,
}

/// The folder that a file is to be in.
#[derive(Debug, Clone)]
pub enum Place {
    /// There is none.
    NoFolder,
    /// It is there.
    Folder {
        /// Whether the looker may write the file, or make it.
        writable: bool,
        /// Bytes that are left on its disk.
        free: u64,
        /// Whether another file can be made on it.
        room_for_files: bool,
    },
}

/// Containers of this host.
#[derive(Debug, Clone)]
pub enum Containers {
    /// There is no Docker socket.
    NoDocker,
    /// Docker does not answer.
    Unreachable {
        /// Why.
        why: String,
        /// What to do about it.
        fix: String,
    },
    /// Those that run.
    Running(Vec<ContainerFacts>),
}

/// A container, as far as it can get around a gate.
#[derive(Debug, Clone, Default)]
pub struct ContainerFacts {
    /// Its whole id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// What it may do.
    pub posture: Posture,
    /// The networks that it is connected to.
    pub networks: Vec<NetworkFacts>,
}

/// A network that a container is connected to.
#[derive(Debug, Clone, Default)]
pub struct NetworkFacts {
    /// Its name.
    pub name: String,
    /// The interface on this host; none: another driver, or not known.
    pub bridge: Option<String>,
    /// Whether Docker keeps it from the outside.
    pub internal: bool,
}
