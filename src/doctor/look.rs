//! The looking: reads this machine, bounded in time, and changes nothing.
//!
//! Whatever cannot be read becomes the reason why not. Must not judge.

mod containers;
mod files;
mod limits;
mod network;
mod rules;

use std::future::Future;
use std::time::Duration;

use crate::nft::Nft;
use crate::sandbox::Diagnosis;
use crate::settings::Settings;
use crate::sys::{confine, host};

use super::facts::{Containers, Facts, Files, Looker, SandboxFacts, Seen};

/// Looks whether a sandbox can be made. This process must have no second thread yet.
pub fn look_at_sandbox() -> SandboxFacts {
    SandboxFacts {
        namespaces: Diagnosis::of_this_machine().map_err(|found| (found.to_string(), found.hint())),
        call_filters: confine::has_call_filters(),
        landlock: confine::landlock_version(),
    }
}

/// Looks at this machine: at all that a configuration depends on, or at what holds for any. `settings` hold all that is
/// captured, Docker's networks included; `obstacle` is why that cannot be told, and what to do about it.
pub async fn look(
    settings: Option<&Settings>,
    obstacle: Option<(String, String)>,
    sandbox: SandboxFacts,
) -> Facts {
    let interfaces = within(network::interfaces()).await;
    let services = aside(network::services).await;
    let (table, chains) = match settings {
        Some(settings) => rules::look(settings).await,
        None => (Err(NOT_ASKED.to_owned()), Err(NOT_ASKED.to_owned())),
    };
    Facts {
        looker: Looker {
            root: rustix::process::geteuid().is_root(),
            net_admin: host::may_administer_network(),
        },
        obstacle,
        nft: within(rules::version(&Nft::default())).await,
        links: within(network::links(settings)).await,
        bridge_filtering: host::bridge_filtering(),
        forwarding: network::forwarding(settings),
        table,
        steering: within(rules::steering()).await,
        chains,
        legacy_tables: rules::legacy_tables(),
        name_servers: network::name_servers(),
        lookups: network::lookups(),
        clock: limits::clock(),
        limits: limits::limits(settings, &services),
        sandbox,
        files: match settings {
            Some(settings) => files::look(settings).await,
            None => Files::default(),
        },
        containers: match settings {
            Some(settings) => containers::look(settings.docker.as_ref()).await,
            // Without captured networks there is nothing to say of containers.
            None => Containers::NoDocker,
        },
        interfaces,
        services,
    }
}

/// Waits for a look, but not for ever.
async fn within<T>(look: impl Future<Output = Seen<T>>) -> Seen<T> {
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(seen) => seen,
        Err(_) => Err(TOO_LONG.to_owned()),
    }
}

/// The same for a look that holds its thread, as a disk that does not answer makes it.
async fn aside<T: Send + 'static>(look: impl FnOnce() -> Seen<T> + Send + 'static) -> Seen<T> {
    within(async { tokio::task::spawn_blocking(look).await.map_err(|error| error.to_string())? }).await
}

/// Tells an error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// For one look; nft takes some 20 ms.
const PATIENCE: Duration = Duration::from_secs(5);

const TOO_LONG: &str = "there was no answer within 5 s";

const NOT_ASKED: &str = "there is no configuration to compare with";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_does_not_end_is_given_up() {
        let seen: Seen<()> = within(std::future::pending()).await;
        assert_eq!(seen, Err(TOO_LONG.to_owned()));
    }

    #[tokio::test]
    async fn without_a_configuration_there_is_still_something_to_see() {
        let sandbox = SandboxFacts { namespaces: Ok(()), call_filters: true, landlock: None };
        let facts = look(None, None, sandbox).await;
        assert!(facts.interfaces.expect("netlink").iter().any(|one| one.name == "lo"));
        assert!(facts.forwarding.is_empty() && facts.files.audit.is_empty());
        assert!(facts.table.is_err(), "not looked at is not fine");
    }
}
