//! Questions to a name server, as a stub resolver asks them.
//!
//! Shares no code with the gate's own reading of DNS. Must not know what the reply means.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Largest answer that is taken over UDP, bytes (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// Encodes a question that wants recursion.
pub(crate) fn query(name: &str, qtype: u16) -> io::Result<Vec<u8>> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    let name = Name::from_str(&format!("{name}.")).map_err(io::Error::other)?;
    query.add_query(Query::query(name, RecordType::from(qtype)));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    query.set_edns(edns);
    query.to_vec().map_err(io::Error::other)
}

/// Asks, and waits for the reply. `port` becomes the port it was asked from.
pub(crate) async fn over_udp(server: SocketAddr, query: &[u8], port: &mut u16) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket takes answers of this server alone, and hears that nobody is there.
    socket.connect(server).await?;
    *port = socket.local_addr()?.port();
    socket.send(query).await?;
    let mut reply = vec![0; usize::from(PAYLOAD)];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}

/// The same over TCP.
pub(crate) async fn over_tcp(server: SocketAddr, query: &[u8], port: &mut u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    *port = stream.local_addr()?.port();
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}
