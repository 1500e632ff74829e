//! The demo from its beginning: a network for the Internet, the gate's process, the story.
//!
//! Every process is forked before this one starts a thread. Must not know how the outcome is shown.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use rustix::process::Signal;

use crate::daemon::{Ward, guard};
use crate::settings::{self, SandboxArguments, SandboxSettings};
use crate::sys::process::{self, Birth};
use crate::sys::{loopback, signals};

use super::{Client, Error, Gate, Outcome, Prepared, play, prepare};

/// Which clients the two commands are to the gate.
const CLIENTS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), IpAddr::V4(Ipv4Addr::new(198, 18, 0, 2))];

/// The Internet's own address, from the range for tests of devices (RFC 2544), and one for documentation (RFC 3849).
const HOME: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 18, 255, 1), Ipv6Addr::new(0x2001, 0xdb8, 0x6e67, 0, 0, 0, 0, 0xff));

/// Plays the whole demo. The caller must have started no thread yet; this process stays in the demo's network.
///
/// # Errors
/// The machine refuses what the demo is made of. What the gate does wrong is no error: it is in the [`Outcome`].
pub fn run() -> Result<Outcome, Error> {
    let prepared = prepare()?;
    process::enter_own_network().map_err(Error::Namespaces)?;
    // A runtime leaves something behind that copies of this process would stumble over.
    process::in_a_copy(bring_up).map_err(Error::Network)?;
    let settings = settings(&prepared)?;
    let ((one, first), (two, second)) = (behind(CLIENTS[0])?, behind(CLIENTS[1])?);
    process::adopt_orphans().map_err(Error::Fork)?;
    let pid = match process::fork().map_err(Error::Fork)? {
        Birth::Parent(pid) => pid,
        Birth::Child => {
            // What only the story's process may hold: the clients see its end when it is gone.
            drop((first, second));
            be_the_gate(settings, vec![one, two])
        }
    };
    drop((one, two));
    let outcome = play(prepared, Gate::new(pid, [first, second]));
    // The sandboxes outlive their gate until their clients hear that there is no more to do.
    process::wait_for_all();
    outcome
}

fn bring_up() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(loopback::take_in_everything(HOME))
}

/// Makes the pipes to a client: one end for the gate to give to its command, the other for the story.
fn behind(client: IpAddr) -> Result<(Ward, Client), Error> {
    let (input, orders) = io::pipe().map_err(Error::Pipe)?;
    let (answers, output) = io::pipe().map_err(Error::Pipe)?;
    let command = command().map_err(Error::Program)?;
    let ward = Ward { command, input: input.into(), output: output.into(), client };
    Ok((ward, Client::new(orders.into(), answers.into())))
}

/// The client program, with nobody to end it but the end of its orders: it outlives the gate.
fn command() -> io::Result<Vec<OsString>> {
    Ok(vec![std::env::current_exe()?.into(), "demo".into(), "--act".into()])
}

fn settings(prepared: &Prepared) -> Result<SandboxSettings, Error> {
    let file = prepared.folder().join("namegate.toml");
    fs::write(&file, prepared.policy()).map_err(Error::Write)?;
    let arguments = SandboxArguments { policy: Some(file), ..SandboxArguments::default() };
    match settings::sandbox(&arguments, SystemTime::now()) {
        Ok(checked) => Ok(checked.settings),
        Err(error) => Err(Error::Policy(error)),
    }
}

fn be_the_gate(settings: SandboxSettings, wards: Vec<Ward>) -> ! {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    match guard(settings, wards) {
        Ok(()) => process::leave(0),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the demo's gate cannot run");
            process::leave(error.exit_code())
        }
    }
}

/// Runs the client program: orders from standard input, answers to standard output.
///
/// # Errors
/// A line that is no order, or nobody there to answer.
pub fn run_client() -> io::Result<()> {
    // The end of the gate is part of the story: it must not be the client's.
    let _inbox = signals::Inbox::open()?;
    super::act(io::stdin().lock(), io::stdout().lock())
}
