//! Which sockets of this network namespace wait for strangers, and whose they are.
//!
//! Reads `/proc/net` (proc_net(5)). Must not know which of them are meant to be there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::facts::Transport;

/// A socket that waits: for connections, or for datagrams of anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken.
    pub transport: Transport,
    /// Where it waits; an address of `::` may take in IPv4 too.
    pub address: SocketAddr,
    /// Its number among all sockets.
    pub inode: u64,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, as the kernel has it: up to 15 bytes.
    pub name: String,
}

/// Lists the sockets that wait.
///
/// # Errors
/// There is no `/proc`, or it does not show them.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    for (file, transport) in
        [("tcp", Transport::Tcp), ("tcp6", Transport::Tcp), ("udp", Transport::Udp), ("udp6", Transport::Udp)]
    {
        match fs::read_to_string(format!("/proc/net/{file}")) {
            Ok(text) => found.extend(text.lines().filter_map(|line| parse(line, transport))),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Finds a process for each of these sockets, as far as this process may see into others.
pub fn holders(inodes: &[u64]) -> BTreeMap<u64, Holder> {
    let mut found = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbered {
        for link in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Some(inode) = fs::read_link(link.path()).ok().and_then(|target| socket(target.to_str()?))
            else {
                continue;
            };
            if inodes.contains(&inode) && !found.contains_key(&inode) {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                found.insert(inode, Holder { pid, name: name.trim().to_owned() });
            }
        }
    }
    found
}

/// The number in `socket:[12345]`.
fn socket(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Reads a line: `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`.
fn parse(line: &str, transport: Transport) -> Option<Listener> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (address(words.next()?)?, address(words.next()?)?, words.next()?);
    let waits = match transport {
        Transport::Tcp => state == "0A",
        Transport::Udp => state == "07" && remote.port() == 0,
    };
    let inode = words.nth(5)?.parse().ok()?;
    waits.then_some(Listener { transport, address: local, inode })
}

/// Reads `0100007F:3A99`: words of 32 bits in the byte order of this machine, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn sockets_that_wait_are_listed_with_their_process() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        for (transport, address) in
            [(Transport::Tcp, tcp.local_addr().unwrap()), (Transport::Udp, udp.local_addr().unwrap())]
        {
            let all = listeners().unwrap();
            let own = all.iter().find(|one| one.transport == transport && one.address == address).unwrap();
            assert_eq!(holders(&[own.inode])[&own.inode].pid, std::process::id());
        }
    }

    #[test]
    fn a_connected_socket_does_not_wait() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:9").unwrap();
        let all = listeners().unwrap();
        assert!(!all.iter().any(|one| one.address == client.local_addr().unwrap()));
        assert!(!all.iter().any(|one| one.address == udp.local_addr().unwrap()));
    }

    #[test]
    fn no_line_makes_it_stumble() {
        let line =
            "   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 4242 1 0";
        assert_eq!(parse(line, Transport::Tcp).map(|one| one.inode), Some(4242));
        for end in 0..line.len() {
            let _ = parse(&line[..end], Transport::Tcp);
        }
        for odd in ["", "a b c d e f g h i j", "0: 0100007:1 0:0 0A", "0: 0100007F 00000000:0000 0A"] {
            assert_eq!(parse(odd, Transport::Tcp), None, "{odd}");
        }
    }
}
