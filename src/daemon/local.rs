//! Who is meant by `capture.local` on this machine, and what becomes of it while the gate runs.
//!
//! Must not know how rules are written or sockets served.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::dns::Upstream;
use crate::gate::{ClientMatch, Policy};
use crate::nft::{CaptureConfig, Cgroup, DOCKER_RESOLVER, Form, Locals, Plan, PlanError};
use crate::settings::{LocalSettings, LocalWho, Settings};
use crate::sys::cgroup::{Change, Group, Groups, Watched};

use super::Error;

/// The captured processes of this host.
#[derive(Debug)]
pub(super) struct Local {
    settings: LocalSettings,
    users: Vec<u32>,
    /// `None`: no group is captured.
    groups: Option<Watched>,
    /// What is captured besides, and in which form.
    rest: Option<(CaptureConfig, Form)>,
    gate: u32,
    /// Groups that were made anew and are not in the rules yet; they stand still.
    waiting: Vec<Change>,
    /// When the rules are tried again for them.
    again: Option<Instant>,
}

impl Local {
    /// Finds out who is meant; none when nobody of this host is captured.
    ///
    /// # Errors
    /// A user that is not there, a path that cannot be a control group's, or a resolver that would be asked by way of the
    /// gate itself.
    pub(super) fn find(settings: &Settings) -> Result<Option<Self>, Error> {
        let Some(local) = settings.local.clone() else { return Ok(None) };
        let gate = rustix::process::geteuid().as_raw();
        let (mut users, mut groups) = (Vec::new(), None);
        match &local.who {
            LocalWho::AllButGate => {
                check_resolver(&settings.dns.upstreams, gate)?;
                if gate == 0 {
                    tracing::warn!("the gate runs as root: every process of root is exempt from it");
                }
            }
            LocalWho::These { users: names, cgroups } => {
                users = names.iter().map(|name| number(name)).collect::<Result<_, _>>()?;
                users.sort_unstable();
                users.dedup();
                if !cgroups.is_empty() {
                    groups = Some(Groups::hold(cgroups)?.watch());
                }
            }
        }
        Ok(Some(Self { settings: local, users, groups, rest: None, gate, waiting: Vec::new(), again: None }))
    }

    /// Returns the ports of the listeners: TCP, DNS.
    pub(super) fn ports(&self) -> [u16; 2] {
        [self.settings.proxy_port, self.settings.dns_port]
    }

    /// Returns what is captured, with these processes.
    pub(super) fn with(&self, rest: &CaptureConfig) -> CaptureConfig {
        let who = match self.settings.who {
            LocalWho::AllButGate => Locals::AllButGate,
            LocalWho::These { .. } => {
                let groups = self.groups.iter().flat_map(Watched::all);
                Locals::These { users: self.users.clone(), cgroups: groups.map(cgroup).collect() }
            }
        };
        CaptureConfig { local: Some(self.settings.config(who, self.gate)), ..rest.clone() }
    }

    /// Remembers what is captured besides, for [`Local::plan`].
    pub(super) fn besides(&mut self, rest: &CaptureConfig, form: Form) {
        self.rest = Some((rest.clone(), form));
    }

    /// Returns the plan for the groups that there are now; none before there was one.
    pub(super) fn plan(&self) -> Option<Result<Plan, PlanError>> {
        let (rest, form) = self.rest.as_ref()?;
        Some(Plan::new(self.with(rest), *form))
    }

    /// Returns the groups that are captured once they are there.
    pub(super) fn absent(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(Watched::absent)
    }

    /// Waits until a captured group is removed (false), or made anew and needs new rules (true). Those that have waited
    /// too long for theirs are told again, and meanwhile others are watched and stopped as ever.
    pub(super) async fn changed(&mut self) -> bool {
        let Some(groups) = &mut self.groups else { return std::future::pending().await };
        let changes = match self.again {
            Some(again) => match timeout_at(again, groups.changes()).await {
                Ok(changes) => changes,
                Err(_) => return true,
            },
            None => groups.changes().await,
        };
        let anew = |change: &Change| match change {
            Change::Anew { .. } => true,
            Change::Gone { .. } => false,
        };
        let renewed = changes.iter().any(anew);
        self.waiting.extend(changes.into_iter().filter(anew));
        if renewed {
            self.again = Some(Instant::now() + RETRY);
        }
        renewed
    }

    /// The rules are in force for every group that there is: they may run.
    pub(super) fn settle(&mut self) {
        self.waiting.clear();
        self.again = None;
    }

    /// The rules could not be put in force: they are tried again.
    pub(super) fn retry(&mut self) {
        self.again = Some(Instant::now() + RETRY);
    }
}

fn cgroup(group: Group) -> Cgroup {
    let Group { id, level, descriptor } = group;
    Cgroup { id, level, holder: std::process::id(), descriptor }
}

/// Users by name.
pub(super) type Users = Vec<(Arc<str>, u32)>;

/// Looks up the users who are captured by name.
///
/// # Errors
/// One is not there.
pub(super) fn captured_users(settings: &Settings) -> Result<Users, Error> {
    let Some(LocalWho::These { users, .. }) = settings.local.as_ref().map(|local| &local.who) else {
        return Ok(Users::new());
    };
    let names = users.iter().filter(|name| name.parse::<u32>().is_err());
    names.map(|name| Ok((Arc::from(name.as_str()), number(name)?))).collect()
}

/// Looks up the users whom rules name.
///
/// # Errors
/// One is not there: a rule for it would be for nobody.
pub(super) fn users(policy: &Policy) -> Result<Users, Error> {
    let mut users = Users::new();
    for client in policy.rules().iter().flat_map(|rule| &rule.clients) {
        if let ClientMatch::UserName(name) = client
            && !users.iter().any(|(known, _)| known == name)
        {
            users.push((Arc::clone(name), number(name)?));
        }
    }
    Ok(users)
}

/// Looks a user up, by number or name.
pub(super) fn number(name: &str) -> Result<u32, Error> {
    if let Ok(uid) = name.parse() {
        return Ok(uid);
    }
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(Error::NoUser { name: name.to_owned() }),
        Err(error) => Err(Error::System { action: "look up a user", source: error.into() }),
    }
}

/// With everybody captured, a resolver on this host asks by way of the gate, which would ask it again: for ever. Docker's
/// own, inside a container's namespace, asks as root, who is exempt from a gate that is root.
fn check_resolver(upstreams: &[Upstream], gate: u32) -> Result<(), Error> {
    if !upstreams.contains(&Upstream::System) {
        return Ok(());
    }
    let exempt = |server: IpAddr| gate == 0 && server == DOCKER_RESOLVER;
    let mut servers = crate::dns::system_nameservers()?.into_iter().map(|server| server.ip());
    match servers.find(|server| server.is_loopback() && !exempt(*server)) {
        Some(server) => Err(Error::ResolverLoop { server }),
        None => Ok(()),
    }
}

/// From a try to put rules in force to the next.
const RETRY: Duration = Duration::from_secs(1);
