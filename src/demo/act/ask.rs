//! One question to a name server, as a stub resolver asks it.
//!
//! Shares no code with the gate's own reading of DNS.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use crate::facts::Transport;
use crate::props::{over_tcp, over_udp, query};

use super::{Answer, Heard};

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
        Transport::Udp => over_udp(server, &query, &mut heard.port).await?,
        Transport::Tcp => over_tcp(server, &query, &mut heard.port).await?,
    };
    understand(&reply, heard)
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
