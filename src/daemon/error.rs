//! Why the gate cannot run, with the exit code and the next step.
//!
//! Must not know how it is printed.

use std::net::IpAddr;

use crate::admin::{AdminError, TokenError};
use crate::dns::StartError;
use crate::dns::tap::TapError;
use crate::docker::DockerError;
use crate::nft::{NftError, PlanError};
use crate::record::LogError;
use crate::sandbox;
use crate::sys::cgroup::CgroupError;
use crate::sys::socket::ListenError;

use super::GatewayError;

/// Why the gate cannot start or stop as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot become a ruleset.
    #[error("this configuration cannot be captured")]
    Plan(#[from] PlanError),
    /// The kernel, `nft` or the machine refuses.
    #[error("traffic cannot be captured")]
    Capture(#[from] NftError),
    /// This host cannot be the default gateway that it is to be.
    #[error("the clients of a network cannot be served")]
    Gateway(#[from] GatewayError),
    /// A port is taken or not permitted.
    #[error("a listener cannot be opened")]
    Listen(#[from] ListenError),
    /// The audit log cannot be opened.
    #[error("nothing can be recorded")]
    Log(#[from] LogError),
    /// An upstream cannot be used.
    #[error("the DNS forwarder cannot start")]
    Upstream(#[from] StartError),
    /// The dnstap tap cannot be opened.
    #[error("the dnstap tap cannot start")]
    Tap(#[from] TapError),
    /// Docker cannot be asked.
    #[error("containers and networks are not known")]
    Docker(#[from] DockerError),
    /// A network that is to be captured cannot be.
    #[error("Docker network {name} cannot be captured: {why}")]
    Network {
        /// As configured.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A control group cannot be captured.
    #[error("processes of this host cannot be captured")]
    Cgroup(#[from] CgroupError),
    /// A user that is to be captured is not there.
    #[error("there is no user {name} on this machine")]
    NoUser {
        /// As configured.
        name: String,
    },
    /// The system's resolver would be asked by way of the gate.
    #[error("the system's resolver {server} is captured too: its questions would come back to the gate")]
    ResolverLoop {
        /// Its address.
        server: IpAddr,
    },
    /// The admin socket cannot be opened.
    #[error("the admin socket cannot be opened")]
    Admin(#[from] AdminError),
    /// There is no sandbox, or no command in it.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// Signals, sockets or netlink.
    #[error("the system refused to {action}")]
    System {
        /// What was asked.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Returns the exit code: 2 for the configuration, 3 for the system.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Plan(_) => 2,
            Self::Capture(NftError::Plan(_)) => 2,
            Self::Admin(AdminError::Token(TokenError::Unfit { .. })) => 2,
            Self::Sandbox(error) => error.exit_code(),
            Self::Capture(_)
            | Self::Gateway(_)
            | Self::Listen(_)
            | Self::Log(_)
            | Self::Upstream(_)
            | Self::Tap(_)
            | Self::Docker(_)
            | Self::Network { .. }
            | Self::Cgroup(_)
            | Self::NoUser { .. }
            | Self::ResolverLoop { .. }
            | Self::Admin(_)
            | Self::System { .. } => 3,
        }
    }

    /// Returns the next step, if there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Capture(error) => error.hint(),
            Self::Gateway(error) => Some(error.hint()),
            Self::Plan(PlanError::OwnUser { .. }) => Some(
                "run the gate as a user of its own, with the capabilities NET_ADMIN and NET_BIND_SERVICE"
                    .to_owned(),
            ),
            Self::NoUser { name } => Some(format!("`useradd --system {name}`, or write the number")),
            Self::ResolverLoop { .. } => {
                Some("name the resolver to ask: [dns] upstreams = [\"udp://192.0.2.53\"]".to_owned())
            }
            Self::Cgroup(error) => group_hint(error),
            Self::Sandbox(error) => error.hint(),
            Self::Docker(error) => error.hint(),
            Self::Network { name, .. } => Some(format!(
                "`docker network ls` lists what there is; `docker network create {name}` makes one"
            )),
            Self::Listen(error) if error.source.kind() == std::io::ErrorKind::AddrInUse => {
                let port = error.address.port();
                Some(format!(
                    "`ss -lntup sport = :{port}` shows who has it; another port: `proxy.port`, `dns.port`"
                ))
            }
            Self::Listen(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("run as root, or with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE".to_owned())
            }
            Self::Log(LogError::Open { path, source }) if source.kind() == std::io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(path);
                Some(format!("mkdir -p {}", folder.display()))
            }
            Self::Admin(AdminError::Token(_)) => {
                Some("`head -c 32 /dev/urandom | base64 > FILE; chmod 600 FILE` makes a token".to_owned())
            }
            Self::Plan(_)
            | Self::Listen(_)
            | Self::Log(_)
            | Self::Upstream(_)
            | Self::Tap(_)
            | Self::Admin(_)
            | Self::System { .. } => None,
        }
    }
}

fn group_hint(error: &CgroupError) -> Option<String> {
    let hint = match error {
        CgroupError::NoHierarchy => {
            "mount it (`mount -t cgroup2 none /sys/fs/cgroup/unified`); `ip netns exec` hides it, `nsenter --net` does not"
        }
        CgroupError::Other { .. } => {
            "the path of its folder; `systemctl show -p ControlGroup app.service` says that of a service"
        }
        CgroupError::Own { .. } => "run the gate in a group of its own, beside the captured one",
        CgroupError::Path { .. } => "a path below the root: \"system.slice/app.service\"",
        CgroupError::Watch(_) => return None,
    };
    Some(hint.to_owned())
}
