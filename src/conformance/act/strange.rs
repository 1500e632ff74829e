//! What is neither a connection nor a question: datagrams, other IP protocols, and a look at who listens.
//!
//! Must not know who should hear of it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::super::order::Answer;
use super::in_a_moment;

pub(super) async fn datagram(to: SocketAddr, bytes: &[u8], answer: &mut Answer) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    socket.send(bytes).await?;
    let mut reply = vec![0; 2048];
    let read = in_a_moment(socket.recv(&mut reply)).await?;
    reply.truncate(read);
    answer.heard = reply;
    Ok(())
}

pub(super) fn raw(protocol: u8, to: IpAddr, packets: &[Vec<u8>]) -> io::Result<()> {
    let protocol = Protocol::from(i32::from(protocol));
    let socket = Socket::new(Domain::for_address(SocketAddr::new(to, 0)), Type::RAW, Some(protocol))?;
    for packet in packets {
        socket.send_to(packet, &SocketAddr::new(to, 0).into())?;
    }
    Ok(())
}

/// Ports that TCP sockets of this network namespace listen on (proc_pid_net(5)).
pub(super) fn listening() -> io::Result<Vec<u16>> {
    const LISTEN: &str = "0A";
    let mut ports = Vec::new();
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        // A kernel without IPv6 has no such file.
        let table = fs::read_to_string(file).unwrap_or_default();
        for line in table.lines().skip(1) {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
            let port = local.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
            ports.extend(port.filter(|_| state == LISTEN));
        }
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}
