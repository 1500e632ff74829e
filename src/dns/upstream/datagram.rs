//! An upstream over UDP, and over TCP what UDP cannot carry or must not be trusted with.
//!
//! A forged answer has to guess the id (16 bits), the port (about 15) and the case of every letter, and to
//! come from the server's address. It does not know other upstreams.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::facts::Tick;
use crate::sys::clock;
use crate::wire::dns::{Ask, Echo, Spelling, echo, rcode};

use super::UpstreamError;
use super::stream::Lane;

/// One server.
#[derive(Debug)]
pub(super) struct Relay {
    server: SocketAddr,
    lane: Lane,
    idle: Mutex<Vec<Port>>,
}

/// A connected socket: the kernel drops what does not come from the server. One question at a time.
#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    uses: u32,
    born: Tick,
}

/// What UDP brought.
enum Heard {
    Whole(Vec<u8>),
    /// Cut short, or with letters in a case that we did not choose: to be asked again over TCP.
    Doubtful,
}

impl Relay {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, lane: Lane::new(server), idle: Mutex::default() }
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    /// Asks, within the caller's deadline.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Vec<u8>, UpstreamError> {
        let mut heard = self.ask_once(ask, true).await?;
        if matches!(&heard, Heard::Whole(answer) if is_older_than_edns(answer)) {
            heard = self.ask_once(ask, false).await?;
        }
        match heard {
            Heard::Whole(answer) => Ok(answer),
            Heard::Doubtful => self.lane.ask(ask).await,
        }
    }

    async fn ask_once(&self, ask: &Ask, edns: bool) -> Result<Heard, UpstreamError> {
        let query = ask.encode(rand::random(), &Spelling(rand::random()), edns);
        let mut port = self.port().await.map_err(UpstreamError::Io)?;
        let heard = port.exchange(&query).await.map_err(UpstreamError::Io)?;
        port.uses += 1;
        self.keep(port);
        Ok(heard)
    }

    /// Takes a young idle port, or opens one; the kernel picks its number at random.
    async fn port(&self) -> io::Result<Port> {
        let now = clock::tick();
        {
            let mut idle = self.idle.lock();
            idle.retain(|port| now.since(port.born) < PORT_AGE);
            if !idle.is_empty() {
                let any = rand::random_range(0..idle.len());
                return Ok(idle.swap_remove(any));
            }
        }
        let any: SocketAddr = match self.server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.server).await?;
        Ok(Port { socket, uses: 0, born: now })
    }

    fn keep(&self, port: Port) {
        let mut idle = self.idle.lock();
        if port.uses < PORT_USES && idle.len() < PORTS {
            idle.push(port);
        }
    }
}

/// A port is used for this many questions and this long, then replaced: too short to find and flood it.
const PORT_USES: u32 = 64;
const PORT_AGE: Duration = Duration::from_millis(500);
/// Idle ports kept.
const PORTS: usize = 128;
/// A datagram that was not answered by then is sent again, once: it may be lost.
const RESEND: Duration = Duration::from_millis(700);
/// Largest answer taken over UDP, bytes; we offer 1232.
const LARGEST: usize = 4096;

impl Port {
    /// Sends, and listens until the answer comes; everything else that comes is passed over.
    async fn exchange(&mut self, query: &[u8]) -> io::Result<Heard> {
        self.socket.send(query).await?;
        if let Ok(heard) = timeout(RESEND, self.hear(query)).await {
            return heard;
        }
        self.socket.send(query).await?;
        self.hear(query).await
    }

    async fn hear(&self, query: &[u8]) -> io::Result<Heard> {
        let mut buffer = [0; LARGEST];
        loop {
            let len = self.socket.recv(&mut buffer).await?;
            let answer = buffer.get(..len).unwrap_or(&[]);
            match echo(answer, query) {
                Echo::Foreign => {}
                Echo::OtherCase => return Ok(Heard::Doubtful),
                Echo::Exact if len == LARGEST || is_truncated(answer) => return Ok(Heard::Doubtful),
                Echo::Exact => return Ok(Heard::Whole(answer.to_vec())),
            }
        }
    }
}

fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// Whether the server does not understand EDNS (RFC 6891 section 7).
fn is_older_than_edns(answer: &[u8]) -> bool {
    let code = answer.get(3).map_or(0, |flags| u16::from(flags & 0xf));
    matches!(code, rcode::FORMERR | rcode::NOTIMP) && answer.get(10..12) == Some(&[0, 0])
}
