//! The keeper's second half: process 1 of the sandbox. Runs the command, reaps orphans, hands signals on, and tells
//! how the command fares. When it ends, the kernel ends everything inside.
//!
//! Must not know what is outside but the supervisor's voice.

use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::facts::Tick;
use crate::sys::clock;
use crate::sys::descriptors::{self, Stream};
use crate::sys::pass::Line;
use crate::sys::process::{self, Birth, Fate};
use crate::sys::signals::{self, Inbox, To};
use crate::sys::terminal::Terminal;

use super::inside::{hear, retire, say};
use super::message::{Ended, FromKeeper, FromSupervisor};
use super::{Spec, command};

/// How long the command may go on, cut off and told to end, when the supervisor is gone.
const LAST_TIME: Duration = Duration::from_secs(10);

struct Keeper<'a> {
    spec: &'a Spec,
    line: &'a Line,
    terminal: Option<&'a Terminal>,
    command: Pid,
    /// When the supervisor was found to be gone: some time later all ends.
    alone_since: Option<Tick>,
}

/// Runs the command and stays until it ends.
pub(super) fn keep(spec: &Spec, line: &Line, terminal: Option<&Terminal>, in_front: bool) -> ! {
    let failed = |what: &str, why: String| -> ! {
        say(line, &FromKeeper::Failed { what: what.to_owned(), why });
        process::leave(1)
    };
    let inbox = match Inbox::open() {
        Ok(inbox) => inbox,
        Err(error) => failed("read signals", error.to_string()),
    };
    let (report, reporter) = match std::io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => failed("make a pipe", error.to_string()),
    };
    if let Err(error) = retire() {
        failed("hide the keeper", error.to_string());
    }
    let command = match process::fork() {
        Ok(Birth::Child) => command::become_it(spec, terminal.filter(|_| in_front), reporter),
        Ok(Birth::Parent(child)) => child,
        Err(error) => failed("start the command", error.to_string()),
    };
    drop(reporter);
    // Whoever reads what the command writes sees the end when the command closes it.
    let _ = descriptors::silence(Stream::Input);
    let _ = descriptors::silence(Stream::Output);
    if let Some(message) = first_words(report) {
        say(line, &message);
    }
    Keeper { spec, line, terminal, command, alone_since: None }.watch(&inbox)
}

/// Waits until the command runs, or cannot; `None`: it ended before it said anything.
fn first_words(mut report: PipeReader) -> Option<FromKeeper> {
    let mut words = String::new();
    report.read_to_string(&mut words).ok()?;
    let last = words.rsplit(command::SECOND_THOUGHT).next().unwrap_or_default();
    FromKeeper::read(last.as_bytes())
}

impl Keeper<'_> {
    fn watch(mut self, inbox: &Inbox) -> ! {
        // With the capabilities goes the right to build anything more.
        let _ = crate::sys::confine::drop_capabilities();
        loop {
            while let Some((child, fate)) = process::reap() {
                self.reaped(child, fate);
            }
            let patience = self.alone_since.map(|since| LAST_TIME.saturating_sub(clock::tick().since(since)));
            if patience.is_some_and(|patience| patience.is_zero()) {
                process::leave(1);
            }
            let told = self.wait(inbox, patience);
            // Each is only a reason to look at the children, or sent by somebody inside.
            while let Ok(Some(_)) = inbox.next() {}
            if told {
                match hear(self.line) {
                    Some(message) => self.told(message),
                    None => self.abandoned(),
                }
            }
        }
    }

    /// Waits for a signal or a message; says whether there is a message.
    fn wait(&self, inbox: &Inbox, patience: Option<Duration>) -> bool {
        let mut awaited = vec![PollFd::from_borrowed_fd(inbox.as_fd(), PollFlags::IN)];
        if self.alone_since.is_none() {
            awaited.push(PollFd::from_borrowed_fd(self.line.as_fd(), PollFlags::IN));
        }
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        if poll(&mut awaited, patience.as_ref()).is_err() {
            return false;
        }
        awaited.get(1).is_some_and(|line| !line.revents().is_empty())
    }

    fn reaped(&self, child: Pid, fate: Fate) {
        if child != self.command {
            return;
        }
        let ended = match fate {
            Fate::Stopped(signal) => return say(self.line, &FromKeeper::Stopped(signal)),
            Fate::Exited(status) => Ended::Code(u8::try_from(status & 0xff).unwrap_or(1)),
            Fate::Killed(signal) => Ended::Signal(signal),
        };
        say(self.line, &FromKeeper::Ended(ended));
        process::leave(0);
    }

    fn told(&self, message: FromSupervisor) {
        let command = self.command.as_raw_nonzero().get();
        match message {
            FromSupervisor::Signal(number) => {
                let _ = signals::send(number, To::Process(command));
            }
            FromSupervisor::Continue { terminal } => {
                if let Some(device) = self.terminal.filter(|_| terminal) {
                    let _ = device.give_to(self.command);
                }
                let _ = signals::send(libc::SIGCONT, To::GroupOf(command));
            }
            FromSupervisor::Mapped | FromSupervisor::Go { .. } => {}
        }
    }

    /// The supervisor is gone, and with it the way out.
    fn abandoned(&mut self) {
        if !self.spec.quiet {
            let words = b"namegate: the gate is gone: connections are refused from now on, the command is told to end\n";
            let _ = std::io::stderr().lock().write_all(words);
        }
        let command = self.command.as_raw_nonzero().get();
        let _ = signals::send(libc::SIGTERM, To::GroupOf(command));
        let _ = signals::send(libc::SIGCONT, To::GroupOf(command));
        self.alone_since = Some(clock::tick());
    }
}
