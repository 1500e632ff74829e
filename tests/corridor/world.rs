//! A small world for the corridor: a real gate, a log in memory, a scripted way out and a server on loopback.
//!
//! Destinations are documentation addresses, given to the proxy as if the kernel had found them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use namegate::facts::{Address, Client, Name, Observation, Source};
use namegate::gate::{
    Action, Defaults, Gate, LedgerConfig, MatchBy, Mode, Pattern, Permit, Policy, Ports, Rule,
};
use namegate::proxy::{Dial, Dialled, Dialling, Proxy, ProxyConfig, SecondLook, Wiring};
use namegate::record::{Closed, Decided, Ending, Event, Log, Recorded};
use namegate::sys::clock;
use namegate::sys::neighbours::Neighbours;
use namegate::who::{Who, Whose};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The address that the client dials, as the kernel would tell.
pub(crate) const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

/// Records what was dialled and what had been logged by then; leads to a server on loopback.
pub(crate) struct ScriptedDial {
    pub(crate) server: Option<SocketAddr>,
    /// How long it takes to connect.
    pub(crate) delay: Duration,
    pub(crate) calls: Mutex<Vec<(SocketAddr, Vec<Event>)>>,
    pub(crate) recorded: Recorded,
}

impl Dial for ScriptedDial {
    fn dial(&self, permit: Permit) -> Dialling<'_> {
        self.calls.lock().push((permit.destination(), self.recorded.events()));
        Box::pin(async move {
            let Some(server) = self.server else { return Err(io::ErrorKind::ConnectionRefused.into()) };
            tokio::time::sleep(self.delay).await;
            let server = TcpStream::connect(server).await?;
            Ok(Dialled { server, pin: permit.into_pin() })
        })
    }
}

/// What a world is made of; change what a test is about.
pub(crate) struct Plan {
    pub(crate) rules: Vec<Rule>,
    pub(crate) mode: Mode,
    pub(crate) port: u16,
    pub(crate) config: ProxyConfig,
    pub(crate) second_look: Option<fn(Arc<Gate>) -> SecondLook>,
    pub(crate) unreachable: bool,
    /// A server of one's own in the place of the world's.
    pub(crate) behind: Option<SocketAddr>,
    pub(crate) dial_delay: Duration,
    pub(crate) leases: Vec<&'static str>,
    pub(crate) neighbours: Neighbours,
}

impl Plan {
    /// Allows `good.example` and `other.example`, the first of which was resolved.
    pub(crate) fn on_port(port: u16) -> Self {
        Self {
            rules: vec![rule("good", &["good.example", "other.example"])],
            mode: Mode::Enforce,
            port,
            config: ProxyConfig {
                sniff_timeout: Duration::from_millis(400),
                sniff_bytes: 16_384,
                hold: Duration::ZERO,
                connect_timeout: Duration::from_secs(2),
                idle_timeout: Duration::from_secs(5),
                max_connections: 100,
                max_connections_per_client: 100,
                new_connections_per_second: 1_000,
                drain: Duration::from_millis(300),
            },
            second_look: None,
            unreachable: false,
            behind: None,
            dial_delay: Duration::ZERO,
            leases: vec!["good.example"],
            neighbours: Neighbours::none(),
        }
    }
}

/// A rule for every client on ports 80, 443 and 6379.
pub(crate) fn rule(id: &str, names: &[&str]) -> Rule {
    Rule {
        id: id.into(),
        names: names.iter().map(|name| Pattern::parse(name, false).unwrap()).collect(),
        ports: Ports(vec![(80, 80), (443, 443)]),
        clients: vec![],
        action: Action::Allow,
        by: MatchBy::NameAndAddress,
        protocols: vec![],
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: None,
    }
}

/// As [`rule`], by address on port 6379.
pub(crate) fn address_rule(id: &str, names: &[&str]) -> Rule {
    Rule { by: MatchBy::Address, ports: Ports(vec![(6379, 6379)]), ..rule(id, names) }
}

pub(crate) struct World {
    pub(crate) gate: Arc<Gate>,
    pub(crate) recorded: Recorded,
    pub(crate) dial: Arc<ScriptedDial>,
    pub(crate) proxy: SocketAddr,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) cancel: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    server: TcpListener,
}

pub(crate) fn policy(rules: Vec<Rule>, mode: Mode) -> Policy {
    Policy::compile(rules, Defaults { mode, ..Defaults::default() }).unwrap()
}

pub(crate) fn observe(gate: &Gate, name: &str) {
    let now = clock::now();
    gate.observe(
        &Observation {
            client: Client::at(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            chain: vec![Name::parse(name).unwrap()],
            addresses: vec![Address { ip: SERVER, ttl_secs: 60 }],
            source: Source::Forwarder,
            at: now.tick,
        },
        now,
    );
}

impl World {
    pub(crate) async fn new(plan: Plan) -> Self {
        let ledger = LedgerConfig {
            min_ttl: Duration::from_secs(5),
            grace: Duration::from_secs(60),
            max_leases: 1000,
            max_leases_per_client: 100,
        };
        let gate = Gate::new(policy(plan.rules, plan.mode), ledger);
        for name in plan.leases {
            observe(&gate, name);
        }
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (log, recorded) = Log::memory();
        let (changes, policy_changes) = watch::channel(0);
        let dial = Arc::new(ScriptedDial {
            server: (!plan.unreachable).then(|| plan.behind.unwrap_or(server.local_addr().unwrap())),
            delay: plan.dial_delay,
            calls: Mutex::default(),
            recorded: recorded.clone(),
        });
        let proxy = Proxy::new(Wiring {
            config: plan.config,
            gate: Arc::clone(&gate),
            log,
            dial: Arc::clone(&dial) as Arc<dyn Dial>,
            second_look: plan.second_look.map(|make| make(Arc::clone(&gate))),
            who: Arc::new(Who::new(Arc::clone(&gate), plan.neighbours)),
            policy_changes,
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let destination = SocketAddr::new(SERVER, plan.port);
        let serving =
            tokio::spawn(proxy.serve_with(listener, move |_| Ok(destination), Whose::Link, cancel.clone()));
        Self { gate, recorded, dial, proxy: address, changes, cancel, serving, server }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// Connects and says something.
    pub(crate) async fn say(&self, bytes: &[u8]) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(bytes).await.unwrap();
        client
    }

    /// Takes the connection that the proxy dialled.
    pub(crate) async fn accepted(&self) -> TcpStream {
        within(self.server.accept()).await.unwrap().0
    }

    pub(crate) fn dialled(&self) -> Vec<SocketAddr> {
        self.dial.calls.lock().iter().map(|(address, _)| *address).collect()
    }

    pub(crate) fn decided(&self) -> Vec<Decided> {
        self.recorded.events().into_iter().filter_map(decided).collect()
    }

    /// Waits for the first decision; names after the first have others.
    pub(crate) async fn decision(&self) -> Decided {
        self.until(decided).await.remove(0)
    }

    /// Waits for the one end of a flow.
    pub(crate) async fn closed(&self) -> Closed {
        let mut closed = self.until(closed).await;
        assert_eq!(closed.len(), 1);
        closed.remove(0)
    }

    pub(crate) async fn ends(&self, ending: Ending) {
        assert_eq!(self.closed().await.ending, ending);
    }

    async fn until<T>(&self, pick: fn(Event) -> Option<T>) -> Vec<T> {
        within(async {
            loop {
                let found: Vec<T> = self.recorded.events().into_iter().filter_map(pick).collect();
                if !found.is_empty() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

pub(crate) fn decided(event: Event) -> Option<Decided> {
    if let Event::Decided(decided) = event { Some(decided) } else { None }
}

fn closed(event: Event) -> Option<Closed> {
    if let Event::Closed(closed) = event { Some(closed) } else { None }
}

/// Fails a test that would hang.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(8), future).await.expect("took too long")
}

/// Reads to the end of stream.
pub(crate) async fn rest(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    within(stream.read_to_end(&mut all)).await.map(|_| all)
}

/// Reads exactly so many bytes.
pub(crate) async fn take(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut all = vec![0; len];
    within(stream.read_exact(&mut all)).await.unwrap();
    all
}

pub(crate) async fn is_reset(stream: &mut TcpStream) -> bool {
    matches!(rest(stream).await, Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

/// The first flight of a real TLS client.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// A record that is no HelloRetryRequest: after it, what the client sends passes unread.
pub(crate) const ANSWERED: [u8; 6] = [23, 3, 3, 0, 1, b'x'];

/// A HelloRetryRequest as a server sends it, compatibility ChangeCipherSpec included.
pub(crate) fn retry_request() -> Vec<u8> {
    let random = [
        0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2,
        0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
    ];
    let tail = [0, 0x13, 0x01, 0, 0, 6, 0, 43, 0, 2, 3, 4];
    let message = [&[2, 0, 0, 46, 3, 3][..], &random, &tail].concat();
    [&[22, 3, 3, 0, message.len() as u8][..], &message, &[20, 3, 3, 0, 1, 1]].concat()
}

/// A request for a name.
pub(crate) fn get(name: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").into_bytes()
}
