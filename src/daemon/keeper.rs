//! Keeps the kernel's rules as they were installed, whoever changes them, and after control groups that are made
//! anew.
//!
//! The kernel tells of changes, so that what somebody takes away is back at once; a look every few seconds
//! catches what was not told. Must not know what rules say.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::facts::Tick;
use crate::nft::{Installed, NftError, Plan, ROUTE_TABLE, Standing};
use crate::record::{Event, Log, RulesetEvent};
use crate::sys::clock;
use crate::sys::monitor::{Change, Monitor, Table};

use super::local::Local;
use super::vitals::Vitals;

/// What is kept, and where it is told.
pub(super) struct Keeper {
    installed: Installed,
    /// What is to be captured; as for processes of this host, `local` knows better.
    wanted: watch::Receiver<Plan>,
    /// The captured processes of this host.
    local: Option<Local>,
    log: Log,
    /// `None`: the kernel permits no listener, or no longer.
    monitor: Option<Monitor>,
    pace: Pace,
    /// When what is wanted is tried again.
    again: Option<Instant>,
    vitals: Arc<Vitals>,
}

impl Keeper {
    /// Begins to listen for changes. Changes of rules from before are not told.
    pub(super) fn new(
        installed: Installed,
        wanted: watch::Receiver<Plan>,
        local: Option<Local>,
        log: Log,
        vitals: Arc<Vitals>,
    ) -> Self {
        let watched = Table { family: NFPROTO_INET, name: installed.ruleset().table().to_owned() };
        let monitor = Monitor::open(vec![watched], ROUTE_TABLE);
        let monitor = monitor.inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not tell of changes to rules: they are looked at every 5 s");
        });
        let pace = Pace::default();
        Self { installed, wanted, local, log, monitor: monitor.ok(), pace, again: None, vitals }
    }

    /// Puts the rules back when somebody took or changed them, until cancelled.
    pub(super) async fn keep(mut self, cancel: CancellationToken) {
        for path in self.local.iter().flat_map(Local::absent) {
            tracing::warn!(path, "a captured control group is not there yet; it is captured when it appears");
            self.log.record(ruleset("cgroup_absent", &self.installed)).await;
        }
        let mut every = interval(LOOK);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                Ok(()) = self.wanted.changed() => Wake::Wanted,
                renewed = next_group(&mut self.local) => Wake::Groups(renewed),
                change = next_change(&mut self.monitor) => Wake::Told(change),
                // After what is in force: it holds until what is wanted can be put in its place.
                () = until(self.again) => Wake::Wanted,
                _ = every.tick() => Wake::Look,
            };
            match wake {
                Wake::Wanted => self.follow_wanted().await,
                Wake::Groups(renewed) => self.follow_groups(renewed).await,
                Wake::Told(Some(Change::Gone)) => self.put_back(Some(Standing::Missing), &mut every).await,
                Wake::Told(Some(Change::Touched)) | Wake::Look => self.put_back(None, &mut every).await,
                Wake::Told(None) => {}
            }
            if let Some(wait) = self.pace.wait(clock::tick()) {
                tracing::error!(
                    table = self.installed.ruleset().table(),
                    "another program keeps changing the ruleset: what it takes \
                                away may be away for a second"
                );
                if cancel.run_until_cancelled(sleep(wait)).await.is_none() {
                    return;
                }
            }
        }
    }

    /// Looks at the rules, unless it is known already how they stand, and restores them if need be.
    async fn put_back(&mut self, known: Option<Standing>, every: &mut Interval) {
        let standing = match known {
            Some(standing) => Ok(standing),
            None => self.installed.verify().await,
        };
        self.vitals.ruleset(standing.as_ref().ok().copied());
        let what = match standing {
            Ok(Standing::Intact) => return,
            Ok(Standing::Missing) => "missing",
            Ok(Standing::Changed) => "changed",
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot read the ruleset");
                return;
            }
        };
        // First the rules, then the words.
        let restored = self.installed.restore().await;
        self.pace.restored(clock::tick());
        if restored.is_err() {
            every.reset_after(BACKOFF);
        }
        tracing::warn!(table = self.installed.ruleset().table(), what, "the ruleset was not as installed");
        self.log.record(ruleset(what, &self.installed)).await;
        self.tell(restored).await;
    }

    /// Captures what is wanted now.
    async fn follow_wanted(&mut self) {
        let plan = self.wanted.borrow_and_update().clone();
        let whole = match &self.local {
            Some(local) => Plan::new(local.with(plan.config()), plan.form()),
            None => Ok(plan.clone()),
        };
        let replaced = match whole {
            Ok(plan) => replace(&mut self.installed, &self.vitals, plan).await,
            Err(error) => Err(error.into()),
        };
        self.again = replaced.is_err().then(|| Instant::now() + BACKOFF);
        if let (Ok(()), Some(local)) = (&replaced, &mut self.local) {
            // Not before: as long as this cannot be put in force, groups are captured beside what is.
            local.besides(plan.config(), plan.form());
            local.settle();
        }
        self.tell(replaced).await;
    }

    async fn follow_groups(&mut self, renewed: bool) {
        let Some(local) = &mut self.local else { return };
        if !renewed {
            tracing::warn!("a captured control group is gone; it is captured again when it comes back");
            self.log.record(ruleset("cgroup_gone", &self.installed)).await;
            return;
        }
        let replaced = match local.plan() {
            Some(Ok(plan)) => replace(&mut self.installed, &self.vitals, plan).await,
            Some(Err(error)) => Err(error.into()),
            None => return,
        };
        match replaced {
            Ok(()) => local.settle(),
            Err(_) => local.retry(),
        }
        self.log.record(ruleset("cgroup_anew", &self.installed)).await;
        self.tell(replaced).await;
    }

    async fn tell(&self, done: Result<(), NftError>) {
        match done {
            Ok(()) => {
                self.vitals.ruleset(Some(Standing::Intact));
                self.log.record(ruleset("installed", &self.installed)).await;
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot put the ruleset in force");
            }
        }
    }
}

async fn replace(installed: &mut Installed, vitals: &Vitals, plan: Plan) -> Result<(), NftError> {
    installed.replace(&plan).await?;
    vitals.captures(plan);
    Ok(())
}

enum Wake {
    Wanted,
    Groups(bool),
    Told(Option<Change>),
    Look,
}

/// Waits for the next word of the kernel; for ever when there is none to be had.
async fn next_change(monitor: &mut Option<Monitor>) -> Option<Change> {
    let Some(listening) = monitor else { return std::future::pending().await };
    match listening.changed().await {
        Ok(change) => Some(change),
        Err(error) => {
            tracing::warn!(%error, "the kernel no longer tells of changes to rules: they are looked at every 5 s");
            *monitor = None;
            None
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn next_group(local: &mut Option<Local>) -> bool {
    match local {
        Some(local) => local.changed().await,
        None => std::future::pending().await,
    }
}

/// Describes a change of the ruleset.
pub(super) fn ruleset(what: &'static str, installed: &Installed) -> Event {
    Event::Ruleset(RulesetEvent { at: clock::now(), what, table: installed.ruleset().table().into() })
}

/// How often rules are put back: at once, unless somebody takes them away again and again.
#[derive(Debug, Default)]
struct Pace(VecDeque<Tick>);

impl Pace {
    fn restored(&mut self, now: Tick) {
        self.0.push_back(now);
        if self.0.len() > AT_ONCE {
            self.0.pop_front();
        }
    }

    /// How long to wait before the next time.
    fn wait(&mut self, now: Tick) -> Option<Duration> {
        let oldest = *self.0.front()?;
        let crowded = self.0.len() == AT_ONCE && now.since(oldest) < CROWD;
        crowded.then(|| {
            self.0.clear();
            BACKOFF
        })
    }
}

/// How often the rules are looked at though nothing was told.
const LOOK: Duration = Duration::from_secs(5);

/// Restorations in [`CROWD`] that are no accident any more: somebody fights.
const AT_ONCE: usize = 8;
const CROWD: Duration = Duration::from_secs(2);

/// Each restoration keeps a core busy for about 30 ms.
const BACKOFF: Duration = Duration::from_secs(1);

/// Of `netfilter.h`.
const NFPROTO_INET: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Form;
    use crate::nft::scripted::Scripted;
    use crate::settings::{Arguments, LocalSettings, LocalWho, Settings, from_arguments};

    /// A keeper that has captured this interface, and where to say what is wanted instead.
    async fn keeper(
        kernel: &Arc<Scripted>,
        interface: &str,
        users: &[&str],
    ) -> (Keeper, watch::Sender<Plan>) {
        let mut settings = settings();
        if !users.is_empty() {
            let users = users.iter().map(|&user| user.to_owned()).collect();
            let who = LocalWho::These { users, cgroups: Vec::new() };
            settings.local = Some(LocalSettings { who, proxy_port: 15_002, dns_port: 15_354 });
        }
        let mut local = Local::find(&settings).expect("local");
        let plan = plan(interface);
        if let Some(local) = &mut local {
            local.besides(plan.config(), plan.form());
        }
        let whole = local.as_ref().and_then(Local::plan).unwrap_or_else(|| Ok(plan.clone())).expect("plan");
        let installed = Installed::apply(kernel.clone(), &whole).await.expect("apply");
        let vitals = Vitals::new(plan.clone(), &settings, None);
        let (plans, wanted) = watch::channel(plan);
        let (log, _) = Log::memory();
        let mut keeper = Keeper::new(installed, wanted, local, log, vitals);
        // Word of the kernel would be of the machine that tests.
        keeper.monitor = None;
        (keeper, plans)
    }

    fn settings() -> Settings {
        let arguments = Arguments {
            interfaces: vec!["br0".to_owned()],
            names: vec!["example.com".to_owned()],
            ..Arguments::default()
        };
        from_arguments(&arguments, std::time::SystemTime::UNIX_EPOCH).expect("settings").settings
    }

    fn plan(interface: &str) -> Plan {
        let mut config = settings().capture;
        config.interfaces = vec![interface.to_owned()];
        Plan::new(config, Form::Redirect).expect("plan")
    }

    #[tokio::test]
    async fn groups_are_captured_beside_what_is_in_force_until_what_is_wanted_is() {
        let kernel = Arc::new(Scripted::default());
        let (mut keeper, plans) = keeper(&kernel, "br0", &["4242"]).await;
        let beside = |keeper: &Keeper| {
            let plan = keeper.local.as_ref().and_then(Local::plan).expect("local").expect("plan");
            plan.config().interfaces.clone()
        };
        plans.send(plan("br1")).expect("followed");
        kernel.refuse_loads_of("br1");
        keeper.follow_wanted().await;
        assert_eq!((beside(&keeper), keeper.again.is_some()), (vec!["br0".to_owned()], true));
        kernel.refuse_loads_of("nothing");
        keeper.follow_wanted().await;
        assert_eq!((beside(&keeper), keeper.again.is_some()), (vec!["br1".to_owned()], false));
    }

    #[tokio::test(start_paused = true)]
    async fn rules_in_force_are_put_back_while_those_that_are_wanted_cannot_be() {
        let kernel = Arc::new(Scripted::default());
        let (keeper, plans) = keeper(&kernel, "br0", &[]).await;
        let table = keeper.installed.ruleset().table().to_owned();
        let end = CancellationToken::new();
        let keeping = tokio::spawn(keeper.keep(end.clone()));
        let soon = async |what: &str, done: &dyn Fn() -> bool| {
            let waiting = async {
                while !done() {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(LOOK * 3, waiting).await.unwrap_or_else(|_| panic!("{what}"));
        };

        kernel.refuse_loads_of("br1");
        plans.send(plan("br1")).expect("followed");
        soon("it is tried, and tried again", &|| kernel.refused() > 1).await;
        kernel.forget(&table);
        soon("the table is back", &|| kernel.tables() == 1).await;
        let tries = kernel.refused();
        soon("it is still tried", &|| kernel.refused() > tries).await;
        kernel.refuse_loads_of("nothing");
        soon("it is in force", &|| kernel.pieces() == [crate::nft::Piece::Fence("br1".to_owned())]).await;
        end.cancel();
        keeping.await.expect("ended");
    }

    #[test]
    fn a_fight_is_told_from_accidents() {
        let at = |millis: u64| Tick::from_nanos(millis * 1_000_000);
        let mut pace = Pace::default();
        for second in 1..20 {
            pace.restored(at(second * 1000));
            assert_eq!(pace.wait(at(second * 1000)), None);
        }
        for time in 0..7 {
            pace.restored(at(30_000 + time * 50));
        }
        assert_eq!(pace.wait(at(30_400)), None);
        pace.restored(at(30_400));
        assert_eq!(pace.wait(at(30_400)), Some(BACKOFF));
        // After the wait it begins anew.
        assert_eq!(pace.wait(at(31_400)), None);
    }
}
