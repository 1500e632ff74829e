//! Signals as things to read, and as ways to end.
//!
//! Must not know what they mean to whom.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use super::descriptors;

/// All signals of this thread, blocked, and readable one by one.
///
/// Threads that are started later inherit the block. Signals that were ignored stay ignored.
#[derive(Debug)]
pub struct Inbox {
    descriptor: SignalFd,
}

impl Inbox {
    /// Blocks every signal that can be blocked, and opens the inbox.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open() -> io::Result<Self> {
        let all = SigSet::all();
        all.thread_set_mask()?;
        Ok(Self { descriptor: SignalFd::with_flags(&all, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)? })
    }

    /// Takes the next signal's number; `None`: there is none.
    ///
    /// # Errors
    /// Those of the system.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let told = self.descriptor.read_signal()?;
        Ok(told.and_then(|told| i32::try_from(told.ssi_signo).ok()))
    }
}

impl Inbox {
    /// Lets a task wait until there is a signal. Must be called inside a runtime.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn ear(&self) -> io::Result<AsyncFd<OwnedFd>> {
        descriptors::readable(self.as_fd().try_clone_to_owned()?)
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Lets every signal through to this thread, and to the program that it becomes: a mask outlives exec(2).
///
/// # Errors
/// Those of the system.
pub fn unblock_all() -> io::Result<()> {
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Whether a signal is one to hand on: not a fault of our own, and not what our own children or timers send.
pub fn is_message(number: i32) -> bool {
    !matches!(
        number,
        libc::SIGCHLD
            | libc::SIGPIPE
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGTSTP
            | libc::SIGCONT
            | libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGSYS
    )
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// This process alone.
    Self_,
    /// Every process of its group, this one included.
    Group,
    /// Every process of the group that this process leads or not.
    GroupOf(i32),
    /// One process.
    Process(i32),
}

/// Sends a signal.
///
/// # Errors
/// Nobody is there, or it may not be sent.
#[expect(unsafe_code, reason = "real-time signals have no name in the safe wrapper")]
pub fn send(number: i32, to: To) -> io::Result<()> {
    let pid = match to {
        To::Self_ => Pid::this().as_raw(),
        To::Group => 0,
        To::GroupOf(group) => group.checked_neg().ok_or(io::ErrorKind::InvalidInput)?,
        To::Process(process) => process,
    };
    // SAFETY: kill(2) takes any two numbers.
    if unsafe { libc::kill(pid, number) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a signal do to this process what it does by default. Returns if that is nothing, or once a stopped process
/// goes on; every signal is blocked again then.
pub fn suffer(number: i32, to: To) {
    let Ok(named) = Signal::try_from(number) else { return };
    if named != Signal::SIGKILL && named != Signal::SIGSTOP {
        let _ = default(named);
    }
    if send(number, to).is_err() {
        return;
    }
    let mut set = SigSet::empty();
    set.add(named);
    let _ = signal::pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
    let _ = signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None);
}

#[expect(unsafe_code, reason = "a disposition is set by a raw call")]
fn default(signal: Signal) -> nix::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { signal::sigaction(signal, &action) }.map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_instead_of_suffered() {
        std::thread::spawn(|| {
            let inbox = Inbox::open().unwrap();
            assert_eq!(inbox.next().unwrap(), None);
            signal::raise(Signal::SIGUSR1).unwrap();
            assert_eq!(inbox.next().unwrap(), Some(libc::SIGUSR1));
            assert_eq!(inbox.next().unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
