//! Hellos that hide their name, or have none, or two.

use std::net::SocketAddr;

use super::super::craft::{Hello, SSL_REQUEST, recut};
use super::super::map::{AT_DATABASE, AT_RETRYING, DATABASE, GOOD, LOOKALIKES, OTHER, RETRYING, SHARED};
use super::super::order::{Order, Part, Tcp, Tls};
use super::super::trial::{Trial, Verdict, bytes, exchange, https, tls};

/// What a database is asked for.
const SWAPPED: &str = "database.example.net";
/// What the second hello says.
const SECOND: &str = "second-hello.example.net";

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = cut();
    trials.extend(named());
    let database = Tls {
        to: Some(SocketAddr::new(AT_DATABASE, 5432)),
        before: SSL_REQUEST.to_vec(),
        ..tls(AT_DATABASE, SWAPPED)
    };
    trials.extend([
        Trial::attack(46, "postgres-swap", "PostgreSQL that says hello to another name")
            .knowing(DATABASE)
            .act(Order::Tls(database))
            .judged(Verdict::Unseen(SWAPPED.into())),
        Trial::attack(23, "ech-real", "a hello with another one encrypted inside")
            .knowing(GOOD)
            .act(hello(&Hello::of(GOOD).encrypted())),
        Trial::attack(25, "hrr-swap", "a second hello, after a retry, for another name")
            .knowing(RETRYING)
            .act(exchange(AT_RETRYING, 443, vec![Hello::of(RETRYING).records(), Hello::of(SECOND).records()]))
            .judged(Verdict::Unseen(SECOND.into())),
        Trial::attack(27, "non-tls-on-443", "another protocol on port 443").knowing(GOOD).act(bytes(
            SHARED,
            443,
            "SSH-2.0-conformance\r\n",
        )),
    ]);
    trials
}

fn cut() -> Vec<Trial> {
    let other = || tls(SHARED, OTHER);
    let fetch = |name, tried, order| Trial::attack(19, name, tried).knowing(GOOD).act(Order::Tls(order));
    let first = Hello::of(GOOD).records();
    let slow = Hello::of(OTHER).records();
    let (begin, rest) = slow.split_at(20);
    let part = |bytes: &[u8], pause| Part { bytes: bytes.to_vec(), pause, hear: false };
    let slow = Order::Tcp(Tcp {
        to: Some(SocketAddr::new(SHARED, 443)),
        // Longer than filters wait for a hello.
        parts: vec![part(begin, 0), part(rest, 6000)],
        ..Tcp::default()
    });
    vec![
        fetch("segment-split", "a denied name in TCP segments of ten bytes", Tls { segment: 10, ..other() }),
        fetch("record-split", "a denied name in TLS records of 30 bytes", Tls { record: 30, ..other() }),
        fetch(
            "record-bytes",
            "a denied name in TLS records of one byte",
            Tls { record: 1, segment: 6, ..other() },
        ),
        Trial::attack(
            19,
            "empty-record",
            "an allowed hello behind an empty record, a denied one behind that",
        )
        .knowing(GOOD)
        .act(bytes(
            SHARED,
            443,
            [&[22, 3, 1, 0, 0][..], &first, &recut(&Hello::of(OTHER).records(), 9)].concat(),
        )),
        Trial::attack(20, "big-hello", "a denied name behind 90 KiB")
            .knowing(GOOD)
            .act(hello(&Hello::of(OTHER).behind(60_000, 16_000))),
        Trial::attack(21, "slow-hello", "a denied name after six seconds").knowing(GOOD).act(slow),
    ]
}

fn named() -> Vec<Trial> {
    let try_hello =
        |name, tried, wanted: Hello| Trial::attack(22, name, tried).knowing(GOOD).act(hello(&wanted));
    let long = format!("{}good.example.com", "a.".repeat(140));
    let (beside, behind) = LOOKALIKES.into();
    let alike =
        |name, tried, claimed| Trial::attack(36, name, tried).knowing(GOOD).act(https(SHARED, claimed));
    vec![
        try_hello("no-sni", "no name at an allowed name's address", Hello::default()),
        try_hello("ip-sni", "an address as the name", Hello::of(SHARED.to_string())),
        try_hello("two-names", "two names in one list, the denied one last", Hello::of(GOOD).beside(OTHER)),
        try_hello(
            "two-names-denied-first",
            "two names in one list, the denied one first",
            Hello::of(OTHER).beside(GOOD),
        ),
        try_hello("two-extensions", "two lists of names, the denied one last", Hello::of(GOOD).and(OTHER)),
        try_hello(
            "two-extensions-denied-first",
            "two lists of names, the denied one first",
            Hello::of(OTHER).and(GOOD),
        ),
        try_hello(
            "nul-in-name",
            "an allowed name, a zero byte, and more",
            Hello::of(format!("{GOOD}\0.attacker.test")),
        ),
        try_hello("long-name", "a name of 296 bytes that ends like an allowed one", Hello::of(long)),
        alike("suffix-alike", "a name that ends with an allowed one's letters", beside),
        alike("prefix-alike", "a name that begins with an allowed one", behind),
    ]
}

fn hello(hello: &Hello) -> Order {
    bytes(SHARED, 443, hello.records())
}
