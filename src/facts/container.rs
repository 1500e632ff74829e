//! What is known of a container: who it is to people, and where its packets come from.
//!
//! It does not know what runs containers, nor how any of this was found out.

use std::net::IpAddr;
use std::sync::Arc;

/// A running container, as whatever runs it describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The whole identifier, 64 hex digits.
    pub id: Arc<str>,
    /// Its name, without the slash that Docker writes in front. Empty: it has been renamed, and to what is not known yet.
    pub name: Arc<str>,
    /// The image, as it was asked for.
    pub image: Arc<str>,
    /// Labels, by key; keys are unique.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// When this run of it began, in the words of whatever runs it: another run is another workload.
    pub started_at: Arc<str>,
    /// Its addresses on captured networks, canonical.
    pub addresses: Vec<IpAddr>,
}

impl Container {
    /// Returns the value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| &**known == key).map(|(_, value)| &**value)
    }

    /// Returns the Compose service that it is one of.
    pub fn service(&self) -> Option<&str> {
        self.label(SERVICE)
    }

    /// Whether both are the same run of the same container.
    pub fn is_same_run(&self, other: &Self) -> bool {
        self.id == other.id && self.started_at == other.started_at
    }
}

/// The label by which Compose tells a container's service (compose-spec, "Labels").
const SERVICE: &str = "com.docker.compose.service";
