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
use crate::sys::signals::{self, Inbox, Sender, To};
use crate::sys::terminal::Terminal;

use super::inside::{hear, retire, say};
use super::message::{Ended, FromKeeper, FromSupervisor, Whom};
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
    /// Signals that came to this process from outside, and when: the group that we share with the supervisor got them.
    heard: Vec<(i32, Tick)>,
    /// Signals to be handed on unless they come to the group too.
    owed: Vec<(i32, Tick)>,
}

/// How long a signal that came to the supervisor alone may yet come to the group: timeout(1) sends both.
const GROUP_LAG: Duration = Duration::from_millis(20);

/// Runs the command and stays until it ends.
pub(super) fn keep(
    spec: &Spec,
    line: &Line,
    terminal: Option<&Terminal>,
    (in_front, share): (bool, bool),
) -> ! {
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
    // Whoever ends programs by their name means the supervisor.
    let _ = process::rename(c"sandbox-keeper");
    if let Err(error) = retire() {
        failed("hide the keeper", error.to_string());
    }
    let command = match process::fork() {
        Ok(Birth::Child) => command::become_it(spec, share, terminal.filter(|_| in_front), reporter),
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
    Keeper { spec, line, terminal, command, alone_since: None, heard: Vec::new(), owed: Vec::new() }
        .watch(&inbox)
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
            self.pay();
            let patience = self.patience();
            if self.alone_since.is_some() && patience.is_some_and(|patience| patience.is_zero()) {
                process::leave(1);
            }
            let told = self.wait(inbox, patience);
            while let Ok(Some(arrived)) = inbox.next() {
                // From inside, and about the children, it is only a reason to look at them.
                if arrived.sender != Sender::Process {
                    self.heard.push((arrived.number, clock::tick()));
                }
            }
            if told {
                match hear(self.line) {
                    Some(message) => self.told(message),
                    None => self.abandoned(),
                }
            }
        }
    }

    /// How long there is nothing to do by itself.
    fn patience(&self) -> Option<Duration> {
        let now = clock::tick();
        let end = self.alone_since.map(|since| LAST_TIME.saturating_sub(now.since(since)));
        let owed = self.owed.iter().map(|(_, since)| GROUP_LAG.saturating_sub(now.since(*since))).min();
        end.into_iter().chain(owed).min()
    }

    /// Hands on what did not come to the group.
    fn pay(&mut self) {
        let now = clock::tick();
        let shared = process::shares_our_group(self.command);
        for (number, since) in std::mem::take(&mut self.owed) {
            if shared && now.since(since) < GROUP_LAG {
                self.owed.push((number, since));
                continue;
            }
            // A little before counts too: the group's members get theirs one after the other.
            let witnessed = |(heard, at): &(i32, Tick)| *heard == number && since.since(*at) <= GROUP_LAG;
            match self.heard.iter().position(witnessed).filter(|_| shared) {
                Some(heard) => drop(self.heard.swap_remove(heard)),
                None => {
                    let _ = signals::send(number, To::Process(self.command.as_raw_nonzero().get()));
                }
            }
        }
        self.heard.retain(|(_, at)| now.since(*at) <= GROUP_LAG * 3);
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

    fn told(&mut self, message: FromSupervisor) {
        let command = self.command.as_raw_nonzero().get();
        match message {
            FromSupervisor::Signal { number, to: Whom::UnlessShared } => {
                self.owed.push((number, clock::tick()));
            }
            FromSupervisor::Signal { number, to: Whom::Command } => {
                let _ = signals::send(number, To::Process(command));
            }
            FromSupervisor::Signal { number, to: Whom::Group } => {
                let _ = signals::send(number, self.everybody());
            }
            FromSupervisor::Continue { .. } if process::shares_our_group(self.command) => {
                self.owed.push((libc::SIGCONT, clock::tick()));
            }
            FromSupervisor::Continue { terminal } => {
                if let Some(device) = self.terminal.filter(|_| terminal) {
                    let _ = device.give_to(self.command);
                }
                let _ = signals::send(libc::SIGCONT, self.everybody());
            }
            FromSupervisor::Mapped | FromSupervisor::Go { .. } => {}
        }
    }

    /// The command's group, as far as it is inside.
    fn everybody(&self) -> To {
        let command = self.command.as_raw_nonzero().get();
        if process::shares_our_group(self.command) { To::Process(command) } else { To::GroupOf(command) }
    }

    /// The supervisor is gone, and with it the way out.
    fn abandoned(&mut self) {
        self.alone_since = Some(clock::tick());
        let _ = signals::send(libc::SIGTERM, self.everybody());
        let _ = signals::send(libc::SIGCONT, self.everybody());
        if !self.spec.quiet {
            say_aloud("the gate is gone: connections are refused from now on, the command is told to end");
        }
    }
}

/// Says something on standard error, where somebody takes it: this process has no time to wait.
pub(super) fn say_aloud(words: &str) {
    if descriptors::error_is_heard() {
        let _ = std::io::stderr().lock().write_all(format!("namegate: {words}\n").as_bytes());
    }
}
