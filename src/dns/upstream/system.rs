//! The system's own resolver configuration.
//!
//! It does not know search lists or options: names are asked as they are.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::StartError;

/// Reads the `nameserver` lines of `/etc/resolv.conf` (resolv.conf(5)): the first three, as libc does.
///
/// # Errors
/// [`StartError`]: it cannot be read, or names nobody.
pub fn nameservers() -> Result<Vec<SocketAddr>, StartError> {
    let path = Path::new("/etc/resolv.conf");
    let text =
        fs::read_to_string(path).map_err(|source| StartError::Read { path: path.to_path_buf(), source })?;
    let servers = parse(&text);
    if servers.is_empty() {
        return Err(StartError::NoNameserver(path.to_path_buf()));
    }
    Ok(servers)
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace();
        let server = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        let ip: Option<IpAddr> = server.parse().ok();
        if ip.is_none() {
            tracing::warn!(server, "nameserver line of the system is not usable");
        }
        Some(SocketAddr::new(ip?, 53))
    };
    text.lines().filter_map(address).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read_and_the_rest_is_not() {
        let text = "# nameserver 192.0.2.9\nsearch example.com\nnameserver 192.0.2.1 # first\n\
                    nameserver\t2001:db8::1\nnameserver fe80::1%eth0\nnameserver dns.example\n\
                    nameserver 192.0.2.2\nnameserver 192.0.2.3\noptions ndots:5\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }
}
