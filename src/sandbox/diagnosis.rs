//! Why this machine gives no user namespaces, and what to do about it.
//!
//! Facts in, words out. Must not know what the namespaces are for.

use std::fmt;
use std::io;
use std::path::Path;

use socket2::{Domain, Protocol, Type};

use crate::sys::process;

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// `user.max_user_namespaces` is zero.
    NoneAllowed,
    /// The limit of one of the namespace kinds is reached.
    LimitReached,
    /// Debian's and Arch's `kernel.unprivileged_userns_clone` is zero.
    NotForUsers,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns` is on.
    AppArmor,
    /// A seccomp filter, as containers have it.
    Filtered,
    /// The process is in a chroot(2).
    Chroot,
    /// The kernel has no user namespaces.
    NotBuilt,
    /// Something else.
    Unknown,
}

/// An obstacle, and the kernel's own word.
#[derive(Debug)]
pub struct Diagnosis {
    /// What stands in the way.
    pub obstacle: Obstacle,
    /// What the kernel said.
    pub error: io::Error,
}

/// What the machine says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// `user.max_user_namespaces`.
    pub(super) most: Option<String>,
    /// `kernel.unprivileged_userns_clone`.
    pub(super) for_users: Option<String>,
    /// `kernel.apparmor_restrict_unprivileged_userns`.
    pub(super) apparmor: Option<String>,
    /// Whether a seccomp filter is in force.
    pub(super) filtered: bool,
    /// Whether the root folder is not the root of the mount namespace.
    pub(super) chroot: bool,
}

impl Facts {
    /// Reads them.
    pub(super) fn read() -> Self {
        let setting = |path: &str| {
            let text = std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
            Some(text.trim().to_owned())
        };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            most: setting("user/max_user_namespaces"),
            for_users: setting("kernel/unprivileged_userns_clone"),
            apparmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
            filtered: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
            // In a chroot the root is no mount point, or one that cannot be seen (proc_pid_mountinfo(5)).
            chroot: !mounts.lines().any(|line| line.split_whitespace().nth(4) == Some("/")),
        }
    }
}

impl Diagnosis {
    /// Finds out what stands in the way.
    pub(super) fn of(error: io::Error, facts: &Facts) -> Self {
        let is = |fact: &Option<String>, value: &str| fact.as_deref() == Some(value);
        let obstacle = match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EINVAL) => Obstacle::NotBuilt,
            _ if is(&facts.most, "0") => Obstacle::NoneAllowed,
            Some(libc::ENOSPC | libc::EUSERS) => Obstacle::LimitReached,
            _ if is(&facts.for_users, "0") => Obstacle::NotForUsers,
            _ if is(&facts.apparmor, "1") => Obstacle::AppArmor,
            _ if facts.filtered => Obstacle::Filtered,
            _ if facts.chroot => Obstacle::Chroot,
            _ => Obstacle::Unknown,
        };
        Self { obstacle, error }
    }

    /// Finds out what stands in the way of namespaces that were refused with this error.
    pub fn of_refusal(error: &io::Error) -> Self {
        let same = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        Self::of(same, &Facts::read())
    }

    /// Tries it: a copy of this process makes a user and a network namespace of its own, and uses a right over it.
    /// `Ok`: that works here.
    ///
    /// # Errors
    /// What stands in the way. A process with threads cannot be copied, and is told `Obstacle::Unknown`.
    pub fn of_this_machine() -> Result<(), Self> {
        let tried = process::in_a_copy(|| {
            process::enter_own_network()?;
            // AppArmor lets the namespace be made, and takes the rights over it away.
            socket2::Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).map(drop)
        });
        tried.map_err(|error| Self::of_refusal(&error))
    }

    /// Returns the next step.
    pub fn hint(&self) -> String {
        match self.obstacle {
            Obstacle::NoneAllowed => {
                "sysctl -w user.max_user_namespaces=15000 (as root; to keep it: a line in \
                                      /etc/sysctl.d/namegate.conf)"
                    .to_owned()
            }
            Obstacle::LimitReached => {
                "sysctl user lists the limits of this user; raise user.max_user_namespaces or \
                 user.max_net_namespaces as root, or end sandboxes that are open"
                    .to_owned()
            }
            Obstacle::NotForUsers => "sysctl -w kernel.unprivileged_userns_clone=1 (as root; to keep it: a \
                                      line in /etc/sysctl.d/namegate.conf)"
                .to_owned(),
            Obstacle::AppArmor => apparmor_profile(),
            Obstacle::Filtered => "nothing to do if this is a sandbox already; in a container: run it with --security-opt seccomp=unconfined, or with a \
                                   seccomp profile that allows clone, unshare and mount for namespaces"
                .to_owned(),
            Obstacle::Chroot => "leave the chroot, or enter it with pivot_root (as container runtimes and \
                                 systemd-nspawn do)"
                .to_owned(),
            Obstacle::NotBuilt => "a kernel with CONFIG_USER_NS, CONFIG_NET_NS and CONFIG_PID_NS".to_owned(),
            Obstacle::Unknown => {
                "inside a chroot it cannot be done; elsewhere `unshare --user --net true` shows whether it works for any program; a security module may \
                 say more in the kernel log"
                    .to_owned()
            }
        }
    }
}

/// The profile that lets this program alone make user namespaces, at the place where it is.
fn apparmor_profile() -> String {
    let program =
        std::env::current_exe().map_or("/usr/local/bin/namegate".into(), |path| path.display().to_string());
    format!(
        "as root, write this to /etc/apparmor.d/namegate and run `apparmor_parser -r /etc/apparmor.d/namegate`:\n  \
         abi <abi/4.0>,\n  profile namegate {program} flags=(unconfined) {{ userns, }}"
    )
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.obstacle {
            Obstacle::NoneAllowed => "this machine allows no user namespaces (user.max_user_namespaces is 0)",
            Obstacle::LimitReached => "the limit of namespaces is reached",
            Obstacle::NotForUsers => {
                "only root may make user namespaces here (kernel.unprivileged_userns_clone is 0)"
            }
            Obstacle::AppArmor => {
                "AppArmor restricts user namespaces here (kernel.apparmor_restrict_unprivileged_userns is 1)"
            }
            Obstacle::Filtered => "a seccomp filter refuses new namespaces, as container runtimes set it",
            Obstacle::Chroot => "user namespaces cannot be made inside a chroot",
            Obstacle::NotBuilt => "this kernel has no user namespaces",
            Obstacle::Unknown => "new namespaces are refused",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn found(number: i32, facts: &Facts) -> Diagnosis {
        Diagnosis::of(io::Error::from_raw_os_error(number), facts)
    }

    #[test]
    fn each_way_to_have_no_namespaces_is_told_from_the_others_with_its_fix() {
        let clear = Facts { most: Some("95000".into()), ..Facts::default() };
        for (number, facts, obstacle, fix) in [
            (
                libc::ENOSPC,
                Facts { most: Some("0".into()), ..clear.clone() },
                Obstacle::NoneAllowed,
                "max_user",
            ),
            (libc::ENOSPC, clear.clone(), Obstacle::LimitReached, "limits"),
            (
                libc::EPERM,
                Facts { for_users: Some("0".into()), ..clear.clone() },
                Obstacle::NotForUsers,
                "clone=1",
            ),
            (
                libc::EACCES,
                Facts { apparmor: Some("1".into()), ..clear.clone() },
                Obstacle::AppArmor,
                "userns,",
            ),
            (
                libc::EPERM,
                Facts { filtered: true, ..clear.clone() },
                Obstacle::Filtered,
                "seccomp=unconfined",
            ),
            (libc::EPERM, Facts { chroot: true, ..clear.clone() }, Obstacle::Chroot, "pivot_root"),
            (libc::EINVAL, clear.clone(), Obstacle::NotBuilt, "CONFIG_USER_NS"),
            (libc::EPERM, clear, Obstacle::Unknown, "unshare"),
        ] {
            let diagnosis = found(number, &facts);
            assert_eq!(diagnosis.obstacle, obstacle);
            assert!(diagnosis.hint().contains(fix), "{}", diagnosis.hint());
        }
    }
}
