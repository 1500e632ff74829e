//! A new policy from the same file: all or nothing.
//!
//! Only rules and their defaults change while the gate runs; the rest needs a restart, and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::gate::{Gate, Mode};
use crate::record::{Event, Log, PolicyEvent};
use crate::settings::{self, Settings};
use crate::sys::clock;

use super::local::{self, Users};
use super::residents::Residents;
use super::service::{self, Word};
use super::vitals::Vitals;

/// What a reload acts on.
pub(super) struct Reloader {
    /// The file; `None`: arguments, which do not change.
    pub(super) path: Option<PathBuf>,
    pub(super) gate: Arc<Gate>,
    pub(super) log: Log,
    pub(super) residents: Arc<Residents>,
    /// Whether Docker is asked who its containers are.
    pub(super) knows_containers: bool,
    /// The users who are captured, with the numbers that they had at the start.
    pub(super) captured: Users,
    /// All that a reload does not change, as it was at the start.
    pub(super) fixed: String,
    pub(super) vitals: Arc<Vitals>,
}

impl Reloader {
    /// Opens the audit files again, and reads the rules again.
    async fn again(&self) {
        if let Err(error) = self.log.reopen().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the audit log goes on in the old file");
        }
        match &self.path {
            Some(path) => self.reload(path).await,
            None => tracing::warn!("there is no configuration file to read again"),
        }
    }

    /// Reads the file again. A bad one leaves the policy as it is; a good one is in force at once, and open flows
    /// are asked again.
    async fn reload(&self, path: &Path) {
        let file = path.to_owned();
        let captured = self.captured.clone();
        let read = tokio::task::spawn_blocking(move || read(&file, &captured)).await;
        let outcome = match read {
            Ok(Ok((settings, _))) if settings.docker.is_some() && !self.knows_containers => {
                Err("rules name containers, and nobody was asked for them at the start: restart the gate"
                    .into())
            }
            Ok(Ok((settings, users))) => {
                if fixed(&settings) != self.fixed {
                    tracing::warn!("something else than rules changed: it takes effect at the next start");
                }
                let rules = settings.policy.rules().len();
                self.residents.rebase(settings.policy, users);
                tracing::info!(rules, "new policy in force");
                Ok(())
            }
            Ok(Err(why)) => Err(why),
            Err(error) => Err(first_line(&error.to_string())),
        };
        if let Err(why) = &outcome {
            tracing::warn!(%why, "the new policy is refused, the old one stays in force");
        }
        self.vitals.reloaded(&outcome);
        self.log.record(policy(&self.gate, outcome)).await;
    }
}

/// Reads a file, and who the users are that its rules name. Rules for a captured user who has another number now would
/// be for one who is not captured.
fn read(file: &Path, captured: &Users) -> Result<(Settings, Users), Arc<str>> {
    for (name, uid) in captured {
        if local::number(name).ok() != Some(*uid) {
            return Err(format!(
                "user {name} is captured by the number {uid}, which is not its own any more: restart the gate"
            )
            .into());
        }
    }
    let checked = settings::load(file, SystemTime::now()).map_err(|error| first_line(&error.to_string()))?;
    let users = local::users(&checked.settings.policy).map_err(|error| first_line(&error.to_string()))?;
    Ok((checked.settings, users))
}

/// Reloads whenever asked, until cancelled.
pub(super) async fn on_request(reloader: Reloader, asked: Arc<Notify>, cancel: CancellationToken) {
    let forever = async {
        loop {
            asked.notified().await;
            service::tell(Word::Reloading).await;
            reloader.again().await;
            let mut words = in_force(&reloader.gate);
            if reloader.vitals.is_reload_refused() {
                words.push_str("; the last reload was refused");
            }
            service::tell(Word::Ready(words)).await;
        }
    };
    cancel.run_until_cancelled(forever).await;
}

/// Describes the policy in force.
pub(super) fn policy(gate: &Gate, outcome: Result<(), Arc<str>>) -> Event {
    Event::Policy(PolicyEvent { at: clock::now(), rules: gate.policy().rules().len(), outcome })
}

/// Says in a few words what is in force.
pub(super) fn in_force(gate: &Gate) -> String {
    let policy = gate.policy();
    let mode = match policy.defaults().mode {
        Mode::Enforce => "enforcing",
        Mode::Observe => "observing",
    };
    format!("{mode}, rules: {}", policy.rules().len())
}

/// Everything that a reload does not change, in comparable form.
pub(super) fn fixed(settings: &Settings) -> String {
    let Settings {
        path: _,
        policy: _,
        ledger,
        proxy,
        dns,
        on_miss,
        dns_listen,
        tap,
        capture,
        local,
        docker,
        gateways,
        record,
        admin,
    } = settings;
    // What the daemon found out about this machine is not the operator's change.
    let dns = crate::dns::DnsConfig { no_ipv6: false, ..dns.clone() };
    format!(
        "{ledger:?} {proxy:?} {dns:?} {on_miss:?} {dns_listen:?} {tap:?} {capture:?} {local:?} {docker:?} {gateways:?} {record:?} \
         {admin:?}"
    )
}

fn first_line(text: &str) -> Arc<str> {
    text.lines().next().unwrap_or("unreadable").into()
}
