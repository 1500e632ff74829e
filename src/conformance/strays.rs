//! What came to the world beside connections and questions: datagrams, and packets of other IP protocols.
//!
//! Must not know what should have come.

use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What came, in words; shared by all who listen.
#[derive(Debug, Clone, Default)]
pub(super) struct Strays(Arc<Mutex<Vec<String>>>);

impl Strays {
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// What came after the first so many.
    pub(super) fn since(&self, count: usize) -> Vec<String> {
        self.0.lock().get(count..).unwrap_or_default().to_vec()
    }

    fn note(&self, what: String) {
        self.0.lock().push(what);
    }

    /// Takes datagrams on a port of every address, and answers each.
    pub(super) async fn datagrams(&self, port: u16, servers: &mut JoinSet<()>) -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).await?;
        let strays = self.clone();
        servers.spawn(async move {
            let mut datagram = [0; 2048];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut datagram).await else { continue };
                let from = from.ip().to_canonical();
                strays.note(format!("a datagram of {length} bytes on port {port}, from {from}"));
                let _ = socket.send_to(b"hello", SocketAddr::new(from, port)).await;
            }
        });
        Ok(())
    }

    /// Takes packets of an IP protocol; of ICMP, pings alone. Whoever takes them ends with the process.
    pub(super) fn packets(&self, protocol: u8) -> io::Result<()> {
        let number = Protocol::from(i32::from(protocol));
        let mut socket = Socket::new(Domain::IPV4, Type::RAW, Some(number))?;
        let strays = self.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            // The IPv4 header comes with it (raw(7)).
            while let Ok(length) = socket.read(&mut packet) {
                if protocol != ICMP || packet.get(20) == Some(&ECHO_REQUEST) {
                    strays.note(format!("a packet of IP protocol {protocol}, {length} bytes"));
                }
            }
        });
        Ok(())
    }
}

const ICMP: u8 = 1;
/// RFC 792.
const ECHO_REQUEST: u8 = 8;
