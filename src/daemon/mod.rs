//! The only place where rooms meet: build, connect, run, and drain in reverse.
//!
//! Must not decide anything: it hands each room what it needs and stays out of the way.

mod capture;
mod error;
mod reload;
mod upkeep;

use std::collections::HashSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dns::tap::Tap;
use crate::dns::{Forwarder, OnMiss, Pool};
use crate::gate::Gate;
use crate::nft::{Family, Installed, Leftovers, Netfilter, Nft, Piece, remove_leftovers};
use crate::proxy::{Proxy, SecondLook, TcpDial, Wiring};
use crate::record::Log;
use crate::settings::{Settings, TABLE};
use crate::sys::limits;
use crate::sys::neighbours::Neighbours;

use capture::Doors;
use reload::Reloader;

pub use error::Error;

/// Runs the gate until it is told to stop by SIGTERM or SIGINT. SIGHUP reads the rules and opens the audit files
/// again.
///
/// Nothing is installed unless everything can be; what was installed stays when this returns.
///
/// # Errors
/// [`Error`] tells what refused, and knows the exit code and the next step.
pub async fn run(mut settings: Settings) -> Result<(), Error> {
    let descriptors = limits::raise_descriptors();
    tracing::debug!(?descriptors, "descriptor limit");
    settings.dns.no_ipv6 = !upkeep::has_ipv6_route();
    let kernel: Arc<dyn Netfilter> = Arc::new(Nft::default());
    let doors = Doors::open(&settings, &kernel).await?;
    let resolver = Arc::new(Pool::new(&settings.dns)?);
    let tap = Tap::bind(&settings.tap)?;
    let signals = Signals::new().map_err(|source| Error::System { action: "deliver signals", source })?;
    let log = Log::open(&settings.record)?;
    Running::start(settings, doors, resolver, tap, log, kernel).await?.until_stopped(signals).await;
    Ok(())
}

/// Removes what a gate that is gone left in the kernel; returns a line for each thing removed.
///
/// # Errors
/// [`Error::Capture`]: the kernel or `nft` refuses.
pub async fn down() -> Result<Vec<String>, Error> {
    let Leftovers { table, steering } = remove_leftovers(&Nft::default(), TABLE).await?;
    let mut removed = Vec::new();
    if table {
        removed.push(format!("table inet {TABLE}"));
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
    Ok(removed)
}

/// The forwarder's own look-up, in the shape in which the proxy asks for it.
fn second_look(forwarder: &Arc<Forwarder>) -> SecondLook {
    let forwarder = Arc::clone(forwarder);
    Arc::new(move |client, name, destination| {
        let forwarder = Arc::clone(&forwarder);
        Box::pin(async move { forwarder.lookup(client, name, destination).await })
    })
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

/// A gate in operation.
struct Running {
    reloader: Reloader,
    log: Log,
    /// Ends the corridors; upkeep ends after them.
    corridors: CancellationToken,
    upkeep: CancellationToken,
    serving: TaskTracker,
    keeping: TaskTracker,
}

impl Running {
    async fn start(
        settings: Settings,
        doors: Doors,
        resolver: Arc<Pool>,
        tap: Tap,
        log: Log,
        kernel: Arc<dyn Netfilter>,
    ) -> Result<Self, Error> {
        let fixed = reload::fixed(&settings);
        let gate = Gate::new(settings.policy, settings.ledger);
        let ports: HashSet<u16> = [settings.capture.proxy_port, settings.capture.dns_port]
            .into_iter()
            .chain(settings.dns_listen.iter().map(SocketAddr::port))
            .chain(tap.tcp_addresses().iter().map(SocketAddr::port))
            .collect();
        upkeep::learn_own(&gate, &ports)
            .await
            .map_err(|source| Error::System { action: "list this machine's addresses", source })?;
        let (changes, policy_changes) = watch::channel(0);
        let neighbours = Arc::new(Neighbours::new(settings.capture.interfaces));
        let dns_neighbours = Arc::clone(&neighbours);
        let forwarder =
            Forwarder::new(settings.dns, Arc::clone(&gate), log.clone(), resolver, dns_neighbours);
        let forwarder = Arc::new(forwarder);
        let proxy = Proxy::new(Wiring {
            config: settings.proxy,
            gate: Arc::clone(&gate),
            log: log.clone(),
            dial: Arc::new(TcpDial),
            second_look: match settings.on_miss {
                OnMiss::Deny => None,
                OnMiss::Resolve => Some(second_look(&forwarder)),
            },
            neighbours,
            policy_changes,
        });
        let running = Self {
            reloader: Reloader {
                path: settings.path,
                gate: Arc::clone(&gate),
                log: log.clone(),
                changes,
                fixed,
            },
            log: log.clone(),
            corridors: CancellationToken::new(),
            upkeep: CancellationToken::new(),
            serving: TaskTracker::new(),
            keeping: TaskTracker::new(),
        };
        let plan = doors.plan.clone();
        running.serve(doors, &proxy, &forwarder, tap, &gate)?;
        // Whoever is captured finds the listeners open already.
        let installed = Installed::apply(kernel, &plan).await?;
        let table: Arc<str> = plan.config().table.as_str().into();
        log.record(reload::policy(&gate, Ok(()))).await;
        log.record(upkeep::ruleset("installed", &table)).await;
        running.keep(upkeep::sweep(Arc::clone(&gate), running.upkeep.clone()));
        running.keep(upkeep::follow_own(gate, forwarder, ports, running.upkeep.clone()));
        running.keep(upkeep::guard_rules(installed, table, log, running.upkeep.clone()));
        Ok(running)
    }

    fn serve(
        &self,
        doors: Doors,
        proxy: &Arc<Proxy>,
        forwarder: &Arc<Forwarder>,
        tap: Tap,
        gate: &Arc<Gate>,
    ) -> Result<(), Error> {
        let adopt = |listener| {
            TcpListener::from_std(listener)
                .map_err(|source| Error::System { action: "adopt a listener", source })
        };
        for listener in doors.proxy {
            let (proxy, listener, cancel) = (Arc::clone(proxy), adopt(listener)?, self.corridors.clone());
            self.serving.spawn(async move { proxy.serve(listener, doors.capture, cancel).await });
        }
        for listener in doors.dns_tcp {
            let (forwarder, listener, cancel) =
                (Arc::clone(forwarder), adopt(listener)?, self.corridors.clone());
            self.serving.spawn(async move { forwarder.serve_tcp(listener, cancel).await });
        }
        for socket in doors.dns_udp {
            let (forwarder, cancel) = (Arc::clone(forwarder), self.corridors.clone());
            self.serving.spawn(async move { forwarder.serve_udp(socket, cancel).await });
        }
        let forwarder = Arc::clone(forwarder);
        let stopped = self.corridors.clone();
        self.serving.spawn(async move {
            stopped.cancelled().await;
            forwarder.drained().await;
        });
        self.keep(tap.serve(Arc::clone(gate), self.log.clone(), self.upkeep.clone()));
        Ok(())
    }

    fn keep(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.keeping.spawn(work);
    }

    /// Waits for signals; then stops taking connections, lets open ones end, and writes out the log.
    ///
    /// Nothing here waits for the log without an end: a target that takes no more bytes must not make the gate
    /// deaf to signals.
    async fn until_stopped(self, mut signals: Signals) {
        let log = self.log.clone();
        let asked = Arc::new(Notify::new());
        let reloading = self.upkeep.child_token();
        self.keeping.spawn(reload::on_request(self.reloader, Arc::clone(&asked), reloading));
        while let Told::Reload = signals.next().await {
            asked.notify_one();
        }
        tracing::info!("stopping: the captured interfaces stay closed, `namegate down` opens them");
        self.corridors.cancel();
        self.serving.close();
        tokio::select! {
            () = self.serving.wait() => {}
            () = signals.impatience() => {}
        }
        self.upkeep.cancel();
        self.keeping.close();
        let last_words = async {
            self.keeping.wait().await;
            log.close().await;
        };
        tokio::select! {
            () = last_words => {}
            () = sleep(LAST_WORDS) => tracing::error!("the audit log takes no more lines: what is queued is lost"),
            () = signals.impatience() => {}
        }
    }
}
