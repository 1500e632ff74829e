//! How a container was set up, as far as it bears on what can be promised about it.
//!
//! For a look by people, not for decisions. Must not know what is a finding.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, MountPoint};

use super::containers::plain_name;
use super::labels::{bounded, short};

/// A running container and its posture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// 64 hex digits.
    pub id: Arc<str>,
    /// Without the slash in front.
    pub name: Arc<str>,
    /// The image, as it was asked for.
    pub image: Arc<str>,
    /// Labels, by key, as of [`crate::facts::Container`].
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// The names of the networks that it is on.
    pub networks: Vec<String>,
    /// The first process, by its number on this host.
    pub pid: Option<u32>,
    /// How it was set up.
    pub posture: Posture,
}

/// What a container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Posture {
    /// `--privileged`: may do everything.
    pub privileged: bool,
    /// `--cap-add`, in capitals and without `CAP_`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, likewise.
    pub cap_drop: Vec<String>,
    /// `host`, `none`, `container:ID`, or a network's name.
    pub network_mode: String,
    /// `--pid`.
    pub pid_mode: String,
    /// Where inside it a Docker socket of this host shows, or a folder with it.
    pub docker_sockets: Vec<String>,
    /// `--dns`; empty: what the daemon or the host has.
    pub dns: Vec<String>,
    /// `--user`; empty: the image's, often root.
    pub user: String,
}

impl Inspected {
    /// Reads what Docker says; `None`: it cannot be read, or runs no more. `socket` is the daemon's.
    pub(super) fn read(inspected: ContainerInspectResponse, socket: &Path) -> Option<Self> {
        let state = inspected.state.filter(|state| state.running == Some(true))?;
        let host = inspected.host_config.unwrap_or_default();
        let config = inspected.config.unwrap_or_default();
        let settings = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let mut networks: Vec<String> = settings.into_keys().collect();
        networks.sort_unstable();
        let sockets = [Some(socket.to_owned()), socket.canonicalize().ok(), Some(PathBuf::from(DEFAULT))];
        let sockets: Vec<PathBuf> = sockets.into_iter().flatten().map(|path| plain(&path)).collect();
        let mounts = inspected.mounts.unwrap_or_default();
        Some(Self {
            id: inspected.id?.into(),
            name: plain_name(inspected.name.as_deref()?)?.into(),
            image: short(config.image.as_deref().unwrap_or_default()).into(),
            labels: bounded(config.labels.unwrap_or_default()),
            networks,
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0),
            posture: Posture {
                privileged: host.privileged.unwrap_or(false),
                cap_add: capabilities(host.cap_add),
                cap_drop: capabilities(host.cap_drop),
                network_mode: host.network_mode.unwrap_or_default(),
                pid_mode: host.pid_mode.unwrap_or_default(),
                docker_sockets: mounts.iter().filter_map(|mount| shows(mount, &sockets)).collect(),
                dns: host.dns.unwrap_or_default(),
                user: config.user.unwrap_or_default(),
            },
        })
    }
}

impl Posture {
    /// Whether processes in it may have a capability, such as `NET_RAW`. With `user` set to somebody else than root they
    /// get it by a set-uid program only.
    pub fn may(&self, capability: &str) -> bool {
        let has = |list: &[String], what: &str| list.iter().any(|known| known == what);
        let dropped = has(&self.cap_drop, capability);
        if self.privileged {
            true
        } else if has(&self.cap_add, ALL) {
            !dropped
        } else if has(&self.cap_drop, ALL) {
            has(&self.cap_add, capability)
        } else {
            has(&self.cap_add, capability) || DEFAULTS.contains(&capability) && !dropped
        }
    }
}

fn capabilities(list: Option<Vec<String>>) -> Vec<String> {
    let plain = |name: String| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
    };
    list.unwrap_or_default().into_iter().map(plain).collect()
}

/// Where the mount shows one of the sockets, if it does.
fn shows(mount: &MountPoint, sockets: &[PathBuf]) -> Option<String> {
    let source = plain(Path::new(mount.source.as_deref().filter(|source| source.starts_with('/'))?));
    let destination = mount.destination.clone().unwrap_or_default();
    sockets.iter().any(|socket| socket.starts_with(&source)).then_some(destination)
}

/// `/var/run` is `/run`, wherever there is one.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest))
}

const ALL: &str = "ALL";
const DEFAULT: &str = "/run/docker.sock";
/// What Docker gives without being asked (moby, `oci/caps/defaults.go`).
const DEFAULTS: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(host: Value, mounts: Value) -> Inspected {
        let told = json!({"Id": "ab", "Name": "/web", "State": {"Running": true, "Pid": 7}, "Config": {"Image": "app"},
            "HostConfig": host, "Mounts": mounts, "NetworkSettings": {"Networks": {"b": {}, "a": {}}}});
        Inspected::read(serde_json::from_value(told).unwrap(), Path::new("/var/run/docker.sock")).unwrap()
    }

    #[test]
    fn what_a_container_may_do_is_counted_as_docker_counts_it() {
        for (add, drop, privileged, raw, admin) in [
            (json!(null), json!(null), false, true, false),
            (json!(["net_admin"]), json!(null), false, true, true),
            (json!(["CAP_NET_ADMIN"]), json!(["CAP_NET_RAW"]), false, false, true),
            (json!(null), json!(["all"]), false, false, false),
            (json!(["NET_RAW"]), json!(["ALL"]), false, true, false),
            (json!(["ALL"]), json!(["NET_RAW"]), false, false, true),
            (json!(["NET_RAW"]), json!(["NET_RAW"]), false, true, false),
            (json!(null), json!(["ALL"]), true, true, true),
        ] {
            let posture =
                read(json!({"CapAdd": add, "CapDrop": drop, "Privileged": privileged}), json!([])).posture;
            assert_eq!((posture.may("NET_RAW"), posture.may("NET_ADMIN")), (raw, admin), "{posture:?}");
        }
    }

    #[test]
    fn a_docker_socket_is_seen_through_every_folder_above_it() {
        for (source, shows) in [
            ("/var/run/docker.sock", true),
            ("/run/docker.sock", true),
            ("/var/run", true),
            ("/run/", true),
            ("/", true),
            ("/run/docker", false),
            ("/run/docker.sock.d", false),
            ("/var/lib/app", false),
            ("", false),
        ] {
            let mounts = json!([{"Type": "bind", "Source": source, "Destination": "/there"}]);
            let found = read(json!({}), mounts);
            assert_eq!(found.posture.docker_sockets == ["/there"], shows, "{source}");
            assert_eq!(found.networks, ["a", "b"]);
        }
    }
}
