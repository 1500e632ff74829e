//! One question to a name server, as a stub resolver asks it.
//!
//! Shares no code with the gate's own reading of DNS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::facts::Transport;

use super::{Answer, Heard};

/// Largest answer that is taken over UDP, bytes (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// EDNS option code of an Extended DNS Error (RFC 8914 section 2).
const EDE: u16 = 15;

pub(super) async fn ask(
    server: SocketAddr,
    over: Transport,
    name: &str,
    qtype: u16,
    heard: &mut Answer,
) -> io::Result<()> {
    let query = query(name, qtype)?;
    let reply = match over {
        Transport::Udp => over_udp(server, &query, heard).await?,
        Transport::Tcp => over_tcp(server, &query, heard).await?,
    };
    understand(&reply, heard)
}

fn query(name: &str, qtype: u16) -> io::Result<Vec<u8>> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    let name = Name::from_str(&format!("{name}.")).map_err(io::Error::other)?;
    query.add_query(Query::query(name, RecordType::from(qtype)));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    query.set_edns(edns);
    query.to_vec().map_err(io::Error::other)
}

async fn over_udp(server: SocketAddr, query: &[u8], heard: &mut Answer) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket takes answers of this server alone, and hears that nobody is there.
    socket.connect(server).await?;
    heard.port = socket.local_addr()?.port();
    socket.send(query).await?;
    let mut reply = vec![0; usize::from(PAYLOAD)];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}

async fn over_tcp(server: SocketAddr, query: &[u8], heard: &mut Answer) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    heard.port = stream.local_addr()?.port();
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

fn understand(reply: &[u8], heard: &mut Answer) -> io::Result<()> {
    let reply = Message::from_vec(reply).map_err(io::Error::other)?;
    let code = reply.metadata.response_code;
    // Another crate's enum with a variant for every record type there is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only addresses are looked for")]
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    heard.addresses = reply.answers.iter().filter_map(|record| address(&record.data)).collect();
    heard.detail = heard.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    heard.heard = if code == ResponseCode::Refused {
        let text = extended_error(&reply).unwrap_or_default();
        heard.reason = text.split_once(": ").map(|(reason, _)| reason.to_owned());
        heard.detail = text;
        Heard::DnsRefused
    } else if code != ResponseCode::NoError {
        heard.detail = code.to_string();
        Heard::Other
    } else if heard.addresses.is_empty() {
        Heard::NoAddress
    } else {
        Heard::Passed
    };
    Ok(())
}

/// The text of an Extended DNS Error: two bytes of code come first (RFC 8914 section 2).
fn extended_error(reply: &Message) -> Option<String> {
    let option = reply.edns.as_ref()?.option(EdnsCode::from(EDE))?;
    let EdnsOption::Unknown(_, data) = option else { return None };
    data.get(2..).map(|text| String::from_utf8_lossy(text).into_owned())
}
