//! Whose packets these are: from the ends of a connection or a question to a client, and its other addresses.
//!
//! Must not know names, rules or bytes. An address that nobody vouches for is a client like any other: which rules are
//! for it is the gate's matter.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::facts::{Client, Process, Siblings, canonical};
use crate::gate::Gate;
use crate::sys::holder::Holders;
use crate::sys::neighbours::Neighbours;
use crate::sys::owner::{Owner, Owners};

/// How the clients of one listener are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// By their address on a captured link.
    Link,
    /// They are all this one: nobody else can reach the listener.
    One(Client),
    /// By the user who opened the socket, on this host, that wants to go there. A datagram does not tell where.
    Opener(Option<SocketAddr>),
}

impl Whose {
    /// Returns the near end, as it is told: who is the only one has its own address, wherever its packets came from.
    pub fn source(self, peer: SocketAddr) -> SocketAddr {
        match self {
            Self::One(Client::At(address, _)) => SocketAddr::new(address, peer.port()),
            Self::Link | Self::Opener(_) | Self::One(Client::User(_)) => peer,
        }
    }

    /// Returns the same for a connection to this destination.
    #[must_use]
    pub fn towards(self, destination: SocketAddr) -> Self {
        match self {
            Self::Opener(_) => Self::Opener(Some(destination)),
            Self::Link | Self::One(_) => self,
        }
    }
}

/// Brings the gate's roster up to date about an address; ready when it knows who is there, or cannot.
pub type News = Arc<dyn Fn(IpAddr) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A client that is being found out.
type Finding = Pin<Box<dyn Future<Output = Client> + Send>>;

/// Tells clients.
pub struct Who {
    gate: Arc<Gate>,
    neighbours: Neighbours,
    /// `None`: nobody keeps a roster of containers.
    news: Option<News>,
    /// `None`: processes of this host are not captured.
    owners: Option<Owners>,
    holders: Arc<Holders>,
}

impl std::fmt::Debug for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Who").field("neighbours", &self.neighbours).finish_non_exhaustive()
    }
}

impl Who {
    /// Tells clients by their addresses, and by what the kernel says of their links.
    pub fn new(gate: Arc<Gate>, neighbours: Neighbours) -> Self {
        Self { gate, neighbours, news: None, owners: None, holders: Arc::default() }
    }

    /// Asks for news of an address that the gate's roster does not know.
    #[must_use]
    pub fn with_news(self, news: News) -> Self {
        Self { news: Some(news), ..self }
    }

    /// Asks the kernel for the users of sockets of this host.
    #[must_use]
    pub fn with_owners(self, owners: Owners) -> Self {
        Self { owners: Some(owners), ..self }
    }

    /// Returns who is at the near end. Waits for news of an address that nobody is known to have: a container's first
    /// packet may come before the word of it.
    pub fn client(&self, whose: Whose, source: SocketAddr) -> impl Future<Output = Client> + Send + use<> {
        let known = match whose {
            Whose::Link => self.known(source.ip()),
            Whose::One(client) => Ok(client),
            Whose::Opener(destination) => {
                let owner = self.owner(source, destination);
                Ok(owner.map_or(Client::NOBODY, |owner| Client::User(owner.uid)))
            }
        };
        // The wait is on the heap: few clients are new, and every connection would carry the room for it.
        async move {
            match known {
                Ok(client) => client,
                Err(found_out) => found_out.await,
            }
        }
    }

    /// Begins to look for the process at the near end; ready within 50 ms, and none when it was not found by
    /// then, or is not of this host.
    pub fn process(&self, whose: Whose, source: SocketAddr) -> Option<JoinHandle<Option<Arc<Process>>>> {
        let Whose::Opener(destination) = whose else { return None };
        let owner = self.owner(source, destination)?;
        let holders = Arc::clone(&self.holders);
        Some(tokio::spawn(async move { holders.of(owner, PROCESS).await }))
    }

    /// Asks the kernel. An answer that cannot be understood is none.
    fn owner(&self, source: SocketAddr, destination: Option<SocketAddr>) -> Option<Owner> {
        let owners = self.owners.as_ref()?;
        let found = match destination {
            Some(destination) => owners.of_connection(source, destination),
            None => owners.of_datagram(source),
        };
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel does not tell whose a socket is: it is denied");
            None
        })
    }

    /// Returns who has an address, or what finds it out.
    fn known(&self, address: IpAddr) -> Result<Client, Finding> {
        let Some(news) = self.news.as_ref().filter(|_| self.gate.may_be_new(address)) else {
            return Ok(self.gate.client_at(address));
        };
        let (gate, news) = (Arc::clone(&self.gate), news(canonical(address)));
        Err(Box::pin(async move {
            news.await;
            gate.client_at(address)
        }))
    }

    /// Says which interfaces are captured, by their names in the network namespace of the process.
    pub fn follow(&self, interfaces: Vec<String>) {
        self.neighbours.follow(interfaces);
    }

    /// Returns the other clients that the same workload is, as far as is known without asking the kernel.
    pub fn known_siblings(&self, client: Client) -> Siblings {
        match client.address() {
            Some(address) => self.of_same(client, self.neighbours.known(address)),
            None => Siblings::default(),
        }
    }

    /// Returns the other clients that the same workload is; see [`Neighbours::siblings`].
    pub async fn siblings(&self, client: Client) -> Siblings {
        match client.address() {
            Some(address) => self.of_same(client, self.neighbours.siblings(address).await),
            None => Siblings::default(),
        }
    }

    /// What the link says of a container does not stand against what is known of containers: one that sends with the
    /// address of another is not the other.
    fn of_same(&self, client: Client, siblings: Siblings) -> Siblings {
        if siblings.is_empty() {
            return siblings;
        }
        let own = self.gate.container(client);
        siblings.filter_map(|sibling| {
            let sibling = self.gate.client_at(sibling.address()?);
            match (&own, self.gate.container(sibling)) {
                (_, None) => Some(sibling),
                (Some(own), Some(other)) => own.is_same_run(&other).then_some(sibling),
                (None, Some(_)) => None,
            }
        })
    }
}

/// How long a decision may have to wait for the name of the process in its audit line.
const PROCESS: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
