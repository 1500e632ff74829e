//! The last steps before the command: a child of the keeper gives everything up and becomes it.
//!
//! Must not return.

use std::ffi::OsStr;
use std::io::{self, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{getpid, setpgid};

use crate::sys::terminal::Terminal;
use crate::sys::{confine, descriptors, process, signals};

use super::Spec;
use super::layers::{Layer, Layers};
use super::message::FromKeeper;

/// Becomes the command. What cannot be done is written to `report`; so is what was given up, before the end.
pub(super) fn become_it(spec: &Spec, share: bool, terminal: Option<&Terminal>, mut report: PipeWriter) -> ! {
    let mut layers = Layers::default();
    if let Err(error) = descriptors::keep_plain_ones() {
        fail(report, &FromKeeper::Failed { what: "close descriptors".into(), why: error.to_string() });
    }
    give_up(spec, &mut layers);
    if !share || !layers.present().contains(&Layer::SignalScope) {
        // A group of its own: it could signal the one that it shares with the world, or take it for the one in front.
        let _ = setpgid(None, None);
        if let Some(terminal) = terminal {
            let _ = terminal.give_to(getpid());
        }
    }
    if let Some((layer, why)) = layers.breach().filter(|_| !spec.best_effort).cloned() {
        fail(report, &FromKeeper::Breach { layer, why });
    }
    let mut words = spec.command.iter();
    let program = words.next().map_or(OsStr::new(""), |word| word.as_os_str());
    let mut command = Command::new(program);
    command.args(words);
    // Whole in the pipe before the other end is closed by exec.
    let started = FromKeeper::Started(layers).spell();
    if let Err(error) = report.write_all(&started) {
        fail(report, &FromKeeper::Failed { what: "report".into(), why: error.to_string() });
    }
    let _ = signals::unblock_all();
    let error = command.exec();
    let _ = report.write_all(SECOND_THOUGHT.as_bytes());
    fail(report, &FromKeeper::NoCommand(error.raw_os_error().unwrap_or(libc::ENOENT)))
}

/// Between "it runs" and why it does not after all: exec(2) closes the pipe before this can be written.
pub(super) const SECOND_THOUGHT: &str = "\n!";

fn give_up(spec: &Spec, layers: &mut Layers) {
    match confine::scope(&spec.allow_sockets) {
        Ok(scoped) => {
            let told = |there: bool| if there { Ok(()) } else { Err("this kernel's Landlock has it not") };
            layers.note(Layer::SignalScope, told(scoped.signals));
            layers.note(Layer::SocketScope, told(scoped.sockets));
        }
        Err(error) => {
            layers.note(Layer::SignalScope, Err::<(), _>(&error));
            layers.note(Layer::SocketScope, Err::<(), _>(&error));
        }
    }
    layers.note(Layer::Capabilities, confine::drop_capabilities());
    layers.note(Layer::NoNewPrivileges, confine::no_new_privileges());
    layers.note(Layer::SystemCalls, confine::filter_calls());
}

fn fail(mut report: PipeWriter, message: &FromKeeper) -> ! {
    let _: io::Result<()> = report.write_all(&message.spell());
    drop(report);
    process::leave(1)
}
