//! The map of the demo's Internet: who lives where, what DNS says, and what the gate is told to allow.
//!
//! Opens no socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// The allowed name that is visited first. It shares its address with [`OTHER`].
pub(super) const GOOD: &str = "good.example.com";
/// Another allowed name.
pub(super) const ALSO: &str = "also.example.com";
/// An allowed name whose answers are good for a second.
pub(super) const SHORT: &str = "short.example.com";
/// An allowed name that DNS says is at a private address.
pub(super) const PRIVATE: &str = "private.example.com";
/// A name that no rule allows, on the shared address.
pub(super) const OTHER: &str = "other.example.net";
/// A question that carries data out, in the attacker's zone.
pub(super) const TUNNEL: &str = "mfwgy33xmvscazlyn53gk4tjmzuwk3tu.c2vjcmv0.tunnel.example.net";

/// What the servers' certificate is for.
pub(super) const CERTIFIED: [&str; 2] = ["*.example.com", "*.example.net"];

/// Addresses and ports. A value, so that a test has an Internet of its own on loopback.
#[derive(Debug, Clone, Copy)]
pub(super) struct Map {
    pub(super) resolver: Ipv4Addr,
    /// Where [`GOOD`] and [`OTHER`] live.
    pub(super) shared: Ipv4Addr,
    pub(super) also: Ipv4Addr,
    pub(super) short: Ipv4Addr,
    /// A server that no DNS answer names.
    pub(super) unnamed: Ipv4Addr,
    pub(super) attacker: Ipv4Addr,
    pub(super) private: Ipv4Addr,
    pub(super) https: u16,
    pub(super) http: u16,
    pub(super) dns: u16,
}

impl Map {
    /// Addresses for documentation (RFC 5737), and a private one (RFC 1918).
    pub(super) const INTERNET: Self = Self {
        resolver: Ipv4Addr::new(192, 0, 2, 53),
        shared: Ipv4Addr::new(203, 0, 113, 10),
        also: Ipv4Addr::new(203, 0, 113, 20),
        short: Ipv4Addr::new(203, 0, 113, 30),
        unnamed: Ipv4Addr::new(203, 0, 113, 40),
        attacker: Ipv4Addr::new(203, 0, 113, 66),
        private: Ipv4Addr::new(10, 0, 0, 5),
        https: 443,
        http: 80,
        dns: 53,
    };

    /// Every web server.
    pub(super) const fn servers(&self) -> [Ipv4Addr; 6] {
        [self.shared, self.also, self.short, self.unnamed, self.attacker, self.private]
    }

    pub(super) fn https_at(&self, host: Ipv4Addr) -> SocketAddr {
        SocketAddr::from((host, self.https))
    }

    pub(super) fn http_at(&self, host: Ipv4Addr) -> SocketAddr {
        SocketAddr::from((host, self.http))
    }

    pub(super) fn dns_at(&self, host: Ipv4Addr) -> SocketAddr {
        SocketAddr::from((host, self.dns))
    }

    /// What the true resolver says: TTL in seconds, and the address.
    pub(super) fn truth(&self, name: &str) -> Option<(u32, Ipv4Addr)> {
        match name {
            GOOD | OTHER => Some((300, self.shared)),
            ALSO => Some((300, self.also)),
            SHORT => Some((1, self.short)),
            PRIVATE => Some((300, self.private)),
            _ => None,
        }
    }

    /// The gate's configuration, all but what it captures.
    ///
    /// Leases are short, so that one ends within the demo.
    pub(super) fn policy(&self, audit: &Path) -> String {
        let audit = toml::Value::from(audit.display().to_string());
        format!(
            "[dns]\nupstreams = [\"udp://{}\"]\n\n\
             [ledger]\nmin_ttl = \"1s\"\ngrace = \"1s\"\n\n\
             [audit]\nto = [{audit}]\n\n\
             [[rule]]\nid = \"web\"\nnames = [\"{GOOD}\", \"{ALSO}\", \"{SHORT}\", \"{PRIVATE}\"]\n",
            self.dns_at(self.resolver),
        )
    }
}

#[cfg(test)]
impl Map {
    /// An Internet on loopback addresses that no other test has.
    pub(super) fn on_loopback() -> Self {
        let [a, b]: [u8; 2] = rand::random();
        let at = |last| Ipv4Addr::new(127, a.clamp(1, 254), b, last);
        Self {
            resolver: at(53),
            shared: at(10),
            also: at(20),
            short: at(30),
            unnamed: at(40),
            attacker: at(66),
            private: at(5),
            https: 8443,
            http: 8080,
            dns: 5353,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_toml_whatever_the_folder_is_called() {
        let text = Map::INTERNET.policy(Path::new("/tmp/a \"b\"\\c/audit.jsonl"));
        let policy: toml::Table = text.parse().unwrap();
        assert_eq!(policy["audit"]["to"][0].as_str().unwrap(), "/tmp/a \"b\"\\c/audit.jsonl");
        assert_eq!(policy["dns"]["upstreams"][0].as_str().unwrap(), "udp://192.0.2.53:53");
        assert_eq!(policy["rule"][0]["names"][0].as_str().unwrap(), GOOD);
    }
}
