//! The controlling terminal: whose turn it is there.
//!
//! Must not know what is shown on it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::process::{Pid, getpgrp};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The terminal that this process's session is controlled by.
#[derive(Debug)]
pub struct Terminal {
    device: File,
}

impl Terminal {
    /// Opens it; `None`: the session has none.
    pub fn of_session() -> Option<Self> {
        File::options().read(true).write(true).open("/dev/tty").ok().map(|device| Self { device })
    }

    /// Whether this process's group is the one that reads from the terminal and hears its keys.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.device).is_ok_and(|group| group == getpgrp())
    }

    /// Gives the terminal to a process group of the session, whoever is in front.
    ///
    /// # Errors
    /// There is no such group, or the terminal is gone.
    pub fn give_to(&self, group: Pid) -> io::Result<()> {
        // A group behind would be stopped by it.
        let mut set = SigSet::empty();
        set.add(Signal::SIGTTOU);
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let given = tcsetpgrp(&self.device, group);
        before.thread_set_mask()?;
        Ok(given?)
    }

    /// Whether the group in front has a process left.
    pub fn front_is_there(&self) -> bool {
        tcgetpgrp(&self.device).is_ok_and(|group| {
            rustix::process::test_kill_process_group(group) != Err(rustix::io::Errno::SRCH)
        })
    }

    /// Takes the terminal for this process's own group.
    ///
    /// # Errors
    /// As [`Terminal::give_to`].
    pub fn take(&self) -> io::Result<()> {
        self.give_to(getpgrp())
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// Whether standard input, output and error are all terminals: nobody else of the group seems to need them.
pub fn is_every_stream() -> bool {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
        .into_iter()
        .all(rustix::termios::isatty)
}

/// Returns the path of the first terminal among standard input, output and error.
pub fn of_streams() -> Option<PathBuf> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    streams.into_iter().zip(0..).find_map(|(stream, number)| {
        rustix::termios::isatty(stream).then(|| std::fs::read_link(format!("/proc/self/fd/{number}")).ok())?
    })
}
