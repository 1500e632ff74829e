//! How the gate is: what its tasks noted, put together when somebody asks.
//!
//! Must not know who asks, nor what is thought of it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admin;
use crate::docker::{NetworkState, Picture, View};
use crate::gate::{Gate, Mode};
use crate::nft::{Plan, Standing};
use crate::settings::{LocalSettings, Settings};
use crate::sys::clock;

/// What is noted while the gate runs.
#[derive(Debug)]
pub(super) struct Vitals {
    since: SystemTime,
    networks: Vec<String>,
    /// Captured processes of this host, as people call them.
    local: Vec<String>,
    docker: Option<View>,
    stopping: AtomicBool,
    generation: AtomicU64,
    noted: Mutex<Noted>,
}

#[derive(Debug)]
struct Noted {
    plan: Plan,
    ruleset: admin::Ruleset,
    checked: (SystemTime, Instant),
    reload: Option<admin::Reload>,
    posts: Vec<(&'static str, Arc<AtomicBool>)>,
    /// Time asleep does not count: nobody sweeps then.
    swept: Instant,
    stuck: Option<&'static str>,
}

/// Goes with the task that holds it.
struct Post(Arc<AtomicBool>);

impl Drop for Post {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Vitals {
    /// `docker`: where Docker is seen, if it is needed.
    pub(super) fn new(plan: Plan, settings: &Settings, docker: Option<View>) -> Arc<Self> {
        let (since, now) = (clock::now().wall, Instant::now());
        Arc::new(Self {
            since,
            networks: settings.docker.as_ref().map(|docker| docker.networks.clone()).unwrap_or_default(),
            local: settings.local.as_ref().map(LocalSettings::told).unwrap_or_default(),
            docker,
            stopping: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            noted: Mutex::new(Noted {
                plan,
                ruleset: admin::Ruleset::Unknown,
                checked: (since, now),
                reload: None,
                posts: Vec::new(),
                swept: now,
                stuck: None,
            }),
        })
    }

    /// Keeps an eye on a task that is to run until the gate stops.
    pub(super) fn watch<F: Future<Output = ()>>(
        &self,
        what: &'static str,
        work: F,
    ) -> impl Future<Output = ()> + use<F> {
        let alive = Arc::new(AtomicBool::new(true));
        self.noted.lock().posts.push((what, Arc::clone(&alive)));
        let post = Post(alive);
        async move {
            let _post = post;
            work.await;
        }
    }

    /// Notes that something else is captured now.
    pub(super) fn captures(&self, plan: Plan) {
        self.noted.lock().plan = plan;
        self.ruleset(Some(Standing::Intact));
    }

    /// Notes what was found of the kernel's rules; `None`: they could not be read.
    pub(super) fn ruleset(&self, standing: Option<Standing>) {
        let mut noted = self.noted.lock();
        noted.checked = (clock::now().wall, Instant::now());
        noted.ruleset = match standing {
            Some(Standing::Intact) => admin::Ruleset::Intact,
            Some(Standing::Missing) => admin::Ruleset::Missing,
            Some(Standing::Changed) => admin::Ruleset::Changed,
            None => admin::Ruleset::Unknown,
        };
    }

    /// Notes how a reload ended.
    pub(super) fn reloaded(&self, outcome: &Result<(), Arc<str>>) {
        if outcome.is_ok() {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        let refused = outcome.as_ref().err().cloned();
        self.noted.lock().reload = Some(admin::Reload { at: clock::now().wall, refused });
    }

    /// Whether the last reload was refused.
    pub(super) fn is_reload_refused(&self) -> bool {
        self.noted.lock().reload.as_ref().is_some_and(|reload| reload.refused.is_some())
    }

    /// Notes that the ledger was swept.
    pub(super) fn swept(&self) {
        self.noted.lock().swept = Instant::now();
    }

    /// Returns how long ago the ledger was swept.
    pub(super) fn unswept_for(&self) -> Duration {
        self.noted.lock().swept.elapsed()
    }

    /// Whether everybody who is to listen does.
    pub(super) fn all_listen(&self) -> bool {
        self.noted.lock().posts.iter().all(|(_, alive)| alive.load(Ordering::Relaxed))
    }

    /// Notes what does not move on.
    pub(super) fn stuck(&self, what: Option<&'static str>) {
        self.noted.lock().stuck = what;
    }

    /// Notes that the end has begun.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the end has begun.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Puts it together.
    pub(super) fn status(&self, gate: &Gate) -> admin::Status {
        let policy = gate.policy();
        let defaults = policy.defaults();
        let over = defaults.until.is_some_and(|until| until <= clock::now().wall);
        let leases = gate.lease_count();
        let picture = self.docker.as_ref().map(View::picture);
        let (networks, missing) = self.networks(picture.as_ref().and_then(Option::as_deref));
        let noted = self.noted.lock();
        admin::Status {
            version: env!("CARGO_PKG_VERSION"),
            since: self.since,
            stopping: self.is_stopping(),
            mode: if over { Mode::Enforce } else { defaults.mode },
            rules: policy.rules().len(),
            generation: self.generation.load(Ordering::Relaxed),
            reload: noted.reload.clone(),
            leases,
            leases_evicted: gate.leases_evicted(),
            capture: admin::Capture {
                interfaces: noted.plan.config().interfaces.clone(),
                local: self.local.clone(),
                networks,
                missing,
                form: noted.plan.form().as_str(),
                ruleset: noted.ruleset,
                checked: noted.checked.0,
                checked_ago: noted.checked.1.elapsed(),
            },
            listeners: noted
                .posts
                .iter()
                .map(|(what, alive)| admin::Listener { what, alive: alive.load(Ordering::Relaxed) })
                .collect(),
            stuck: noted.stuck,
            docker: picture.map(|picture| picture.is_some()),
        }
    }

    /// The networks that are captured, and those that should be; without a picture nothing new is known.
    fn networks(&self, picture: Option<&Picture>) -> (Vec<String>, Vec<String>) {
        self.networks.iter().cloned().partition(|name| {
            picture.is_none_or(|picture| {
                let mut known = picture.networks.iter().filter(|network| *network.name == **name);
                known.any(|network| matches!(network.state, NetworkState::Found(_)))
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::nft::Form;
    use crate::settings::{Arguments, from_arguments};

    #[tokio::test]
    async fn a_listener_that_ends_or_panics_is_missed() {
        let arguments = Arguments {
            interfaces: vec!["br0".to_owned()],
            names: vec!["example.com".to_owned()],
            ..Arguments::default()
        };
        let settings = from_arguments(&arguments, SystemTime::UNIX_EPOCH).unwrap().settings;
        let plan = Plan::new(settings.capture.clone(), Form::Redirect).unwrap();
        let vitals = Vitals::new(plan, &settings, None);
        let stays = tokio::spawn(vitals.watch("questions", std::future::pending()));
        assert!(vitals.all_listen());
        let ends = tokio::spawn(vitals.watch("connections", async {}));
        assert!(ends.await.is_ok() && !vitals.all_listen());
        let fails = tokio::spawn(vitals.watch("frames", async { panic!("a fault") }));
        assert!(fails.await.is_err());
        let alive: Vec<bool> =
            vitals.noted.lock().posts.iter().map(|(_, alive)| alive.load(Ordering::Relaxed)).collect();
        assert_eq!(alive, [true, false, false]);
        stays.abort();
    }
}
