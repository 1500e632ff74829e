//! What a byte of a body costs the gate: plain HTTP, whose requests and answers are followed to their ends, beside
//! TLS, which passes unread once it has begun.
//!
//! ```text
//! cargo bench --bench bulk
//! ```
//! Processor time of the thread that carries, a gigabyte; the kernel's copies are most of it. Rounds alternate, and
//! the least of them counts. Only the ratios mean anything on a machine that others use.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may panic and prints its table"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use namegate::facts::{Address, Client, Name, Observation, Source};
use namegate::gate::{Action, Defaults, Gate, LedgerConfig, MatchBy, Pattern, Permit, Policy, Ports, Rule};
use namegate::proxy::{Dial, Dialled, Dialling, Proxy, ProxyConfig, Wiring};
use namegate::record::Log;
use namegate::sys::clock;
use namegate::sys::neighbours::Neighbours;
use namegate::who::{Who, Whose};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAME: &str = "bulk.example.com";
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const BLOCK: usize = 1 << 18;

/// One way to carry bulk: what opens it on either side, and what frames each block.
struct Scenario {
    label: &'static str,
    upload: bool,
    /// Bytes of a chunk; zero: no chunks.
    chunk: usize,
    tls: bool,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario { label: "up, TLS", upload: true, chunk: 0, tls: true },
    Scenario { label: "up, Content-Length", upload: true, chunk: 0, tls: false },
    Scenario { label: "up, chunks of 64 KiB", upload: true, chunk: 1 << 16, tls: false },
    Scenario { label: "up, chunks of 4 KiB", upload: true, chunk: 1 << 12, tls: false },
    Scenario { label: "down, TLS", upload: false, chunk: 0, tls: true },
    Scenario { label: "down, Content-Length", upload: false, chunk: 0, tls: false },
    Scenario { label: "down, chunks of 64 KiB", upload: false, chunk: 1 << 16, tls: false },
    Scenario { label: "down, chunks of 4 KiB", upload: false, chunk: 1 << 12, tls: false },
];

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (bytes, rounds) = if is_bench { (2_u64 << 30, 3) } else { (16 << 20, 1) };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (proxy, handle) = start(listener.local_addr().unwrap());
    let mut least = [Duration::MAX; SCENARIOS.len()];
    for _ in 0..rounds {
        for (scenario, least) in SCENARIOS.iter().zip(&mut least) {
            *least = (*least).min(carry(scenario, bytes, proxy, &listener, &handle));
        }
    }
    println!("{:<24} {:>8} {:>8}", "", "s/GB", "of TLS");
    for (scenario, took) in SCENARIOS.iter().zip(least) {
        let tls = SCENARIOS.iter().position(|other| other.tls && other.upload == scenario.upload).unwrap();
        let a_gigabyte = took.as_secs_f64() * 1e9 / bytes as f64;
        println!(
            "{:<24} {a_gigabyte:>8.3} {:>7.2}x",
            scenario.label,
            took.as_secs_f64() / least[tls].as_secs_f64()
        );
    }
}

/// Carries so many bytes once; returns the processor time of the gate.
fn carry(
    scenario: &Scenario,
    bytes: u64,
    proxy: SocketAddr,
    listener: &TcpListener,
    gate: &Handle,
) -> Duration {
    let mut client = TcpStream::connect(proxy).unwrap();
    let framing = match (scenario.chunk, scenario.tls) {
        (_, true) => String::new(),
        (0, false) => format!("Content-Length: {bytes}\r\n"),
        (_, false) => "Transfer-Encoding: chunked\r\n".to_owned(),
    };
    let (asked, answered) = match (scenario.tls, scenario.upload) {
        (true, _) => (hello(), vec![23, 3, 3, 0, 1, b'x']),
        (false, true) => (format!("POST / HTTP/1.1\r\nHost: {NAME}\r\n{framing}\r\n").into_bytes(), vec![]),
        (false, false) => (
            format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n").into_bytes(),
            format!("HTTP/1.1 200 OK\r\n{framing}\r\n").into_bytes(),
        ),
    };
    client.write_all(&asked).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.read_exact(&mut vec![0; asked.len()]).unwrap();
    server.write_all(&answered).unwrap();
    client.read_exact(&mut vec![0; answered.len()]).unwrap();

    let (mut from, mut to) = if scenario.upload { (client, server) } else { (server, client) };
    let before = spent(gate);
    let block = block(scenario.chunk);
    let sending = thread::spawn(move || {
        for _ in 0..bytes / BLOCK as u64 {
            from.write_all(&block).unwrap();
        }
        // Open until everything has arrived.
        from
    });
    let mut left = bytes / BLOCK as u64 * self::block(scenario.chunk).len() as u64;
    let mut sink = vec![0; BLOCK];
    while left > 0 {
        let read = to.read(&mut sink).unwrap();
        assert!(read > 0, "{} ended early", scenario.label);
        left -= read as u64;
    }
    let took = spent(gate) - before;
    drop(sending.join().unwrap());
    took
}

/// A block of a body, in chunks or not.
fn block(chunk: usize) -> Vec<u8> {
    if chunk == 0 {
        return vec![b'x'; BLOCK];
    }
    let one = [format!("{chunk:x}\r\n").as_bytes(), &vec![b'x'; chunk], b"\r\n"].concat();
    one.repeat(BLOCK / chunk)
}

/// What the thread that carries has used so far.
fn spent(gate: &Handle) -> Duration {
    let (say, said) = std::sync::mpsc::channel();
    gate.spawn(async move {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        say.send(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)).unwrap();
    });
    said.recv().unwrap()
}

fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(NAME).unwrap();
    let mut bytes = Vec::new();
    rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

/// Leads every permit to one server on loopback.
struct Home(SocketAddr);

impl Dial for Home {
    fn dial(&self, permit: Permit) -> Dialling<'_> {
        Box::pin(async move {
            let server = tokio::net::TcpStream::connect(self.0).await?;
            Ok(Dialled { server, pin: permit.into_pin() })
        })
    }
}

/// Starts a gate on a thread of its own; returns where it listens.
fn start(server: SocketAddr) -> (SocketAddr, Handle) {
    let (say, said) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            say.send((listener.local_addr().unwrap(), handle)).unwrap();
            let destination = SocketAddr::new(SERVER, 443);
            proxy(server)
                .serve_with(listener, move |_| Ok(destination), Whose::Link, CancellationToken::new())
                .await;
        });
    });
    said.recv().unwrap()
}

fn proxy(server: SocketAddr) -> Arc<Proxy> {
    let rule = Rule {
        id: "bulk".into(),
        names: vec![Pattern::parse(NAME, false).unwrap()],
        ports: Ports(vec![(443, 443)]),
        clients: vec![],
        action: Action::Allow,
        by: MatchBy::NameAndAddress,
        protocols: vec![],
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: None,
    };
    let ledger = LedgerConfig {
        min_ttl: Duration::from_secs(3600),
        grace: Duration::from_secs(3600),
        max_leases: 10,
        max_leases_per_client: 10,
    };
    let gate = Gate::new(Policy::compile(vec![rule], Defaults::default()).unwrap(), ledger);
    let now = clock::now();
    let observation = Observation {
        client: Client::at(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        chain: vec![Name::parse(NAME).unwrap()],
        addresses: vec![Address { ip: SERVER, ttl_secs: 3600 }],
        source: Source::Forwarder,
        at: now.tick,
    };
    gate.observe(&observation, now);
    let config = ProxyConfig {
        sniff_timeout: Duration::from_secs(5),
        sniff_bytes: 65_536,
        hold: Duration::ZERO,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        max_connections: 100,
        max_connections_per_client: 100,
        new_connections_per_second: 1_000_000,
        drain: Duration::ZERO,
    };
    Proxy::new(Wiring {
        config,
        gate: Arc::clone(&gate),
        log: Log::memory().0,
        dial: Arc::new(Home(server)),
        second_look: None,
        who: Arc::new(Who::new(gate, Neighbours::none())),
        policy_changes: watch::channel(0).1,
    })
}
