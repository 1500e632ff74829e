//! The ruleset in a real kernel: what is loaded stands, what must not pass does not, what is captured arrives.
//!
//! A client, a gateway (the test's own namespace, with forwarding on, as on a Docker host) and a server that
//! counts every packet it gets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests measure and wait in real time, in threads of their own")]

#[path = "common/namespace.rs"]
mod namespace;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use namegate::nft::{
    CaptureConfig, DnsCapture, Facts, Form, FormChoice, Installed, Nft, NftError, Plan, ROUTE_TABLE,
    Standing, choose, remove_leftovers,
};
use namespace::{at, inside, netns, sh};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

// ---- the world -------------------------------------------------------------------------------------------

const PROXY: u16 = 15001;
const DNS: u16 = 15353;

/// How the client hangs on the gateway.
#[derive(Clone, Copy, PartialEq)]
enum Cable {
    Veth,
    /// A bridge, with or without `bridge-nf-call-*`.
    Bridge {
        filtered: bool,
    },
}

/// client 192.0.2.2 -- "in0" gateway "up0" -- server 203.0.113.10, and the same in IPv6.
fn world(cable: Cable) {
    netns("client");
    netns("server");
    sh("ip link add in0 type veth peer name c0 netns client
        ip link add up0 type veth peer name s0 netns server
        ip addr add 203.0.113.1/24 dev up0; ip addr add 2001:db8:2::1/64 dev up0 nodad; ip link set up0 up
        ip -n client addr add 192.0.2.2/24 dev c0; ip -n client addr add 2001:db8:1::2/64 dev c0 nodad
        ip -n client link set c0 up
        ip -n server addr add 203.0.113.10/24 dev s0; ip -n server addr add 2001:db8:2::10/64 dev s0 nodad
        ip -n server addr add 203.0.113.77/24 dev s0; ip -n server addr add 2001:db8:2::77/64 dev s0 nodad
        ip -n server link set s0 up");
    let inner = match cable {
        Cable::Veth => "in0",
        Cable::Bridge { filtered } => {
            let value = u8::from(filtered);
            sh(&format!(
                "ip link add br-in type bridge; ip link set in0 master br-in; ip link set in0 up
                 for family in ip ip6; do
                    [ ! -e /proc/sys/net/bridge ] || echo {value} > /proc/sys/net/bridge/bridge-nf-call-${{family}}tables
                 done"
            ));
            "br-in"
        }
    };
    sh(&format!(
        "ip addr add 192.0.2.1/24 dev {inner}; ip addr add 2001:db8:1::1/64 dev {inner} nodad; ip link set {inner} up
         echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         ip -n client route add default via 192.0.2.1; ip -n client -6 route add default via 2001:db8:1::1
         ip -n server route add default via 203.0.113.1; ip -n server -6 route add default via 2001:db8:2::1"
    ));
    sh("ip netns exec server nft -f - <<END
        table inet watch {
            counter seen { }
            chain every { type filter hook prerouting priority -500; policy accept;
                icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert, mld2-listener-report } accept
                counter name seen
            }
        }
END");
    settle();
}

/// Waits until both IPv6 link-local addresses answer: the first packets after `link up` are lost.
fn settle() {
    let deadline = Instant::now() + Duration::from_secs(10);
    for target in ["203.0.113.10:9", "[2001:db8:2::10]:9"] {
        while call(target).1 != Some(ErrorKind::ConnectionRefused) {
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

/// Calls from the client: how long it took, and the error if there was one.
fn call(target: &str) -> (Duration, Option<ErrorKind>) {
    let target: SocketAddr = target.parse().expect("address");
    at("client", move || {
        let start = Instant::now();
        let error = TcpStream::connect_timeout(&target, Duration::from_secs(2)).err();
        (start.elapsed(), error.map(|error| error.kind()))
    })
}

fn assert_refused_at_once(target: &str) {
    let (took, error) = call(target);
    assert_eq!(error, Some(ErrorKind::ConnectionRefused), "{target} after {took:?}");
    assert!(took < Duration::from_millis(500), "{target} took {took:?}");
}

/// Asks from the client over UDP: the answer, or the error number of an ICMP refusal, or nothing at all.
fn ask(target: &str) -> Result<String, Option<i32>> {
    let target: SocketAddr = target.parse().expect("address");
    at("client", move || {
        let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((any, 0)).expect("bind");
        socket.connect(target).expect("connect");
        socket.set_read_timeout(Some(Duration::from_millis(700))).expect("timeout");
        let _ = socket.send(b"question");
        let mut buffer = [0; 64];
        match socket.recv(&mut buffer) {
            Ok(n) => Ok(String::from_utf8_lossy(&buffer[..n]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(None),
            Err(error) => Err(error.raw_os_error()),
        }
    })
}

fn config(interfaces: &[&str]) -> CaptureConfig {
    CaptureConfig {
        interfaces: interfaces.iter().map(|&name| name.to_owned()).collect(),
        form: FormChoice::Auto,
        proxy_port: PROXY,
        dns_port: DNS,
        dns: DnsCapture::Forwarder,
        dns_listen: Vec::new(),
        local: None,
        table: "namegate".to_owned(),
    }
}

fn external(list: &[&str]) -> DnsCapture {
    DnsCapture::External(list.iter().map(|a| a.parse().expect("address")).collect())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

async fn apply(config: CaptureConfig, form: Form) -> Installed {
    let plan = Plan::new(config, form).expect("plan");
    Installed::apply(Arc::new(Nft::default()), &plan).await.unwrap_or_else(|e| panic!("{e}: {e:?}"))
}

fn apply_now(config: CaptureConfig, form: Form) -> Installed {
    block_on(apply(config, form))
}

/// A listener where the form wants it.
fn listener(form: Form, address: &str, kind: Type) -> Socket {
    let address: SocketAddr = address.parse().expect("address");
    let socket = Socket::new(Domain::for_address(address), kind, None).expect("socket");
    socket.set_reuse_address(true).expect("reuse");
    match (form, address) {
        (Form::Tproxy, SocketAddr::V4(_)) => socket.set_ip_transparent_v4(true).expect("transparent"),
        (Form::Tproxy, SocketAddr::V6(_)) => socket.set_ip_transparent_v6(true).expect("transparent"),
        (Form::Redirect, SocketAddr::V4(_)) => {}
        (Form::Redirect, SocketAddr::V6(_)) => socket.set_only_v6(true).expect("v6 only"),
    }
    socket.bind(&address.into()).expect("bind");
    if kind == Type::STREAM {
        socket.listen(16).expect("listen");
    }
    socket
}

fn listeners(form: Form, port: u16, kind: Type) -> [Socket; 2] {
    let (v4, v6) = match form {
        Form::Redirect => ("0.0.0.0", "[::]"),
        Form::Tproxy => ("127.0.0.1", "[::1]"),
    };
    [listener(form, &format!("{v4}:{port}"), kind), listener(form, &format!("{v6}:{port}"), kind)]
}

fn plain(address: SockAddr) -> SocketAddr {
    address.as_socket().expect("an internet address")
}

// ---- loading, verifying, removing ------------------------------------------------------------------------

const FORMS: [Form; 2] = [Form::Redirect, Form::Tproxy];

#[test]
fn both_forms_load_with_one_and_three_interfaces_in_every_dns_mode() {
    if !inside("both_forms_load_with_one_and_three_interfaces_in_every_dns_mode") {
        return;
    }
    block_on(async {
        for form in FORMS {
            for interfaces in [&["br-a"][..], &["br-a", "br-b", "eth1.100"]] {
                for dns in [
                    DnsCapture::Forwarder,
                    external(&[]),
                    external(&["192.0.2.1:53"]),
                    external(&["192.0.2.1:53", "[2001:db8:1::1]:5353"]),
                ] {
                    let mut config = config(interfaces);
                    config.dns = dns;
                    let addresses = ["192.0.2.1:5353", "[2001:db8:1::1]:53", "[::]:5354", "0.0.0.0:5354"];
                    config.dns_listen = addresses.iter().map(|a| a.parse().expect("address")).collect();
                    let installed = apply(config, form).await;
                    assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
                }
            }
        }
        remove_leftovers(&Nft::default(), "namegate").await.expect("remove");
        assert_eq!(sh("nft list ruleset; ip rule show; ip -6 rule show").matches("namegate").count(), 0);
    });
}

#[test]
fn a_missing_and_a_changed_table_are_seen_and_restored() {
    if !inside("a_missing_and_a_changed_table_are_seen_and_restored") {
        return;
    }
    block_on(async {
        for form in FORMS {
            let mut installed = apply(config(&["br-a", "br-b"]), form).await;
            for change in [
                "nft flush chain inet namegate forward",
                "nft insert rule inet namegate early accept",
                "nft delete element inet namegate captured '{ \"br-b\" }'",
                "nft add chain inet namegate mine",
                "nft flush table inet namegate",
            ] {
                sh(change);
                assert_eq!(installed.verify().await.expect("verify"), Standing::Changed, "{change}");
                installed.restore().await.expect("restore");
                assert_eq!(installed.verify().await.expect("verify"), Standing::Intact, "{change}");
            }
            for change in ["nft delete table inet namegate", "nft flush ruleset"] {
                sh(change);
                assert_eq!(installed.verify().await.expect("verify"), Standing::Missing, "{change}");
                installed.restore().await.expect("restore");
            }
            if form == Form::Tproxy {
                for change in [
                    "ip rule del iif br-b prohibit",
                    "ip -6 rule del iif br-b prohibit",
                    "ip rule del fwmark 0x4e47 lookup 231",
                    "ip -6 rule del fwmark 0x4e47 lookup 231",
                    "ip route flush table 231",
                    "ip -6 route flush table 231",
                ] {
                    sh(change);
                    assert_eq!(installed.verify().await.expect("verify"), Standing::Changed, "{change}");
                    installed.restore().await.expect("restore");
                    assert_eq!(installed.verify().await.expect("verify"), Standing::Intact, "{change}");
                }
            }
            // Counters that move are no change.
            sh("nft reset counters table inet namegate");
            assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
            installed.remove().await.expect("remove");
        }
    });
}

#[test]
fn everything_is_removed_twice_and_nothing_of_others() {
    if !inside("everything_is_removed_twice_and_nothing_of_others") {
        return;
    }
    sh("nft add table inet others; nft add chain inet others c; ip rule add fwmark 0x1 lookup 99
        ip rule add fwmark 0x4e47 lookup 99; ip rule add iif br-z prohibit; ip route add local 192.0.2.9 dev lo table 99");
    let state = || {
        sh(
            "nft list ruleset; ip rule show; ip -6 rule show; ip -4 route show table all; ip -6 route show table all",
        )
    };
    let before = state();
    block_on(async {
        let nft = Nft::default();
        // Dropped without a removal, as after a kill: it stays.
        drop(apply(config(&["br-a"]), Form::Tproxy).await);
        // Loading a second time adds nothing twice.
        drop(apply(config(&["br-a"]), Form::Tproxy).await);
        let after = state();
        assert_eq!(after.matches("0x4e47 lookup 231").count(), 2, "{after}");
        assert_eq!(after.matches("iif br-a").count(), 2, "{after}");
        assert_eq!(after.matches("table 231").count(), 2, "{after}");
        let first = remove_leftovers(&nft, "namegate").await.expect("remove");
        assert!(first.table && first.steering.len() == 4, "{first:?}");
        assert_eq!(state(), before);
        let second = remove_leftovers(&nft, "namegate").await.expect("remove");
        assert!(!second.table && second.steering.is_empty(), "{second:?}");

        apply(config(&["br-a"]), Form::Tproxy).await.remove().await.expect("remove");
        let redirect = apply(config(&["br-a"]), Form::Redirect).await;
        assert!(!state().contains("lookup 231"));
        redirect.remove().await.expect("remove");
        assert_eq!(state(), before);
    });
}

#[test]
fn a_host_without_ipv6_is_captured_in_ipv4() {
    if !inside("a_host_without_ipv6_is_captured_in_ipv4") {
        return;
    }
    sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6");
    block_on(async {
        let installed = apply(config(&["br-a"]), Form::Tproxy).await;
        assert_eq!(installed.verify().await.expect("verify"), Standing::Intact);
        assert!(sh("ip rule show").contains("0x4e47"));
        installed.remove().await.expect("remove");
        assert!(!sh("ip rule show; ip -6 rule show").contains("0x4e47"));
    });
}

#[test]
fn a_routing_table_of_somebody_else_is_left_alone() {
    if !inside("a_routing_table_of_somebody_else_is_left_alone") {
        return;
    }
    sh(&format!(
        "ip link add d0 type veth peer name d1; ip link set d0 up; ip route add 198.51.100.0/24 dev d0 table {ROUTE_TABLE}"
    ));
    block_on(async {
        let plan = Plan::new(config(&["br-a"]), Form::Tproxy).expect("plan");
        let error = Installed::apply(Arc::new(Nft::default()), &plan).await.expect_err("taken");
        assert!(matches!(error, NftError::RoutingTable { .. }), "{error}");
        assert!(sh(&format!("ip route show table {ROUTE_TABLE}")).contains("198.51.100.0/24"));
        assert_eq!(sh("nft list ruleset"), "");
        assert!(!sh("ip rule show; ip -6 rule show").contains("prohibit"));
    });
}

#[test]
fn without_privilege_the_error_says_so() {
    if !inside("without_privilege_the_error_says_so") {
        return;
    }
    block_on(async {
        let bare = std::env::current_exe().expect("path");
        let said = sh(&format!(
            "NAMEGATE_INSIDE= setpriv --bounding-set=-net_admin --inh-caps=-net_admin {} --exact bare_apply --ignored --nocapture",
            bare.display()
        ));
        assert!(said.contains("may not change the packet filter (CAP_NET_ADMIN)"), "{said}");
    });
}

#[test]
#[ignore = "the half of without_privilege_the_error_says_so that has none"]
fn bare_apply() {
    block_on(async {
        let facts = Facts::read(&config(&["lo"]), &Nft::default()).await.expect("facts");
        assert!(!facts.net_admin);
        for form in FORMS {
            let plan = Plan::new(config(&["br-a"]), form).expect("plan");
            let error = Installed::apply(Arc::new(Nft::default()), &plan).await.expect_err("no privilege");
            println!("{error}; {:?}", error.hint());
        }
    });
}

// ---- choosing --------------------------------------------------------------------------------------------

#[test]
fn facts_of_real_links_lead_to_the_right_form() {
    if !inside("facts_of_real_links_lead_to_the_right_form") {
        return;
    }
    world(Cable::Bridge { filtered: true });
    sh("ip link property add dev up0 altname outside");
    block_on(async {
        let nft = Nft::default();
        let decide = async |interface: &str, form: FormChoice, dns: DnsCapture| {
            let mut config = config(&[interface]);
            config.form = form;
            config.dns = dns;
            choose(&config, &Facts::read(&config, &nft).await.expect("facts"))
        };
        let forwarder = || DnsCapture::Forwarder;
        if std::path::Path::new("/proc/sys/net/bridge").exists() {
            let form = decide("br-in", FormChoice::Auto, forwarder()).await.expect("form");
            assert_eq!(form, Form::Redirect);
            let error = decide("br-in", FormChoice::Tproxy, forwarder()).await.expect_err("refused");
            let hint = error.hint().expect("hint");
            assert!(
                hint.contains("bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"),
                "{hint}"
            );
            sh(
                "echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables",
            );
        }
        assert_eq!(decide("br-in", FormChoice::Auto, forwarder()).await.expect("form"), Form::Tproxy);
        assert_eq!(decide("up0", FormChoice::Auto, forwarder()).await.expect("form"), Form::Tproxy);
        let error = decide("in0", FormChoice::Auto, forwarder()).await.expect_err("a port");
        assert!(matches!(&error, NftError::Port { controller, .. } if controller == "br-in"), "{error}");
        let error = decide("outside", FormChoice::Auto, forwarder()).await.expect_err("another name");
        assert!(matches!(&error, NftError::OtherName { real, .. } if real == "up0"), "{error}");
        let error = decide("nowhere", FormChoice::Auto, forwarder()).await.expect_err("absent");
        assert!(matches!(error, NftError::NoInterface { .. }), "{error}");
        for address in ["192.0.2.1:53", "[2001:db8:1::1]:53"] {
            decide("br-in", FormChoice::Auto, external(&[address])).await.expect("an own address");
        }
        let error =
            decide("br-in", FormChoice::Auto, external(&["192.0.2.2:53"])).await.expect_err("elsewhere");
        assert!(matches!(error, NftError::ResolverElsewhere { .. }), "{error}");
    });
}

// ---- nothing passes --------------------------------------------------------------------------------------

#[test]
fn nothing_passes_a_redirect_without_a_listener() {
    if !inside("nothing_passes_a_redirect_without_a_listener") {
        return;
    }
    world(Cable::Veth);
    let _installed = apply_now(config(&["in0"]), Form::Redirect);
    assault();
}

#[test]
fn nothing_passes_tproxy_without_a_listener() {
    if !inside("nothing_passes_tproxy_without_a_listener") {
        return;
    }
    world(Cable::Veth);
    let _installed = apply_now(config(&["in0"]), Form::Tproxy);
    assault();
}

#[test]
fn nothing_passes_a_redirect_on_a_bridge_that_shows_its_frames_to_the_ip_hooks() {
    if !inside("nothing_passes_a_redirect_on_a_bridge_that_shows_its_frames_to_the_ip_hooks") {
        return;
    }
    world(Cable::Bridge { filtered: true });
    let _installed = apply_now(config(&["br-in"]), Form::Redirect);
    assault();
}

#[test]
fn nothing_passes_tproxy_on_a_bridge() {
    if !inside("nothing_passes_tproxy_on_a_bridge") {
        return;
    }
    world(Cable::Bridge { filtered: false });
    let mut config = config(&["other0", "br-in", "other1"]);
    config.dns = external(&["192.0.2.1:53"]);
    let _installed = apply_now(config, Form::Tproxy);
    assault();
}

#[test]
fn nothing_passes_when_somebody_flushes_the_table_on_a_host_that_forwards() {
    if !inside("nothing_passes_when_somebody_flushes_the_table_on_a_host_that_forwards") {
        return;
    }
    world(Cable::Veth);
    for form in FORMS {
        let mut installed = apply_now(config(&["in0"]), form);
        sh("nft flush ruleset");
        for target in ["203.0.113.10:443", "[2001:db8:2::10]:443"] {
            assert!(call(target).1.is_some(), "{form:?} {target}");
            ask(target).expect_err(target);
        }
        assert_eq!(server_saw(), 0, "{form:?}");
        block_on(async {
            assert_eq!(installed.verify().await.expect("verify"), Standing::Missing);
            installed.restore().await.expect("restore");
        });
        connections_arrive(form);
        // Taken down in good order, the host forwards as before.
        block_on(installed.remove()).expect("remove");
        settle();
    }
}

#[test]
fn a_connection_that_was_open_before_the_rules_does_not_go_on() {
    if !inside("a_connection_that_was_open_before_the_rules_does_not_go_on") {
        return;
    }
    for form in FORMS {
        if form == Form::Redirect {
            world(Cable::Veth);
            // Somebody tracks connections, as every Docker host does.
            sh("nft add table inet others; nft add chain inet others f '{ type filter hook forward priority 10; }'
                nft add rule inet others f ct state established accept");
        } else {
            block_on(remove_leftovers(&Nft::default(), "namegate")).expect("remove");
        }
        let server = at("server", || TcpListener::bind("203.0.113.10:7777").expect("bind"));
        let mut open = at("client", || TcpStream::connect("203.0.113.10:7777").expect("connect"));
        let (accepted, _) = server.accept().expect("accept");
        let _installed = apply_now(config(&["in0"]), form);
        forget();
        let _ = open.write_all(b"more");
        open.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
        let error = open.read(&mut [0; 8]).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{form:?}");
        assert_eq!(server_saw(), 0, "{form:?}");
        drop(accepted);
    }
}

/// Tries all there is from the client's side; nothing may reach the server or a service of the gateway.
fn assault() {
    let service = [
        listener(Form::Redirect, "0.0.0.0:9999", Type::STREAM),
        listener(Form::Redirect, "[::]:9999", Type::STREAM),
    ];
    let hearing = [
        listener(Form::Redirect, "0.0.0.0:9999", Type::DGRAM),
        listener(Form::Redirect, "[::]:9999", Type::DGRAM),
    ];
    for target in [
        "203.0.113.10:443",
        "203.0.113.10:9",
        "203.0.113.10:53",
        "[2001:db8:2::10]:443",
        "[2001:db8:2::10]:53",
        "192.0.2.1:9999",
        "203.0.113.1:9999",
        "[2001:db8:1::1]:9999",
        "[2001:db8:2::1]:9999",
        &format!("192.0.2.1:{PROXY}"),
        &format!("192.0.2.1:{DNS}"),
        &format!("[2001:db8:1::1]:{PROXY}"),
    ] {
        assert_refused_at_once(target);
    }
    // QUIC and other UDP hear an ICMP refusal: administratively prohibited.
    for target in ["203.0.113.10:443", "203.0.113.10:123"] {
        assert_eq!(ask(target), Err(Some(libc::EHOSTUNREACH)), "{target}");
    }
    for target in ["[2001:db8:2::10]:443", "[2001:db8:2::10]:123"] {
        assert_eq!(ask(target), Err(Some(libc::EACCES)), "{target}");
    }
    for target in ["192.0.2.1:9999", "203.0.113.1:9999", "[2001:db8:2::1]:9999"] {
        ask(target).expect_err(target);
    }
    raw_protocols();
    fragments();
    forged_sources();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server_saw(), 0, "{}", sh("nft list table inet namegate"));
    for socket in service.iter().chain(&hearing) {
        socket.set_nonblocking(true).expect("nonblocking");
    }
    assert!(service.iter().all(|socket| socket.accept().is_err()), "a service of the gateway was reached");
    assert!(hearing.iter().all(|mut socket| socket.read(&mut [0; 8]).is_err()), "over UDP");
    // The workload can still find its gateway: neighbour discovery lives.
    assert!(sh("ip -n client -6 neigh show 2001:db8:1::1").contains("lladdr"));
}

/// Echo requests, SCTP, GRE, ESP, tunnels and nonsense.
fn raw_protocols() {
    at("client", || {
        // Type 8, code 0, checksum, identifier 0, sequence 0.
        let ping4 = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        let ping6 = [128, 0, 0, 0, 0, 0, 0, 0];
        for (target, protocol, bytes) in [
            ("203.0.113.10", 1, &ping4[..]),
            ("192.0.2.1", 1, &ping4),
            ("2001:db8:2::10", 58, &ping6),
            ("2001:db8:1::1", 58, &ping6),
            ("203.0.113.10", 132, &[0; 32]),
            ("203.0.113.10", 47, &[0; 32]),
            ("203.0.113.10", 50, &[0; 32]),
            ("203.0.113.10", 4, &[0x45; 40]),
            ("203.0.113.10", 41, &[0x60; 60]),
            ("203.0.113.10", 2, &[0x11; 8]),
            ("203.0.113.10", 253, &[1; 8]),
            // Headers cut short.
            ("203.0.113.10", 6, &[1, 187]),
            ("203.0.113.10", 17, &[0, 53, 0, 53]),
            ("2001:db8:2::10", 132, &[0; 32]),
            ("2001:db8:2::10", 47, &[0; 32]),
            ("2001:db8:2::10", 6, &[1]),
        ] {
            let target: IpAddr = target.parse().expect("address");
            let address = SocketAddr::new(target, 0);
            let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(Protocol::from(protocol)));
            let socket = socket.expect("raw socket");
            socket.send_to(bytes, &address.into()).unwrap_or_else(|e| panic!("{target} {protocol}: {e}"));
            socket.set_read_timeout(Some(Duration::from_millis(60))).expect("timeout");
            let mut heard = [0; 256];
            while let Ok(length) = (&socket).read(&mut heard) {
                // A raw IPv4 socket hears the IP header too. Type 0 and 129: echo reply.
                let reply = match protocol {
                    1 => length > 20 && heard[20] == 0,
                    58 => length > 0 && heard[0] == 129,
                    _ => false,
                };
                assert!(!reply, "{target} answered a ping");
            }
        }
    });
}

/// Datagrams larger than the link, to ports that would be let through whole.
fn fragments() {
    at("client", || {
        for target in [
            "203.0.113.10:53",
            "203.0.113.10:443",
            "192.0.2.1:53",
            "[2001:db8:2::10]:53",
            "[2001:db8:2::10]:9",
        ] {
            let target: SocketAddr = target.parse().expect("address");
            let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
            let socket = UdpSocket::bind((any, 0)).expect("bind");
            socket.send_to(&[0; 4000], target).expect("send");
        }
    });
    let early = sh("nft list chain inet namegate early");
    let dropped = |what: &str| {
        let line = early.lines().find(|line| line.contains(what)).expect("a fragment rule");
        let mut words = line.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).expect("packets").parse::<u64>().expect("number")
    };
    assert!(dropped("frag-off") >= 9, "{early}");
    assert!(dropped("exthdr frag") >= 6, "{early}");
}

/// A source address that lies behind the uplink: whatever the gateway says to it would leave the gateway.
fn forged_sources() {
    sh("ip -n client addr add 203.0.113.77/32 dev lo; ip -n client addr add 2001:db8:2::77/128 dev lo nodad");
    at("client", || {
        for (from, to) in [
            ("203.0.113.77:4000", "198.51.100.1:443"),
            ("203.0.113.77:4000", "198.51.100.1:53"),
            ("203.0.113.77:4000", "192.0.2.1:53"),
            ("[2001:db8:2::77]:4000", "[2001:db8:9::1]:443"),
            ("[2001:db8:2::77]:4000", "[2001:db8:9::1]:53"),
        ] {
            let from: SocketAddr = from.parse().expect("address");
            let to: SocketAddr = to.parse().expect("address");
            let socket = UdpSocket::bind(from).expect("bind");
            socket.send_to(b"secret", to).expect("send");
            let caller = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("socket");
            caller.bind(&from.into()).expect("bind");
            let error =
                caller.connect_timeout(&to.into(), Duration::from_millis(100)).expect_err("no answer");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{from} -> {to}");
        }
    });
}

// ---- what is captured arrives ----------------------------------------------------------------------------

#[test]
fn a_redirect_delivers_connections_and_queries() {
    if !inside("a_redirect_delivers_connections_and_queries") {
        return;
    }
    world(Cable::Veth);
    deliver("in0", Form::Redirect);
}

#[test]
fn tproxy_delivers_connections_and_queries_and_tracks_nothing() {
    if !inside("tproxy_delivers_connections_and_queries_and_tracks_nothing") {
        return;
    }
    world(Cable::Veth);
    deliver("in0", Form::Tproxy);
    assert!(!sh("nft list ruleset").contains("type nat"), "nothing is translated");
}

#[test]
fn a_redirect_delivers_from_a_bridge_that_shows_its_frames_to_the_ip_hooks() {
    if !inside("a_redirect_delivers_from_a_bridge_that_shows_its_frames_to_the_ip_hooks") {
        return;
    }
    world(Cable::Bridge { filtered: true });
    deliver("br-in", Form::Redirect);
}

#[test]
fn tproxy_delivers_from_a_bridge() {
    if !inside("tproxy_delivers_from_a_bridge") {
        return;
    }
    world(Cable::Bridge { filtered: false });
    deliver("br-in", Form::Tproxy);
}

fn deliver(interface: &str, form: Form) {
    let mut config = config(&["other0", interface]);
    config.dns_listen = vec!["192.0.2.1:5353".parse().expect("address")];
    let _installed = apply_now(config, form);
    forget();
    connections_arrive(form);
    queries_arrive(form);

    // The listeners are not for direct callers, from whichever side.
    for target in ["192.0.2.1", "203.0.113.1", "[2001:db8:1::1]", "[2001:db8:2::1]"] {
        for port in [PROXY, DNS] {
            assert_refused_at_once(&format!("{target}:{port}"));
            let address: SocketAddr = format!("{target}:{port}").parse().expect("address");
            let outside = at("server", || TcpStream::connect_timeout(&address, Duration::from_secs(2)));
            assert_eq!(outside.expect_err("outside").kind(), ErrorKind::ConnectionRefused, "{address}");
        }
    }
    // A DNS listen address on a port of its own is open, that port elsewhere is not.
    let extra = UdpSocket::bind("0.0.0.0:5353").expect("bind");
    answer_in_the_background(extra);
    assert_eq!(ask("192.0.2.1:5353").as_deref(), Ok("answer"));
    ask("203.0.113.1:5353").expect_err("another address");

    // What this host asks of a client is answered.
    for address in ["192.0.2.2:8080", "[2001:db8:1::2]:8080"] {
        let client = at("client", || TcpListener::bind(address).expect("bind"));
        let target: SocketAddr = address.parse().expect("address");
        let mut from_host = TcpStream::connect_timeout(&target, Duration::from_secs(2)).expect("connect");
        let (mut accepted, _) = client.accept().expect("accept");
        accepted.write_all(b"hello").expect("write");
        let mut heard = [0; 5];
        from_host.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
        from_host.read_exact(&mut heard).expect("read");
        assert_eq!(&heard, b"hello");
    }
    if form == Form::Tproxy {
        let tracked = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
        assert_eq!(tracked.map(|count| count.trim().to_owned()).unwrap_or_else(|_| "0".to_owned()), "0");
    }
}

fn connections_arrive(form: Form) {
    let sockets = listeners(form, PROXY, Type::STREAM);
    for (socket, target) in [
        (&sockets[0], "203.0.113.10:443"),
        (&sockets[1], "[2001:db8:2::10]:443"),
        (&sockets[0], "198.51.100.9:8443"),
    ] {
        let target: SocketAddr = target.parse().expect("address");
        let mut caller =
            at("client", || TcpStream::connect_timeout(&target, Duration::from_secs(2)).expect("captured"));
        let (accepted, peer) = socket.accept().expect("accept");
        let original = match (form, target) {
            (Form::Tproxy, _) => accepted.local_addr().expect("local"),
            (Form::Redirect, SocketAddr::V4(_)) => accepted.original_dst_v4().expect("original"),
            (Form::Redirect, SocketAddr::V6(_)) => accepted.original_dst_v6().expect("original"),
        };
        assert_eq!(plain(original), target);
        assert_eq!(plain(peer), caller.local_addr().expect("local"), "the client's own address");
        let mut accepted = TcpStream::from(accepted);
        caller.write_all(b"ping").expect("write");
        let mut heard = [0; 4];
        accepted.read_exact(&mut heard).expect("read");
        accepted.write_all(&heard).expect("write");
        caller.read_exact(&mut heard).expect("read");
        assert_eq!(&heard, b"ping");
    }
    assert_eq!(server_saw(), 0);
}

fn queries_arrive(form: Form) {
    let streams = listeners(form, DNS, Type::STREAM);
    let target: SocketAddr = "198.51.100.53:53".parse().expect("address");
    let caller =
        at("client", || TcpStream::connect_timeout(&target, Duration::from_secs(2)).expect("captured"));
    let (_, peer) = streams[0].accept().expect("accept");
    assert_eq!(plain(peer), caller.local_addr().expect("local"));

    let datagrams = listeners(form, DNS, Type::DGRAM);
    for (socket, targets) in [
        (&datagrams[0], &["198.51.100.53:53", "192.0.2.1:53", "203.0.113.1:53"][..]),
        (&datagrams[1], &["[2001:db8:9::53]:53", "[2001:db8:1::1]:53"]),
    ] {
        for target in targets {
            let socket = UdpSocket::from(socket.try_clone().expect("clone"));
            let answered = std::thread::scope(|scope| {
                scope.spawn(move || answer(&socket, form, target.parse().expect("address")));
                ask(target)
            });
            assert_eq!(answered.as_deref(), Ok("answer"), "{target}");
        }
    }
}

/// Answers one query, from the address that was asked.
fn answer(socket: &UdpSocket, form: Form, asked: SocketAddr) {
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
    let (_, peer) = socket.recv_from(&mut [0; 64]).expect("a query");
    assert_eq!(peer.ip().to_canonical(), client_of(asked), "the client's own address");
    match form {
        Form::Redirect => {
            socket.send_to(b"answer", peer).expect("send");
        }
        Form::Tproxy => {
            let reply = listener(form, &asked.to_string(), Type::DGRAM);
            reply.send_to(b"answer", &peer.into()).expect("send");
        }
    }
}

fn client_of(asked: SocketAddr) -> IpAddr {
    let client = if asked.is_ipv4() { "192.0.2.2" } else { "2001:db8:1::2" };
    client.parse().expect("address")
}

/// Answers whoever asks, until the test ends.
fn answer_in_the_background(socket: UdpSocket) {
    std::thread::spawn(move || {
        while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(b"answer", peer);
        }
    });
}

#[test]
fn an_external_resolver_is_asked_with_the_clients_own_address() {
    if !inside("an_external_resolver_is_asked_with_the_clients_own_address") {
        return;
    }
    world(Cable::Veth);
    let resolvers =
        ["192.0.2.1:53", "[2001:db8:1::1]:5300"].map(|address| UdpSocket::bind(address).expect("bind"));
    let tcp = TcpListener::bind("192.0.2.1:53").expect("bind");
    for form in FORMS {
        let mut config = config(&["in0"]);
        config.dns = external(&["192.0.2.1:53", "[2001:db8:1::1]:5300"]);
        let _installed = apply_now(config, form);
        for (resolver, targets) in [
            (&resolvers[0], &["198.51.100.53:53", "192.0.2.1:53", "203.0.113.10:53", "203.0.113.1:53"][..]),
            (&resolvers[1], &["[2001:db8:9::53]:53", "[2001:db8:1::1]:5300", "[2001:db8:1::1]:53"]),
        ] {
            for target in targets {
                let answered = std::thread::scope(|scope| {
                    scope.spawn(|| answer(resolver, Form::Redirect, target.parse().expect("address")));
                    ask(target)
                });
                assert_eq!(answered.as_deref(), Ok("answer"), "{form:?} {target}");
            }
        }
        for target in ["198.51.100.53:53", "192.0.2.1:53"] {
            assert_eq!(call(target).1, None, "{target}");
            let (_, peer) = tcp.accept().expect("accept");
            assert_eq!(peer.ip(), client_of(target.parse().expect("address")));
        }
        assert_eq!(server_saw(), 0, "{form:?}");
    }
}

#[test]
fn without_a_resolver_of_its_family_a_query_is_refused() {
    if !inside("without_a_resolver_of_its_family_a_query_is_refused") {
        return;
    }
    world(Cable::Veth);
    let _open = UdpSocket::bind("[::]:53").expect("bind");
    for form in FORMS {
        let mut config = config(&["in0"]);
        config.dns = external(&["192.0.2.1:53"]);
        let _installed = apply_now(config, form);
        assert_eq!(ask("[2001:db8:9::53]:53"), Err(Some(libc::EACCES)), "{form:?}");
        assert_refused_at_once("[2001:db8:1::1]:53");
        assert_eq!(server_saw(), 0, "{form:?}");
    }
}

#[test]
fn an_unnamed_resolver_is_the_one_at_the_captured_interface() {
    if !inside("an_unnamed_resolver_is_the_one_at_the_captured_interface") {
        return;
    }
    world(Cable::Veth);
    let resolver = UdpSocket::bind("[::]:53").expect("bind");
    for form in FORMS {
        let mut config = config(&["in0"]);
        config.dns = external(&[]);
        let _installed = apply_now(config, form);
        for target in [
            "198.51.100.53:53",
            "192.0.2.1:53",
            "203.0.113.1:53",
            "[2001:db8:9::53]:53",
            "[2001:db8:1::1]:53",
        ] {
            let answered = std::thread::scope(|scope| {
                scope.spawn(|| answer(&resolver, Form::Redirect, target.parse().expect("address")));
                ask(target)
            });
            assert_eq!(answered.as_deref(), Ok("answer"), "{form:?} {target}");
        }
    }
}
