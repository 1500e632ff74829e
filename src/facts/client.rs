//! Who asks: a workload by one of its addresses, and the other addresses it has on its link.
//!
//! It does not know how addresses are found to belong together.

use std::fmt;
use std::net::IpAddr;

use super::{Scope, canonical, scope};

/// The workload a flow or a question comes from, by its address in canonical form.
///
/// Leases belong to a client: what one client resolved opens nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(IpAddr);

impl Client {
    /// Names the client at this address; an IPv4-mapped address is its IPv4 client.
    pub fn at(address: IpAddr) -> Self {
        Self(canonical(address))
    }

    /// Returns the client's address.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
}

impl FromIterator<IpAddr> for Siblings {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        let mut clients: Vec<Client> = addresses.into_iter().map(Client::at).collect();
        clients.sort_by_key(|client| (rank(client.address()), *client));
        clients.dedup();
        let mut kept = Self::default();
        for (place, client) in kept.0.iter_mut().zip(clients) {
            *place = Some(client);
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
