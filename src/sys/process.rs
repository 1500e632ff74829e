//! Processes: born into namespaces, waited for, ended.
//!
//! Must not know what they are for.

use std::io;

use rustix::process::{Pid, WaitOptions, WaitStatus};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// The namespaces that a process can be born into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// User, network, mount, process and IPC: needs no privilege.
    WithUser,
    /// The same without the user namespace: needs `CAP_SYS_ADMIN`.
    WithoutUser,
}

/// Which side of a birth this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// The new process.
    Child,
    /// The one that was there before, with the child's id.
    Parent(Pid),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It is stopped, by this signal.
    Stopped(i32),
}

/// Makes a child in new namespaces; it is process 1 there.
///
/// # Errors
/// This process has more than one thread, or the kernel refuses: `EPERM`, `ENOSPC`, `EUSERS`, `ENOSYS`.
pub fn born_into(namespaces: Namespaces) -> io::Result<Birth> {
    let user = match namespaces {
        Namespaces::WithUser => libc::CLONE_NEWUSER,
        Namespaces::WithoutUser => 0,
    };
    birth(user | libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC)
}

/// Moves this process into a network namespace of its own, in a user namespace where it is the same user, with every
/// capability over that network.
///
/// # Errors
/// As [`born_into`].
#[expect(unsafe_code, reason = "unshare could take away what other code relies on")]
pub fn enter_own_network() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
    // SAFETY: no descriptor table or file system context is given up; the kernel refuses a process with threads.
    unsafe { unshare_unsafe(flags) }?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// Makes a child as fork(2) does.
///
/// # Errors
/// This process has more than one thread, or there is no room for another process.
pub fn fork() -> io::Result<Birth> {
    birth(0)
}

#[expect(unsafe_code, reason = "no safe wrapper makes a process")]
fn birth(namespaces: libc::c_int) -> io::Result<Birth> {
    if threads()? != 1 {
        return Err(io::Error::other("a process with threads cannot be copied"));
    }
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: no thread but this one exists, so that the child finds no lock held; with a stack of zero it goes on
    // with a copy of ours; the other arguments belong to flags that are not set.
    let id = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    match i32::try_from(id) {
        Ok(0) => Ok(Birth::Child),
        Ok(id @ 1..) => Pid::from_raw(id).map(Birth::Parent).ok_or_else(|| io::ErrorKind::Other.into()),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Does something in a copy of this process, and waits for it: what it leaves in memory is gone with the copy.
///
/// # Errors
/// Those of the work, by their number; or there is no room for another process.
pub fn in_a_copy(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let child = match fork()? {
        Birth::Parent(child) => child,
        Birth::Child => match work() {
            Ok(()) => leave(0),
            Err(error) => {
                leave(error.raw_os_error().and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX))
            }
        },
    };
    match wait_for(child)? {
        Fate::Exited(0) => Ok(()),
        Fate::Exited(number) if number < i32::from(u8::MAX) => Err(io::Error::from_raw_os_error(number)),
        Fate::Exited(_) | Fate::Killed(_) | Fate::Stopped(_) => {
            Err(io::Error::other("the copy did not come to an end"))
        }
    }
}

/// Counts the threads of this process.
fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Gives this process another name, and takes away the command line that it was started with: for a copy of a process
/// that is not meant by who means the original.
///
/// # Errors
/// There is no `/proc`.
#[expect(unsafe_code, reason = "the command line is memory that only the kernel knows the place of")]
pub fn rename(name: &std::ffi::CStr) -> io::Result<()> {
    rustix::thread::set_name(name)?;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Fields 48 and 49 (proc_pid_stat(5)), counted behind the name in brackets, which is the second.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(45);
    let mut address =
        || fields.next().and_then(|field| field.parse::<usize>().ok()).filter(|address| *address != 0);
    let (Some(start), Some(end)) = (address(), address()) else { return Ok(()) };
    let line = end.checked_sub(start).filter(|length| *length <= LONGEST_COMMAND_LINE).unwrap_or(0);
    let start = std::ptr::with_exposed_provenance_mut::<u8>(start);
    for at in 0..line {
        let byte = name.to_bytes().get(at).copied().unwrap_or(0);
        // SAFETY: the kernel put the arguments there at exec(2), on this process's own stack, and says how far they go;
        // nothing holds a reference into them, as the standard library copies what it reads.
        unsafe { start.add(at).write_volatile(byte) };
    }
    Ok(())
}

/// As long as the kernel lets all arguments be together (a quarter of an unlimited stack).
const LONGEST_COMMAND_LINE: usize = 6 << 20;

/// Whether a process is in the same process group as this one, which may be led from outside the namespace.
pub fn shares_our_group(process: Pid) -> bool {
    let group = |process| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(process)));
    group(process.as_raw_nonzero().get()) == group(0)
}

/// Ends this process at once, without the destructors and exit handlers of what it was copied from.
#[expect(unsafe_code, reason = "no safe wrapper ends a process without its exit handlers")]
pub fn leave(status: u8) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Waits for the end of one child.
///
/// # Errors
/// It is no child of ours, or was waited for already.
pub fn wait_for(child: Pid) -> io::Result<Fate> {
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(fate(status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Becomes the parent of every orphan among this process's descendants.
///
/// # Errors
/// The kernel is older than 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Waits until no child is left.
pub fn wait_for_all() {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Takes one child that ended or stopped, without waiting; `None`: there is none.
pub fn reap() -> Option<(Pid, Fate)> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
    rustix::process::wait(options).ok().flatten().map(|(child, status)| (child, fate(status)))
}

fn fate(status: WaitStatus) -> Fate {
    if let Some(signal) = status.stopping_signal() {
        Fate::Stopped(signal)
    } else if let Some(signal) = status.terminating_signal() {
        Fate::Killed(signal)
    } else {
        Fate::Exited(status.exit_status().unwrap_or(1))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_copied() {
        let held = std::thread::spawn(std::thread::park);
        assert!(fork().is_err());
        held.thread().unpark();
        held.join().unwrap();
    }
}
