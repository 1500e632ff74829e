//! Senders of every manner against a real tap on real sockets. Knows the gate from the outside.

use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::dns::config::TapAddress;
use crate::facts::{Claim, Fault, Flow, FlowId, Name, Named, Protocol, Source, Transport, Via};
use crate::gate::{Action, Decision, Defaults, LedgerConfig, MatchBy, Pattern, Policy, Ports, Reason, Rule};
use crate::record::{DnsEvent, Recorded};
use crate::sys::socket_file::SocketFileError;
use crate::wire::frames::Control;

const CAPTURE: &[u8] = include_bytes!("../../../tests/data/dnstap/unbound.fstrm");

struct World {
    dir: TempDir,
    gate: Arc<Gate>,
    log: Log,
    recorded: Recorded,
    cancel: CancellationToken,
    task: Option<JoinHandle<()>>,
    tcp: Vec<SocketAddr>,
}

fn gate() -> Arc<Gate> {
    let rule = Rule {
        id: "fe".into(),
        names: vec![Pattern::parse("**.fe.test", false).unwrap()],
        ports: Ports::default(),
        clients: Vec::new(),
        action: Action::Allow,
        by: MatchBy::NameAndAddress,
        protocols: Vec::new(),
        private: false,
        ech: None,
        mode: None,
        until: None,
        comment: None,
    };
    let policy = Policy::compile(vec![rule], Defaults::default()).unwrap();
    let ledger = LedgerConfig {
        min_ttl: Duration::from_secs(5),
        grace: Duration::from_secs(300),
        max_leases: 10_000,
        max_leases_per_client: 1_000,
    };
    Gate::new(policy, ledger)
}

impl World {
    fn new(change: impl FnOnce(&mut TapConfig, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = TapConfig {
            listen: vec![TapAddress::Unix(dir.path().join("tap.sock"))],
            allow_from: Vec::new(),
            socket_mode: 0o600,
            socket_group: None,
            allow_uids: Vec::new(),
            max_senders: 8,
        };
        change(&mut config, dir.path());
        let tap = Tap::bind(&config).unwrap();
        let tcp = tap.tcp_addresses();
        let (log, recorded) = Log::memory();
        let (gate, cancel) = (gate(), CancellationToken::new());
        let task = tokio::spawn(tap.serve(Arc::clone(&gate), log.clone(), cancel.clone()));
        Self { dir, gate, log, recorded, cancel, task: Some(task), tcp }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("tap.sock")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    /// Waits for an event; a minute on a busy machine is long enough.
    async fn wait<T>(&self, find: impl Fn(&Event) -> Option<T>) -> T {
        for _ in 0..12_000 {
            if let Some(found) = self.recorded.events().iter().find_map(&find) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no such event in {:?}", self.recorded.events());
    }

    async fn wait_for_name(&self, name: &str) -> DnsEvent {
        let named = |event: &DnsEvent| event.name.as_ref().is_some_and(|it| it.as_str() == name);
        self.wait(
            |event| if let Event::Dns(event) = event { named(event).then(|| event.clone()) } else { None },
        )
        .await
    }

    async fn wait_for(&self, what: impl Fn(&TapWhat) -> bool) -> TapWhat {
        self.wait(
            |event| {
                if let Event::Tap(event) = event { what(&event.what).then_some(event.what) } else { None }
            },
        )
        .await
    }

    fn decide(&self, client: &str, name: &str, address: &str) -> Decision {
        let now = sys::clock::now();
        let source = SocketAddr::new(client.parse().unwrap(), 40_000);
        let destination = SocketAddr::new(address.parse().unwrap(), 443);
        let flow = Flow::new(FlowId(1), source, destination, Transport::Tcp, now.tick);
        let name = Name::parse(name).unwrap();
        let named = Named { name, protocol: Protocol::Tls, via: Via::Sni, ech: false };
        self.gate.decide(&flow, &Claim::Named(named), now)
    }

    async fn stop(mut self) -> Recorded {
        self.cancel.cancel();
        self.task.take().unwrap().await.unwrap();
        self.recorded.clone()
    }
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&varint(u64::from(number) << 3 | 2)[..], &varint(bytes.len() as u64), bytes].concat()
}

fn number(field: u8, value: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A DNS response of one A record.
fn response(name: &str, address: [u8; 4], ttl: u32) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1]);
    message.extend_from_slice(&ttl.to_be_bytes());
    message.extend_from_slice(&[0, 4]);
    message.extend_from_slice(&address);
    message
}

fn payload_of(query_address: &[u8], response: &[u8], at: SystemTime) -> Vec<u8> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let body = [
        number(1, 6),
        number(3, 1),
        field(4, query_address),
        number(6, 5353),
        number(12, since.as_secs()),
        [&[0x6d][..], &since.subsec_nanos().to_le_bytes()].concat(),
        field(14, response),
    ]
    .concat();
    [field(1, b"here"), field(14, &body), number(15, 1)].concat()
}

/// A frame that tells a client of an address.
fn told(client: &str, name: &str, address: [u8; 4]) -> Vec<u8> {
    let octets = match client.parse().unwrap() {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    };
    data(&payload_of(&octets, &response(name, address, 60), SystemTime::now()))
}

fn data(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], payload].concat()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

async fn started(world: &World) -> UnixStream {
    let mut stream = world.connect().await;
    send(&mut stream, &Control::Start.encode()).await;
    stream
}

/// Reads until the tap closes the connection.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest));
    // A reset is a close as well.
    let _ = read.await.expect("the tap keeps the connection");
    rest
}

#[tokio::test]
async fn what_a_client_was_told_opens_the_gate_for_that_client_and_address_alone() {
    let world = World::new(|_, _| {});
    let mut stream = world.connect().await;
    send(&mut stream, &Control::Ready.encode()).await;
    let mut accept = vec![0; Control::Accept.encode().len()];
    stream.read_exact(&mut accept).await.unwrap();
    assert_eq!(accept, Control::Accept.encode());
    send(&mut stream, &Control::Start.encode()).await;
    send(&mut stream, &told("172.18.0.5", "a.fe.test", [203, 0, 113, 10])).await;
    let event = world.wait_for_name("a.fe.test").await;
    assert!(event.tapped);
    assert_eq!(
        (event.reason, event.source.port(), event.qtype, event.rcode),
        (Reason::Allowed, 5353, Some(1), Some(0))
    );
    assert_eq!(event.rule.as_deref().map(|rule| &*rule.id), Some("fe"));
    let decision = world.decide("172.18.0.5", "a.fe.test", "203.0.113.10");
    assert!(decision.is_allowed());
    assert_eq!(decision.evidence.as_ref().map(|evidence| evidence.source), Some(Source::Dnstap));
    for (client, name, address) in [
        ("172.18.0.6", "a.fe.test", "203.0.113.10"),
        ("172.18.0.5", "b.fe.test", "203.0.113.10"),
        ("172.18.0.5", "a.fe.test", "203.0.113.11"),
    ] {
        assert_eq!(world.decide(client, name, address).reason, Reason::AddressNotObserved);
    }
    send(&mut stream, &Control::Stop.encode()).await;
    assert_eq!(closed(stream).await, Control::Finish.encode());
    let gone = world.wait_for(|what| matches!(what, TapWhat::Disconnected(_))).await;
    let tally = crate::record::TapTally { frames: 1, answers: 1, bad: 0, fault: None };
    assert_eq!(gone, TapWhat::Disconnected(tally));
    world.stop().await;
}

#[tokio::test]
async fn a_name_that_no_rule_allows_is_told_in_the_log_and_opens_nothing() {
    let world = World::new(|_, _| {});
    let mut stream = started(&world).await;
    send(&mut stream, &told("172.18.0.5", "evil.example.com", [203, 0, 113, 66])).await;
    let event = world.wait_for_name("evil.example.com").await;
    // The resolver has answered already.
    assert_eq!((event.reason, event.would), (Reason::ObservedOnly, Some(Reason::NameNotAllowed)));
    assert!(!world.decide("172.18.0.5", "evil.example.com", "203.0.113.66").is_allowed());
}

#[tokio::test]
async fn a_capture_file_is_taken_as_it_is_byte_by_byte() {
    let world = World::new(|_, _| {});
    let mut stream = world.connect().await;
    for byte in CAPTURE {
        send(&mut stream, &[*byte]).await;
    }
    let gone = world.wait_for(|what| matches!(what, TapWhat::Disconnected(_))).await;
    let TapWhat::Disconnected(tally) = gone else { panic!("still there") };
    assert_eq!((tally.frames, tally.answers, tally.bad, tally.fault), (14, 14, 0, None));
    assert!(closed(stream).await.is_empty());
}

#[tokio::test]
async fn an_answer_delivered_late_counts_from_when_it_was_given() {
    let world = World::new(|_, _| {});
    let mut stream = started(&world).await;
    let client = [172, 18, 0, 5];
    // 60 s of TTL and 300 s of grace have passed in the sender's queue; the other sender's clock is ahead.
    let (ago, ahead) =
        (SystemTime::now() - Duration::from_secs(400), SystemTime::now() + Duration::from_secs(400));
    let late = payload_of(&client, &response("late.fe.test", [203, 0, 113, 10], 60), ago);
    let early = payload_of(&client, &response("early.fe.test", [203, 0, 113, 10], 60), ahead);
    send(&mut stream, &[data(&late), data(&early)].concat()).await;
    world.wait_for_name("early.fe.test").await;
    assert!(world.decide("172.18.0.5", "late.fe.test", "203.0.113.10").reason.is_miss());
    let decision = world.decide("172.18.0.5", "early.fe.test", "203.0.113.10");
    assert!(decision.evidence.is_some_and(|evidence| evidence.answered_at <= sys::clock::tick()));
}

#[tokio::test]
async fn a_bad_frame_costs_that_frame() {
    let world = World::new(|_, _| {});
    let mut stream = started(&world).await;
    let answer = response("bad.fe.test", [203, 0, 113, 10], 60);
    let now = SystemTime::now();
    let mut bytes = data(b"\xff\xff\xff");
    for length in [0, 3, 5, 15, 17] {
        bytes.extend(data(&payload_of(&vec![1; length], &answer, now)));
    }
    bytes.extend(data(&payload_of(&[172, 18, 0, 5], b"no dns message", now)));
    bytes.extend(told("172.18.0.5", "good.fe.test", [203, 0, 113, 10]));
    send(&mut stream, &bytes).await;
    world.wait_for_name("good.fe.test").await;
    drop(stream);
    let gone = world.wait_for(|what| matches!(what, TapWhat::Disconnected(_))).await;
    let tally = crate::record::TapTally { frames: 8, answers: 1, bad: 7, fault: None };
    assert_eq!(gone, TapWhat::Disconnected(tally));
    assert_eq!(world.log.metrics().snapshot().tap.bad, 7);
}

#[tokio::test]
async fn a_sender_that_lies_about_lengths_is_let_go_and_the_others_stay() {
    let world = World::new(|_, _| {});
    let mut honest = started(&world).await;
    let mut liar = started(&world).await;
    send(&mut liar, &u32::MAX.to_be_bytes()).await;
    assert!(closed(liar).await.is_empty());
    let gone = world.wait_for(|what| matches!(what, TapWhat::Disconnected(_))).await;
    assert!(matches!(gone, TapWhat::Disconnected(tally) if tally.fault == Some(Fault::TooBig)));
    send(&mut honest, &told("172.18.0.5", "a.fe.test", [203, 0, 113, 10])).await;
    world.wait_for_name("a.fe.test").await;

    let mut stranger = world.connect().await;
    send(&mut stranger, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(closed(stranger).await.is_empty());
    let refused = world.wait_for(|what| matches!(what, TapWhat::Refused { .. })).await;
    assert_eq!(refused, TapWhat::Refused { why: TapRefusal::Handshake(Fault::Dnstap), times: 1 });
}

#[tokio::test]
async fn a_sender_that_floods_does_not_starve_another() {
    let world = World::new(|_, _| {});
    let mut flood = started(&world).await;
    let burst = told("172.18.0.9", "flood.fe.test", [203, 0, 113, 9]).repeat(200);
    let flooding = tokio::spawn(async move { while flood.write_all(&burst).await.is_ok() {} });
    world.wait_for_name("flood.fe.test").await;
    let mut quiet = started(&world).await;
    send(&mut quiet, &told("172.18.0.5", "quiet.fe.test", [203, 0, 113, 10])).await;
    tokio::time::timeout(Duration::from_secs(10), world.wait_for_name("quiet.fe.test")).await.unwrap();
    assert!(!flooding.is_finished());
    world.stop().await;
    flooding.await.unwrap();
}

#[tokio::test]
async fn senders_come_back_and_there_may_be_several() {
    let world = World::new(|config, dir| config.listen.push(TapAddress::Unix(dir.join("second.sock"))));
    for round in 0..3_u8 {
        let mut first = started(&world).await;
        let mut second = UnixStream::connect(world.dir.path().join("second.sock")).await.unwrap();
        send(&mut second, &Control::Start.encode()).await;
        for (stream, who) in [(&mut first, "first"), (&mut second, "second")] {
            let name = format!("{who}{round}.fe.test");
            send(stream, &told("172.18.0.5", &name, [203, 0, 113, round])).await;
            world.wait_for_name(&name).await;
        }
    }
    let recorded = world.stop().await;
    let connected = |event: &&Event| matches!(event, Event::Tap(event) if event.what == TapWhat::Connected);
    assert_eq!(recorded.events().iter().filter(connected).count(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_stays_silent_loses_its_place() {
    let world = World::new(|config, _| config.max_senders = 1);
    for beginning in [&[][..], &[0; 7], &Control::Ready.encode()] {
        let mut stream = world.connect().await;
        send(&mut stream, beginning).await;
        closed(stream).await;
    }
    let recorded = world.stop().await;
    let silent = TapWhat::Refused { why: TapRefusal::Silent, times: 1 };
    let refused = |event: &&Event| matches!(event, Event::Tap(event) if event.what == silent);
    assert_eq!(recorded.events().iter().filter(refused).count(), 3);
}

#[tokio::test]
async fn more_senders_than_may_be_are_turned_away_with_few_lines() {
    let world = World::new(|config, _| config.max_senders = 1);
    let kept = started(&world).await;
    world.wait_for(|what| *what == TapWhat::Connected).await;
    for _ in 0..20 {
        closed(world.connect().await).await;
    }
    let why = TapRefusal::TooMany;
    assert_eq!(
        world.wait_for(|what| matches!(what, TapWhat::Refused { .. })).await,
        TapWhat::Refused { why, times: 1 }
    );
    let refusals = |events: Vec<Event>| {
        events
            .iter()
            .filter(|event| matches!(event, Event::Tap(event) if event.what != TapWhat::Connected))
            .count()
    };
    assert!(refusals(world.recorded.events()) < 20);
    drop(kept);
    world.wait_for(|what| matches!(what, TapWhat::Disconnected(_))).await;
    let mut next = started(&world).await;
    send(&mut next, &told("172.18.0.5", "a.fe.test", [203, 0, 113, 10])).await;
    world.wait_for_name("a.fe.test").await;
}

#[tokio::test]
async fn a_user_who_may_not_send_is_turned_away() {
    let world = World::new(|config, dir| {
        let other = std::fs::metadata(dir).unwrap().uid() + 1;
        config.allow_uids = vec![other];
    });
    let mut stream = world.connect().await;
    // The tap may have closed already.
    let _ = stream.write_all(&Control::Ready.encode()).await;
    assert!(closed(stream).await.is_empty());
    let refused = world.wait_for(|what| matches!(what, TapWhat::Refused { .. })).await;
    assert_eq!(refused, TapWhat::Refused { why: TapRefusal::NotAllowed, times: 1 });

    let world = World::new(|config, dir| config.allow_uids = vec![std::fs::metadata(dir).unwrap().uid()]);
    let _stream = started(&world).await;
    world.wait_for(|what| *what == TapWhat::Connected).await;
}

#[tokio::test]
async fn an_address_that_may_not_send_is_turned_away() {
    let loopback = || vec![TapAddress::Tcp("127.0.0.1:0".parse().unwrap())];
    let world = World::new(|config, _| {
        config.listen = loopback();
        config.allow_from = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let mut stream = TcpStream::connect(world.tcp[0]).await.unwrap();
    // The tap may have closed already.
    let _ = stream.write_all(&Control::Start.encode()).await;
    assert!(closed(stream).await.is_empty());
    let refused = world.wait_for(|what| matches!(what, TapWhat::Refused { .. })).await;
    assert_eq!(refused, TapWhat::Refused { why: TapRefusal::NotAllowed, times: 1 });

    let world = World::new(|config, _| config.listen = loopback());
    let mut stream = TcpStream::connect(world.tcp[0]).await.unwrap();
    send(&mut stream, &Control::Start.encode()).await;
    send(&mut stream, &told("2001:db8::5", "a.fe.test", [203, 0, 113, 10])).await;
    let event = world.wait_for_name("a.fe.test").await;
    assert_eq!(event.client.to_string(), "2001:db8::5");
}

#[tokio::test]
async fn the_socket_file_has_its_mode_and_goes_with_the_tap() {
    let world = World::new(|config, dir| {
        config.socket_mode = 0o660;
        config.socket_group = Some(std::fs::metadata(dir).unwrap().gid().to_string());
    });
    let found = std::fs::symlink_metadata(world.path()).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let path = world.path();
    let kept = started(&world).await;
    world.wait_for(|what| *what == TapWhat::Connected).await;
    world.cancel.cancel();
    assert!(closed(kept).await.is_empty());
    let World { task, dir, .. } = world;
    task.unwrap().await.unwrap();
    assert!(!path.exists());
    drop(dir);
}

fn bind(path: &Path, group: Option<&str>) -> Result<Tap, TapError> {
    Tap::bind(&TapConfig {
        listen: vec![TapAddress::Unix(path.to_owned())],
        allow_from: Vec::new(),
        socket_mode: 0o600,
        socket_group: group.map(str::to_owned),
        allow_uids: Vec::new(),
        max_senders: 1,
    })
}

#[tokio::test]
async fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tap.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = bind(&path, None).unwrap();
    assert!(matches!(bind(&path, None).unwrap_err(), TapError::Unix(SocketFileError::InUse { .. })));
    // Somebody replaces the file under our feet: theirs stays when we go.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    drop(first);
    assert!(matches!(bind(&path, None).unwrap_err(), TapError::Unix(SocketFileError::NotSocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let elsewhere = dir.path().join("other.sock");
    assert!(matches!(
        bind(&elsewhere, Some("no such group")).unwrap_err(),
        TapError::Unix(SocketFileError::Group { .. })
    ));
    assert!(matches!(
        bind(&dir.path().join("no/dir/tap.sock"), None).unwrap_err(),
        TapError::Unix(SocketFileError::System { .. })
    ));
    assert!(!elsewhere.exists());
}
