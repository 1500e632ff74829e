//! The only place where rooms meet: build, connect, run, and drain in reverse.
//!
//! Must not decide anything: it hands each room what it needs and stays out of the way.

mod capture;
mod engine;
mod error;
mod exec;
mod gateways;
mod guard;
mod keeper;
mod local;
mod networks;
mod pinning;
mod reload;
mod residents;
mod service;
mod upkeep;
mod vitals;
mod workers;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::admin::{self, Admin, AdminConfig, AskError};
use crate::dns::Pool;
use crate::dns::tap::Tap;
use crate::gate::Roster;
use crate::nft::{Family, Installed, Leftovers, Netfilter, Nft, Piece, Standing, remove_leftovers};
use crate::record::Log;
use crate::settings::{Settings, TABLE};
use crate::sys::neighbours::Neighbours;
use crate::sys::origdst::Capture;
use crate::sys::{addresses, limits};
use crate::who::Whose;

use capture::{Doors, LocalDoor, Sockets};
use engine::{Engine, News, Parts, Tasks, adopt};
use keeper::Keeper;
use local::Local;
use networks::Watched;
use pinning::Pinning;
use reload::Reloader;
use service::Word;
use vitals::Vitals;
use workers::Workers;

pub use capture::captured;
pub use error::Error;
pub use exec::{Exec, Finished, exec};
pub use gateways::GatewayError;
pub use guard::{Ward, guard};

/// Runs the gate until it is told to stop by SIGTERM or SIGINT. SIGHUP reads the rules and opens the audit files
/// again.
///
/// Nothing is installed unless everything can be; what was installed stays when this returns. So captured interfaces and
/// users stay closed without a gate, and so does a control group until it is made anew: then it is another, which only a
/// running gate captures.
///
/// # Errors
/// [`Error`] tells what refused, and knows the exit code and the next step.
pub async fn run(mut settings: Settings) -> Result<(), Error> {
    let descriptors = limits::raise_descriptors();
    tracing::debug!(?descriptors, "descriptor limit");
    let fixed = reload::fixed(&settings);
    settings.dns.no_ipv6 = !upkeep::has_ipv6_route();
    let kernel: Arc<dyn Netfilter> = Arc::new(Nft::default());
    let docker = match &settings.docker {
        Some(docker) => Some(networks::look(docker).await?),
        None => None,
    };
    let capture = match (&docker, &settings.docker) {
        (Some(watched), Some(docker)) => networks::with_bridges(&settings.capture, watched, docker),
        (Some(_) | None, _) => settings.capture.clone(),
    };
    let doors = Doors::open(&settings, &capture, &kernel).await?;
    let resolver = Arc::new(Pool::new(&settings.dns)?);
    let tap = Tap::bind(&settings.tap)?;
    let admin = settings.admin.as_ref().map(Admin::bind).transpose()?;
    let signals = Signals::new().map_err(|source| Error::System { action: "deliver signals", source })?;
    let log = Log::open(&settings.record)?;
    let parts = Ready { doors, resolver, tap, admin, log, kernel, docker };
    Running::start(settings, fixed, parts).await?.until_stopped(signals).await;
    Ok(())
}

/// Why a running gate could not be asked.
#[derive(Debug)]
pub enum AskFailure {
    /// It was asked.
    Ask(AskError),
    /// It could not even be asked.
    Runtime(std::io::Error),
}

/// Asks a running gate for its status, as JSON. Waits for [`admin::DEADLINE`] at most.
///
/// # Errors
/// [`AskFailure`].
pub fn ask(config: &AdminConfig) -> Result<String, AskFailure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AskFailure::Runtime)?;
    runtime.block_on(admin::ask(config)).map_err(AskFailure::Ask)
}

/// Removes what a gate that is gone left in the kernel; returns a line for each thing removed.
///
/// # Errors
/// [`Error::Capture`]: the kernel or `nft` refuses.
pub async fn down() -> Result<Vec<String>, Error> {
    let Leftovers { table, pins, steering } = remove_leftovers(&Nft::default(), TABLE).await?;
    let mut removed = Vec::new();
    if table {
        removed.push(format!("table inet {TABLE}"));
    }
    if pins {
        removed.push(format!("table bridge {TABLE}"));
    }
    removed.extend(steering.into_iter().map(|(family, piece)| {
        let family = match family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        match piece {
            Piece::Home => format!("{family} rule and route of captured packets"),
            Piece::Fence(interface) => format!("{family} rule that keeps {interface} from being routed"),
        }
    }));
    let system = |source| Error::System { action: "remove gateway addresses", source };
    let addresses = addresses::remove_added().await.map_err(system)?;
    removed.extend(
        addresses.into_iter().map(|held| format!("gateway address {} of {}", held.address, held.link)),
    );
    Ok(removed)
}

/// How long the log may take to write out what is queued when the gate stops.
const LAST_WORDS: Duration = Duration::from_secs(3);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

enum Told {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Ready at the next request to stop.
    async fn impatience(&mut self) {
        while let Told::Reload = self.next().await {}
    }
}

/// The ports that this gate itself listens on.
fn own_ports(settings: &Settings, local: Option<&Local>, tap: &Tap, admin: Option<&Admin>) -> HashSet<u16> {
    [settings.capture.proxy_port, settings.capture.dns_port]
        .into_iter()
        .chain(local.map(Local::ports).into_iter().flatten())
        .chain(settings.dns_listen.iter().map(SocketAddr::port))
        .chain(tap.tcp_addresses().iter().map(SocketAddr::port))
        .chain(admin.and_then(Admin::tcp_address).map(|address| address.port()))
        .collect()
}

/// What was opened before anything is served.
struct Ready {
    doors: Doors,
    resolver: Arc<Pool>,
    tap: Tap,
    admin: Option<Admin>,
    log: Log,
    kernel: Arc<dyn Netfilter>,
    docker: Option<Watched>,
}

/// A gate in operation.
struct Running {
    reloader: Reloader,
    log: Log,
    tasks: Tasks,
    workers: Workers,
    vitals: Arc<Vitals>,
    drain: Duration,
}

impl Running {
    async fn start(settings: Settings, fixed: String, ready: Ready) -> Result<Self, Error> {
        let Ready { mut doors, resolver, tap, admin, log, kernel, docker } = ready;
        let tasks = Tasks::default();
        let capture = networks::besides(docker.as_ref(), &settings, doors.plan.config());
        let view = docker.map(|docker| docker.follow(&tasks));
        let (local, owners, local_sockets) = match doors.local.take() {
            Some(LocalDoor { local, owners, sockets }) => (Some(local), Some(owners), Some(sockets)),
            None => (None, None, None),
        };
        let ports = own_ports(&settings, local.as_ref(), &tap, admin.as_ref());
        let vitals = Vitals::new(doors.plan.clone(), &settings, view.clone());
        let drain = settings.proxy.drain;
        let users = local::users(&settings.policy)?;
        let captured = local::captured_users(&settings)?;
        let engine = Engine::connect(Parts {
            policy: settings.policy,
            ledger: settings.ledger,
            proxy: settings.proxy,
            dns: settings.dns,
            on_miss: settings.on_miss,
            resolver,
            neighbours: Neighbours::new(doors.plan.config().interfaces.clone()),
            owners,
            roster: Roster::default().naming(users),
            docker: News::of(view.as_ref(), settings.docker.as_ref()),
            log: log.clone(),
        });
        if let Some(view) = &view {
            networks::first_picture(view, &engine.residents, &log).await?;
        }
        upkeep::learn_own(&engine.gate, &ports)
            .await
            .map_err(|source| Error::System { action: "list this machine's addresses", source })?;
        let running = Self {
            reloader: Reloader {
                path: settings.path,
                gate: Arc::clone(&engine.gate),
                log: log.clone(),
                residents: Arc::clone(&engine.residents),
                knows_containers: view.is_some(),
                captured,
                fixed,
                vitals: Arc::clone(&vitals),
            },
            log: log.clone(),
            tasks,
            workers: Workers::start()?,
            vitals: Arc::clone(&vitals),
            drain,
        };
        let (plan, gateways) = (doors.plan, doors.gateways);
        running.serve(doors.sockets, &engine, doors.capture, Whose::Link)?;
        if let Some(sockets) = local_sockets {
            running.serve(sockets, &engine, Capture::Redirected, Whose::Opener(None))?;
        }
        running.serve_others(&engine, tap, admin);
        // Whoever is captured finds the listeners open already, and whoever finds the gateway is captured.
        let installed = Installed::apply(Arc::clone(&kernel), &plan).await?;
        gateways.take().await?;
        let Engine { gate, forwarder, who, residents, proxy: _ } = engine;
        log.record(reload::policy(&gate, Ok(()))).await;
        log.record(keeper::ruleset("installed", &installed)).await;
        let (tasks, end, noted) = (&running.tasks, &running.tasks.upkeep, Arc::clone(&vitals));
        vitals.ruleset(Some(Standing::Intact));
        tasks.keep(upkeep::sweep(Arc::clone(&gate), move || noted.swept(), end.clone()));
        tasks.keep(upkeep::tell_repeats(log.clone(), end.clone()));
        tasks.keep(upkeep::follow_own(Arc::clone(&gate), forwarder, ports, end.clone()));
        let (plans, wanted) = watch::channel(plan);
        if let Some((view, docker)) = view.zip(settings.docker) {
            tasks.keep(Pinning::new(view.clone(), kernel, &docker).run(end.clone()));
            let (log, networks, form) = (log.clone(), docker.networks, plans.borrow().form());
            let known = Default::default();
            let following =
                networks::Following { view, residents, who, log, capture, form, networks, known, plans };
            tasks.keep(following.run(end.clone()));
        }
        tasks.keep(Keeper::new(installed, wanted, local, log.clone(), Arc::clone(&vitals)).keep(end.clone()));
        service::tell(Word::Ready(reload::in_force(&gate))).await;
        tasks.keep(service::feel_pulse(gate, log, vitals, running.workers.handles().to_vec(), end.clone()));
        Ok(running)
    }

    fn serve(&self, sockets: Sockets, engine: &Engine, capture: Capture, whose: Whose) -> Result<(), Error> {
        let (tasks, vitals) = (&self.tasks, &self.vitals);
        let forwarder = engine.forwarder.of(whose);
        for listener in sockets.proxy {
            self.workers.serve(tasks, listener, |listener| {
                let (proxy, cancel) = (Arc::clone(&engine.proxy), tasks.corridors.clone());
                vitals.watch("connections", proxy.serve(listener, capture, whose, cancel))
            })?;
        }
        for listener in sockets.dns_tcp {
            let (forwarder, cancel) = (forwarder.clone(), tasks.corridors.clone());
            let listener = adopt(listener)?;
            let work = async move { forwarder.serve_tcp(listener, cancel).await };
            tasks.serve(vitals.watch("questions over TCP", work));
        }
        for socket in sockets.dns_udp {
            let (forwarder, cancel) = (forwarder.clone(), tasks.corridors.clone());
            let work = async move { forwarder.serve_udp(socket, cancel).await };
            tasks.serve(vitals.watch("questions over UDP", work));
        }
        Ok(())
    }

    /// Serves who tells of answers, and who asks how the gate is.
    fn serve_others(&self, engine: &Engine, tap: Tap, admin: Option<Admin>) {
        let (tasks, vitals) = (&self.tasks, &self.vitals);
        tasks.drain_questions(&engine.forwarder);
        if tap.listens() {
            let tap = tap.serve(Arc::clone(&engine.gate), self.log.clone(), tasks.upkeep.clone());
            tasks.keep(vitals.watch("dnstap frames", tap));
        }
        if let Some(admin) = admin {
            let (gate, told) = (Arc::clone(&engine.gate), Arc::clone(vitals));
            let facts: admin::Facts = Arc::new(move || told.status(&gate));
            tasks.keep(admin.serve(facts, self.log.clone(), tasks.upkeep.clone()));
        }
    }

    /// Waits for signals; then stops taking connections, lets open ones end, and writes out the log.
    ///
    /// Nothing here waits for the log without an end: a target that takes no more bytes must not make the gate
    /// deaf to signals.
    async fn until_stopped(self, mut signals: Signals) {
        let Self { reloader, log, tasks, workers: _workers, vitals, drain } = self;
        let asked = Arc::new(Notify::new());
        let reloading = tasks.upkeep.child_token();
        tasks.keep(reload::on_request(reloader, Arc::clone(&asked), reloading));
        while let Told::Reload = signals.next().await {
            asked.notify_one();
        }
        tracing::info!(
            "stopping: captured interfaces and users stay closed, and control groups until they are made anew; \
             `namegate down` opens them"
        );
        vitals.stopping();
        tasks.corridors.cancel();
        service::tell(Word::Stopping(drain.saturating_add(LAST_WORDS))).await;
        tasks.serving.close();
        tokio::select! {
            () = tasks.serving.wait() => {}
            () = signals.impatience() => {}
        }
        tasks.upkeep.cancel();
        tasks.keeping.close();
        let last_words = async {
            tasks.keeping.wait().await;
            log.close().await;
        };
        tokio::select! {
            () = last_words => {}
            () = sleep(LAST_WORDS) => tracing::error!("the audit log takes no more lines: what is queued is lost"),
            () = signals.impatience() => {}
        }
    }
}
