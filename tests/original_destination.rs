//! The kernel tells where a captured connection wanted to go, in every form of capture and both families.
//!
//! Runs itself again in a user and network namespace of its own; needs `unshare`, `ip` and `nft`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use namegate::sys::origdst::{Capture, original_destination};
use namegate::sys::socket::{listen_everywhere, listen_transparent};

const INSIDE: &str = "NAMEGATE_TEST_INSIDE";

fn run(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}

/// Dials, accepts, and asks the kernel.
fn asked(listener: &TcpListener, dialled: SocketAddr, capture: Capture) -> SocketAddr {
    listener.set_nonblocking(false).unwrap();
    let _client = TcpStream::connect(dialled).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    original_destination(&accepted, capture).unwrap()
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(namegate::facts::canonical(address.ip()), address.port())
}

#[test]
fn the_original_destination_of_a_captured_connection_is_what_the_client_dialled() {
    if std::env::var_os(INSIDE).is_none() {
        let this = std::env::current_exe().unwrap();
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "--"]);
        if !unshare.arg("true").status().is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "no user namespaces here");
            eprintln!("SKIPPED: this machine gives no user and network namespace");
            return;
        }
        let inside = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .arg(this)
            .env(INSIDE, "1")
            .status()
            .unwrap();
        assert!(inside.success());
        return;
    }
    let redirected = listen_everywhere(15001).unwrap();
    let rules = "add table inet t\nadd chain inet t out { type nat hook output priority -100; }\n\
                 add rule inet t out tcp dport 443 redirect to :15001\n";
    let rules_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules_file.path(), rules).unwrap();
    run("ip link set lo up");
    run("ip route add local 203.0.113.0/24 dev lo");
    run("ip -6 route add local 2001:db8:1::/48 dev lo");
    run(&format!("nft -f {}", rules_file.path().display()));

    for dialled in ["203.0.113.10:443", "[2001:db8:1::10]:443"] {
        let dialled = dialled.parse().unwrap();
        assert_eq!(plain(asked(&redirected, dialled, Capture::Redirected)), dialled);
    }
    // Nobody redirected these: the listener itself was dialled.
    for dialled in ["127.0.0.1:15001", "[::1]:15001"] {
        let dialled = dialled.parse().unwrap();
        assert_eq!(plain(asked(&redirected, dialled, Capture::Redirected)), dialled);
    }
    for (bind, dialled) in [("0.0.0.0:80", "203.0.113.11:80"), ("[::]:80", "[2001:db8:1::11]:80")] {
        let transparent = listen_transparent(bind.parse().unwrap()).unwrap();
        let dialled = dialled.parse().unwrap();
        assert_eq!(asked(&transparent, dialled, Capture::Transparent), dialled);
    }
}
