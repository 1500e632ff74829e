//! Name servers of the demo's Internet, over UDP and TCP: one says the truth, one names itself. Both write down
//! every question.
//!
//! Shares no code with the gate's own reading of DNS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::Error;
use super::door::{Counted, listen, serve};
use super::map::Map;
use super::seen::Seen;

/// What a name server answers from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Says {
    Truth(Map),
    /// Every name is here.
    Itself(Ipv4Addr),
}

impl Says {
    fn address(&self, name: &str) -> Option<(u32, Ipv4Addr)> {
        match self {
            Self::Truth(map) => map.truth(name),
            Self::Itself(address) => Some((300, *address)),
        }
    }
}

/// One name server, its ports open.
#[derive(Debug)]
pub(super) struct Resolver {
    udp: UdpSocket,
    tcp: TcpListener,
    server: Server,
}

/// What answers, and writes down.
#[derive(Debug, Clone)]
struct Server {
    at: SocketAddr,
    says: Says,
    seen: Seen,
}

impl Resolver {
    pub(super) async fn open(at: SocketAddr, says: Says, seen: Seen) -> Result<Self, Error> {
        let udp = UdpSocket::bind(at).await.map_err(|source| Error::Listen { address: at, source })?;
        Ok(Self { udp, tcp: listen(at).await?, server: Server { at, says, seen } })
    }

    pub(super) fn serve_in(self, servers: &mut JoinSet<()>) {
        let Self { udp, tcp, server } = self;
        let (at, seen, over_tcp) = (server.at, server.seen.clone(), server.clone());
        servers.spawn(serve(tcp, at, seen, move |stream| over_tcp.clone().serve_tcp(stream)));
        servers.spawn(server.serve_udp(udp));
    }
}

/// Longest datagram that is read.
const MAX_DATAGRAM: usize = 4096;

impl Server {
    async fn serve_udp(self, udp: UdpSocket) {
        let mut query = vec![0; MAX_DATAGRAM];
        loop {
            // The errors of a datagram socket are those of the peer before.
            let Ok((length, peer)) = udp.recv_from(&mut query).await else { continue };
            if let Some(reply) = query.get(..length).and_then(|query| self.reply(query)) {
                let _ = udp.send_to(&reply, peer).await;
            }
        }
    }

    async fn serve_tcp(self, mut stream: Counted) -> io::Result<()> {
        loop {
            let mut query = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut query).await?;
            let Some(reply) = self.reply(&query) else { return Ok(()) };
            stream.write_u16(u16::try_from(reply.len()).unwrap_or(0)).await?;
            stream.write_all(&reply).await?;
        }
    }

    /// `None`: it is no question. It is written down all the same.
    fn reply(&self, query: &[u8]) -> Option<Vec<u8>> {
        let asked =
            Message::from_vec(query).ok().filter(|query| query.metadata.message_type == MessageType::Query);
        let question = asked.as_ref().and_then(|query| query.queries.first());
        let name = question.map_or(String::new(), |question| question.name().to_ascii().to_ascii_lowercase());
        let name = name.trim_end_matches('.').to_owned();
        self.seen.asked(self.at, name.clone());
        let (asked, question) = (asked.as_ref()?, question?);
        let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
        reply.metadata.recursion_desired = asked.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_query(question.clone());
        match self.says.address(&name) {
            Some((ttl, address)) if question.query_type() == RecordType::A => {
                let data = RData::A(A(address));
                reply.add_answer(Record::from_rdata(question.name().clone(), ttl, data));
            }
            Some(_) => {}
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        reply.to_vec().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use crate::facts::Name;
    use crate::wire::dns::{Ask, Echo, Spelling, answer, echo, qtype};

    use super::super::map::{GOOD, TUNNEL};
    use super::*;

    fn server(says: Says) -> Server {
        Server { at: SocketAddr::from(([192, 0, 2, 53], 53)), says, seen: Seen::default() }
    }

    fn ask(server: &Server, name: &str, qtype: u16) -> Vec<u8> {
        let query = Ask::new(Name::parse(name).unwrap(), qtype).encode(7, &Spelling([0x5a; 32]), true);
        let reply = server.reply(&query).unwrap();
        assert_eq!(echo(&reply, &query), Echo::Exact);
        reply
    }

    #[test]
    fn the_gate_understands_the_answers_and_every_question_is_written_down() {
        let server = server(Says::Truth(Map::INTERNET));
        let good = answer(&ask(&server, GOOD, qtype::A)).unwrap();
        assert_eq!(good.addresses.first().unwrap().ip, Map::INTERNET.shared);
        assert!(answer(&ask(&server, GOOD, qtype::AAAA)).unwrap().addresses.is_empty());
        assert_eq!(ask(&server, TUNNEL, qtype::A).get(3).unwrap() & 0xf, 3);
        assert_eq!(server.reply(b"no question"), None);
        let names: Vec<_> = server
            .seen
            .since(Default::default())
            .questions
            .into_iter()
            .map(|question| question.name)
            .collect();
        assert_eq!(names, [GOOD, GOOD, TUNNEL, ""]);
    }

    #[test]
    fn a_rogue_resolver_says_that_everything_is_at_its_own_address() {
        let attacker = Map::INTERNET.attacker;
        let server = server(Says::Itself(attacker));
        assert_eq!(answer(&ask(&server, GOOD, qtype::A)).unwrap().addresses.first().unwrap().ip, attacker);
    }
}
