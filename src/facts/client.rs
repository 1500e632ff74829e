//! Who asks: a workload by one of its addresses, with the other addresses it has on its link, or a user of this host.
//!
//! It does not know how addresses are found to belong together, nor how a user is told by a socket.

use std::fmt;
use std::net::IpAddr;

use super::{Scope, canonical, scope};

/// The workload a flow or a question comes from.
///
/// Leases belong to a client: what one client resolved opens nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// Whoever has this address, in canonical form, on a captured link, in one of the address's lives.
    At(IpAddr, Life),
    /// A user of this host, by number.
    User(u32),
}

/// Tells apart those who hold one address one after the other. Zero: nobody keeps a record of who does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Life(pub u32);

impl Client {
    /// Whoever opened a socket that is nobody's any more, or of which the kernel does not tell: nothing is allowed to
    /// it. The number stands for no user (chown(2)).
    pub const NOBODY: Self = Self::User(u32::MAX);

    /// Names the client at this address; an IPv4-mapped address is its IPv4 client.
    pub fn at(address: IpAddr) -> Self {
        Self::At(canonical(address), Life::default())
    }

    /// Returns the client's address on its link.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::At(address, _) => Some(address),
            Self::User(_) => None,
        }
    }

    /// Returns the number of the user.
    pub fn user(self) -> Option<u32> {
        match self {
            Self::At(..) => None,
            Self::User(uid) => Some(uid),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address, _) => address.fmt(f),
            Self::User(uid) => write!(f, "uid {uid}"),
        }
    }
}

/// Other addresses of one workload, at most [`Siblings::MAX`]: IPv4 first, then public IPv6, then the others.
///
/// Too few is the safe mistake: what was resolved from an address that is missing opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Siblings([Option<Client>; Siblings::MAX]);

impl Siblings {
    /// Addresses that are kept.
    pub const MAX: usize = 4;

    /// Whether the workload has no other address that is known.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the addresses in their order.
    pub fn iter(&self) -> impl Iterator<Item = Client> + use<> {
        self.0.into_iter().flatten()
    }

    /// Returns what becomes of each, in the same order; `None` leaves it out.
    #[must_use]
    pub fn filter_map(self, each: impl FnMut(Client) -> Option<Client>) -> Self {
        let mut kept = Self::default();
        for (place, client) in kept.0.iter_mut().zip(self.iter().filter_map(each)) {
            *place = Some(client);
        }
        kept
    }
}

impl FromIterator<IpAddr> for Siblings {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let mut addresses: Vec<IpAddr> = addresses.into_iter().map(canonical).collect();
        addresses.sort_by_key(|address| (rank(*address), *address));
        addresses.dedup();
        let mut kept = Self::default();
        for (place, address) in kept.0.iter_mut().zip(addresses) {
            *place = Some(Client::at(address));
        }
        kept
    }
}

fn rank(address: IpAddr) -> u8 {
    match (address, scope(address)) {
        (IpAddr::V4(_), _) => 0,
        (IpAddr::V6(_), Scope::Public) => 1,
        (IpAddr::V6(_), Scope::Private) => 2,
        (IpAddr::V6(_), Scope::Loopback | Scope::LinkLocal | Scope::Multicast | Scope::Unusable) => 3,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_four_most_telling_addresses_are_kept_in_order() {
        for (given, kept) in [
            ("", ""),
            ("fe80::2 fd00::2 2001:db8::2 10.0.0.2", "10.0.0.2 2001:db8::2 fd00::2 fe80::2"),
            (
                "fe80::2 2001:db8::4 2001:db8::3 2001:db8::2 10.0.0.2",
                "10.0.0.2 2001:db8::2 2001:db8::3 2001:db8::4",
            ),
            ("::ffff:10.0.0.2 10.0.0.2", "10.0.0.2"),
        ] {
            let siblings: Siblings = given.split_whitespace().map(|text| text.parse().unwrap()).collect();
            let found: Vec<_> = siblings.iter().map(|client| client.to_string()).collect();
            assert_eq!(found.join(" "), kept, "{given}");
            assert_eq!(siblings.is_empty(), kept.is_empty());
        }
    }
}
