//! Containers and their networks, by the Docker socket.
//!
//! Must not judge.

use std::collections::BTreeMap;

use crate::docker::{Docker, DockerConfig, DockerError, Inspected, NetworkState, Picture};
use crate::doctor::facts::{ContainerFacts, Containers, NetworkFacts, Seen};
use crate::settings::DockerSettings;

use super::{told, within};

pub(super) async fn look(settings: Option<&DockerSettings>) -> Containers {
    let docker = Docker::new(match settings {
        Some(settings) => DockerConfig { socket: settings.socket.clone(), networks: Vec::new() },
        None => config(std::env::var("DOCKER_HOST").ok().as_deref()),
    });
    let look = async {
        let containers = docker.inspect_all().await?;
        Ok::<_, DockerError>(gather(containers, &docker.look().await?))
    };
    // Docker has deadlines of its own; who waits here wants an answer all the same.
    let seen: Seen<_> = within(async { Ok(look.await) }).await;
    match seen {
        Ok(Ok(containers)) => Containers::Running(containers),
        Ok(Err(DockerError::NoSocket { .. })) => Containers::NoDocker,
        Ok(Err(error)) => Containers::Unreachable {
            why: told(&error),
            fix: error.hint().unwrap_or_else(|| "docker version tells whether it answers at all".to_owned()),
        },
        Err(why) => {
            Containers::Unreachable { why, fix: "docker version tells whether it answers at all".to_owned() }
        }
    }
}

/// The socket that Docker's own client would use, if it uses one of this host.
fn config(host: Option<&str>) -> DockerConfig {
    let default = DockerConfig::default();
    match host.and_then(|host| host.strip_prefix("unix://")) {
        Some(socket) => DockerConfig { socket: socket.into(), ..default },
        None => default,
    }
}

/// Puts containers and the bridges of their networks together.
fn gather(containers: Vec<Inspected>, picture: &Picture) -> Vec<ContainerFacts> {
    let mut bridges = BTreeMap::new();
    for network in &picture.networks {
        match &network.state {
            NetworkState::Found(bridge) => {
                bridges.insert(&*network.name, bridge);
            }
            // No interface that could be captured: a way out like any other.
            NetworkState::Missing
            | NetworkState::NotABridge { .. }
            | NetworkState::Ambiguous
            | NetworkState::Garbled { .. } => {}
        }
    }
    let network = |name: &String| {
        let bridge = bridges.get(name.as_str());
        NetworkFacts {
            name: name.clone(),
            bridge: bridge.map(|bridge| bridge.bridge.clone()),
            internal: bridge.is_some_and(|bridge| bridge.internal),
        }
    };
    let container = |one: Inspected| ContainerFacts {
        id: one.id.to_string(),
        name: one.name.to_string(),
        labels: one.labels,
        networks: one.networks.iter().map(network).collect(),
        posture: one.posture,
    };
    containers.into_iter().map(container).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_one_that_the_client_of_docker_uses() {
        let default = DockerConfig::default();
        assert_eq!(config(None), default);
        assert_eq!(config(Some("tcp://192.0.2.1:2375")), default);
        assert_eq!(
            config(Some("unix:///run/user/1000/docker.sock")).socket.to_str(),
            Some("/run/user/1000/docker.sock")
        );
    }
}
