//! Ports of a bridge that are pinned, in a real kernel: who sends with another's address gets nothing, neither by
//! packets nor by claims, and who sends with his own is not hindered.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "tests wait in real time, in threads of their own")]

#[path = "common/namespace.rs"]
mod namespace;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use namegate::nft::{Binding, Installed, Nft, Pins, Standing, remove_leftovers};
use namegate::sys::ports;
use namespace::{at, inside, netns, sh};

/// Attacker 10.9.0.2 on "va", victim 10.9.0.3 on "vv", a newcomer 10.9.0.4 on "vn"; the gate 10.9.0.1 on the bridge.
const MEMBERS: [(&str, &str, u8); 3] = [("attacker", "va", 2), ("victim", "vv", 3), ("newcomer", "vn", 4)];

fn world() {
    sh("ip link add br-egress type bridge; ip addr add 10.9.0.1/24 dev br-egress
        ip addr add 2001:db8:9::1/64 dev br-egress nodad; ip link set br-egress up
        for f in ip ip6; do [ ! -e /proc/sys/net/bridge ] || echo 0 > /proc/sys/net/bridge/bridge-nf-call-${f}tables; done");
    for (name, port, last) in MEMBERS {
        netns(name);
        sh(&format!(
            "ip link add {port} type veth peer name eth0 netns {name} address 02:42:0a:09:00:0{last}
             ip link set {port} master br-egress; ip link set {port} up
             ip -n {name} addr add 10.9.0.{last}/24 dev eth0
             ip -n {name} addr add 2001:db8:9::{last}/64 dev eth0 nodad; ip -n {name} link set eth0 up"
        ));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    for name in ["attacker", "victim", "newcomer"] {
        for target in ["10.9.0.1", "2001:db8:9::1"] {
            while !reaches(name, target) {
                assert!(
                    Instant::now() < deadline,
                    "the world without pins does not let {name} reach {target}"
                );
            }
        }
    }
}

fn binding(last: u8) -> Binding {
    let port = MEMBERS.iter().find(|member| member.2 == last).expect("a member").1;
    let addresses = [format!("10.9.0.{last}"), format!("2001:db8:9::{last}")];
    let addresses = addresses.iter().map(|text| text.parse().expect("address")).collect();
    Binding { port: port.to_owned(), mac: [2, 0x42, 10, 9, 0, last], addresses }
}

fn pins() -> Pins {
    Pins {
        members: block_on(ports::of_bridge("br-egress")).expect("ports"),
        bindings: vec![binding(2), binding(3)],
        table: "namegate".to_owned(),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

fn install() -> Installed {
    let ruleset = pins().ruleset().expect("ruleset");
    let installed =
        block_on(Installed::load(Arc::new(Nft::default()), ruleset)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(block_on(installed.verify()).expect("verify"), Standing::Intact);
    installed
}

/// Asks a closed port of the gate or a neighbour: refused means that packets go both ways.
fn reaches(from: &str, target: &str) -> bool {
    let target = SocketAddr::new(target.parse().expect("address"), 9);
    at(from, move || {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("bind");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
        socket.connect(target).expect("connect");
        let _ = socket.send(b"x");
        socket.recv(&mut [0; 8]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// Sends a frame from a member's link.
fn send(from: &str, frame: &str) {
    sh(&format!(
        "nsenter --net=/run/netns/{from} python3 -c 'import socket; s = socket.socket(socket.AF_PACKET, \
         socket.SOCK_RAW); s.bind((\"eth0\", 0)); s.send(bytes.fromhex(\"{}\"))'",
        frame.replace(' ', "")
    ));
}

fn mac(last: u8) -> String {
    format!("02420a0900{last:02x}")
}

/// A UDP datagram to the gate's port 7777; IPv4's checksum of UDP may be left out.
fn datagram(mac_of: u8, last: u8) -> String {
    let gate =
        sh("ip -brief link show br-egress").split_whitespace().nth(2).expect("address").replace(':', "");
    let mut head = [0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, last, 10, 9, 0, 1u8];
    let sum: u32 = head.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    [head[10], head[11]] = sum.to_be_bytes();
    let head: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{gate} {} 0800 {head} 9c40 1e61 000c 0000 61626364", mac(mac_of))
}

/// A reply of ARP (RFC 826): `claimed` is at the link-layer address of `at`.
fn arp(mac_of: u8, at: u8, claimed: u8) -> String {
    format!(
        "ffffffffffff {} 0806 0001 0800 06 04 0002 {} 0a0900{claimed:02x} ffffffffffff 0a090001",
        mac(mac_of),
        mac(at)
    )
}

/// A neighbour advertisement (RFC 4861 section 4.4) to all nodes: `claimed` is at the link-layer address of `mac_of`.
fn advertisement(mac_of: u8, source: u8, claimed: u8) -> String {
    let address = |last: u8| [0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address(claimed));
    message.extend([2, 1, 2, 0x42, 10, 9, 0, mac_of]);
    let mut pseudo: Vec<u8> = [&address(source)[..], &all, &[0, 0, 0, 32, 0, 0, 0, 58], &message].concat();
    if pseudo.len() % 2 == 1 {
        pseudo.push(0);
    }
    let mut sum: u32 = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    [message[2], message[3]] = (!(sum as u16)).to_be_bytes();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!(
        "333300000001 {} 86dd 60000000 0020 3a ff {} {} {}",
        mac(mac_of),
        hex(&address(source)),
        hex(&all),
        hex(&message)
    )
}

/// What the gate believes of an address.
fn believed(address: &str) -> String {
    sh(&format!("ip neigh show {address} dev br-egress"))
}

#[test]
fn who_sends_with_anothers_address_gets_nothing() {
    if !inside("who_sends_with_anothers_address_gets_nothing") {
        return;
    }
    world();
    let service = UdpSocket::bind("10.9.0.1:7777").expect("bind");
    service.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
    let heard = || service.recv_from(&mut [0; 64]).map(|(_, peer)| peer.ip().to_string()).ok();
    // Without pins both come.
    send("attacker", &datagram(2, 3));
    assert_eq!(heard().as_deref(), Some("10.9.0.3"), "the forgery is a good one");
    send("attacker", &datagram(3, 3));
    assert_eq!(heard().as_deref(), Some("10.9.0.3"));
    send("victim", &datagram(3, 3));
    heard();

    let _installed = install();
    for (what, frame) in [
        ("the address", datagram(2, 3)),
        ("address and link-layer address", datagram(3, 3)),
        ("the link-layer address alone", datagram(3, 2)),
        ("an address of nobody", datagram(2, 77)),
    ] {
        send("attacker", &frame);
        assert_eq!(heard(), None, "{what}");
    }
    for frame in [datagram(4, 3), datagram(3, 4), datagram(3, 3)] {
        send("newcomer", &frame);
        assert_eq!(heard(), None, "of a port of which nothing is known");
    }
    for (name, last) in [("attacker", 2), ("victim", 3), ("newcomer", 4)] {
        send(name, &datagram(last, last));
        assert_eq!(heard(), Some(format!("10.9.0.{last}")), "{name} with his own");
    }
    // A forged link-layer address was not learnt by the bridge: the victim's packets go to the victim.
    assert!(reaches("newcomer", "10.9.0.3"));
}

#[test]
fn who_claims_anothers_address_is_not_believed() {
    if !inside("who_claims_anothers_address_is_not_believed") {
        return;
    }
    world();
    sh("sysctl -qw net.ipv4.conf.all.arp_accept=1 net.ipv4.conf.br-egress.arp_accept=1");
    let settled = || {
        sh("ip neigh flush dev br-egress");
        assert!(reaches("victim", "10.9.0.1") && reaches("victim", "2001:db8:9::1"));
        assert!(believed("10.9.0.3").contains("0a:09:00:03"), "{}", believed("10.9.0.3"));
        assert!(believed("2001:db8:9::3").contains("0a:09:00:03"), "{}", believed("2001:db8:9::3"));
    };
    // The kernel does not believe a second claim within a second of the last (`locktime`).
    let pause = || std::thread::sleep(Duration::from_millis(1200));
    settled();
    pause();
    send("attacker", &arp(2, 2, 3));
    send("attacker", &advertisement(2, 2, 3));
    assert!(
        believed("10.9.0.3").contains("0a:09:00:02"),
        "the forgery is a good one: {}",
        believed("10.9.0.3")
    );
    assert!(believed("2001:db8:9::3").contains("0a:09:00:02"), "{}", believed("2001:db8:9::3"));

    let _installed = install();
    settled();
    pause();
    for (from, mac_of) in [("attacker", 2), ("newcomer", 4)] {
        for frame in [
            arp(mac_of, mac_of, 3),
            arp(3, mac_of, 3),
            arp(mac_of, 3, 3),
            advertisement(mac_of, mac_of, 3),
            advertisement(mac_of, 3, 3),
            advertisement(3, 3, 3),
        ] {
            send(from, &frame);
        }
    }
    assert!(believed("10.9.0.3").contains("0a:09:00:03"), "{}", believed("10.9.0.3"));
    assert!(believed("2001:db8:9::3").contains("0a:09:00:03"), "{}", believed("2001:db8:9::3"));
    // Everybody still finds everybody: ARP and neighbour discovery live, also from a link-local address.
    for name in ["attacker", "victim", "newcomer"] {
        sh(&format!("ip -n {name} neigh flush dev eth0"));
        for target in ["10.9.0.1", "2001:db8:9::1", "10.9.0.3", "2001:db8:9::3"] {
            assert!(reaches(name, target), "{name} {target}");
        }
    }
    // An address that a newcomer takes by the book (RFC 4862) is his, and a bound one is not.
    sh(
        "ip -n newcomer addr add 2001:db8:9::44/64 dev eth0; ip -n newcomer addr add 2001:db8:9::3/64 dev eth0; sleep 2.5",
    );
    let addresses = sh("ip -n newcomer -6 addr show dev eth0");
    assert!(!addresses.contains("::44/64 scope global tentative"), "{addresses}");
    assert!(believed("2001:db8:9::3").contains("0a:09:00:03"), "{}", believed("2001:db8:9::3"));
}

#[test]
fn pins_are_replaced_and_removed_whole_and_other_bridges_left_alone() {
    if !inside("pins_are_replaced_and_removed_whole_and_other_bridges_left_alone") {
        return;
    }
    world();
    let mut installed = install();
    let mut fewer = pins();
    fewer.bindings.truncate(1);
    block_on(installed.exchange(fewer.ruleset().expect("ruleset"))).expect("replaced");
    assert_eq!(block_on(installed.verify()).expect("verify"), Standing::Intact);
    // A port of another bridge may have the same addresses.
    let elsewhere = Pins { members: vec!["other".to_owned()], bindings: vec![binding(2)], ..pins() };
    block_on(installed.exchange(elsewhere.ruleset().expect("ruleset"))).expect("replaced");
    sh("ip -n attacker addr del 10.9.0.2/24 dev eth0; ip -n victim addr del 10.9.0.3/24 dev eth0
        ip -n victim addr add 10.9.0.2/24 dev eth0; ip neigh flush dev br-egress");
    assert!(reaches("victim", "10.9.0.1"), "not a bridge of ours");
    for change in ["nft flush table bridge namegate", "nft delete table bridge namegate"] {
        sh(change);
        assert_ne!(block_on(installed.verify()).expect("verify"), Standing::Intact, "{change}");
        block_on(installed.restore()).expect("restored");
        assert_eq!(block_on(installed.verify()).expect("verify"), Standing::Intact);
    }
    block_on(async {
        let first = remove_leftovers(&Nft::default(), "namegate").await.expect("removed");
        assert!(first.pins && !first.table);
        assert!(!remove_leftovers(&Nft::default(), "namegate").await.expect("removed").pins);
    });
    assert_eq!(sh("nft list ruleset"), "");
}

#[test]
fn a_port_is_found_by_the_process_behind_it_and_can_be_kept_apart() {
    if !inside("a_port_is_found_by_the_process_behind_it_and_can_be_kept_apart") {
        return;
    }
    world();
    let mut sleeper = std::process::Command::new("nsenter")
        .args(["--net=/run/netns/victim", "sleep", "60"])
        .spawn()
        .expect("a process");
    let found = || block_on(ports::of_process(sleeper.id(), "br-egress")).expect("answer");
    let deadline = Instant::now() + Duration::from_secs(5);
    while found() != ["vv"] {
        assert!(Instant::now() < deadline, "{:?}", found());
    }
    sh("ip link add br-other type bridge");
    assert_eq!(block_on(ports::of_process(sleeper.id(), "br-other")).expect("answer"), Vec::<String>::new());
    sleeper.kill().expect("ended");
    sleeper.wait().expect("ended");

    assert!(reaches("attacker", "10.9.0.3"));
    for port in ["va", "vv"] {
        block_on(ports::isolate(port, true)).expect("isolated");
    }
    assert!(!reaches("attacker", "10.9.0.3"), "kept apart");
    assert!(reaches("attacker", "10.9.0.1") && reaches("newcomer", "10.9.0.3"));
    block_on(ports::isolate("va", false)).expect("no longer");
    assert!(reaches("attacker", "10.9.0.3"));
}
