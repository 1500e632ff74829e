//! The host door in a real kernel: processes of captured users and control groups reach the gate and nothing else.
//!
//! This host (the test's own namespace) and a server that counts every packet it gets. Several real users are
//! needed, so the tests run as the machine's root, in network, mount and process namespaces of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait in real time, in threads of their own")]
#![allow(clippy::print_stdout, reason = "measurements are told")]

#[path = "common/namespace.rs"]
mod namespace;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use namegate::nft::{
    CaptureConfig, Cgroup, DnsCapture, Form, FormChoice, Installed, LocalConfig, Locals, Nft, Plan, Standing,
};
use namegate::sys::cgroup::{CgroupError, Change, Groups, Watched};
use namegate::sys::owner::Owners;
use namespace::{as_root, at, netns, sh};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

// ---- the world -------------------------------------------------------------------------------------------

const PROXY: u16 = 15002;
const DNS: u16 = 15054;
/// Captured.
const APP: u32 = 1000;
/// Not captured, unless everybody is.
const OTHER: u32 = 2000;

/// This host 203.0.113.1 "up0" -- server 203.0.113.10, and the same in IPv6.
fn world() {
    netns("server");
    sh("ip link add up0 type veth peer name s0 netns server
        ip addr add 203.0.113.1/24 dev up0; ip addr add 2001:db8:2::1/64 dev up0 nodad; ip link set up0 up
        ip -n server addr add 203.0.113.10/24 dev s0; ip -n server addr add 2001:db8:2::10/64 dev s0 nodad
        ip -n server link set s0 up
        ip route add default via 203.0.113.10; ip -6 route add default via 2001:db8:2::10
        ip netns exec server nft -f - <<END
        table inet watch {
            counter seen { }
            chain every { type filter hook prerouting priority -500; policy accept;
                icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert, mld2-listener-report } accept
                counter name seen
            }
        }
END");
    let deadline = Instant::now() + Duration::from_secs(10);
    for target in ["203.0.113.10:9", "[2001:db8:2::10]:9"] {
        while call(OTHER, target).err() != Some(ErrorKind::ConnectionRefused) {
            assert!(Instant::now() < deadline, "the world without rules does not connect {target}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(server_saw() > 0, "the counter counts");
    forget();
}

fn server_saw() -> u64 {
    let said = sh("ip netns exec server nft list counter inet watch seen");
    let mut words = said.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).expect("packets").parse().expect("number")
}

fn forget() {
    sh("ip netns exec server nft reset counters table inet watch");
}

/// Does something as another user; sockets born there stay that user's.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            let id = rustix::fs::Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(id, id, id).expect("become another user");
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("address")
}

fn call(uid: u32, target: &str) -> Result<TcpStream, ErrorKind> {
    let target = address(target);
    let called = as_user(uid, || TcpStream::connect_timeout(&target, Duration::from_secs(2)));
    called.map_err(|error| error.kind())
}

fn assert_refused(uid: u32, target: &str) {
    let start = Instant::now();
    assert_eq!(call(uid, target).err(), Some(ErrorKind::ConnectionRefused), "{uid} {target}");
    assert!(start.elapsed() < Duration::from_millis(500), "{target} took {:?}", start.elapsed());
}

fn any(target: SocketAddr) -> SocketAddr {
    let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    SocketAddr::new(any, 0)
}

/// Asks over UDP: the answer, or the error number of a refusal, or nothing at all.
fn ask(uid: u32, target: &str) -> Result<String, Option<i32>> {
    let target = address(target);
    as_user(uid, || {
        let socket = UdpSocket::bind(any(target)).expect("bind");
        socket.connect(target).expect("connect");
        socket.set_read_timeout(Some(Duration::from_millis(700))).expect("timeout");
        socket.send(b"question").map_err(|error| error.raw_os_error())?;
        let mut buffer = [0; 64];
        match socket.recv(&mut buffer) {
            Ok(n) => Ok(String::from_utf8_lossy(&buffer[..n]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(None),
            Err(error) => Err(error.raw_os_error()),
        }
    })
}

/// Answers whoever asks with these words and the asking user, until the test ends.
fn answer_in_the_background(address: &str, answer: &'static str) {
    let socket = UdpSocket::bind(address).expect("bind");
    let owners = Owners::open().expect("socket diagnosis");
    std::thread::spawn(move || {
        while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
            let owner = owners.of_datagram(peer).expect("answer").map_or(u32::MAX, |owner| owner.uid);
            let _ = socket.send_to(format!("{answer} {owner}").as_bytes(), peer);
        }
    });
}

fn these(users: &[u32]) -> Locals {
    Locals::These { users: users.to_vec(), cgroups: Vec::new() }
}

fn plan(who: Locals) -> Plan {
    let local = LocalConfig { who, proxy_port: PROXY, dns_port: DNS, gate: 0 };
    let config = CaptureConfig {
        interfaces: Vec::new(),
        form: FormChoice::Auto,
        proxy_port: 15001,
        dns_port: 15353,
        dns: DnsCapture::Forwarder,
        dns_listen: Vec::new(),
        local: Some(local),
        table: "namegate".to_owned(),
    };
    Plan::new(config, Form::Redirect).expect("plan")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

fn apply(who: Locals) -> Installed {
    let installed = block_on(Installed::apply(Arc::new(Nft::default()), &plan(who)));
    installed.unwrap_or_else(|e| panic!("{e}: {e:?}"))
}

fn loopback_listeners(port: u16) -> [TcpListener; 2] {
    [format!("127.0.0.1:{port}"), format!("[::1]:{port}")].map(|text| TcpListener::bind(text).expect("bind"))
}

/// Waits for a connection and returns where it was to go.
fn arrival(listener: &TcpListener) -> (TcpStream, SocketAddr, SocketAddr) {
    SockRef::from(listener).set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
    let (stream, peer) = listener.accept().expect("a captured connection");
    let original = match peer {
        SocketAddr::V4(_) => SockRef::from(&stream).original_dst_v4(),
        SocketAddr::V6(_) => SockRef::from(&stream).original_dst_v6(),
    };
    (stream, peer, original.expect("original destination").as_socket().expect("an internet address"))
}

// ---- users -----------------------------------------------------------------------------------------------

#[test]
fn connections_of_a_captured_user_arrive_and_those_of_others_go_their_way() {
    if !as_root("connections_of_a_captured_user_arrive_and_those_of_others_go_their_way") {
        return;
    }
    world();
    let installed = apply(these(&[APP]));
    assert_eq!(block_on(installed.verify()).expect("verify"), Standing::Intact);
    let listeners = loopback_listeners(PROXY);
    let owners = Owners::open().expect("socket diagnosis");
    for (listener, target) in [
        (&listeners[0], "203.0.113.10:443"),
        (&listeners[0], "198.51.100.9:8443"),
        // What is nobody's but the link's: metadata services.
        (&listeners[0], "169.254.169.254:80"),
        (&listeners[1], "[2001:db8:2::10]:443"),
    ] {
        let mut caller = call(APP, target).unwrap_or_else(|error| panic!("{target}: {error}"));
        let (mut accepted, peer, original) = arrival(listener);
        assert_eq!(original, address(target));
        assert_eq!(peer, caller.local_addr().expect("local"));
        // The client's socket goes by the destination that was asked for.
        let owner = owners.of_connection(peer, original).expect("answer").expect("an owner");
        assert_eq!(owner.uid, APP);
        caller.write_all(b"ping").expect("write");
        let mut heard = [0; 4];
        accepted.read_exact(&mut heard).expect("read");
        accepted.write_all(&heard).expect("write");
        caller.read_exact(&mut heard).expect("read");
        assert_eq!(&heard, b"ping");
    }
    // An IPv6 socket that calls an IPv4 address.
    let mapped = call(APP, "[::ffff:203.0.113.10]:443").expect("captured");
    let (_, peer, original) = arrival(&listeners[0]);
    assert_eq!(original, address("203.0.113.10:443"));
    assert_eq!(peer.port(), mapped.local_addr().expect("local").port());
    assert_eq!(owners.of_connection(peer, original).expect("answer").map(|owner| owner.uid), Some(APP));
    // A connection of several paths (MPTCP) is one like any other, where the kernel has it.
    let target = address("203.0.113.10:443");
    let several = as_user(APP, || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)));
    if let Ok(several) = several {
        as_user(APP, || several.connect_timeout(&target.into(), Duration::from_secs(2))).expect("captured");
        let (_, peer, original) = arrival(&listeners[0]);
        assert_eq!(original, target);
        assert_eq!(owners.of_connection(peer, original).expect("answer").map(|owner| owner.uid), Some(APP));
    }
    drop(mapped);
    assert_eq!(owners.of_connection(peer, original).expect("answer"), None, "closed: nobody's");
    assert_eq!(server_saw(), 0);
    assert_refused(OTHER, "203.0.113.10:443");
    assert!(server_saw() > 0, "others are not captured");
}

#[test]
fn every_question_of_a_captured_user_comes_to_the_gate_whomever_it_asks() {
    if !as_root("every_question_of_a_captured_user_comes_to_the_gate_whomever_it_asks") {
        return;
    }
    world();
    let _installed = apply(these(&[APP]));
    for stub in ["127.0.0.53:53", "[::1]:53", "203.0.113.1:53"] {
        answer_in_the_background(stub, "stub");
    }
    for gate in [format!("127.0.0.1:{DNS}"), format!("[::1]:{DNS}")] {
        answer_in_the_background(&gate, "gate");
    }
    let streams = loopback_listeners(DNS);
    for (listener, target) in [
        (&streams[0], "203.0.113.10:53"),
        (&streams[0], "198.51.100.53:53"),
        (&streams[0], "127.0.0.53:53"),
        (&streams[0], "127.0.0.1:53"),
        (&streams[0], "203.0.113.1:53"),
        (&streams[1], "[2001:db8:9::53]:53"),
        (&streams[1], "[::1]:53"),
        (&streams[1], "[2001:db8:2::1]:53"),
    ] {
        assert_eq!(ask(APP, target).as_deref(), Ok("gate 1000"), "{target}");
        let _caller = call(APP, target).expect("captured");
        assert_eq!(arrival(listener).2, address(target));
    }
    assert_eq!(server_saw(), 0);
    for stub in ["127.0.0.53:53", "[::1]:53", "203.0.113.1:53"] {
        assert_eq!(ask(OTHER, stub).as_deref(), Ok("stub 2000"), "{stub}");
    }
}

#[test]
fn a_captured_user_reaches_services_of_this_host_and_nothing_else() {
    if !as_root("a_captured_user_reaches_services_of_this_host_and_nothing_else") {
        return;
    }
    world();
    answer_in_the_background(&format!("127.0.0.1:{DNS}"), "gate");
    for who in [these(&[APP]), Locals::AllButGate] {
        let _installed = apply(who);
        forget();
        assault();
        // The listeners are for what is led to them.
        let _open = loopback_listeners(PROXY);
        let _deaf = loopback_listeners(DNS);
        for uid in [APP, OTHER] {
            for port in [PROXY, DNS] {
                assert_refused(uid, &format!("127.0.0.1:{port}"));
                assert_refused(uid, &format!("[::1]:{port}"));
            }
            ask(uid, &format!("127.0.0.1:{DNS}")).expect_err("the DNS listener");
        }
        let target = address(&format!("203.0.113.1:{PROXY}"));
        let error = at("server", || TcpStream::connect_timeout(&target, Duration::from_secs(2)));
        assert_eq!(error.expect_err("from outside").kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn dockers_resolver_is_asked_by_nobody_but_the_gate() {
    if !as_root("dockers_resolver_is_asked_by_nobody_but_the_gate") {
        return;
    }
    world();
    // As Docker makes it in a container: the resolver of root waits at a port of its own, which everybody finds in
    // /proc/net/udp, and port 53 leads there.
    let streams = TcpListener::bind("127.0.0.11:0").expect("bind");
    let place = streams.local_addr().expect("local").to_string();
    answer_in_the_background(&place, "docker");
    answer_in_the_background(&format!("127.0.0.1:{DNS}"), "gate");
    sh(&format!(
        "nft add table ip nat; nft add chain ip nat out '{{ type nat hook output priority -100; }}'
         nft add rule ip nat out ip daddr 127.0.0.11 udp dport 53 dnat to {place}"
    ));
    for who in [these(&[APP]), Locals::AllButGate] {
        sh("nft delete table inet namegate 2>/dev/null || true");
        let mut open = call(APP, &place).expect("before the rules");
        let _accepted = streams.accept().expect("accept");
        let asking = as_user(APP, || UdpSocket::bind("127.0.0.1:0").expect("bind"));
        asking.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
        for early in ["127.0.0.11:53", &place] {
            asking.send_to(b"question", early).expect("before the rules");
            asking.recv_from(&mut [0; 64]).expect("answered before the rules");
        }
        let _installed = apply(who);
        let mapped = place.replace("127.0.0.11", "[::ffff:127.0.0.11]");
        for target in [&place, &mapped] {
            assert_refused(APP, target);
            ask(APP, target).expect_err(target);
        }
        for late in ["127.0.0.11:53", &place] {
            let _ = asking.send_to(b"question", late);
            asking.recv_from(&mut [0; 64]).expect_err("an exchange from before the rules");
        }
        let _ = open.write_all(b"question");
        open.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
        open.read(&mut [0; 8]).expect_err("reset");
        assert_eq!(ask(APP, "127.0.0.11:53").as_deref(), Ok("gate 1000"));
        for target in ["127.0.0.11:53", &place] {
            assert_eq!(ask(0, target).as_deref(), Ok("docker 0"), "{target}");
        }
    }
}

/// Tries all there is as the captured user, with nobody listening.
fn assault() {
    for target in [
        "203.0.113.10:443",
        "203.0.113.10:9",
        "203.0.113.10:53",
        "[2001:db8:2::10]:443",
        "[2001:db8:2::10]:53",
    ] {
        assert_refused(APP, target);
    }
    for target in ["203.0.113.10:443", "203.0.113.10:123", "[2001:db8:2::10]:443", "[2001:db8:2::10]:9999"] {
        ask(APP, target).expect_err(target);
    }
    as_user(APP, || {
        for target in ["224.0.0.251:5353", "203.0.113.255:137", "255.255.255.255:67", "[ff02::fb]:5353"] {
            let target = address(target);
            let socket = UdpSocket::bind(any(target)).expect("bind");
            socket.set_broadcast(true).ok();
            socket.send_to(b"secret", target).expect_err("neither broadcast nor multicast");
        }
        // Larger than the link, to a port that would be led to the gate.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        let _ = socket.send_to(&[0; 4000], "203.0.113.10:53");
        let _ = socket.send_to(&[0; 4000], "203.0.113.10:443");
    });
    // Other transports than TCP and UDP that need no privilege: UDP-Lite and SCTP.
    for (kind, protocol) in [(Type::DGRAM, 136), (Type::STREAM, 132)] {
        let target = address("203.0.113.10:443");
        let called = as_user(APP, || {
            let socket = Socket::new(Domain::IPV4, kind, Some(protocol.into()))?;
            socket.connect_timeout(&target.into(), Duration::from_millis(500))?;
            socket.send(b"secret")
        });
        called.expect_err("another transport");
    }
    // Unprivileged pings, where `net.ipv4.ping_group_range` permits them.
    for (target, kind) in [("203.0.113.10:0", 1), ("[2001:db8:2::10]:0", 58)] {
        let target = address(target);
        let sent = as_user(APP, || {
            Socket::new(Domain::for_address(target), Type::DGRAM, Some(kind.into())).map(|ping| {
                let echo: &[u8] =
                    if kind == 1 { &[8, 0, 0, 0, 0, 0, 0, 0] } else { &[128, 0, 0, 0, 0, 0, 0, 0] };
                ping.send_to(echo, &target.into())
            })
        });
        assert!(!matches!(sent, Ok(Ok(_))), "a ping went out: {sent:?}");
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server_saw(), 0, "{}", sh("nft list table inet namegate"));
    // Own services stay.
    for own in ["127.0.0.1:0", "[::1]:0", "203.0.113.1:0", "[2001:db8:2::1]:0"] {
        let service = TcpListener::bind(own).expect("bind");
        let place = service.local_addr().expect("local");
        call(APP, &place.to_string()).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}

#[test]
fn a_connection_from_before_the_rules_does_not_go_on() {
    if !as_root("a_connection_from_before_the_rules_does_not_go_on") {
        return;
    }
    world();
    // Somebody tracks connections, as every host with a firewall does.
    sh("nft add table inet others; nft add chain inet others f '{ type filter hook output priority 10; }'
        nft add rule inet others f ct state established accept");
    let server = at("server", || TcpListener::bind("203.0.113.10:7777").expect("bind"));
    let resolver = at("server", || UdpSocket::bind("203.0.113.10:53").expect("bind"));
    for who in [these(&[APP]), Locals::AllButGate] {
        sh("nft delete table inet namegate 2>/dev/null || true");
        let mut open = call(APP, "203.0.113.10:7777").expect("before the rules");
        let (_accepted, _) = server.accept().expect("accept");
        let asking = as_user(APP, || UdpSocket::bind("0.0.0.0:0").expect("bind"));
        asking.send_to(b"question", "203.0.113.10:53").expect("before the rules");
        resolver.recv_from(&mut [0; 64]).expect("asked");
        let _installed = apply(who);
        forget();
        let _ = open.write_all(b"more");
        open.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
        open.read(&mut [0; 8]).expect_err("reset");
        let _ = asking.send_to(b"question", "203.0.113.10:53");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(server_saw(), 0);
    }
}

#[test]
fn who_crowds_a_port_holds_up_nobody_elses_questions() {
    if !as_root("who_crowds_a_port_holds_up_nobody_elses_questions") {
        return;
    }
    namespace::sh("ip link set lo up");
    let most = namegate::sys::limits::raise_descriptors().unwrap_or(u64::MAX);
    let many = 18_000.min(most - 200);
    let crowd = as_user(APP, || {
        let shared = |port: u16| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket");
            socket.set_reuse_port(true).expect("shared");
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("bind");
            socket
        };
        let first = shared(0);
        let port = first.local_addr().expect("local").as_socket().expect("internet").port();
        let mut crowd = vec![first];
        crowd.extend((1..many).map(|_| shared(port)));
        crowd
    });
    let place = crowd[0].local_addr().expect("local").as_socket().expect("internet");
    let other = as_user(OTHER, || UdpSocket::bind("127.0.0.1:0").expect("bind"));
    let from = other.local_addr().expect("local");
    let owners = Owners::open().expect("socket diagnosis");
    let mut took: Vec<Duration> = (0..100)
        .map(|_| {
            // The other's question comes while the crowd asks, too.
            let began = Instant::now();
            assert_eq!(owners.of_datagram(place).expect("answer"), None, "a crowd is nobody");
            assert_eq!(owners.of_datagram(from).expect("answer").map(|owner| owner.uid), Some(OTHER));
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!("a question of {many} sockets and one of another: {:?}, at most {:?}", took[50], took[99]);
    assert!(took[50] < Duration::from_millis(20), "{took:?}");
}

// ---- everybody -------------------------------------------------------------------------------------------

#[test]
fn the_gates_own_connections_end_in_good_order_and_nobody_rides_on_them() {
    if !as_root("the_gates_own_connections_end_in_good_order_and_nobody_rides_on_them") {
        return;
    }
    world();
    let _installed = apply(Locals::AllButGate);
    let server = at("server", || TcpListener::bind("203.0.113.10:443").expect("bind"));
    // Small enough that most is still to be sent when the gate has closed its socket.
    SockRef::from(&server).set_recv_buffer_size(4096).expect("buffer");
    let mut gate = call(0, "203.0.113.10:443").expect("the gate is not captured");
    SockRef::from(&gate).set_send_buffer_size(1 << 20).expect("buffer");
    let (mut accepted, _) = server.accept().expect("accept");
    gate.write_all(&vec![7; 200_000]).expect("write");
    drop(gate);
    std::thread::sleep(Duration::from_millis(100));
    accepted.set_read_timeout(Some(Duration::from_secs(3))).expect("timeout");
    let mut all = Vec::new();
    accepted.read_to_end(&mut all).expect("everything, and the end");
    assert_eq!(all.len(), 200_000);

    // The gate has asked its resolver; a captured process takes the same port and asks on.
    let resolver = at("server", || UdpSocket::bind("203.0.113.10:53").expect("bind"));
    for target in ["203.0.113.10:53", "203.0.113.10:443"] {
        let asking = UdpSocket::bind("203.0.113.1:0").expect("bind");
        let port = asking.local_addr().expect("local");
        asking.send_to(b"question", target).expect("the gate asks");
        if target.ends_with(":53") {
            let (_, peer) = resolver.recv_from(&mut [0; 64]).expect("asked");
            resolver.send_to(b"answer", peer).expect("answered");
            asking.recv_from(&mut [0; 64]).expect("answer");
        }
        drop(asking);
        std::thread::sleep(Duration::from_millis(50));
        forget();
        let rider = as_user(APP, || UdpSocket::bind(port).expect("bind"));
        for _ in 0..3 {
            let _ = rider.send_to(b"secret", target);
        }
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(server_saw(), 0, "{target}");
    }
}

#[test]
fn who_is_called_from_outside_answers_though_everybody_is_captured() {
    if !as_root("who_is_called_from_outside_answers_though_everybody_is_captured") {
        return;
    }
    world();
    for who in [these(&[APP]), Locals::AllButGate] {
        let _installed = apply(who);
        for place in ["203.0.113.1:8080", "[2001:db8:2::1]:8080"] {
            let service = as_user(APP, || TcpListener::bind(place).expect("bind"));
            let target = address(place);
            let mut caller = at("server", || TcpStream::connect_timeout(&target, Duration::from_secs(2)))
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let (mut accepted, _) = as_user(APP, || service.accept()).expect("accept");
            accepted.write_all(&[7; 100_000]).expect("write");
            drop(accepted);
            let mut all = Vec::new();
            caller.set_read_timeout(Some(Duration::from_secs(3))).expect("timeout");
            caller.read_to_end(&mut all).expect("everything, and the end");
            assert_eq!(all.len(), 100_000);
        }
        // What nobody serves is refused by the kernel itself, and a ping is answered.
        let closed = address("203.0.113.1:8081");
        let error = at("server", || TcpStream::connect_timeout(&closed, Duration::from_secs(2)));
        assert_eq!(error.expect_err("closed").kind(), ErrorKind::ConnectionRefused);
        at("server", || {
            assert!(echo("203.0.113.1:0"));
            assert!(echo("[2001:db8:2::1]:0"));
        });
    }
}

/// Pings by a raw socket, and says whether an echo came back (type 0, RFC 792, or 129, RFC 4443).
fn echo(target: &str) -> bool {
    let target = address(target);
    let (kind, request, reply, offset): (_, &[u8], _, _) = match target {
        SocketAddr::V4(_) => (1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0], 0, 20),
        SocketAddr::V6(_) => (58, &[128, 0, 0, 0, 0, 0, 0, 0], 129, 0),
    };
    let socket = Socket::new(Domain::for_address(target), Type::RAW, Some(kind.into())).expect("raw socket");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("timeout");
    socket.send_to(request, &target.into()).expect("sent");
    let mut heard = [0; 256];
    while let Ok(length) = (&socket).read(&mut heard) {
        if length > offset && heard[offset] == reply {
            return true;
        }
    }
    false
}

// ---- control groups --------------------------------------------------------------------------------------

/// A control group of this test alone.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 file system");
        let root = line.split(' ').nth(4).expect("mount point");
        let folder = PathBuf::from(root).join(format!("namegate-test-{}", outer_pid()));
        std::fs::create_dir(&folder).expect("a control group");
        std::fs::create_dir(folder.join("app")).expect("a control group");
        Self(folder)
    }

    fn path(&self) -> String {
        format!("{}/app", self.0.file_name().expect("name").to_string_lossy())
    }

    fn app(&self) -> PathBuf {
        self.0.join("app")
    }

    /// Does something in a group, and comes back: what is made there stays of that group.
    fn within<T>(group: &std::path::Path, work: impl FnOnce() -> T) -> T {
        let home = std::fs::read_to_string("/proc/self/cgroup").expect("own group");
        let home = home.lines().find_map(|line| line.strip_prefix("0::/")).expect("version 2").to_owned();
        let root = group.ancestors().nth(2).expect("the root");
        std::fs::write(group.join("cgroup.procs"), "0").expect("enter");
        let done = work();
        std::fs::write(root.join(home).join("cgroup.procs"), "0").expect("leave");
        done
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir(self.app()).ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

/// Inside a process namespace of its own every test is the same number.
fn outer_pid() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time").as_nanos()
}

fn members(groups: &Watched) -> Locals {
    let holder = std::process::id();
    let cgroup = |group: namegate::sys::cgroup::Group| Cgroup {
        id: group.id,
        level: group.level,
        holder,
        descriptor: group.descriptor,
    };
    Locals::These { users: Vec::new(), cgroups: groups.all().map(cgroup).collect() }
}

#[test]
fn a_control_group_that_is_removed_and_made_anew_stays_captured() {
    if !as_root("a_control_group_that_is_removed_and_made_anew_stays_captured") {
        return;
    }
    world();
    let folder = Folder::make();
    let connect = || TcpStream::connect_timeout(&address("203.0.113.10:443"), Duration::from_secs(2));
    block_on(async {
        let mut groups = Groups::hold(&[folder.path()]).expect("held").watch();
        let kernel = Arc::new(Nft::default());
        let mut installed = Installed::apply(kernel, &plan(members(&groups))).await.expect("apply");
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
        let listeners = loopback_listeners(PROXY);
        let captured = |from: &str| {
            let stream = connect().unwrap_or_else(|error| panic!("{from}: {error}"));
            assert_eq!(arrival(&listeners[0]).2, address("203.0.113.10:443"), "{from}");
            drop(stream);
            assert_eq!(server_saw(), 0, "{from}");
        };
        let old = Folder::within(&folder.app(), || {
            captured("inside");
            Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket")
        });
        let beneath = folder.app().join("worker");
        std::fs::create_dir(&beneath).expect("a control group");
        std::fs::write(beneath.join("cgroup.procs"), "0").expect("enter");
        captured("beneath");
        Folder::within(&folder.app(), || ());
        std::fs::write(folder.0.parent().expect("root").join("cgroup.procs"), "0").ok();
        std::fs::remove_dir(&beneath).expect("removed");
        assert_eq!(connect().expect_err("not captured").kind(), ErrorKind::ConnectionRefused);
        assert!(server_saw() > 0, "others are not captured");
        forget();

        std::fs::remove_dir(folder.app()).expect("removed");
        let changes = groups.changes().await;
        assert!(matches!(&changes[..], [Change::Gone { path }] if *path == folder.path()), "{changes:?}");
        // The rules name it still, and load again.
        installed.restore().await.expect("restore");
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);

        let made = Instant::now();
        std::fs::create_dir(folder.app()).expect("a control group");
        let mut changes = groups.changes().await;
        let seen = made.elapsed();
        let [Change::Anew { stillness, .. }] = &mut changes[..] else { panic!("{changes:?}") };
        // Whoever enters stands still until the rules know the group.
        assert!(stillness.is_some());
        let frozen = || std::fs::read_to_string(folder.app().join("cgroup.freeze")).expect("freezer");
        assert_eq!(frozen().trim(), "1");
        installed.replace(&plan(members(&groups))).await.expect("replace");
        let closed = made.elapsed();
        drop(changes);
        assert_eq!(frozen().trim(), "0");
        println!("a new control group: seen after {seen:?}, captured after {closed:?}");
        assert!(closed < Duration::from_secs(1), "{closed:?}");
        Folder::within(&folder.app(), || captured("inside the new one"));
        // A socket of the old one, kept by a process that has left it.
        old.connect_timeout(&address("203.0.113.10:443").into(), Duration::from_secs(2)).expect("captured");
        assert_eq!(arrival(&listeners[0]).2, address("203.0.113.10:443"));
        assert_eq!(server_saw(), 0);
    });
}

#[test]
fn the_gates_own_control_group_cannot_be_held_and_one_that_is_not_there_is_captured_when_it_is() {
    if !as_root("the_gates_own_control_group_cannot_be_held_and_one_that_is_not_there_is_captured_when_it_is")
    {
        return;
    }
    let folder = Folder::make();
    block_on(async {
        Folder::within(&folder.app(), || {
            let error = Groups::hold(&[folder.path()]).expect_err("own");
            assert!(matches!(error, CgroupError::Own { .. }), "{error}");
            let above = folder.path().trim_end_matches("/app").to_owned();
            let error = Groups::hold(&[above]).expect_err("own");
            assert!(matches!(error, CgroupError::Own { .. }), "{error}");
        });
        world();
        std::fs::remove_dir(folder.app()).expect("removed");
        let mut groups = Groups::hold(&[folder.path()]).expect("waited for").watch();
        let mut installed =
            Installed::apply(Arc::new(Nft::default()), &plan(members(&groups))).await.expect("apply");
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
        std::fs::create_dir(folder.app()).expect("a control group");
        let changes = groups.changes().await;
        assert!(matches!(&changes[..], [Change::Anew { stillness: Some(_), .. }]), "{changes:?}");
        installed.replace(&plan(members(&groups))).await.expect("replace");
        drop(changes);
        Folder::within(&folder.app(), || assert_refused(0, "203.0.113.10:443"));
        assert_eq!(server_saw(), 0);
    });
}
