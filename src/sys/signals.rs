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
/// Threads that are started later inherit the block. Signals that were ignored stay ignored, but for `SIGCHLD`: who
/// ignores it cannot hear how a child ended.
#[derive(Debug)]
pub struct Inbox {
    descriptor: SignalFd,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// Which.
    pub number: i32,
    /// Who sent it.
    pub sender: Sender,
}

/// Who sends signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The kernel: a key of the terminal, its end, its size.
    Kernel,
    /// A process of this process namespace.
    Process,
    /// A process outside of it.
    Outside,
}

impl Inbox {
    /// Blocks every signal that can be blocked, and opens the inbox.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open() -> io::Result<Self> {
        default(Signal::SIGCHLD)?;
        let all = SigSet::all();
        all.thread_set_mask()?;
        Ok(Self { descriptor: SignalFd::with_flags(&all, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)? })
    }

    /// Takes the next signal; `None`: there is none.
    ///
    /// # Errors
    /// Those of the system.
    pub fn next(&self) -> io::Result<Option<Arrived>> {
        let Some(told) = self.descriptor.read_signal()? else { return Ok(None) };
        let sender = match told.ssi_code {
            SI_KERNEL => Sender::Kernel,
            _ if told.ssi_pid == 0 => Sender::Outside,
            _ => Sender::Process,
        };
        Ok(i32::try_from(told.ssi_signo).ok().map(|number| Arrived { number, sender }))
    }

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

/// As the kernel marks what it sends itself (sigaction(2)).
const SI_KERNEL: i32 = 0x80;

/// Lets every signal through to this thread, and to the program that it becomes: a mask outlives exec(2), and which
/// signals somebody blocked before is not remembered.
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
/// goes on; every signal is blocked again then. Says whether it was stopped.
///
/// A stop by the terminal does nothing in a group that no shell looks after (an orphaned one).
pub fn suffer(number: i32, to: To) -> bool {
    let Ok(named) = Signal::try_from(number) else { return false };
    if named != Signal::SIGKILL && named != Signal::SIGSTOP {
        let _ = default(named);
    }
    if send(number, to).is_err() {
        return false;
    }
    let mut set = SigSet::empty();
    set.add(named);
    let _ = signal::pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&set), None);
    let _ = signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None);
    // Whatever stopped it, this let it go on, and waits in the inbox.
    is_waiting(libc::SIGCONT)
}

/// Whether a blocked signal waits for this process.
#[expect(unsafe_code, reason = "the safe wrapper does not have it")]
fn is_waiting(number: i32) -> bool {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigpending(2) fills the set, or fails and leaves it empty; a zeroed set is an empty one.
    unsafe { libc::sigpending(set.as_mut_ptr()) == 0 && libc::sigismember(set.as_ptr(), number) == 1 }
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
            let arrived = Arrived { number: libc::SIGUSR1, sender: Sender::Process };
            assert_eq!(inbox.next().unwrap(), Some(arrived));
            assert_eq!(inbox.next().unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
