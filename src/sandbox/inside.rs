//! The keeper's first half: builds the inside, hands the listeners out, and waits for leave to go on.
//!
//! Runs in the new namespaces, in a copy of the supervisor's memory. Must not return there.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::sys::pass::Line;
use crate::sys::terminal::{self, Terminal};
use crate::sys::{confine, descriptors, process};

use super::layers::{Layer, Layers};
use super::message::{FromKeeper, FromSupervisor};
use super::network::{self, Doors, Failure, Loading};
use super::streams::Streams;
use super::view::{self, Exceptions};
use super::{Spec, keeper};

/// What the supervisor saw before the keeper was born.
pub(super) struct Outside {
    /// The supervisor's process id, outside.
    pub(super) supervisor: u32,
    /// Sockets that only the supervisor could find.
    pub(super) relative: Vec<PathBuf>,
    /// The command's streams.
    pub(super) streams: Streams,
    /// The working folder; `None`: it is gone.
    pub(super) folder: Option<PathBuf>,
    /// Whether the keeper has a user namespace of its own.
    pub(super) own_user: bool,
    /// The terminal of the session.
    pub(super) terminal: Option<Terminal>,
}

/// Is the keeper, to its end.
pub(super) fn live(spec: &Spec, outside: Outside, line: Line) -> ! {
    // Until the listeners are handed out nothing may survive the supervisor.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Another sandbox of the same supervisor would not hear that it is gone while its end of the line is open here.
    let kept: Vec<_> = [line.as_fd()]
        .into_iter()
        .chain(outside.terminal.as_ref().map(AsFd::as_fd))
        .chain(outside.streams.descriptors())
        .collect();
    if descriptors::close_private_ones_but(&kept).is_err() {
        process::leave(1);
    }
    match hear(&line) {
        Some(FromSupervisor::Mapped) => {}
        Some(_) | None => process::leave(1),
    }
    let Outside { supervisor, relative, streams, folder, own_user, terminal } = outside;
    let mut layers = Layers::default();
    layers.note(Layer::Namespaces, Ok::<(), &str>(()));
    layers.note(Layer::UserNamespace, if own_user { Ok(()) } else { Err("run by root, without one") });
    let build = || -> Result<(), Failure> {
        let doors = build(spec, (supervisor, &relative), &mut layers)?;
        streams.put_in_place().map_err(|error| ("put pipes in place of sockets", error))?;
        enter(folder.as_deref(), spec.quiet).map_err(|error| ("enter the working folder again", error))?;
        if let Some((layer, why)) = layers.breach().filter(|_| !spec.best_effort).cloned() {
            say(&line, &FromKeeper::Breach { layer, why });
            process::leave(1);
        }
        let (parts, descriptors) = doors.parts();
        let ready = FromKeeper::Ready { form: doors.form, parts, layers: std::mem::take(&mut layers) };
        line.send(&ready.spell(), &descriptors).map_err(|error| ("hand the listeners out", error))
    };
    if let Err((what, why)) = build() {
        say(&line, &FromKeeper::Failed { what: what.to_owned(), why: why.to_string() });
        process::leave(1);
    }
    let (in_front, share) = match hear(&line) {
        Some(FromSupervisor::Go { terminal, share }) => (terminal, share),
        Some(_) | None => process::leave(1),
    };
    let _ = rustix::process::set_parent_process_death_signal(None);
    keeper::keep(spec, &line, terminal.as_ref(), (in_front, share))
}

/// Enters the working folder by its path, where that leads elsewhere now: from below a cover everything could be reached.
fn enter(folder: Option<&Path>, quiet: bool) -> io::Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    if leads_nowhere_else(folder) {
        return Ok(());
    }
    let found = folder.ancestors().find(|ancestor| std::env::set_current_dir(ancestor).is_ok());
    match found {
        Some(found) if found == folder => Ok(()),
        Some(found) => {
            if !quiet {
                let (folder, found) = (folder.display(), found.display());
                keeper::say_aloud(&format!("{folder} is not there inside, the command starts in {found}"));
            }
            Ok(())
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Whether this process stands where the path leads. A path that is closed to this user now was so before, unless it was
/// covered.
fn leads_nowhere_else(folder: &Path) -> bool {
    let here = fs::metadata(".").map(|here| (here.dev(), here.ino()));
    match (here, fs::metadata(folder)) {
        (Ok(here), Ok(there)) => here == (there.dev(), there.ino()),
        (_, Err(error)) => error.kind() == io::ErrorKind::PermissionDenied,
        (Err(_), Ok(_)) => false,
    }
}

/// Builds network and view. The listeners end here, but for those that were handed out.
fn build(spec: &Spec, outside: (u32, &[PathBuf]), layers: &mut Layers) -> Result<Doors, Failure> {
    // The loader works while the rest is built: it needs to know no more than the listeners' port.
    let capture = spec.capture.as_ref().map(Doors::for_every_port).transpose()?;
    network::bring_up(spec.home)?;
    let tty = terminal::of_streams();
    let exceptions = Exceptions {
        sockets: &spec.allow_sockets,
        devices: &spec.allow_devices,
        hidden: &spec.hidden,
        terminal: tty.as_deref(),
    };
    view::change(exceptions, outside, layers)
        .map_err(|error| ("change the view of the file system", error))?;
    let why = match capture {
        Some((mut doors, loading)) => {
            match loading.map_err(|error| error.to_string()).and_then(Loading::finish) {
                Ok(()) => {
                    layers.note(Layer::Ruleset, Ok::<(), &str>(()));
                    doors.open_the_rest(spec)?;
                    return Ok(doors);
                }
                Err(why) => why,
            }
        }
        None => "there is no nft".to_owned(),
    };
    layers.note(Layer::Ruleset, Err(why));
    let mut doors = Doors::for_listed_ports(spec)?;
    doors.open_the_rest(spec)?;
    Ok(doors)
}

/// Waits for a message; `None`: the supervisor is gone, or talks nonsense.
pub(super) fn hear(line: &Line) -> Option<FromSupervisor> {
    let parcel = line.receive().ok()??;
    FromSupervisor::read(&parcel.bytes)
}

/// Tells the supervisor something; one that is gone need not be told.
pub(super) fn say(line: &Line, message: &FromKeeper) {
    let _ = line.send(&message.spell(), &[]);
}

/// Gives up what the keeper itself needs no more, before somebody else's program is its child.
pub(super) fn retire() -> io::Result<()> {
    confine::hide()?;
    confine::no_new_privileges()
}
