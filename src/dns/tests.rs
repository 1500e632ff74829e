//! Tests of the forwarder over loopback, with scripted upstreams.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and says when it is skipped")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name as HickoryName, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::facts::{Claim, Client, Flow, FlowId, Name, Named, Protocol, Transport, Via};
use crate::gate::{
    Action, ClientMatch, Defaults, Gate, LedgerConfig, MatchBy, Mode, Pattern, Policy, Ports, Reason, Rule,
};
use crate::record::{Log, RecordConfig, Target, WhenFull};
use crate::sys::clock;
use crate::sys::neighbours::{LinkAddress, Neighbours};
use crate::sys::udp::CapturedUdp;
use crate::who::Who;
use crate::wire::dns::Ask;

/// Answers what the test says, once the test lets it.
#[derive(Debug)]
struct Script {
    addresses: Vec<IpAddr>,
    broken: bool,
    wrong_question: bool,
    /// Owner and target of aliases in front of the addresses, which belong to the last target.
    aliases: Vec<(&'static str, &'static str)>,
    /// What nobody asked for: records of another owner, and of other sections.
    besides: Vec<(&'static str, IpAddr)>,
    asked: AtomicUsize,
    leave: Semaphore,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            addresses: vec!["203.0.113.1".parse().unwrap()],
            broken: false,
            wrong_question: false,
            aliases: Vec::new(),
            besides: Vec::new(),
            asked: AtomicUsize::new(0),
            leave: Semaphore::new(1000),
        }
    }
}

impl Resolve for Script {
    fn ask<'a>(&'a self, ask: &'a Ask) -> Asking<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.leave.acquire().await.unwrap().forget();
            if self.broken {
                return Err(UpstreamError::Timeout);
            }
            let name = if self.wrong_question { "other.test" } else { ask.name.as_str() };
            let mut message = message(name, ask.qtype, MessageType::Response);
            let named = |name: &str| HickoryName::from_ascii(name).unwrap();
            for (owner, target) in &self.aliases {
                let target = RData::CNAME(hickory_proto::rr::rdata::CNAME(named(target)));
                message.add_answer(Record::from_rdata(named(owner), 60, target));
            }
            let owner = self.aliases.last().map_or(name, |(_, target)| target);
            for address in &self.addresses {
                message.add_answer(Record::from_rdata(named(owner), 60, data(*address)));
            }
            for (owner, address) in &self.besides {
                let record = Record::from_rdata(named(owner), 60, data(*address));
                message.add_answer(record.clone());
                message.add_authority(record.clone());
                message.add_additional(record);
            }
            Ok(message.to_vec().unwrap())
        })
    }
}

fn data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(four) => RData::A(A(four)),
        IpAddr::V6(six) => RData::AAAA(AAAA(six)),
    }
}

fn message(name: &str, qtype: u16, kind: MessageType) -> Message {
    let mut message = Message::new(4711, kind, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(HickoryName::from_ascii(name).unwrap(), RecordType::from(qtype)));
    message.set_edns(Edns::new());
    message
}

fn query(name: &str, qtype: u16) -> Vec<u8> {
    message(name, qtype, MessageType::Query).to_vec().unwrap()
}

fn rule(pattern: &str, private: bool) -> Rule {
    Rule {
        id: pattern.into(),
        names: vec![Pattern::parse(pattern, false).unwrap()],
        ports: Ports::default(),
        clients: Vec::new(),
        action: Action::Allow,
        by: MatchBy::NameAndAddress,
        protocols: Vec::new(),
        private,
        ech: None,
        mode: None,
        until: None,
        comment: None,
    }
}

struct Case {
    script: Script,
    cache: usize,
    private: bool,
    no_ipv6: bool,
    per_client: usize,
    per_second: u32,
    names: u32,
    mode: Mode,
    until: Option<SystemTime>,
    denial: Denial,
    neighbours: Neighbours,
    rules: Vec<Rule>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            script: Script::default(),
            cache: 0,
            private: false,
            no_ipv6: false,
            per_client: 50,
            per_second: 1_000,
            names: 1_000,
            mode: Mode::Enforce,
            until: None,
            denial: Denial::Refused,
            neighbours: Neighbours::none(),
            rules: Vec::new(),
        }
    }
}

/// A forwarder on loopback that allows `*.example.com`.
struct World {
    gate: Arc<Gate>,
    forwarder: Forwarder,
    script: Arc<Script>,
    log: Log,
    lines: tempfile::NamedTempFile,
    cancel: CancellationToken,
    udp: SocketAddr,
    tcp: SocketAddr,
}

impl World {
    async fn new(case: Case) -> Self {
        let mut rules = vec![rule("*.example.com", case.private)];
        rules.extend(case.rules);
        let defaults = Defaults { mode: case.mode, until: case.until, ..Defaults::default() };
        let policy = Policy::compile(rules, defaults).unwrap();
        let ledger = LedgerConfig {
            min_ttl: Duration::from_secs(5),
            grace: Duration::from_secs(300),
            max_leases: 1000,
            max_leases_per_client: 100,
        };
        let gate = Gate::new(policy, ledger);
        let lines = tempfile::NamedTempFile::new().unwrap();
        let log = Log::open(&RecordConfig {
            to: vec![Target::File(lines.path().to_path_buf())],
            when_full: WhenFull::Block,
            queue: 100,
        })
        .unwrap();
        let config = DnsConfig {
            cache: case.cache,
            upstreams: vec![Upstream::System],
            ca_file: None,
            types: vec![1, 28, 65],
            denial: case.denial,
            timeout: Duration::from_secs(2),
            max_inflight: 100,
            max_inflight_per_client: case.per_client,
            questions_per_second: case.per_second,
            new_names_per_minute: case.names,
            no_ipv6: case.no_ipv6,
        };
        let script = Arc::new(case.script);
        let resolve: Arc<dyn Resolve> = Arc::clone(&script) as _;
        let forwarder = {
            let who = Arc::new(Who::new(Arc::clone(&gate), case.neighbours));
            Forwarder::new(config, Arc::clone(&gate), log.clone(), resolve, who)
        };
        let cancel = CancellationToken::new();
        let socket = CapturedUdp::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (udp, tcp) = (socket.local_addr(), listener.local_addr().unwrap());
        let (one, two) = (forwarder.clone(), forwarder.clone());
        let (stop, halt) = (cancel.clone(), cancel.clone());
        tokio::spawn(async move { one.serve_udp(socket, stop).await });
        tokio::spawn(async move { two.serve_tcp(listener, halt).await });
        Self { gate, forwarder, script, log, lines, cancel, udp, tcp }
    }

    async fn ask(&self, query: &[u8]) -> Message {
        let bytes = self.ask_raw(query, Duration::from_secs(5)).await.expect("an answer");
        Message::from_vec(&bytes).unwrap()
    }

    async fn ask_raw(&self, query: &[u8], wait: Duration) -> Option<Vec<u8>> {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(self.udp).await.unwrap();
        client.send(query).await.unwrap();
        let mut buffer = vec![0; 4096];
        let len = timeout(wait, client.recv(&mut buffer)).await.ok()?.unwrap();
        Some(buffer[..len].to_vec())
    }

    fn is_allowed(&self, name: &str, address: &str) -> Option<Reason> {
        let destination = SocketAddr::new(address.parse().unwrap(), 443);
        let source = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40000);
        let flow = Flow::new(FlowId(1), source, destination, Transport::Tcp, clock::tick());
        let claim = Claim::Named(Named {
            name: Name::parse(name).unwrap(),
            protocol: Protocol::Tls,
            via: Via::Sni,
            ech: false,
        });
        let decision = self.gate.decide(&flow, &claim, clock::now());
        decision.is_allowed().then_some(decision.reason)
    }

    /// Ends everything and returns the lines of the log.
    async fn logged(self) -> Vec<String> {
        self.cancel.cancel();
        self.forwarder.drained().await;
        self.log.close().await;
        let text = std::fs::read_to_string(self.lines.path()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn told(reply: &Message) -> Option<(u16, String)> {
    let edns = reply.edns.as_ref()?;
    let Some(EdnsOption::Unknown(_, error)) = edns.option(EdnsCode::from(15)) else { return None };
    let (info, text) = error.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*info), String::from_utf8(text.to_vec()).ok()?))
}

#[tokio::test]
async fn an_allowed_name_is_answered_and_the_ledger_knows_before_the_client() {
    let world = World::new(Case::default()).await;
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.1"), None);
    let reply = world.ask(&query("WWW.example.com", 1)).await;
    assert_eq!((reply.metadata.id, reply.answers.len()), (4711, 1));
    assert_eq!(reply.queries[0].name().to_string(), "WWW.example.com.");
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.1"), Some(Reason::Allowed));
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.2"), None);
    assert_eq!(world.is_allowed("api.example.com", "203.0.113.1"), None);
    let lines = world.logged().await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("www.example.com") && lines[0].contains("allowed"), "{lines:?}");
}

#[tokio::test]
async fn what_is_known_is_told_again_with_the_askers_words_and_observed_for_him() {
    let world = World::new(Case { cache: 100, ..Case::default() }).await;
    let first = world.ask(&query("www.example.com", 1)).await;
    let mut other = message("WwW.example.COM", 1, MessageType::Query);
    other.metadata.id = 7;
    let again = world.ask(&other.to_vec().unwrap()).await;
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 1);
    assert_eq!((again.metadata.id, again.answers[0].data.clone()), (7, first.answers[0].data.clone()));
    assert_eq!(again.queries[0].name().to_string(), "WwW.example.COM.");
    assert!(again.answers[0].ttl < first.answers[0].ttl, "a second that began is over");
    world.ask(&query("www.example.com", 28)).await;
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 2, "another type is another question");
    assert_eq!(world.logged().await.len(), 3, "each answer has its line");
}

#[tokio::test]
async fn what_is_known_is_judged_by_the_rules_in_force() {
    let addresses: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "203.0.113.1".parse().unwrap()];
    let mut case = Case { cache: 100, private: true, ..Case::default() };
    case.script.addresses = addresses;
    let world = World::new(case).await;
    assert_eq!(world.ask(&query("www.example.com", 1)).await.answers.len(), 2);
    let policy = |rules| Policy::compile(rules, Defaults::default()).unwrap();
    world.gate.replace(policy(vec![rule("*.example.com", false)]));
    assert_eq!(world.ask(&query("www.example.com", 1)).await.answers.len(), 1, "private ones go");
    world.gate.replace(policy(vec![rule("*.example.net", false)]));
    let denied = world.ask(&query("www.example.com", 1)).await;
    assert_eq!(denied.metadata.response_code, ResponseCode::Refused);
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_an_answer_adds_of_other_names_is_not_known() {
    let mut case = Case { cache: 100, ..Case::default() };
    case.script.besides = vec![("api.example.com", "198.51.100.66".parse().unwrap())];
    let world = World::new(case).await;
    for _ in 0..2 {
        world.ask(&query("www.example.com", 1)).await;
    }
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 1);
    assert_eq!(world.is_allowed("api.example.com", "198.51.100.66"), None);
    world.ask(&query("api.example.com", 1)).await;
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 2, "it is asked for");
}

#[tokio::test]
async fn a_failure_is_not_known() {
    let mut case = Case { cache: 100, ..Case::default() };
    case.script.wrong_question = true;
    let world = World::new(case).await;
    for _ in 0..2 {
        let failed = world.ask(&query("www.example.com", 1)).await;
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    }
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_denied_name_never_travels_upstream_and_the_client_hears_why() {
    let world = World::new(Case::default()).await;
    for name in ["secret.evil.test", "example.com", "a.b.example.com", "wwwexample.com"] {
        let reply = world.ask(&query(name, 1)).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
        assert_eq!(told(&reply), Some((15, format!("name_not_allowed: {name}"))));
    }
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 0);
    let lines = world.logged().await;
    assert_eq!(lines.iter().filter(|line| line.contains("name_not_allowed")).count(), 4);
}

#[tokio::test]
async fn denial_can_be_nxdomain_but_never_for_a_type_alone() {
    let world = World::new(Case { denial: Denial::NxDomain, ..Case::default() }).await;
    let name = world.ask(&query("evil.test", 1)).await;
    assert_eq!(name.metadata.response_code, ResponseCode::NXDomain);
    let kind = world.ask(&query("www.example.com", 16)).await;
    assert_eq!(kind.metadata.response_code, ResponseCode::Refused);
    assert_eq!(told(&kind).unwrap().1, "protocol_not_allowed: www.example.com");
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn observe_mode_lets_everything_pass_and_says_what_it_would_have_done() {
    let mut case = Case { mode: Mode::Observe, ..Case::default() };
    case.script.addresses = vec!["10.0.0.1".parse().unwrap()];
    let world = World::new(case).await;
    assert_eq!(world.ask(&query("evil.test", 1)).await.answers.len(), 1);
    let text = world.ask(&query("www.example.com", 16)).await;
    assert_eq!(text.metadata.response_code, ResponseCode::NoError);
    let lines = world.logged().await;
    assert!(lines.iter().all(|line| line.contains("observed_only")), "{lines:?}");
}

#[tokio::test]
async fn observing_that_has_ended_lets_no_type_and_no_private_address_through() {
    let mut case = Case { mode: Mode::Observe, until: Some(SystemTime::UNIX_EPOCH), ..Case::default() };
    case.script.addresses = vec!["10.0.0.1".parse().unwrap()];
    let world = World::new(case).await;
    let text = world.ask(&query("www.example.com", 16)).await;
    assert_eq!(text.metadata.response_code, ResponseCode::Refused);
    assert!(world.ask(&query("www.example.com", 1)).await.answers.is_empty());
    assert_eq!(world.ask(&query("evil.test", 1)).await.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn private_addresses_do_not_reach_the_client_nor_the_ledger() {
    let addresses: Vec<IpAddr> = vec!["169.254.169.254".parse().unwrap(), "203.0.113.1".parse().unwrap()];
    let mut case = Case::default();
    case.script.addresses = addresses.clone();
    let world = World::new(case).await;
    assert_eq!(world.ask(&query("www.example.com", 1)).await.answers.len(), 1);
    let mut case = Case { private: true, ..Case::default() };
    case.script.addresses = addresses;
    let world = World::new(case).await;
    assert_eq!(world.ask(&query("www.example.com", 1)).await.answers.len(), 2);
    assert_eq!(world.is_allowed("www.example.com", "169.254.169.254"), Some(Reason::Allowed));
}

#[tokio::test]
async fn without_an_ipv6_route_there_is_no_aaaa() {
    let world = World::new(Case { no_ipv6: true, ..Case::default() }).await;
    let reply = world.ask(&query("www.example.com", 28)).await;
    assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_failing_or_lying_upstream_is_a_server_failure() {
    for (broken, wrong_question) in [(true, false), (false, true)] {
        let mut case = Case::default();
        (case.script.broken, case.script.wrong_question) = (broken, wrong_question);
        let world = World::new(case).await;
        let reply = world.ask(&query("www.example.com", 1)).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(told(&reply), Some((23, "upstream_failed: www.example.com".to_owned())));
        let lines = world.logged().await;
        assert!(lines.len() == 1 && lines[0].contains("upstream_failed"), "{lines:?}");
    }
}

#[tokio::test]
async fn broken_messages_are_told_so_and_responses_are_met_with_silence() {
    let world = World::new(Case::default()).await;
    let mut broken = query("www.example.com", 1);
    broken.push(0);
    assert_eq!(world.ask(&broken).await.metadata.response_code, ResponseCode::FormErr);
    let dotted = [&query("x.test", 1)[..12], b"\x05a.www\x07example\x03com\0\0\x01\0\x01"].concat();
    let dotted = [&dotted[..10], &[0, 0], &dotted[12..]].concat();
    assert_eq!(world.ask(&dotted).await.metadata.response_code, ResponseCode::Refused);
    let response = message("www.example.com", 1, MessageType::Response).to_vec().unwrap();
    for silent in [response, b"junk".to_vec(), vec![0; 4096], vec![0; 9000]] {
        let heard = world.ask_raw(&silent, Duration::from_millis(150)).await;
        assert!(heard.is_none_or(|heard| heard.len() == 12));
    }
    let lines = world.logged().await;
    assert_eq!(lines.iter().filter(|line| line.contains("garbled")).count(), 6, "{lines:?}");
}

#[tokio::test]
async fn a_client_over_its_limit_is_refused_and_the_others_are_not() {
    let mut case = Case { per_client: 2, ..Case::default() };
    case.script.leave = Semaphore::new(0);
    let world = World::new(case).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(world.udp).await.unwrap();
    for _ in 0..3 {
        client.send(&query("www.example.com", 1)).await.unwrap();
    }
    let mut buffer = [0; 4096];
    let len = timeout(Duration::from_secs(5), client.recv(&mut buffer)).await.unwrap().unwrap();
    let refused = Message::from_vec(&buffer[..len]).unwrap();
    assert_eq!(told(&refused).unwrap().1, "over_limit: www.example.com");
    let other = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    other.connect(world.udp).await.unwrap();
    other.send(&query("www.example.com", 1)).await.unwrap();
    while world.script.asked.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.script.leave.add_permits(10);
    let len = timeout(Duration::from_secs(5), other.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(Message::from_vec(&buffer[..len]).unwrap().answers.len(), 1);
}

async fn put(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await.unwrap();
}

async fn take(stream: &mut TcpStream) -> Message {
    let wait = Duration::from_secs(5);
    let length = timeout(wait, stream.read_u16()).await.unwrap().unwrap();
    let mut message = vec![0; usize::from(length)];
    timeout(wait, stream.read_exact(&mut message)).await.unwrap().unwrap();
    Message::from_vec(&message).unwrap()
}

#[tokio::test]
async fn one_connection_carries_many_questions_in_pieces_and_after_half_close() {
    let world = World::new(Case::default()).await;
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let question = query("www.example.com", 1);
    let framed = [&u16::try_from(question.len()).unwrap().to_be_bytes(), question.as_slice()].concat();
    for byte in &framed {
        stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(take(&mut stream).await.answers.len(), 1);
    for _ in 0..40 {
        put(&mut stream, &question).await;
    }
    put(&mut stream, &query("evil.test", 1)).await;
    stream.shutdown().await.unwrap();
    let mut refused = 0;
    for _ in 0..41 {
        refused += usize::from(take(&mut stream).await.metadata.response_code == ResponseCode::Refused);
    }
    assert_eq!(refused, 1);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
}

/// The clock jumps to the next deadline whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn idle_and_stalling_connections_are_ended() {
    let world = World::new(Case::default()).await;
    for sent in [&b""[..], b"\0", b"\0\x20half a question"] {
        let mut stream = TcpStream::connect(world.tcp).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    world.forwarder.drained().await;
}

#[tokio::test]
async fn an_answer_too_big_for_udp_is_whole_over_tcp() {
    let mut case = Case::default();
    case.script.addresses = (0..100u8).map(|n| Ipv4Addr::new(203, 0, 113, n).into()).collect();
    let world = World::new(case).await;
    let cut = world.ask(&query("www.example.com", 1)).await;
    assert!(cut.metadata.truncation && cut.answers.len() < 100);
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.99"), None);
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    put(&mut stream, &query("www.example.com", 1)).await;
    assert_eq!(take(&mut stream).await.answers.len(), 100);
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.99"), Some(Reason::Allowed));
}

#[tokio::test]
async fn stopping_answers_what_is_under_way() {
    let mut case = Case::default();
    case.script.leave = Semaphore::new(0);
    let world = World::new(case).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(&query("www.example.com", 1), world.udp).await.unwrap();
    while world.script.asked.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.cancel.cancel();
    world.script.leave.add_permits(1);
    timeout(Duration::from_secs(5), world.forwarder.drained()).await.unwrap();
    let mut buffer = [0; 512];
    assert!(client.try_recv(&mut buffer).is_ok());
}

#[tokio::test]
async fn look_ups_of_one_name_are_asked_once_and_serve_every_waiting_client() {
    let mut case = Case::default();
    case.script.leave = Semaphore::new(0);
    let world = World::new(case).await;
    let name = Name::parse("www.example.com").unwrap();
    let waiting: Vec<_> = (0..20u8)
        .map(|n| {
            let client = Client::at(Ipv4Addr::new(127, 0, 0, 1 + n % 4).into());
            let (forwarder, name) = (world.forwarder.clone(), name.clone());
            tokio::spawn(async move {
                forwarder.lookup(client, name, Ipv4Addr::new(203, 0, 113, 1).into()).await;
            })
        })
        .collect();
    // The first to wait is cancelled: another one asks.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 1);
    waiting[0].abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.script.leave.add_permits(1000);
    for task in waiting.into_iter().skip(1) {
        task.await.unwrap();
    }
    assert!(world.script.asked.load(Ordering::SeqCst) <= 2);
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.1"), Some(Reason::Resolved));
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.2"), None);
    let before = world.script.asked.load(Ordering::SeqCst);
    world.forwarder.lookup(Client::at(Ipv4Addr::LOCALHOST.into()), name, Ipv6Addr::LOCALHOST.into()).await;
    assert_eq!(world.script.asked.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn a_look_up_of_a_denied_name_asks_nobody() {
    let world = World::new(Case::default()).await;
    let client = Client::at(Ipv4Addr::LOCALHOST.into());
    let name = Name::parse("evil.test").unwrap();
    world.forwarder.lookup(client, name, Ipv4Addr::new(203, 0, 113, 1).into()).await;
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 0);
}

async fn dig(arguments: &[&str], server: SocketAddr) -> Option<String> {
    let run = tokio::process::Command::new("dig")
        .arg("@127.0.0.1")
        .args(["-p", &server.port().to_string(), "+tries=1", "+time=3"])
        .args(arguments)
        .output();
    match run.await {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "dig cannot be run: {error}");
            eprintln!("SKIPPED: dig cannot be run: {error}");
            None
        }
    }
}

#[tokio::test]
async fn dig_is_served_over_udp_and_tcp_and_told_why_not() {
    let world = World::new(Case::default()).await;
    let Some(short) = dig(&["+short", "www.example.com"], world.udp).await else { return };
    assert_eq!(short.trim(), "203.0.113.1");
    let short = dig(&["+tcp", "+short", "www.example.com"], world.tcp).await.unwrap();
    assert_eq!(short.trim(), "203.0.113.1");
    let denied = dig(&["evil.test"], world.udp).await.unwrap();
    assert!(denied.contains("status: REFUSED"), "{denied}");
    assert!(
        denied.contains("EDE: 15 (Blocked)") && denied.contains("name_not_allowed: evil.test"),
        "{denied}"
    );
    assert!(!denied.to_lowercase().contains("warning"), "{denied}");
}

/// The one who asks in these tests has another address, and somebody else has a third.
fn neighbours() -> Neighbours {
    let link = |last| LinkAddress::parse(&[2, 0, 0, 0, 0, last]).unwrap();
    let own = vec![Ipv4Addr::LOCALHOST.into(), OTHER.parse().unwrap(), "2001:db8:77::22".parse().unwrap()];
    Neighbours::fixed([(link(1), own), (link(2), vec![STRANGER.parse().unwrap()])])
}

const OTHER: &str = "2001:db8:77::2";
const STRANGER: &str = "2001:db8:77::3";

fn rule_for(client: &str, pattern: &str, action: Action) -> Rule {
    let net: IpAddr = client.parse().unwrap();
    let id = format!("{client} {pattern}").into();
    let ports = if action == Action::Deny { Ports(vec![(0, u16::MAX)]) } else { Ports::default() };
    Rule { id, clients: vec![ClientMatch::Net(net.into())], action, ports, ..rule(pattern, false) }
}

#[tokio::test]
async fn a_name_that_another_address_may_ask_for_is_answered_for_that_address() {
    let rules =
        vec![rule_for(OTHER, "mine.test", Action::Allow), rule_for(STRANGER, "theirs.test", Action::Allow)];
    let world = World::new(Case { neighbours: neighbours(), rules, ..Case::default() }).await;
    assert_eq!(world.ask(&query("mine.test", 1)).await.answers.len(), 1);
    assert_eq!(world.ask(&query("theirs.test", 1)).await.metadata.response_code, ResponseCode::Refused);
    assert_eq!(world.script.asked.load(Ordering::SeqCst), 1);
    let clients: Vec<_> = world.gate.leases().iter().map(|lease| lease.client.to_string()).collect();
    assert_eq!(clients, [OTHER]);
    let lines = world.logged().await;
    assert!(lines.iter().all(|line| line.contains("\"source\":{\"ip\":\"127.0.0.1\"")), "{lines:?}");
}

#[tokio::test]
async fn a_name_that_is_denied_to_any_address_is_not_answered() {
    for (denied, reason) in
        [(OTHER, "denied_by_rule"), ("127.0.0.1", "denied_by_rule"), (STRANGER, "allowed")]
    {
        let whole_net = ClientMatch::Net("2001:db8:77::/64".parse().unwrap());
        let allow = Rule { clients: vec![whole_net], ..rule("mine.test", false) };
        let rules = vec![allow, rule_for(denied, "mine.test", Action::Deny)];
        let world = World::new(Case { neighbours: neighbours(), rules, ..Case::default() }).await;
        let reply = world.ask(&query("mine.test", 1)).await;
        let allowed = reason == "allowed";
        let text = (!allowed).then(|| format!("{reason}: mine.test"));
        assert_eq!(told(&reply).map(|(_, text)| text), text);
        assert_eq!(world.script.asked.load(Ordering::SeqCst), usize::from(allowed), "{denied}");
        assert!(world.logged().await[0].contains(reason));
    }
}

/// Asks one question after the other by one socket, and returns which were answered.
async fn ask_all(world: &World, names: impl Iterator<Item = String>) -> Vec<bool> {
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(world.udp).await.unwrap();
    let (mut answered, mut buffer) = (Vec::new(), [0; 4096]);
    for name in names {
        client.send(&query(&name, 1)).await.unwrap();
        let len = timeout(Duration::from_secs(5), client.recv(&mut buffer)).await.unwrap().unwrap();
        let reply = Message::from_vec(&buffer[..len]).unwrap();
        let refused = reply.metadata.response_code == ResponseCode::Refused;
        assert_eq!(refused.then(|| told(&reply).unwrap().1), refused.then(|| format!("over_limit: {name}")));
        answered.push(!refused);
    }
    answered
}

/// How many `over_limit` lines there are, and how many refusals they tell of.
fn over_limit(lines: &[String], limit: &str) -> (usize, u64) {
    let lines: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_limit = lines.iter().filter(|line| line["namegate"]["limit"] == limit);
    let told = of_limit.clone().map(|line| 1 + line["namegate"]["repeated"].as_u64().unwrap_or(0)).sum();
    (of_limit.count(), told)
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_refused_and_the_log_counts_it_in_few_lines() {
    let world = World::new(Case { per_second: 20, ..Case::default() }).await;
    let started = clock::tick();
    let answered = ask_all(&world, (0..200).map(|_| "www.example.com".to_owned())).await;
    let seconds = clock::tick().since(started).as_secs_f64();
    let passed = answered.iter().filter(|answered| **answered).count();
    assert!(answered[..20].iter().all(|answered| *answered), "a burst of a second's worth is let through");
    assert!(passed as f64 <= 20.0 + 20.0 * seconds + 1.0, "{passed} in {seconds} s");
    assert_eq!(world.script.asked.load(Ordering::SeqCst), passed, "what is refused does not travel");
    let lines = world.logged().await;
    let (few, told) = over_limit(&lines, "questions");
    assert_eq!(told as usize, 200 - passed);
    assert!(few as f64 <= seconds + 2.0, "{few} lines in {seconds} s");
}

#[tokio::test]
async fn a_tunnel_in_names_runs_dry_and_names_that_are_known_go_on() {
    let world = World::new(Case { names: 60, ..Case::default() }).await;
    let started = clock::tick();
    let names = |from: usize, to: usize| (from..to).map(|number| format!("a{number}.example.com"));
    let answered = ask_all(&world, names(0, 300)).await;
    let passed = answered.iter().filter(|answered| **answered).count();
    assert!(
        passed >= 60 && passed as f64 <= 60.0 + clock::tick().since(started).as_secs_f64() + 1.0,
        "{passed}"
    );
    assert!(
        ask_all(&world, names(0, 60)).await.into_iter().all(|answered| answered),
        "the first 60 are known"
    );
    // Claimed names that are looked up for a flow say as much as those that are asked for.
    let before = world.script.asked.load(Ordering::SeqCst);
    let own = Client::at(Ipv4Addr::LOCALHOST.into());
    for name in names(1_000, 1_100) {
        let destination = "203.0.113.1".parse().unwrap();
        world.forwarder.lookup(own, Name::parse(&name).unwrap(), destination).await;
    }
    let travelled = world.script.asked.load(Ordering::SeqCst) - before;
    assert!(travelled as f64 <= clock::tick().since(started).as_secs_f64() + 1.0, "{travelled}");
    let lines = world.logged().await;
    assert_eq!(over_limit(&lines, "new_names").1 as usize, 300 - passed);
}

#[tokio::test]
async fn a_thousand_addresses_in_an_answer_cost_their_client_leases_and_nobody_else() {
    let mut case = Case::default();
    let given = |n: u16| IpAddr::from(Ipv4Addr::new(203, 0, n.to_be_bytes()[0] + 113, n.to_be_bytes()[1]));
    case.script.addresses = (0..1_000).map(given).collect();
    let world = World::new(case).await;
    let other = crate::facts::Observation {
        client: Client::at("192.0.2.7".parse().unwrap()),
        chain: vec![Name::parse("www.example.com").unwrap()],
        addresses: vec![crate::facts::Address { ip: given(0), ttl_secs: 60 }],
        source: crate::facts::Source::Forwarder,
        at: clock::tick(),
    };
    world.gate.observe(&other, clock::now());
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    for round in 0..20 {
        put(&mut stream, &query(&format!("a{round}.example.com"), 1)).await;
        assert_eq!(take(&mut stream).await.answers.len(), 1_000, "the client hears them all");
    }
    // 20,000 pairs were given, 100 may be kept for a client; the newest are.
    assert_eq!(world.gate.lease_count(), 101);
    assert_eq!(world.is_allowed("a19.example.com", &given(999).to_string()), Some(Reason::Allowed));
    assert_eq!(world.is_allowed("a0.example.com", &given(999).to_string()), None, "to forget is safe");
    assert!(world.gate.leases().iter().any(|lease| lease.client == other.client));
}

#[tokio::test]
async fn records_that_nobody_asked_for_reach_no_ledger() {
    let mut case = Case::default();
    let planted: IpAddr = "203.0.113.66".parse().unwrap();
    case.script.besides =
        vec![("api.example.com", planted), ("example.com", planted), ("a.www.example.com", planted)];
    let world = World::new(case).await;
    let reply = world.ask(&query("www.example.com", 1)).await;
    assert!(reply.additionals.is_empty(), "{reply:?}");
    assert_eq!(world.is_allowed("www.example.com", "203.0.113.1"), Some(Reason::Allowed));
    for name in ["www.example.com", "api.example.com", "a.www.example.com", "example.com"] {
        assert_eq!(world.is_allowed(name, "203.0.113.66"), None, "{name}");
    }
    assert_eq!(world.gate.lease_count(), 1);
}

#[tokio::test]
async fn loops_and_endless_chains_of_aliases_open_nothing() {
    let chain: Vec<(&str, &str)> = {
        let name = |n: usize| -> &'static str {
            if n == 0 { "www.example.com" } else { Box::leak(format!("c{n}.example.com").into_boxed_str()) }
        };
        (0..40).map(|n| (name(n), name(n + 1))).collect()
    };
    let loops: [Vec<(&str, &str)>; 4] = [
        vec![("www.example.com", "www.example.com")],
        vec![("www.example.com", "a.example.com"), ("a.example.com", "www.example.com")],
        vec![
            ("www.example.com", "a.example.com"),
            ("a.example.com", "b.example.com"),
            ("b.example.com", "a.example.com"),
        ],
        chain,
    ];
    for aliases in loops {
        let mut case = Case::default();
        case.script.aliases = aliases;
        let world = World::new(case).await;
        let said = format!("{:?}", world.script.aliases);
        world
            .ask_raw(&query("www.example.com", 1), Duration::from_secs(5))
            .await
            .expect("an answer of some kind");
        assert_eq!(world.gate.lease_count(), 0, "{said}");
        for name in ["www.example.com", "a.example.com", "b.example.com", "c1.example.com", "c40.example.com"]
        {
            assert_eq!(world.is_allowed(name, "203.0.113.1"), None, "{name} by {said}");
        }
    }
}
