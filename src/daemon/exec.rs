//! One command in a sandbox, with a gate of its own around it: build, run, tell how it ended.
//!
//! The sandbox is made before any thread exists; everything else is built while the inside is. Must not know what is
//! said to the user.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::dns::{OnMiss, Pool};
use crate::facts::{Address, Client, Name, Observation, Source};
use crate::gate::{Action, Gate, Policy, Roster};
use crate::nft;
use crate::record::{Event, FileSink, Listener, Log, LogError, RecordConfig, SandboxEvent, Target};
use crate::sandbox::{Capture, Ended, Form, Layers, Listeners, Running, Sandbox, Spec, Told};
use crate::settings::SandboxSettings;
use crate::sys::descriptors::{self, Stream};
use crate::sys::neighbours::Neighbours;
use crate::sys::origdst;
use crate::sys::signals::{self, Inbox, To};
use crate::sys::udp::CapturedUdp;
use crate::sys::{clock, confine, limits};
use crate::who::Whose;

use super::engine::{Engine, Parts, Tasks, adopt};
use super::{Error, reload, upkeep};

/// One command and what may be done around it.
pub struct Exec {
    /// Rules and limits.
    pub settings: SandboxSettings,
    /// The program and its arguments; at least one.
    pub command: Vec<OsString>,
    /// Unix sockets of the host that stay reachable.
    pub allow_sockets: Vec<PathBuf>,
    /// Device nodes besides the standard ones.
    pub allow_devices: Vec<PathBuf>,
    /// Ports of the host's localhost that stay reachable.
    pub host_ports: Vec<u16>,
    /// Go on when a layer that the promise needs is missing.
    pub best_effort: bool,
    /// No notices on standard error.
    pub quiet: bool,
    /// Hears every event, on the log's own thread.
    pub listener: Option<Listener>,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    ended: Ended,
    /// Whether a key may have ended it without reaching our own group.
    by_key: bool,
}

impl Finished {
    /// Returns the exit code that says it: the command's own, or 128 and the signal's number.
    pub fn code(self) -> u8 {
        match self.ended {
            Ended::Code(code) => code,
            Ended::Signal(signal) => {
                u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
            }
        }
    }

    /// Ends this process by the signal that ended the command, so that whoever waits for it sees the same. Returns
    /// where there was none, or it does nothing.
    ///
    /// A key ends every process of the group in front; where the command had to have one of its own, it is passed on to
    /// ours.
    pub fn suffer(self) {
        if let Ended::Signal(signal) = self.ended {
            // It is the command's death: no core file, and no report, of this process.
            limits::no_core();
            let _ = confine::hide();
            let key = self.by_key && matches!(signal, libc::SIGINT | libc::SIGQUIT);
            signals::suffer(signal, if key { To::Group } else { To::Self_ });
        }
    }
}

/// Where the command's packets come from; from the range for tests of devices (RFC 2544) and that for documentation
/// (RFC 3849), which nobody else has.
pub(super) const HOME: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 18, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0x6e67, 0, 0, 0, 0, 1));

/// How long the log may take to write out what is queued.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long a question or a connection may go on when the sandbox is gone.
const LAST_ANSWERS: Duration = Duration::from_millis(1_200);

/// Listeners in the form that needs one for each port.
const MOST_PORTS: usize = 64;

/// Runs a command to its end. The caller must have started no thread yet.
///
/// # Errors
/// [`Error`] tells what refused, and knows the exit code and the next step. Nothing is left behind.
pub fn exec(run: Exec) -> Result<Finished, Error> {
    let system = |action| move |source| Error::System { action, source };
    let inbox = Inbox::open().map_err(system("deliver signals"))?;
    let Exec { mut settings, host_ports, listener, quiet, .. } = run;
    let program = run.command.first().map_or_else(String::new, |word| word.to_string_lossy().into_owned());
    let mut sandbox = Sandbox::start(Spec {
        command: run.command,
        capture: capture(),
        ports: ports(&settings.policy),
        host_ports: host_ports.clone(),
        home: HOME,
        allow_sockets: run.allow_sockets,
        allow_devices: run.allow_devices,
        hidden: audit_files(&settings.record)?,
        best_effort: run.best_effort,
        interactive: true,
        quiet,
    })?;
    // From here on the inside is being built, and threads are free to start.
    limits::raise_descriptors();
    settings.dns.no_ipv6 = !upkeep::has_ipv6_route();
    let to_stdout = settings.record.to.contains(&Target::Stdout);
    let log = Log::open_with(&settings.record, listener)?;
    let resolver = Arc::new(Pool::new(&settings.dns)?);
    let runtime = runtime().map_err(system("start the runtime"))?;
    let (listeners, layers) = sandbox.ready()?;
    let outside = Outside { settings, resolver, log, host_ports, quiet };
    let outcome = runtime.block_on(async {
        let (tasks, log) = outside.open(listeners, &layers).await?;
        let running = sandbox.go()?;
        // Whoever reads what the command writes shall see its end when the command closes it.
        let _ = descriptors::silence(Stream::Input);
        if !to_stdout {
            let _ = descriptors::silence(Stream::Output);
        }
        let outcome = attend(running, inbox, &log, (layers, quiet), program.into()).await;
        end(tasks, &log).await;
        outcome
    });
    runtime.shutdown_background();
    outcome
}

pub(super) fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

pub(super) fn capture() -> Option<Capture> {
    let script = Box::new(|port, ipv6| nft::inside(port, HOME, ipv6));
    Some(Capture { loader: nft::loader()?, arguments: &["-f", "-"], script })
}

/// Makes the files that the log will go to, so that they can be hidden from whom it is about. What is no file,
/// `/dev/null` or a terminal, has no content that could be changed later.
fn audit_files(config: &RecordConfig) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for target in &config.to {
        let Target::File(path) = target else { continue };
        FileSink::append(path).map_err(|source| LogError::Open { path: path.clone(), source })?;
        files.extend(std::fs::canonicalize(path).ok().filter(|real| real.is_file()));
    }
    Ok(files)
}

/// The ports that rules open, 80 and 443 always: there the command hears why not.
pub(super) fn ports(policy: &Policy) -> Vec<u16> {
    let allows = policy.rules().iter().filter(|rule| rule.action == Action::Allow);
    let named = allows.flat_map(|rule| rule.ports.0.iter()).flat_map(|&(first, last)| first..=last);
    let mut ports: Vec<u16> = vec![80, 443];
    for port in named {
        if ports.len() == MOST_PORTS {
            break;
        }
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// What serves the listeners.
struct Outside {
    settings: SandboxSettings,
    resolver: Arc<Pool>,
    log: Log,
    host_ports: Vec<u16>,
    quiet: bool,
}

impl Outside {
    /// Connects the rooms and serves the listeners.
    async fn open(self, listeners: Listeners, layers: &Layers) -> Result<(Tasks, Log), Error> {
        let Self { settings, resolver, log, host_ports, quiet } = self;
        if !quiet && listeners.form == Form::ListedPorts {
            let ports = ports(&settings.policy);
            tracing::warn!(
                ?ports,
                "without nft connections are read at these ports only, and refused at every other"
            );
        }
        tell(layers, quiet);
        let engine = connect(settings, resolver, log.clone()).await?;
        let client = Client::at(HOME.0.into());
        if !host_ports.is_empty() {
            grant_localhost(&engine.gate, client);
        }
        let tasks = Tasks::default();
        serve(&tasks, &engine, listeners, client)?;
        log.record(reload::policy(&engine.gate, Ok(()))).await;
        let Engine { gate, forwarder, .. } = engine;
        tasks.keep(upkeep::sweep(Arc::clone(&gate), || {}, tasks.upkeep.clone()));
        tasks.keep(upkeep::tell_repeats(log.clone(), tasks.upkeep.clone()));
        tasks.keep(upkeep::follow_own(gate, forwarder, Default::default(), tasks.upkeep.clone()));
        Ok((tasks, log))
    }
}

/// Connects the rooms for clients that are sandboxes.
pub(super) async fn connect(
    settings: SandboxSettings,
    resolver: Arc<Pool>,
    log: Log,
) -> Result<Engine, Error> {
    let engine = Engine::connect(Parts {
        policy: settings.policy,
        ledger: settings.ledger,
        proxy: settings.proxy,
        dns: settings.dns,
        on_miss: OnMiss::Deny,
        resolver,
        neighbours: Neighbours::none(),
        roster: Roster::default(),
        docker: None,
        owners: None,
        log,
    });
    let own = upkeep::learn_own(&engine.gate, &Default::default()).await;
    own.map_err(|source| Error::System { action: "list this machine's addresses", source })?;
    Ok(engine)
}

/// Serves what was made inside: every connection and question there is this client's.
pub(super) fn serve(
    tasks: &Tasks,
    engine: &Engine,
    listeners: Listeners,
    client: Client,
) -> Result<(), Error> {
    let Listeners { form: _, proxy, dns_tcp, dns_udp, host } = listeners;
    let whose = Whose::One(client);
    let forwarder = engine.forwarder.of(whose);
    for listener in proxy.into_iter().chain(host) {
        let (proxy, listener, cancel) =
            (Arc::clone(&engine.proxy), adopt(listener)?, tasks.corridors.clone());
        tasks.serve(async move { proxy.serve(listener, origdst::Capture::Transparent, whose, cancel).await });
    }
    for listener in dns_tcp {
        let (forwarder, listener, cancel) = (forwarder.clone(), adopt(listener)?, tasks.corridors.clone());
        tasks.serve(async move { forwarder.serve_tcp(listener, cancel).await });
    }
    for socket in dns_udp {
        let socket = CapturedUdp::adopt(socket)
            .map_err(|source| Error::System { action: "adopt a socket for questions", source })?;
        let (forwarder, cancel) = (forwarder.clone(), tasks.corridors.clone());
        tasks.serve(async move { forwarder.serve_udp(socket, cancel).await });
    }
    tasks.drain_questions(&engine.forwarder);
    Ok(())
}

/// The operator's own word that `localhost` is at 127.0.0.1: for the ports of the host that stay reachable.
fn grant_localhost(gate: &Gate, client: Client) {
    let Ok(name) = Name::parse("localhost") else { return };
    let now = clock::now();
    let addresses = vec![Address { ip: IpAddr::from(Ipv4Addr::LOCALHOST), ttl_secs: LONGEST_TTL }];
    let chain = vec![name];
    gate.observe(&Observation { client, chain, addresses, source: Source::Granted, at: now.tick }, now);
}

/// As long as a TTL can be (RFC 2181 section 8).
const LONGEST_TTL: u32 = i32::MAX.unsigned_abs();

/// Says which layers there are, and what the user of this machine should know of those that are not.
fn tell(layers: &Layers, quiet: bool) {
    for (layer, why) in layers.missing() {
        if layer.is_needed() && !quiet {
            tracing::warn!(layer = layer.code(), why, "going on without a layer that the promise needs");
        } else {
            tracing::info!(layer = layer.code(), why, "not to be had here");
        }
    }
    for layer in layers.present() {
        tracing::info!(layer = layer.code(), "in place");
    }
}

/// Stays with the command to its end: hands signals on, stops when it stops, and notes what keeps it in.
async fn attend(
    mut running: Running,
    inbox: Inbox,
    log: &Log,
    (mut layers, quiet): (Layers, bool),
    command: Arc<str>,
) -> Result<Finished, Error> {
    let system = |source| Error::System { action: "read signals", source };
    let ear = inbox.ear().map_err(system)?;
    let ended = loop {
        tokio::select! {
            told = running.next() => match told? {
                Told::Started(own) => {
                    tell(&own, quiet);
                    layers.extend(own);
                    log.record(started(&layers, Arc::clone(&command))).await;
                }
                Told::Stopped(signal) => running.stop_too(signal),
                Told::Ended(ended) => break ended,
            },
            ready = ear.readable() => {
                ready.map_err(system)?.clear_ready();
                while let Some(arrived) = inbox.next().map_err(system)? {
                    if arrived.number == libc::SIGCONT {
                        running.go_on();
                    } else if signals::is_message(arrived.number) {
                        running.signal(arrived);
                    }
                }
            }
        }
    };
    // Nothing is handed on any more: what ends other programs may end this one, while it has last things to do. A key
    // that ended the command is not such a thing, and came here before the command's end did.
    while let Ok(Some(_)) = inbox.next() {}
    let _ = signals::unblock_all();
    Ok(Finished { ended, by_key: running.finish() })
}

fn started(layers: &Layers, command: Arc<str>) -> Event {
    Event::Sandbox(SandboxEvent {
        at: clock::now(),
        layers: layers.present().iter().map(|layer| layer.code()).collect(),
        missing: layers.missing().iter().map(|(layer, _)| layer.code()).collect(),
        breached: layers.breach().is_some(),
        command,
    })
}

/// Ends what served the sandbox, which is gone, and writes the log out.
pub(super) async fn end(tasks: Tasks, log: &Log) {
    tasks.corridors.cancel();
    tasks.serving.close();
    // Nobody is there to hear an answer.
    let _ = timeout(LAST_ANSWERS, tasks.serving.wait()).await;
    tasks.upkeep.cancel();
    tasks.keeping.close();
    let last_words = async {
        tasks.keeping.wait().await;
        log.close().await;
    };
    if timeout(LAST_WORDS, last_words).await.is_err() {
        tracing::error!("the audit log takes no more lines: what is queued is lost");
    }
}
