//! A name server for a play, over UDP and TCP. It writes down every question.
//!
//! Shares no code with the gate's own reading of DNS. Must not know what it is told to answer.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::{Counted, Error, Seen, listen, serve};

/// What a name server answers from: the records for a name, as asked and in lower case without its final dot, and a
/// type. `None`: there is no such name.
pub(crate) type Zone = Arc<dyn Fn(&Name, &str, RecordType) -> Option<Vec<Record>> + Send + Sync>;

/// One name server, its ports open.
pub(crate) struct Resolver {
    udp: UdpSocket,
    tcp: TcpListener,
    server: Server,
}

/// What answers, and writes down.
#[derive(Clone)]
struct Server {
    at: SocketAddr,
    zone: Zone,
    seen: Seen,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("at", &self.server.at).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) async fn open(at: SocketAddr, zone: Zone, seen: Seen) -> Result<Self, Error> {
        let udp = UdpSocket::bind(at).await.map_err(|source| Error::Listen { address: at, source })?;
        Ok(Self { udp, tcp: listen(at).await?, server: Server { at, zone, seen } })
    }

    pub(crate) fn serve_in(self, servers: &mut JoinSet<()>) {
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
        match (self.zone)(question.name(), &name, question.query_type()) {
            Some(records) => records.into_iter().for_each(|record| {
                reply.add_answer(record);
            }),
            None => reply.metadata.response_code = ResponseCode::NXDomain,
        }
        reply.to_vec().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use hickory_proto::rr::RData;
    use hickory_proto::rr::rdata::A;

    use crate::facts::Name as GateName;
    use crate::wire::dns::{Ask, Echo, Spelling, answer, echo, qtype};

    use super::*;

    const KNOWN: &str = "good.example.com";

    fn server() -> Server {
        let zone: Zone = Arc::new(|owner, name, kind| {
            let data = RData::A(A::new(203, 0, 113, 10));
            let record = Record::from_rdata(owner.clone(), 300, data);
            (name == KNOWN).then(|| (kind == RecordType::A).then_some(record).into_iter().collect())
        });
        Server { at: SocketAddr::from(([192, 0, 2, 53], 53)), zone, seen: Seen::default() }
    }

    fn ask(server: &Server, name: &str, qtype: u16) -> Vec<u8> {
        let query = Ask::new(GateName::parse(name).unwrap(), qtype).encode(7, &Spelling([0x5a; 32]), true);
        let reply = server.reply(&query).unwrap();
        assert_eq!(echo(&reply, &query), Echo::Exact);
        reply
    }

    #[test]
    fn the_gate_understands_the_answers_and_every_question_is_written_down() {
        let server = server();
        let good = answer(&ask(&server, KNOWN, qtype::A)).unwrap();
        assert_eq!(good.addresses.first().unwrap().ip.to_string(), "203.0.113.10");
        assert!(answer(&ask(&server, KNOWN, qtype::AAAA)).unwrap().addresses.is_empty());
        assert_eq!(ask(&server, "tunnel.example.net", qtype::A).get(3).unwrap() & 0xf, 3);
        assert_eq!(server.reply(b"no question"), None);
        let asked = server.seen.since(Default::default()).questions.into_iter();
        let names: Vec<_> = asked.map(|question| question.name).collect();
        assert_eq!(names, [KNOWN, KNOWN, "tunnel.example.net", ""]);
    }
}
