//! The far side of the test world: web servers with a throw-away authority's certificate, a server that
//! speaks first, and a name server that remembers what it was asked. None of it shares code with the gate.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::world::{World, within};

/// Records of one name.
#[derive(Debug, Clone)]
pub enum Record {
    /// TTL in seconds and address.
    A(u32, Ipv4Addr),
    /// TTL in seconds and address.
    Aaaa(u32, Ipv6Addr),
    /// TTL in seconds and target.
    Cname(u32, &'static str),
    /// TTL in seconds, type and raw data.
    Raw(u32, u16, Vec<u8>),
}

/// What the far side saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections by local address and port.
    pub connections: HashMap<SocketAddr, usize>,
    /// Bytes received, by local address and port.
    pub bytes: HashMap<SocketAddr, usize>,
    /// Questions the name server was asked, lower case, with type.
    pub questions: Vec<(String, u16)>,
}

/// The running far side.
#[derive(Clone)]
pub struct Far {
    /// What it saw.
    pub seen: Arc<Mutex<Seen>>,
    /// The network namespace where it lives; `None`: that of the test.
    place: Option<&'static str>,
    zone: Arc<Mutex<Vec<(&'static str, Record)>>>,
}

impl Far {
    /// Connections that came to an address and port.
    pub fn connections(&self, to: &str) -> usize {
        let to: SocketAddr = to.parse().expect("an address and port");
        self.seen.lock().connections.get(&to).copied().unwrap_or(0)
    }

    /// Connections that came at all.
    pub fn all_connections(&self) -> usize {
        self.seen.lock().connections.values().sum()
    }

    /// Whether the name server was asked for this name, or one under it.
    pub fn was_asked(&self, name: &str) -> bool {
        let under = format!(".{name}");
        self.seen.lock().questions.iter().any(|(asked, _)| asked == name || asked.ends_with(&under))
    }

    /// Replaces the records of a name.
    pub fn set(&self, name: &'static str, records: Vec<Record>) {
        let mut zone = self.zone.lock();
        zone.retain(|(owner, _)| *owner != name);
        zone.extend(records.into_iter().map(|record| (name, record)));
    }

    /// Starts servers on every address of the far side, and writes `ca.pem` into the world's folder.
    pub fn start(world: &World) -> Self {
        Self::start_in(Some("web"), world.dir.path())
    }

    /// The same in this network namespace or that of the caller, with `ca.pem` in this folder.
    pub fn start_in(place: Option<&'static str>, folder: &Path) -> Self {
        let far = Self { seen: Arc::default(), place, zone: Arc::new(Mutex::new(zone())) };
        let tls = Arc::new(certificates(folder));
        for port in [80, 8080] {
            far.listen(port, greet);
        }
        for port in [443, 8443] {
            let tls = Arc::clone(&tls);
            far.listen(port, move |stream, seen, at| {
                let Ok(connection) = ServerConnection::new(Arc::clone(&tls)) else { return };
                greet(StreamOwned::new(connection, Counted { stream, seen, at }), Arc::default(), at);
            });
        }
        far.listen(3306, |mut stream, _, at| {
            stream.write_all(format!("hello from {} first\n", at.ip()).as_bytes()).ok();
            let mut word = [0; 64];
            let got = stream.read(&mut word).unwrap_or(0);
            stream.write_all(word.get(..got).unwrap_or(&[])).ok();
        });
        far.serve_names();
        far
    }

    /// Makes a socket where the far side is.
    fn there<T: Send>(&self, make: impl FnOnce() -> T + Send) -> T {
        match self.place {
            Some(place) => within(place, make),
            None => make(),
        }
    }

    fn listen(
        &self,
        port: u16,
        serve: impl Fn(TcpStream, Arc<Mutex<Seen>>, SocketAddr) + Send + Sync + 'static,
    ) {
        let listener = self.there(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("port is free"));
        let seen = Arc::clone(&self.seen);
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(at) = stream.local_addr() else { continue };
                let at = SocketAddr::new(at.ip().to_canonical(), at.port());
                *seen.lock().connections.entry(at).or_default() += 1;
                stream.set_read_timeout(Some(Duration::from_secs(30))).ok();
                let (serve, seen) = (Arc::clone(&serve), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream, seen, at));
            }
        });
    }

    fn serve_names(&self) {
        let at: SocketAddr = "192.0.2.53:53".parse().expect("an address");
        let (udp, tcp) = self.there(|| {
            (UdpSocket::bind(at).expect("port is free"), TcpListener::bind(at).expect("port is free"))
        });
        let far = self.clone();
        std::thread::spawn(move || {
            let mut query = [0; 2048];
            while let Ok((len, peer)) = udp.recv_from(&mut query) {
                if let Some(reply) = far.reply(&query[..len]) {
                    udp.send_to(&reply, peer).ok();
                }
            }
        });
        let far = self.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let far = far.clone();
                std::thread::spawn(move || -> io::Result<()> {
                    loop {
                        let mut length = [0; 2];
                        stream.read_exact(&mut length)?;
                        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                        stream.read_exact(&mut query)?;
                        let Some(reply) = far.reply(&query) else { return Ok(()) };
                        let mut framed = u16::try_from(reply.len()).unwrap_or(0).to_be_bytes().to_vec();
                        framed.extend(reply);
                        stream.write_all(&framed)?;
                    }
                });
            }
        });
    }

    /// Answers from the zone, following CNAMEs; NXDOMAIN for names it does not have.
    fn reply(&self, query: &[u8]) -> Option<Vec<u8>> {
        let mut labels = Vec::new();
        let mut at = 12;
        loop {
            let len = usize::from(*query.get(at)?);
            at += 1;
            if len == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + len)?).to_lowercase());
            at += len;
        }
        let qtype = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
        let question = query.get(12..at + 4)?;
        let mut owner = labels.join(".");
        self.seen.lock().questions.push((owner.clone(), qtype));
        let zone = self.zone.lock();
        let under = format!(".{owner}");
        let known = zone.iter().any(|(name, _)| *name == owner || name.ends_with(&under));
        let mut answers = Vec::new();
        let mut count = 0_u16;
        for _ in 0..8 {
            let mut next = None;
            for (_, record) in zone.iter().filter(|(name, _)| *name == owner) {
                let (ttl, kind, data) = match record {
                    Record::A(ttl, four) => (*ttl, 1, four.octets().to_vec()),
                    Record::Aaaa(ttl, six) => (*ttl, 28, six.octets().to_vec()),
                    Record::Cname(ttl, target) => {
                        next = Some((*target).to_owned());
                        (*ttl, 5, encoded(target))
                    }
                    Record::Raw(ttl, kind, data) => (*ttl, *kind, data.clone()),
                };
                if kind != 5 && kind != qtype {
                    continue;
                }
                answers.extend(encoded(&owner));
                answers.extend(u16::to_be_bytes(kind));
                answers.extend([0, 1]);
                answers.extend(ttl.to_be_bytes());
                answers.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
                answers.extend(data);
                count += 1;
            }
            let Some(target) = next else { break };
            owner = target;
        }
        let mut reply = query.get(..2)?.to_vec();
        reply.extend([0x85, if known { 0x80 } else { 0x83 }, 0, 1]);
        reply.extend(count.to_be_bytes());
        reply.extend([0; 4]);
        reply.extend(question);
        reply.extend(answers);
        Some(reply)
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).expect("a short label"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

/// Counts what a stream brings in.
struct Counted {
    stream: TcpStream,
    seen: Arc<Mutex<Seen>>,
    at: SocketAddr,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(into)?;
        *self.seen.lock().bytes.entry(self.at).or_default() += got;
        Ok(got)
    }
}

impl Write for Counted {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.write(from)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Answers each request of a connection with where it came to and what Host it carried.
fn greet(mut stream: impl Read + Write, seen: Arc<Mutex<Seen>>, at: SocketAddr) {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..end]).into_owned();
            request.drain(..end + 4);
            let host =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("host:").map(str::to_owned));
            let size = head
                .split_whitespace()
                .nth(1)
                .and_then(|target| target.rsplit_once("/bulk/"))
                .and_then(|(_, size)| size.parse().ok())
                .unwrap_or(0);
            let mut body = format!("hello from {} to {}", at.ip(), host.unwrap_or_default().trim());
            body.push_str(&"x".repeat(size));
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(reply.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(got) => {
                *seen.lock().bytes.entry(at).or_default() += got;
                request.extend(&piece[..got]);
            }
        }
    }
}

fn certificates(folder: &Path) -> ServerConfig {
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.distinguished_name.push(DnType::CommonName, "namegate test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate().expect("a key");
    let pem = authority.self_signed(&authority_key).expect("signed").pem();
    fs::write(folder.join("ca.pem"), pem).expect("written");
    let issuer = Issuer::new(authority, authority_key);
    let names = ["example.com", "*.example.com", "*.example.net", "*.test", "a.fe.test", "www.fe.test"];
    let mut server = CertificateParams::new(names.map(str::to_owned).to_vec()).expect("parameters");
    server.distinguished_name.push(DnType::CommonName, "namegate test server");
    let key = KeyPair::generate().expect("a key");
    let certificate = server.signed_by(&key, &issuer).expect("signed");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("certificate fits key")
}

/// The names of the far side.
fn zone() -> Vec<(&'static str, Record)> {
    let four = |last| Ipv4Addr::new(203, 0, 113, last);
    let six = |last| match format!("2001:db8:1::{last}").parse() {
        Ok(IpAddr::V6(six)) => six,
        Ok(IpAddr::V4(_)) | Err(_) => unreachable!("an IPv6 address"),
    };
    let both = |name, last| [(name, Record::A(300, four(last))), (name, Record::Aaaa(300, six(last)))];
    let mut zone = Vec::new();
    zone.extend(both("good.example.com", 10));
    zone.extend(both("also.example.com", 11));
    zone.extend(both("shared.example.com", 10));
    zone.extend(both("denied.example.com", 11));
    zone.extend(both("plain.example.com", 11));
    zone.extend(both("down.example.com", 14));
    zone.extend(both("db.example.net", 13));
    zone.extend(both("cdn.example.net", 12));
    for last in [10, 11, 12] {
        zone.push(("a.fe.test", Record::A(300, four(last))));
        zone.push(("a.fe.test", Record::Aaaa(300, six(last))));
    }
    zone.push(("www.fe.test", Record::Cname(300, "cdn.fe.test")));
    zone.push(("cdn.fe.test", Record::Cname(60, "edge.fe2.test")));
    zone.push(("edge.fe2.test", Record::A(30, four(13))));
    zone.push(("www.example.com", Record::Cname(300, "cdn.example.net")));
    zone.push(("private.example.com", Record::A(300, Ipv4Addr::new(10, 99, 0, 5))));
    zone.push(("short.example.com", Record::A(1, four(13))));
    zone.push(("txt.example.com", Record::Raw(300, 16, b"\x05hello".to_vec())));
    zone
}
