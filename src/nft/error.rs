//! What can go wrong between a plan and the kernel, and what to do about it.
//!
//! Must not know how any of it was found out.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::plan::PlanError;

/// Why traffic cannot be captured. None of these opens anything: what stood before, stands.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The configuration cannot become a ruleset.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No program to load rules with.
    #[error("the program nft is not installed")]
    NotInstalled,
    /// Rules that older versions cannot read.
    #[error("nft {found} is too old, {needed} is the oldest that knows our rules")]
    TooOld {
        /// What it calls itself.
        found: String,
        /// The oldest that will do.
        needed: &'static str,
    },
    /// `CAP_NET_ADMIN` is missing.
    #[error("this process may not change the packet filter (CAP_NET_ADMIN)")]
    NoPrivilege,
    /// Nothing of that name.
    #[error("there is no interface {name}")]
    NoInterface {
        /// As configured.
        name: String,
    },
    /// Rules match the first name alone; matched by this one, nothing would be captured.
    #[error("{name} is only another name of interface {real}")]
    OtherName {
        /// As configured.
        name: String,
        /// The name that packets carry.
        real: String,
    },
    /// Its packets enter by another interface; captured by this one, they would pass.
    #[error("interface {name} is a port of {controller}, by which its packets enter")]
    Port {
        /// As configured.
        name: String,
        /// The bridge, bond, team or VRF.
        controller: String,
    },
    /// The bridge loses the socket that TPROXY gave a packet.
    #[error("tproxy does not work for bridge {name} while {switches}")]
    TproxyOnBridge {
        /// The bridge.
        name: String,
        /// The switches that are on.
        switches: String,
    },
    /// A translated packet would leave this host, and its source address with it.
    #[error("the resolver {address} is not at an address of this host")]
    ResolverElsewhere {
        /// As configured.
        address: SocketAddr,
    },
    /// `nft` could not be run.
    #[error("nft could not be run")]
    Run(#[source] io::Error),
    /// It neither finished nor failed.
    #[error("nft did not finish within {} s", .0.as_secs())]
    Timeout(Duration),
    /// `nft` said no; nothing was changed.
    #[error("nft refused to {action}: {said}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// Its words.
        said: String,
    },
    /// The kernel does not hold what was loaded. The table is left as it is.
    #[error("table {table} is not what was loaded: {what}")]
    ReadBack {
        /// Our table.
        table: String,
        /// The first difference.
        what: String,
    },
    /// The kernel refused a look at, or a change of, links, rules or routes.
    #[error("the kernel refused to {action}")]
    Netlink {
        /// What was asked.
        action: &'static str,
        /// Its reason.
        #[source]
        source: io::Error,
    },
    /// Somebody else's routes are where ours have to be.
    #[error("routing table {table} is in use by somebody else")]
    RoutingTable {
        /// Its number.
        table: u8,
    },
}

impl NftError {
    /// Returns the next step for the operator, if there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotInstalled => {
                "install the package nftables (apt install nftables, dnf install nftables, apk add nftables)"
                    .to_owned()
            }
            Self::TooOld { needed, .. } => format!("install nftables {needed} or newer"),
            Self::NoPrivilege => "run as root; in a container: --cap-add NET_ADMIN; in a systemd unit: \
                                  AmbientCapabilities=CAP_NET_ADMIN (setcap alone does not reach nft)"
                .to_owned(),
            Self::NoInterface { .. } => "create it first: `ip -brief link` lists what there is, and \
                                         `docker network inspect` which bridge a network has"
                .to_owned(),
            Self::OtherName { real, .. } => format!("write {real:?}"),
            Self::Port { controller, .. } => format!("capture {controller:?} instead"),
            Self::TproxyOnBridge { switches, .. } => format!(
                "set form = \"redirect\" (or \"auto\"), or `sysctl -w {}`, which also ends Docker's own rules between containers of one bridge",
                switches.replace(" = 1", "=0").replace(" and ", " ")
            ),
            Self::ResolverElsewhere { .. } => {
                "let the resolver listen on an address of this host: only so its dnstap tells clients apart"
                    .to_owned()
            }
            Self::RoutingTable { table } => {
                format!(
                    "`ip route show table {table}` and `ip -6 route show table {table}` show whose; free it, or set form = \"redirect\""
                )
            }
            Self::ReadBack { .. } => {
                "another program changes this table; `nft monitor` shows which changes".to_owned()
            }
            Self::Plan(_) | Self::Run(_) | Self::Timeout(_) | Self::Refused { .. } | Self::Netlink { .. } => {
                return None;
            }
        })
    }
}
