//! Several commands, each in a sandbox of its own, around one gate: to each a client of its own.
//!
//! Must not know what the commands are for.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::dns::Pool;
use crate::facts::Client;
use crate::record::Log;
use crate::sandbox::{Sandbox, Spec, Told};
use crate::settings::SandboxSettings;
use crate::sys::descriptors::{self, Stream};
use crate::sys::limits;

use super::engine::Tasks;
use super::{Error, exec, upkeep};

/// One command.
#[derive(Debug)]
pub struct Ward {
    /// The program and its arguments; at least one.
    pub command: Vec<OsString>,
    /// Its standard input.
    pub input: OwnedFd,
    /// Its standard output.
    pub output: OwnedFd,
    /// Which client it is to the gate.
    pub client: IpAddr,
}

/// Guards commands until the last has ended. This process's own standard input and output are given up. The caller
/// must have started no thread yet.
///
/// # Errors
/// As [`super::exec()`].
pub fn guard(mut settings: SandboxSettings, wards: Vec<Ward>) -> Result<(), Error> {
    let system = |action| move |source| Error::System { action, source };
    let mut sandboxes = Vec::new();
    for Ward { command, input, output, client } in wards {
        let given = descriptors::replace(Stream::Input, input.as_fd())
            .and_then(|()| descriptors::replace(Stream::Output, output.as_fd()));
        given.map_err(system("give a command its streams"))?;
        drop((input, output));
        let sandbox = Sandbox::start(Spec {
            command,
            capture: exec::capture(),
            ports: exec::ports(&settings.policy),
            host_ports: Vec::new(),
            home: exec::HOME,
            allow_sockets: Vec::new(),
            allow_devices: Vec::new(),
            hidden: Vec::new(),
            best_effort: false,
            interactive: false,
            quiet: true,
        })?;
        sandboxes.push((sandbox, Client::at(client)));
    }
    for stream in [Stream::Input, Stream::Output] {
        descriptors::silence(stream).map_err(system("give up the standard streams"))?;
    }
    limits::raise_descriptors();
    settings.dns.no_ipv6 = !upkeep::has_ipv6_route();
    let log = Log::open(&settings.record)?;
    let resolver = Arc::new(Pool::new(&settings.dns)?);
    let runtime = exec::runtime().map_err(system("start the runtime"))?;
    let outcome = runtime.block_on(serve(settings, sandboxes, resolver, log));
    runtime.shutdown_background();
    outcome
}

async fn serve(
    settings: SandboxSettings,
    sandboxes: Vec<(Sandbox, Client)>,
    resolver: Arc<Pool>,
    log: Log,
) -> Result<(), Error> {
    let engine = exec::connect(settings, resolver, log.clone()).await?;
    let tasks = Tasks::default();
    let mut commands = JoinSet::new();
    for (mut sandbox, client) in sandboxes {
        let (listeners, _) = sandbox.ready()?;
        exec::serve(&tasks, &engine, listeners, client)?;
        let mut running = sandbox.go()?;
        commands.spawn(async move {
            while !matches!(running.next().await?, Told::Ended(_)) {}
            running.finish();
            Ok::<(), Error>(())
        });
    }
    let mut outcome = Ok(());
    while let Some(ended) = commands.join_next().await {
        outcome = outcome.and(ended.unwrap_or(Ok(())));
    }
    exec::end(tasks, &log).await;
    outcome
}
