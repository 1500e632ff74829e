//! The few questions that we ask Docker, each with a deadline and a bound on its answer.
//!
//! The only file that calls the library. Its models go no further than the files of this room that read them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ContainerSummary, EventMessage, Network};
use bollard::query_parameters::EventsOptions;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;

use super::error::DockerError;
use super::labels::ALLOW;
use super::line::Line;
use super::notice::{Notice, SUBSCRIBED};

/// A daemon whose interface is known.
#[derive(Debug, Clone)]
pub(super) struct Api {
    socket: PathBuf,
    prefix: String,
}

impl Api {
    /// Asks who is there.
    pub(super) async fn connect(socket: &Path) -> Result<Self, DockerError> {
        // Without a version, which every daemon understands.
        let unversioned = Self { socket: socket.to_owned(), prefix: String::new() };
        let version_of = |docker: Docker| async move { docker.version().await };
        let hello = unversioned.ask("tell its version", MAX_SMALL, PATIENCE, version_of).await;
        let not_docker = |said| DockerError::NotDocker { socket: socket.to_owned(), said };
        let hello = hello.map_err(|error| match error {
            DockerError::Garbled { said, .. } => not_docker(said),
            DockerError::Refused { status: status @ ..500, .. } => not_docker(format!("status {status}")),
            DockerError::NoSocket { .. }
            | DockerError::NoPermission { .. }
            | DockerError::NotListening { .. }
            | DockerError::Connect { .. }
            | DockerError::NotDocker { .. }
            | DockerError::TooOld { .. }
            | DockerError::Refused { .. }
            | DockerError::Timeout { .. }
            | DockerError::TooMuch { .. }
            | DockerError::HungUp { .. } => error,
        })?;
        let spoken = hello.api_version.as_deref().and_then(version);
        let Some(spoken) = spoken else { return Err(not_docker("no version of the interface".to_owned())) };
        if spoken < OLDEST {
            return Err(DockerError::TooOld {
                found: format!("{}.{}", spoken.0, spoken.1),
                needed: OLDEST_TEXT,
            });
        }
        let (major, minor) = spoken.min(NEWEST);
        Ok(Self { socket: socket.to_owned(), prefix: format!("/v{major}.{minor}") })
    }

    /// All networks.
    pub(super) async fn networks(&self) -> Result<Vec<Network>, DockerError> {
        let list = |docker: Docker| async move { docker.list_networks(None).await };
        self.ask("list networks", MAX_LIST, PATIENCE, list).await
    }

    /// The running containers.
    pub(super) async fn containers(&self) -> Result<Vec<ContainerSummary>, DockerError> {
        let list = |docker: Docker| async move { docker.list_containers(None).await };
        self.ask("list containers", MAX_LIST, PATIENCE, list).await
    }

    /// All about these containers, some at a time, in the order in which answers come. An identifier is 64 hex digits.
    pub(super) fn inspect(&self, ids: Vec<Arc<str>>, patience: Duration) -> BoxStream<'static, Inspection> {
        let api = self.clone();
        let question = move |id: Arc<str>| {
            let (api, of) = (api.clone(), Arc::clone(&id));
            let inspect = |docker: Docker| async move { docker.inspect_container(&of, None).await };
            async move {
                let mut answer = api.ask("inspect a container", MAX_ONE, patience, inspect).await;
                if let Ok(inspected) = &mut answer {
                    api.take_grants_of_the_image(inspected, patience).await;
                }
                (id, answer)
            }
            .boxed()
        };
        stream::iter(ids).map(question).buffer_unordered(AT_ONCE).boxed()
    }

    /// Takes `namegate.allow` away where it comes from the image, or where that cannot be told: who makes an image
    /// grants nothing. Docker shows the labels of both in one list.
    async fn take_grants_of_the_image(&self, inspected: &mut ContainerInspectResponse, patience: Duration) {
        let image = inspected.image.clone().unwrap_or_default();
        let labels = inspected.config.as_mut().and_then(|config| config.labels.as_mut());
        let Some(labels) = labels.filter(|labels| labels.contains_key(ALLOW)) else { return };
        let question = |docker: Docker| async move { docker.inspect_image(&image).await };
        let of_image = match self.ask("inspect an image", MAX_ONE, patience, question).await {
            Ok(image) => image.config.and_then(|config| config.labels).and_then(|mut of| of.remove(ALLOW)),
            Err(error) => {
                tracing::warn!(%error, container = inspected.name, "whose label this is cannot be told: it grants nothing");
                labels.remove(ALLOW);
                return;
            }
        };
        if of_image.as_ref() == labels.get(ALLOW) {
            labels.remove(ALLOW);
        }
    }

    /// Subscribes to what happens from now on. What happens after this returned, and a little before, comes.
    pub(super) async fn events(&self) -> Result<Events, DockerError> {
        // The head of the answer comes before the daemon has us on its list; what falls between, it repeats by time.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
        let filters = HashMap::from([
            ("type".to_owned(), strings(&["container", "network"])),
            ("event".to_owned(), strings(&SUBSCRIBED)),
        ]);
        let options = EventsOptions {
            since: Some(format!("{}.{:09}", now.as_secs(), now.subsec_nanos())),
            until: None,
            filters: Some(filters),
        };
        let line = Line::new(self.socket.clone(), self.prefix.clone(), MAX_EVENT);
        let failed = |error| DockerError::from_library(EVENTS, &self.socket, MAX_EVENT, error);
        let mut stream = line.client().map_err(failed)?.events(Some(options)).boxed();
        let early = tokio::select! {
            biased;
            () = line.answered() => None,
            early = stream.next() => Some(early),
            () = tokio::time::sleep(PATIENCE) => {
                return Err(DockerError::Timeout { action: EVENTS, after: PATIENCE });
            }
        };
        let mut events = Events { socket: self.socket.clone(), line, stream, early: None };
        if let Some(early) = early {
            events.early = Some(events.read(early)?);
        }
        Ok(events)
    }

    async fn ask<T, Answer>(
        &self,
        action: &'static str,
        limit: u64,
        patience: Duration,
        question: impl FnOnce(Docker) -> Answer,
    ) -> Result<T, DockerError>
    where
        Answer: Future<Output = Result<T, Error>>,
    {
        let line = Line::new(self.socket.clone(), self.prefix.clone(), limit);
        let failed = |error| DockerError::from_library(action, &self.socket, limit, error);
        let client = line.client().map_err(failed)?;
        match timeout(patience, question(client)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(DockerError::Timeout { action, after: patience }),
        }
    }
}

/// A container's identifier, and what was said of it.
pub(super) type Inspection = (Arc<str>, Result<ContainerInspectResponse, DockerError>);

/// What happens, as it happens. A stream that ends is an error: nothing is known from then on.
pub(super) struct Events {
    socket: PathBuf,
    line: Arc<Line>,
    stream: BoxStream<'static, Result<EventMessage, Error>>,
    early: Option<Notice>,
}

impl Events {
    /// Waits for the next event. Nothing is lost when this is given up.
    pub(super) async fn next(&mut self) -> Result<Notice, DockerError> {
        if let Some(early) = self.early.take() {
            return Ok(early);
        }
        let next = self.stream.next().await;
        self.read(next)
    }

    fn read(&self, next: Option<Result<EventMessage, Error>>) -> Result<Notice, DockerError> {
        match next {
            None => Err(DockerError::HungUp { action: EVENTS }),
            Some(Err(error)) => Err(DockerError::from_library(EVENTS, &self.socket, MAX_EVENT, error)),
            Some(Ok(event)) => {
                self.line.refill();
                Ok(Notice::read(event))
            }
        }
    }
}

/// Reads `1.41`.
fn version(text: &str) -> Option<(u16, u16)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// For the answer to one question; an ordinary one takes milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Containers that are asked about at once.
const AT_ONCE: usize = 8;
const EVENTS: &str = "tell what happens";
/// Docker 20.10.
const OLDEST: (u16, u16) = (1, 41);
const OLDEST_TEXT: &str = "1.41";
/// What the library's models were made from.
const NEWEST: (u16, u16) = (1, 53);
/// A list entry has 1 to 5 kB: ten thousand containers.
const MAX_LIST: u64 = 64 << 20;
/// Labels, environment and mounts of one container; an ordinary one has 5 to 20 kB.
const MAX_ONE: u64 = 4 << 20;
/// An event repeats the labels of its container.
const MAX_EVENT: u64 = 4 << 20;
const MAX_SMALL: u64 = 64 << 10;
