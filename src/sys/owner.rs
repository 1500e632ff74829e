//! Whose a socket of this host is, told by the two ends of its connection (NETLINK_SOCK_DIAG, sock_diag(7)).
//!
//! After a redirection the client's socket keeps the destination that its process asked for, so a connection is
//! asked for by its original destination. Must not know who is asking, nor what follows from the answer.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_LISTEN};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use parking_lot::Mutex;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::{Socket, SocketAddr as Kernel, protocols::NETLINK_SOCK_DIAG};

use crate::facts::canonical;

/// Who opened a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user's number, in the user namespace of this process.
    pub uid: u32,
    /// The socket's own number, as in `/proc/PID/fd`. Never 0.
    pub inode: u32,
}

/// Asks the kernel whose sockets are, of the network namespace in which it was opened.
pub struct Owners {
    connections: Mutex<Conversation>,
    /// Apart, for it takes longer.
    datagrams: Mutex<Conversation>,
}

struct Conversation {
    socket: Socket,
    /// Whether the kernel has more to say than was heard.
    unfinished: bool,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owners").finish_non_exhaustive()
    }
}

impl Owners {
    /// Opens a conversation with the kernel.
    ///
    /// # Errors
    /// The kernel has no such sockets (`CONFIG_INET_DIAG`), or permits none.
    pub fn open() -> io::Result<Self> {
        let conversation = || Conversation::open().map(Mutex::new);
        Ok(Self { connections: conversation()?, datagrams: conversation()? })
    }

    /// Returns who opened the TCP socket at `source` that is connected to `destination`; `None` when there is no
    /// such socket, or nobody has it open any more: its user is not known then (older kernels say root). Takes
    /// some microseconds, and never waits.
    ///
    /// # Errors
    /// The kernel does not answer as it should.
    pub fn of_connection(&self, source: SocketAddr, destination: SocketAddr) -> io::Result<Option<Owner>> {
        let (source, destination) = (plain(source), plain(destination));
        if source.is_ipv4() != destination.is_ipv4() {
            return Ok(None);
        }
        let request = request(IPPROTO_TCP, family(source), source, destination);
        let found = self.connections.lock().ask(request, NLM_F_REQUEST)?;
        // Where there is no connection of these ends the kernel answers with whoever listens there.
        let meant = |found: &InetResponse| {
            let (near, far) = ends(found);
            found.header.state != TCP_LISTEN && near == source && far == destination
        };
        Ok(found.iter().find(|found| meant(found)).and_then(open_owner))
    }

    /// Returns who opened the UDP socket from which a datagram with this source comes, wherever it is sent: a
    /// translation hides that from the receiver. `None` also when sockets of two users share the place, or more than 64
    /// do, whosever. Takes some ten microseconds more than a connection, since the kernel has to look through
    /// its list of sockets.
    ///
    /// # Errors
    /// As [`Owners::of_connection`].
    pub fn of_datagram(&self, source: SocketAddr) -> io::Result<Option<Owner>> {
        let source = plain(source);
        let nowhere = |family| match family {
            AF_INET => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            _ => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let mut conversation = self.datagrams.lock();
        let mut owner: Option<Owner> = None;
        // IPv4 also leaves by sockets of IPv6.
        for family in if source.is_ipv4() { &[AF_INET, AF_INET6][..] } else { &[AF_INET6] } {
            let any = SocketAddr::new(nowhere(*family).ip(), source.port());
            let request = request(IPPROTO_UDP, *family, any, nowhere(*family));
            let answers = conversation.ask(request, NLM_F_REQUEST | NLM_F_DUMP)?;
            if answers.len() > CROWD {
                return Ok(None);
            }
            for found in answers {
                let (near, _) = ends(&found);
                let sends =
                    near.port() == source.port() && (near.ip().is_unspecified() || near.ip() == source.ip());
                if !sends {
                    continue;
                }
                let Some(found) = open_owner(&found) else { return Ok(None) };
                if owner.is_some_and(|owner| owner.uid != found.uid) {
                    return Ok(None);
                }
                owner = Some(found);
            }
        }
        Ok(owner)
    }
}

fn plain(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical(end.ip()), end.port())
}

const fn family(address: SocketAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// Its own address, and the other's.
fn ends(found: &InetResponse) -> (SocketAddr, SocketAddr) {
    let id = &found.header.socket_id;
    let end = |address, port| plain(SocketAddr::new(address, port));
    (end(id.source_address, id.source_port), end(id.destination_address, id.destination_port))
}

/// Whose it is, unless its process has closed it.
fn open_owner(found: &InetResponse) -> Option<Owner> {
    let (uid, inode) = (found.header.uid, found.header.inode);
    (inode != 0).then_some(Owner { uid, inode })
}

impl Conversation {
    fn open() -> io::Result<Self> {
        let (socket, buffer) = (Self::connect()?, Vec::with_capacity(ANSWER));
        Ok(Self { socket, unfinished: false, sequence: 0, buffer })
    }

    fn connect() -> io::Result<Socket> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&Kernel::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(socket)
    }

    /// Asks about one socket, or (`NLM_F_DUMP`) about all that fit: of more than [`CROWD`] the first. Whoever opens
    /// thousands at one port must not hold up others for as long as they take to be listed.
    fn ask(&mut self, request: InetRequest, flags: u16) -> io::Result<Vec<InetResponse>> {
        if self.unfinished {
            // The kernel begins no list before the last one was heard to its end: cheaper is another socket.
            self.socket = Self::connect()?;
        }
        self.unfinished = true;
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(SockDiagMessage::InetRequest(request));
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        self.buffer.resize(message.buffer_len(), 0);
        message.serialize(&mut self.buffer);
        self.socket.send(&self.buffer, 0)?;
        // What is to be said of one socket has been said when `send` returns, and a list goes on at each `recv`.
        let mut found = Vec::new();
        loop {
            self.buffer.clear();
            self.buffer.reserve(ANSWER);
            self.socket.recv(&mut self.buffer, 0)?;
            let mut rest = self.buffer.as_slice();
            while !rest.is_empty() {
                let answer =
                    NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number == self.sequence && is_last(answer, &mut found)? {
                    self.unfinished = false;
                    return Ok(found);
                }
                if found.len() > CROWD {
                    return Ok(found);
                }
            }
        }
    }
}

/// Takes an answer, and says whether nothing follows it.
fn is_last(answer: NetlinkMessage<SockDiagMessage>, found: &mut Vec<InetResponse>) -> io::Result<bool> {
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(one)) => {
            found.push(*one);
            Ok(answer.header.flags & NLM_F_MULTIPART == 0)
        }
        NetlinkPayload::Done(_) => Ok(true),
        NetlinkPayload::Error(refusal) => {
            let error = refusal.to_io();
            if error.raw_os_error() == Some(libc::ENOENT) { Ok(true) } else { Err(error) }
        }
        NetlinkPayload::InnerMessage(_) | NetlinkPayload::Noop | NetlinkPayload::Overrun(_) | _ => {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}

fn request(protocol: u8, family: u8, source: SocketAddr, destination: SocketAddr) -> InetRequest {
    let socket_id = SocketId {
        source_port: source.port(),
        destination_port: destination.port(),
        source_address: source.ip(),
        destination_address: destination.ip(),
        interface_id: 0,
        cookie: [0xff; 8],
    };
    InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    }
}

/// Sockets at one port that are told apart. A resolver that takes a new port for each question has one, a server with a
/// socket for each core as many.
const CROWD: usize = 64;

/// The kernel fills no more than this at once, bytes (`netlink_dump`).
const ANSWER: usize = 32_768;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn inode(descriptor: &impl std::os::fd::AsRawFd) -> u32 {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap();
        link.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    #[test]
    fn a_connection_is_found_by_its_two_ends_in_both_families_and_when_mapped() {
        let owners = Owners::open().unwrap();
        let uid = rustix::process::getuid().as_raw();
        for (listen, dial) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("127.0.0.1:0", "::ffff:127.0.0.1")]
        {
            let Ok(listener) = TcpListener::bind(listen) else { continue };
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((dial, port)).unwrap();
            let (accepted, source) = listener.accept().unwrap();
            let destination = accepted.local_addr().unwrap();
            let ask = || owners.of_connection(source, destination).unwrap();
            assert_eq!(ask(), Some(Owner { uid, inode: inode(&client) }), "{dial}");
            let accepted_one = owners.of_connection(destination, source).unwrap();
            assert_eq!(accepted_one, Some(Owner { uid, inode: inode(&accepted) }));
            // Closed by its process: nobody's, and not root's.
            drop(client);
            assert_eq!(ask(), None, "{dial}");
        }
    }

    #[test]
    fn who_listens_is_not_who_connects() {
        let owners = Owners::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = "127.0.0.1:9".parse().unwrap();
        assert_eq!(owners.of_connection(listener.local_addr().unwrap(), nobody).unwrap(), None);
    }

    #[test]
    fn a_datagram_is_found_by_the_socket_that_sent_it_connected_or_not() {
        let owners = Owners::open().unwrap();
        let uid = rustix::process::getuid().as_raw();
        for (bind, own, far) in [
            ("0.0.0.0:0", "127.0.0.1", None),
            ("127.0.0.1:0", "127.0.0.1", Some("127.0.0.53:53")),
            ("[::]:0", "::1", None),
            ("[::1]:0", "::1", Some("[::1]:53")),
            ("[::]:0", "127.0.0.1", None),
            ("[::]:0", "127.0.0.1", Some("[::ffff:127.0.0.53]:53")),
        ] {
            let Ok(socket) = UdpSocket::bind(bind) else { continue };
            if let Some(far) = far {
                socket.connect(far).unwrap();
            }
            let source = SocketAddr::new(own.parse().unwrap(), socket.local_addr().unwrap().port());
            let found = owners.of_datagram(source).unwrap();
            assert_eq!(found, Some(Owner { uid, inode: inode(&socket) }), "{bind} {far:?}");
            let elsewhere = SocketAddr::new("192.0.2.9".parse().unwrap(), source.port());
            if !bind.starts_with("[::]") && !bind.starts_with("0.0.0.0") {
                assert_eq!(owners.of_datagram(elsewhere).unwrap(), None, "{bind}");
            }
            drop(socket);
            assert_eq!(owners.of_datagram(source).unwrap(), None, "{bind}");
        }
    }

    #[test]
    fn a_crowd_at_one_port_is_nobody_and_hides_no_other() {
        let owners = Owners::open().unwrap();
        let shared = |port: u16| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
            socket
        };
        let mut crowd = vec![shared(0)];
        let place = crowd[0].local_addr().unwrap().as_socket().unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        while crowd.len() < CROWD {
            crowd.push(shared(place.port()));
        }
        assert!(owners.of_datagram(place).unwrap().is_some());
        while crowd.len() < CROWD * 10 {
            crowd.push(shared(place.port()));
        }
        for _ in 0..3 {
            assert_eq!(owners.of_datagram(place).unwrap(), None);
            let found = owners.of_datagram(other.local_addr().unwrap()).unwrap();
            assert_eq!(found.map(|owner| owner.inode), Some(inode(&other)));
        }
        crowd.truncate(CROWD);
        assert!(owners.of_datagram(place).unwrap().is_some());
    }

    #[test]
    fn ends_of_two_families_are_nobodys() {
        let owners = Owners::open().unwrap();
        let (four, six) = ("127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        assert_eq!(owners.of_connection(four, six).unwrap(), None);
    }

    /// What a look costs; told with `--nocapture`.
    #[test]
    fn a_look_takes_microseconds() {
        let owners = Owners::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (near, far) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let from = datagrams.local_addr().unwrap();
        let mean = |look: &dyn Fn() -> Option<Owner>| {
            let began = super::super::clock::tick();
            for _ in 0..1000 {
                assert!(look().is_some());
            }
            super::super::clock::tick().since(began) / 1000
        };
        let connection = mean(&|| owners.of_connection(near, far).unwrap());
        let datagram = mean(&|| owners.of_datagram(from).unwrap());
        println!("a connection {connection:?}, a datagram {datagram:?}");
        assert!(connection < std::time::Duration::from_millis(5), "{connection:?}");
    }
}
