//! The supervisor's side: makes the keeper, takes the listeners, and speaks with it while the command runs.
//!
//! Must not know what becomes of the listeners.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal};
use rustix::thread::CapabilitySet;
use tokio::io::unix::AsyncFd;

use crate::sys::descriptors;
use crate::sys::pass::Line;
use crate::sys::process::{self, Birth, Namespaces};
use crate::sys::signals::{self, Arrived, Sender, To};
use crate::sys::terminal::{self, Terminal};

use super::diagnosis::{Diagnosis, Facts, Obstacle};
use super::error::{Error, refused};
use super::inside::{self, Outside};
use super::layers::{Layer, Layers};
use super::message::{Ended, FromKeeper, FromSupervisor, Part, Whom};
use super::sockets;
use super::streams::{Carriers, Streams};
use super::{Form, Listeners, Spec, identity};

/// A sandbox that is being built, or runs its command.
#[derive(Debug)]
pub struct Sandbox {
    line: Line,
    keeper: Pid,
    program: String,
    carriers: Carriers,
    terminal: Option<Terminal>,
    /// Whether this process's group had the terminal when the command began.
    was_in_front: bool,
    /// Whether the command has the terminal because we gave it.
    given: bool,
    grouping: Grouping,
}

/// Which process group the command is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    /// Ours: keys and signals to the group reach it by themselves, and Landlock keeps its own inside.
    Shared,
    /// One of its own, so that it cannot signal ours.
    Own,
}

/// What the sandbox tells.
#[derive(Debug)]
pub enum Told {
    /// The command runs, with these layers of its own.
    Started(Layers),
    /// The command is stopped, by this signal.
    Stopped(i32),
    /// It is over.
    Ended(Ended),
}

/// The longest that building may take: a loader that hangs must not hang us.
const PATIENCE: Duration = Duration::from_secs(20);

impl Sandbox {
    /// Makes the namespaces and starts building the inside. Nothing runs in it yet.
    ///
    /// # Errors
    /// [`Error::Namespaces`] says what stands in the way; this process must have one thread only.
    pub fn start(mut spec: Spec) -> Result<Self, Error> {
        for path in &mut spec.allow_sockets {
            *path = existing(path, "a unix socket", sockets::is_socket)?;
        }
        for path in &mut spec.allow_devices {
            *path = existing(path, "a path below /dev", |path| path.starts_with("/dev"))?;
        }
        let folder = std::env::current_dir().ok();
        let streams = Streams::look().map_err(refused("look at the standard streams"))?;
        let (line, far) = Line::pair().map_err(refused("make a pair of sockets"))?;
        let program =
            spec.command.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
        let (supervisor, relative) = (std::process::id(), sockets::relative());
        let (birth, own_user) = born()?;
        let terminal = spec.interactive.then(Terminal::of_session).flatten();
        let keeper = match birth {
            Birth::Child => {
                drop(line);
                inside::live(
                    &spec,
                    Outside { supervisor, relative, streams, folder, own_user, terminal },
                    far,
                )
            }
            Birth::Parent(keeper) => keeper,
        };
        drop(far);
        let carriers = streams.carry();
        let sandbox = Self {
            line,
            keeper,
            program,
            carriers,
            terminal,
            was_in_front: false,
            given: false,
            grouping: Grouping::Shared,
        };
        if own_user {
            identity::map(keeper)
                .map_err(|error| build_failed("name the user".to_owned(), error.to_string()))?;
        }
        sandbox.say(FromSupervisor::Mapped);
        Ok(sandbox)
    }

    /// Waits until the inside is built, and takes its listeners.
    ///
    /// # Errors
    /// [`Error::Build`] and [`Error::Breach`] say what could not be had.
    pub fn ready(&mut self) -> Result<(Listeners, Layers), Error> {
        let mut awaited = [PollFd::new(&self.line, PollFlags::IN)];
        let patience = Timespec::try_from(PATIENCE).ok();
        if poll(&mut awaited, patience.as_ref()).is_ok_and(|ready| ready == 0) {
            return Err(Error::Gone("was not ready in time"));
        }
        let parcel = self.line.receive().map_err(refused("hear the sandbox"))?;
        let parcel = parcel.ok_or(Error::Gone("ended while it was being built"))?;
        match FromKeeper::read(&parcel.bytes) {
            Some(FromKeeper::Ready { form, parts, layers }) => {
                Ok((listeners(form, parts, parcel.descriptors), layers))
            }
            Some(FromKeeper::Failed { what, why }) => Err(build_failed(what, why)),
            Some(FromKeeper::Breach { layer, why }) => Err(Error::Breach { layer, why }),
            Some(
                FromKeeper::Started(_)
                | FromKeeper::NoCommand(_)
                | FromKeeper::Stopped(_)
                | FromKeeper::Ended(_),
            )
            | None => Err(Error::Gone("said something unexpected")),
        }
    }

    /// Lets the command run. It gets the terminal when this process's group has it. Must be called inside a runtime.
    ///
    /// # Errors
    /// The sandbox cannot be listened to.
    pub fn go(mut self) -> Result<Running, Error> {
        let listen = || -> io::Result<_> {
            self.line.set_nonblocking()?;
            descriptors::readable(self.line.as_fd().try_clone_to_owned()?)
        };
        let ear = listen().map_err(refused("listen to the sandbox"))?;
        self.was_in_front = self.terminal.as_ref().is_some_and(Terminal::is_ours);
        // A command that shares our group has it already.
        let terminal = self.was_in_front && terminal::is_every_stream();
        // From inside, a group that is led outside and one that is in front are both nameless: a shell that shares ours in
        // the background would believe that it is in front.
        let share = self.was_in_front || self.terminal.is_none();
        if !share {
            self.grouping = Grouping::Own;
        }
        self.say(FromSupervisor::Go { terminal, share });
        Ok(Running { sandbox: self, ear })
    }

    /// Gives the command the terminal, and lets it go on, if this process's group has it to give.
    fn give_terminal(&mut self) -> bool {
        let ours = self.terminal.as_ref().is_some_and(Terminal::is_ours);
        if ours {
            self.given = true;
            self.say(FromSupervisor::Continue { terminal: true });
        }
        ours
    }

    fn say(&self, message: FromSupervisor) {
        // A keeper that is gone is noticed where it is listened to.
        let _ = self.line.send(&message.spell(), &[]);
    }
}

impl Drop for Sandbox {
    /// Ends what is inside, if it has not ended, and waits until it is gone.
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.keeper, Signal::KILL);
        let _ = process::wait_for(self.keeper);
        // A shell inside may have left it with a group that is gone. Nobody else's is taken away.
        if let Some(terminal) = self.terminal.as_ref().filter(|_| self.was_in_front || self.given)
            && !terminal.front_is_there()
        {
            let _ = terminal.take();
        }
    }
}

/// A sandbox whose command may run.
#[derive(Debug)]
pub struct Running {
    sandbox: Sandbox,
    ear: AsyncFd<OwnedFd>,
}

impl Running {
    /// Waits for the next thing that the sandbox tells. Safe to cancel.
    ///
    /// # Errors
    /// [`Error::Command`]: the program cannot be run. [`Error::Gone`]: the sandbox was killed.
    pub async fn next(&mut self) -> Result<Told, Error> {
        let parcel = loop {
            let mut ready = self.ear.readable().await.map_err(refused("hear the sandbox"))?;
            match self.sandbox.line.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                received => break received.map_err(refused("hear the sandbox"))?,
            }
        };
        let parcel = parcel.ok_or(Error::Gone("was killed"))?;
        match FromKeeper::read(&parcel.bytes) {
            Some(FromKeeper::Started(layers)) => {
                if !layers.present().contains(&Layer::SignalScope) {
                    self.sandbox.grouping = Grouping::Own;
                    self.sandbox.given = self.sandbox.was_in_front && terminal::is_every_stream();
                }
                Ok(Told::Started(layers))
            }
            Some(FromKeeper::Stopped(signal)) => Ok(Told::Stopped(signal)),
            Some(FromKeeper::Ended(ended)) => Ok(Told::Ended(ended)),
            Some(FromKeeper::NoCommand(number)) => Err(Error::Command {
                program: self.sandbox.program.clone(),
                source: io::Error::from_raw_os_error(number),
            }),
            Some(FromKeeper::Failed { what, why }) => Err(build_failed(what, why)),
            Some(FromKeeper::Breach { layer, why }) => Err(Error::Breach { layer, why }),
            Some(FromKeeper::Ready { .. }) | None => Err(Error::Gone("said something unexpected")),
        }
    }

    /// Hands a signal on to the command, unless it has it already.
    pub fn signal(&mut self, Arrived { number, sender }: Arrived) {
        let sandbox = &mut self.sandbox;
        let to = match (sandbox.grouping, sender) {
            // The kernel too signals one process alone: at the end of the terminal, or of a timer.
            (Grouping::Shared, _) => Whom::UnlessShared,
            (Grouping::Own, Sender::Process | Sender::Outside) => Whom::Command,
            (Grouping::Own, Sender::Kernel) => {
                // A key, and the command is not in front yet.
                sandbox.give_terminal();
                Whom::Group
            }
        };
        sandbox.say(FromSupervisor::Signal { number, to });
    }

    /// Stops as the command did, until somebody lets this process go on; then lets the command go on.
    pub fn stop_too(&mut self, signal: i32) {
        let wants_terminal = matches!(signal, libc::SIGTTIN | libc::SIGTTOU);
        if self.sandbox.terminal.is_none() {
            // No shell looks after us: nobody would let us go on.
            return;
        }
        let sandbox = &mut self.sandbox;
        let to = match sandbox.grouping {
            // Whoever stopped it stopped the group, or meant it alone.
            Grouping::Shared => To::Self_,
            Grouping::Own => {
                if wants_terminal && sandbox.give_terminal() {
                    return;
                }
                if sandbox.given && signal != libc::SIGSTOP { To::Group } else { To::Self_ }
            }
        };
        sandbox.given = false;
        if signals::suffer(signal, to) {
            // What let us go on waits in the inbox.
            return;
        }
        if wants_terminal && sandbox.grouping == Grouping::Own {
            // Nobody will ever put us in front: as if the terminal had gone.
            sandbox.say(FromSupervisor::Signal { number: libc::SIGHUP, to: Whom::Group });
            self.go_on();
        }
    }

    /// Lets the command go on, with the terminal if this process's group has it.
    pub fn go_on(&mut self) {
        let sandbox = &mut self.sandbox;
        // A shell that shared our group has one of its own by now, and wants the terminal back.
        if !sandbox.give_terminal() {
            sandbox.say(FromSupervisor::Continue { terminal: false });
        }
    }

    /// Ends the sandbox: nothing of it is left when this returns, and all that the command wrote has been passed on.
    /// Says whether a key may have ended the command without reaching our own group.
    pub fn finish(mut self) -> bool {
        let given = self.sandbox.given && self.sandbox.grouping == Grouping::Own;
        let carriers = std::mem::take(&mut self.sandbox.carriers);
        drop(self.sandbox);
        carriers.finish();
        given
    }
}

fn born() -> Result<(Birth, bool), Error> {
    let error = match process::born_into(Namespaces::WithUser) {
        Ok(birth) => return Ok((birth, true)),
        Err(error) => error,
    };
    let wanted = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    if rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
        && let Ok(birth) = process::born_into(Namespaces::WithoutUser)
    {
        return Ok((birth, false));
    }
    Err(Error::Namespaces(Diagnosis::of(error, &Facts::read())))
}

fn existing(path: &Path, kind: &'static str, fits: impl Fn(&Path) -> bool) -> Result<PathBuf, Error> {
    let real = std::fs::canonicalize(path).ok().filter(|real| fits(real));
    real.ok_or_else(|| Error::Missing { path: path.to_owned(), kind })
}

/// AppArmor lets a user namespace be made, and nothing be done in it.
fn build_failed(what: String, why: String) -> Error {
    let denied = ["(os error 1)", "(os error 13)"].iter().any(|number| why.contains(number));
    if denied {
        let diagnosis = Diagnosis::of(io::ErrorKind::PermissionDenied.into(), &Facts::read());
        if diagnosis.obstacle == Obstacle::AppArmor {
            return Error::Namespaces(diagnosis);
        }
    }
    Error::Build { what, why }
}

fn listeners(form: Form, parts: Vec<Part>, descriptors: Vec<OwnedFd>) -> Listeners {
    let mut listeners =
        Listeners { form, proxy: Vec::new(), dns_tcp: Vec::new(), dns_udp: Vec::new(), host: Vec::new() };
    for (part, descriptor) in parts.into_iter().zip(descriptors) {
        match part {
            Part::Proxy => listeners.proxy.push(TcpListener::from(descriptor)),
            Part::DnsTcp => listeners.dns_tcp.push(TcpListener::from(descriptor)),
            Part::DnsUdp => listeners.dns_udp.push(UdpSocket::from(descriptor)),
            Part::Host => listeners.host.push(TcpListener::from(descriptor)),
        }
    }
    listeners
}
