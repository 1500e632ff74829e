//! Captured datagrams: each comes with the address it was sent to, and is answered from there.
//!
//! Three ways lead here. Diverted by `tproxy`: the kernel tells the original destination, and the answer
//! leaves by a socket bound to it. Redirected by NAT: the destination is our own address, the answer leaves
//! from it and the kernel maps it back. Sent to us: the same without NAT. It does not know what is in a datagram.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::sys::socket::{
    self, ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, sockopt,
};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::facts::canonical;

/// A datagram that was received. Addresses are canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Length in the buffer, bytes.
    pub len: usize,
    /// Whether the buffer was too small; the rest is lost.
    pub cut: bool,
    /// Who sent it.
    pub peer: SocketAddr,
    /// Where it was sent to: answers leave from here.
    pub destination: SocketAddr,
}

/// A UDP socket for captured datagrams.
#[derive(Debug)]
pub struct CapturedUdp {
    socket: UdpSocket,
    local: SocketAddr,
    replies: Mutex<VecDeque<(SocketAddr, Arc<UdpSocket>)>>,
}

impl CapturedUdp {
    /// Binds a socket. `[::]` takes IPv4 as well. With `transparent` it takes what `tproxy` diverts to it,
    /// and may answer from addresses that are not this machine's.
    ///
    /// # Errors
    /// Those of the system; `transparent` needs `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub fn bind(address: SocketAddr, transparent: bool) -> io::Result<Self> {
        Self::adopt(open(address, transparent, false)?.into())
    }

    /// Takes over a bound socket, made perhaps in another network namespace. Must be called inside a runtime.
    ///
    /// # Errors
    /// Those of the system.
    pub fn adopt(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // With the usual buffer one client that floods for 20 ms loses the questions of all. Who may not have more
        // than the system's limit gets that.
        let fd = socket.as_fd();
        if socket::setsockopt(&fd, sockopt::RcvBufForce, &UNREAD).is_err() {
            let _ = socket::setsockopt(&fd, sockopt::RcvBuf, &UNREAD);
        }
        let local = socket.local_addr()?;
        if local.is_ipv6() {
            socket::setsockopt(&fd, sockopt::Ipv6OrigDstAddr, &true)?;
        }
        // On an IPv6 socket this is for the IPv4 datagrams that a dual-stack one receives.
        socket::setsockopt(&fd, sockopt::Ipv4OrigDstAddr, &true)?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, local, replies: Mutex::default() })
    }

    /// Returns the address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for a datagram. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// Those of the system; the socket stays usable.
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        self.socket.async_io(Interest::READABLE, || self.receive(buffer)).await
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        let mut control = Control([0; CONTROL]);
        let mut into = [IoSliceMut::new(buffer)];
        let fd = self.socket.as_raw_fd();
        let got = socket::recvmsg::<SockaddrStorage>(
            fd,
            &mut into,
            Some(control.0.as_mut_slice()),
            MsgFlags::empty(),
        )?;
        let mut destination = None;
        for message in got.cmsgs()? {
            // Another crate's enum of everything a kernel may say.
            #[expect(clippy::wildcard_enum_match_arm, reason = "other messages do not matter here")]
            match message {
                ControlMessageOwned::Ipv4OrigDstAddr(at) => {
                    destination = Some(SocketAddr::V4(SockaddrIn::from(at).into()));
                }
                ControlMessageOwned::Ipv6OrigDstAddr(at) => {
                    destination = destination.or(Some(SocketAddr::V6(SockaddrIn6::from(at).into())));
                }
                _ => {}
            }
        }
        let peer =
            got.address.as_ref().and_then(plain).ok_or_else(|| io::Error::other("no sender address"))?;
        Ok(Datagram {
            len: got.bytes,
            cut: got.flags.contains(MsgFlags::MSG_TRUNC),
            peer: undisguised(peer),
            destination: undisguised(destination.unwrap_or(self.local)),
        })
    }

    /// Sends an answer to `peer`, from where its datagram had been sent to.
    ///
    /// # Errors
    /// Those of the system; a foreign `source` needs a transparent socket.
    pub async fn send_from(&self, bytes: &[u8], peer: SocketAddr, source: SocketAddr) -> io::Result<()> {
        if source.port() == self.local.port() {
            return self.socket.async_io(Interest::WRITABLE, || self.send(bytes, peer, source.ip())).await;
        }
        let socket = self.reply_socket(source)?;
        socket.send_to(bytes, peer).await.map(drop)
    }

    fn send(&self, bytes: &[u8], peer: SocketAddr, source: IpAddr) -> io::Result<()> {
        let (fd, from) = (self.socket.as_raw_fd(), [IoSlice::new(bytes)]);
        let peer = SockaddrStorage::from(if self.local.is_ipv6() { disguised(peer) } else { peer });
        if self.local.is_ipv6() {
            let source = match source {
                IpAddr::V4(four) => four.to_ipv6_mapped(),
                IpAddr::V6(six) => six,
            };
            let source =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source.octets() }, ipi6_ifindex: 0 };
            let source = [ControlMessage::Ipv6PacketInfo(&source)];
            socket::sendmsg(fd, &from, &source, MsgFlags::empty(), Some(&peer))?;
        } else if let IpAddr::V4(source) = source {
            let source = libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
            let source = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: source,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let source = [ControlMessage::Ipv4PacketInfo(&source)];
            socket::sendmsg(fd, &from, &source, MsgFlags::empty(), Some(&peer))?;
        } else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(())
    }

    /// Finds or makes a socket bound to an address that is not ours. The longest unused one goes when
    /// there are too many: a client can name any number of servers.
    fn reply_socket(&self, source: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        let mut replies = self.replies.lock();
        let found = replies.iter().position(|(bound, _)| *bound == source);
        if let Some(entry) = found.and_then(|found| replies.remove(found)) {
            let socket = Arc::clone(&entry.1);
            replies.push_back(entry);
            return Ok(socket);
        }
        // Another socket may have the port on all addresses.
        let socket = open(source, true, true)?;
        // It only sends: what strays in would fill its buffer, so there is next to none.
        socket.set_recv_buffer_size(0)?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        if replies.len() >= REPLY_SOCKETS {
            replies.pop_front();
        }
        replies.push_back((source, Arc::clone(&socket)));
        Ok(socket)
    }
}

/// Sockets kept for answering from foreign addresses. Clients ask a handful of resolvers.
const REPLY_SOCKETS: usize = 32;

/// Datagrams that are not read yet, bytes as the kernel counts them: some 5,000 questions.
const UNREAD: usize = 4 << 20;

/// Room for the control messages of one datagram, bytes: an IPv4 and an IPv6 destination take 72.
const CONTROL: usize = 128;

/// Control messages start with a length: the buffer is aligned for one.
#[repr(align(8))]
struct Control([u8; CONTROL]);

/// Opens a socket on every address for [`CapturedUdp::adopt`], which may answer from addresses that are not this
/// machine's. Needs no runtime.
///
/// # Errors
/// Those of the system; it needs `CAP_NET_ADMIN` or `CAP_NET_RAW`.
pub fn open_for_capture(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    Ok(open(address, true, false)?.into())
}

fn open(address: SocketAddr, transparent: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(shared)?;
    if transparent {
        if address.is_ipv6() {
            socket.set_ip_transparent_v6(true)?;
        } else {
            socket.set_ip_transparent_v4(true)?;
        }
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn plain(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(four) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*four).into()));
    }
    address.as_sockaddr_in6().map(|six| SocketAddr::V6((*six).into()))
}

/// An IPv4 address in plain form; an IPv6 one keeps its scope, without which a link-local peer is lost.
fn undisguised(address: SocketAddr) -> SocketAddr {
    match canonical(address.ip()) {
        four @ IpAddr::V4(_) => SocketAddr::new(four, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The form in which an IPv6 socket takes an IPv4 address.
fn disguised(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(four) => {
            let ip: Ipv6Addr = four.ip().to_ipv6_mapped();
            SocketAddr::V6(SocketAddrV6::new(ip, four.port(), 0, 0))
        }
        SocketAddr::V6(_) => address,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    async fn there_and_back(bound: &str, client: &str, sent_to: &str) {
        let captured = CapturedUdp::bind(bound.parse().unwrap(), false).unwrap();
        let to = SocketAddr::new(sent_to.parse().unwrap(), captured.local_addr().port());
        let client = UdpSocket::bind(client).await.unwrap();
        client.connect(to).await.unwrap();
        client.send(b"question").await.unwrap();
        let mut buffer = [0; 64];
        let got = captured.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..got.len], b"question");
        assert_eq!((got.peer, got.destination, got.cut), (client.local_addr().unwrap(), to, false));
        captured.send_from(b"answer", got.peer, got.destination).await.unwrap();
        let len = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"answer");
    }

    #[tokio::test]
    async fn an_answer_leaves_from_the_address_that_was_asked() {
        there_and_back("0.0.0.0:0", "127.0.0.1:0", "127.0.0.7").await;
        there_and_back("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1").await;
        there_and_back("[::]:0", "[::1]:0", "::1").await;
    }

    #[tokio::test]
    async fn a_dual_stack_socket_shows_ipv4_peers_in_plain_form() {
        there_and_back("[::]:0", "127.0.0.1:0", "127.0.0.8").await;
    }

    #[tokio::test]
    async fn a_datagram_over_the_buffer_is_marked_as_cut() {
        let captured = CapturedUdp::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(&[1; 100], captured.local_addr()).await.unwrap();
        let got = captured.recv(&mut [0; 10]).await.unwrap();
        assert_eq!((got.len, got.cut), (10, true));
    }

    /// What the kernel has to do so that datagrams to foreign addresses are diverted to port 15353.
    const DIVERT: &str = "ip link set lo up
        ip route add local 192.0.2.0/24 dev lo
        ip -6 route add local 2001:db8:53::/64 dev lo
        nft -f - <<'RULES'
        table inet divert {
        chain pre {
            type filter hook prerouting priority mangle
            udp dport 53 meta nfproto ipv4 tproxy ip to 127.0.0.1:15353 accept
            udp dport 53 meta nfproto ipv6 tproxy ip6 to [::1]:15353 accept
        }
        }
RULES";

    /// Runs the test of this name again inside its own user and network namespace. Returns whether this is
    /// the inside already.
    fn inside(test: &str) -> bool {
        const MARK: &str = "NAMEGATE_TEST_INSIDE";
        if std::env::var_os(MARK).is_some() {
            return true;
        }
        let script = format!("set -e\necho inside\n{DIVERT}\nexec \"$0\" --exact {test} --nocapture");
        let run = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(MARK, "1")
            .output();
        let said = run.map(|output| {
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        });
        match said {
            Ok((true, _)) => {}
            Ok((false, said)) if said.contains("inside") => panic!("{said}"),
            other => {
                assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "no namespaces here: {other:?}");
                eprintln!("SKIPPED: no namespaces here: {other:?}");
            }
        }
        false
    }

    #[tokio::test]
    async fn an_answer_to_a_diverted_datagram_leaves_from_the_foreign_address() {
        if !inside("sys::udp::tests::an_answer_to_a_diverted_datagram_leaves_from_the_foreign_address") {
            return;
        }
        for (bound, client, sent_to) in [
            ("127.0.0.1:15353", "127.0.0.1:0", "192.0.2.53:53"),
            ("[::1]:15353", "[::1]:0", "[2001:db8:53::8]:53"),
        ] {
            let captured = CapturedUdp::bind(bound.parse().unwrap(), true).unwrap();
            let sent_to: SocketAddr = sent_to.parse().unwrap();
            // Twice: the second answer leaves by the same socket, which must not swallow the question.
            for _ in 0..2 {
                let client = UdpSocket::bind(client).await.unwrap();
                client.connect(sent_to).await.unwrap();
                client.send(b"question").await.unwrap();
                let mut buffer = [0; 64];
                let got = captured.recv(&mut buffer).await.unwrap();
                assert_eq!((got.peer, got.destination), (client.local_addr().unwrap(), sent_to));
                captured.send_from(b"answer", got.peer, got.destination).await.unwrap();
                assert_eq!(client.recv(&mut buffer).await.unwrap(), 6);
            }
            assert_eq!(captured.replies.lock().len(), 1);
        }
    }

    #[tokio::test]
    async fn reply_sockets_are_bounded_however_many_servers_a_client_names() {
        if !inside("sys::udp::tests::reply_sockets_are_bounded_however_many_servers_a_client_names") {
            return;
        }
        let captured = CapturedUdp::bind("127.0.0.1:15353".parse().unwrap(), true).unwrap();
        let peer = "127.0.0.1:9".parse().unwrap();
        for last in 0..100u8 {
            let source = SocketAddr::new(IpAddr::from([192, 0, 2, last]), 53);
            captured.send_from(b"answer", peer, source).await.unwrap();
        }
        assert_eq!(captured.replies.lock().len(), REPLY_SOCKETS);
    }
}
