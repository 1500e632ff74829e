//! From Docker's words about one container to what we know of it.
//!
//! Pure. A container of which something needed cannot be read is nobody. Must not know how the words came.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, ContainerSummary, EndpointSettings};

use crate::facts::{Container, canonical};

use super::labels::{bounded, short};
use super::networks::{Scope, is_id};
use super::picture::Attachment;

/// A running container, as the list shows it: where it is.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: Arc<str>,
    name: Arc<str>,
    places: Vec<Place>,
}

/// An address, or several, on one network.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// Made anew each time a container starts or is connected.
    endpoint: String,
    network: Arc<str>,
    network_id: Arc<str>,
    mac: Option<[u8; 6]>,
    addresses: Vec<IpAddr>,
}

/// What does not change while a container runs.
#[derive(Debug)]
pub(super) struct Run {
    endpoints: Vec<String>,
    image: Arc<str>,
    labels: Vec<(Arc<str>, Arc<str>)>,
    started_at: Arc<str>,
    pid: u32,
    /// As it was when last asked for.
    last: Option<Arc<Container>>,
}

impl Listed {
    /// Reads a list's entry; `None`: it is nowhere that counts, or cannot be read.
    pub(super) fn read(summary: ContainerSummary, scope: &Scope) -> Option<Self> {
        let id = summary.id.filter(|id| is_id(id))?;
        let networks = summary.network_settings?.networks?;
        let places = places(&networks, scope);
        if places.is_empty() {
            return None;
        }
        // Links of old add names of the form `/other/alias`.
        let name = summary.names?.iter().find_map(|name| plain_name(name).map(Arc::from))?;
        Some(Self { id: id.into(), name, places })
    }

    /// The run of this container, by what Docker says when it is asked for this one; `None`: what is said does not
    /// fit the list (it was started again, connected or disconnected in between), or cannot be read.
    pub(super) fn run(&self, inspected: ContainerInspectResponse, scope: &Scope) -> Option<Run> {
        let state = inspected.state?;
        let networks = inspected.network_settings?.networks?;
        let is_this = inspected.id.as_deref() == Some(&*self.id) && state.running == Some(true);
        if !is_this || places(&networks, scope) != self.places {
            return None;
        }
        let config = inspected.config?;
        let started_at = state.started_at.filter(|text| (1..=MAX_INSTANT).contains(&text.len()))?;
        Some(Run {
            endpoints: self.endpoints()?,
            image: short(config.image.as_deref().unwrap_or_default()).into(),
            labels: bounded(config.labels.unwrap_or_default()),
            started_at: started_at.into(),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid != 0)?,
            last: None,
        })
    }

    /// Whether this is the run that was asked for before.
    pub(super) fn is_of(&self, run: &Run) -> bool {
        self.endpoints().is_some_and(|endpoints| endpoints == run.endpoints)
    }

    /// What is known of it now.
    pub(super) fn with(self, run: &mut Run) -> (Arc<Container>, Vec<Attachment>) {
        let mut addresses: Vec<IpAddr> =
            self.places.iter().flat_map(|place| &place.addresses).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let container = match &run.last {
            Some(last) if last.name == self.name && last.addresses == addresses => Arc::clone(last),
            Some(_) | None => Arc::new(Container {
                id: Arc::clone(&self.id),
                name: self.name,
                image: Arc::clone(&run.image),
                labels: run.labels.clone(),
                started_at: Arc::clone(&run.started_at),
                addresses,
            }),
        };
        run.last = Some(Arc::clone(&container));
        let attachments = self.places.into_iter().map(|place| Attachment {
            container: Arc::clone(&self.id),
            network: place.network,
            network_id: place.network_id,
            mac: place.mac,
            addresses: place.addresses,
            pid: run.pid,
        });
        (container, attachments.collect())
    }

    /// Which places these are; `None`: one does not say.
    fn endpoints(&self) -> Option<Vec<String>> {
        let known = self.places.iter().all(|place| is_id(&place.endpoint));
        known.then(|| self.places.iter().map(|place| place.endpoint.clone()).collect())
    }
}

/// The places that count, in an order of their own.
fn places(networks: &HashMap<String, EndpointSettings>, scope: &Scope) -> Vec<Place> {
    let mut places: Vec<Place> =
        networks.iter().filter_map(|(called, place)| place_of(called, place, scope)).collect();
    places.sort_by(|one, other| one.network_id.cmp(&other.network_id));
    places
}

fn place_of(called: &str, settings: &EndpointSettings, scope: &Scope) -> Option<Place> {
    let id = settings.network_id.as_deref().filter(|id| is_id(id))?;
    let network = scope.name(id, called)?;
    let texts = [settings.ip_address.as_deref(), settings.global_ipv6_address.as_deref()];
    let parse = |text: &str| text.parse::<IpAddr>().ok().map(canonical);
    let addresses: Vec<IpAddr> = texts.into_iter().flatten().filter_map(parse).collect();
    if addresses.is_empty() {
        return None;
    }
    Some(Place {
        endpoint: settings.endpoint_id.clone().unwrap_or_default(),
        network,
        network_id: id.into(),
        mac: settings.mac_address.as_deref().and_then(mac),
        addresses,
    })
}

/// Reads `/web`.
pub(super) fn plain_name(name: &str) -> Option<&str> {
    let name = name.strip_prefix('/').unwrap_or(name);
    ((1..=MAX_NAME).contains(&name.len()) && !name.contains('/')).then_some(name)
}

/// Reads `02:42:ac:11:00:02`.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        *octet =
            parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then_some(octets)
}

/// Docker sets no bound; a longer name is nobody's.
const MAX_NAME: usize = 255;
/// RFC 3339 with nanoseconds and an offset has 35 bytes.
const MAX_INSTANT: usize = 64;
