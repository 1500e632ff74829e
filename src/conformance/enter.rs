//! From this process to one that is alone: in mount, process and network namespaces of its own, whose end is the end
//! of everything that was started in them.
//!
//! Must not know what is run there.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Error;

const REST: [&str; 6] = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
const AS_ROOT: [&str; 2] = ["--user", "--map-root-user"];

/// Becomes this program there, with these arguments. Root keeps its users; anybody else is root of a user namespace,
/// where there is no other user.
///
/// # Errors
/// It returns only if there is no `unshare`, or the kernel refuses namespaces.
pub fn alone(arguments: &[OsString]) -> Result<Infallible, Error> {
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &AS_ROOT };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(user).args(REST);
        command
    };
    let probe = unshare().arg("true").output().map_err(Error::Unshare)?;
    if !probe.status.success() {
        let said = String::from_utf8_lossy(&probe.stderr).trim().to_owned();
        return Err(Error::Namespaces(io::Error::new(io::ErrorKind::PermissionDenied, said)));
    }
    let program = std::env::current_exe().map_err(Error::Program)?;
    Err(Error::Unshare(unshare().arg(program).args(arguments).exec()))
}
