//! What every door leads to: one gate, one forwarder, one proxy, connected to one log.
//!
//! Must not know how sockets are born.

use std::future::Future;
use std::net::TcpListener as StdTcpListener;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dns::{DnsConfig, Forwarder, OnMiss, Pool};
use crate::docker::View;
use crate::gate::{Gate, LedgerConfig, Policy, Roster};
use crate::proxy::{Proxy, ProxyConfig, SecondLook, TcpDial, Wiring};
use crate::record::Log;
use crate::settings::DockerSettings;
use crate::sys::neighbours::Neighbours;
use crate::sys::owner::Owners;
use crate::who::Who;

use super::residents::Residents;
use super::{Error, networks};

/// What an engine is built of.
pub(super) struct Parts {
    pub(super) policy: Policy,
    pub(super) ledger: LedgerConfig,
    pub(super) proxy: ProxyConfig,
    pub(super) dns: DnsConfig,
    pub(super) on_miss: OnMiss,
    pub(super) resolver: Arc<Pool>,
    pub(super) neighbours: Neighbours,
    /// Who there is, and where more of it is told.
    pub(super) roster: Roster,
    pub(super) docker: Option<News>,
    /// `None`: no process of this host is captured.
    pub(super) owners: Option<Owners>,
    pub(super) log: Log,
}

/// Where containers are told of.
pub(super) struct News {
    pub(super) view: View,
    /// Whether labels are rules.
    pub(super) labels: bool,
}

impl News {
    pub(super) fn of(view: Option<&View>, docker: Option<&DockerSettings>) -> Option<Self> {
        let (view, docker) = view.zip(docker)?;
        Some(Self { view: view.clone(), labels: docker.labels })
    }
}

/// The rooms, connected.
pub(super) struct Engine {
    pub(super) gate: Arc<Gate>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) who: Arc<Who>,
    pub(super) residents: Arc<Residents>,
}

impl Engine {
    pub(super) fn connect(parts: Parts) -> Self {
        let Parts { policy, ledger, proxy, dns, on_miss, resolver, neighbours, owners, roster, docker, log } =
            parts;
        let gate = Gate::new(policy, ledger);
        let (changes, policy_changes) = watch::channel(0);
        let labels = docker.as_ref().is_some_and(|docker| docker.labels);
        let residents = Arc::new(Residents::new(Arc::clone(&gate), changes, roster, labels));
        let mut who = Who::new(Arc::clone(&gate), neighbours);
        if let Some(News { view, .. }) = docker {
            who = who.with_news(networks::news(view, Arc::clone(&residents), log.clone()));
        }
        if let Some(owners) = owners {
            who = who.with_owners(owners);
        }
        let who = Arc::new(who);
        let forwarder = Forwarder::new(dns, Arc::clone(&gate), log.clone(), resolver, Arc::clone(&who));
        let forwarder = Arc::new(forwarder);
        let proxy = Proxy::new(Wiring {
            config: proxy,
            gate: Arc::clone(&gate),
            log,
            dial: Arc::new(TcpDial),
            second_look: match on_miss {
                OnMiss::Deny => None,
                OnMiss::Resolve => Some(second_look(&forwarder)),
            },
            who: Arc::clone(&who),
            policy_changes,
        });
        Self { gate, forwarder, proxy, who, residents }
    }
}

/// The forwarder's own look-up, in the shape in which the proxy asks for it.
fn second_look(forwarder: &Arc<Forwarder>) -> SecondLook {
    let forwarder = Arc::clone(forwarder);
    Arc::new(move |client, name, destination| {
        let forwarder = Arc::clone(&forwarder);
        Box::pin(async move { forwarder.lookup(client, name, destination).await })
    })
}

/// Takes a listener into the runtime.
pub(super) fn adopt(listener: StdTcpListener) -> Result<TcpListener, Error> {
    TcpListener::from_std(listener).map_err(|source| Error::System { action: "adopt a listener", source })
}

/// The tasks of a running gate: corridors, which are ended first, and upkeep.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// Ends the corridors; upkeep ends after them.
    pub(super) corridors: CancellationToken,
    pub(super) upkeep: CancellationToken,
    pub(super) serving: TaskTracker,
    pub(super) keeping: TaskTracker,
}

impl Tasks {
    pub(super) fn serve(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.serving.spawn(work);
    }

    pub(super) fn keep(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.keeping.spawn(work);
    }

    /// Stays until every question under way is answered, once the corridors are told to end.
    pub(super) fn drain_questions(&self, forwarder: &Arc<Forwarder>) {
        let forwarder = Arc::clone(forwarder);
        let stopped = self.corridors.clone();
        self.serve(async move {
            stopped.cancelled().await;
            forwarder.drained().await;
        });
    }
}
