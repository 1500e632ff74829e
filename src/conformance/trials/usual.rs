//! Ordinary use of what is allowed.

use std::net::SocketAddr;

use super::super::craft;
use super::super::map::{
    AAAA_RECORD, ALIAS, ALSO, AT_ALIAS, AT_ALSO, AT_DATABASE, AT_MAIL, AT_RETRYING, AT_SHORT, DATABASE, GOOD,
    HINTED, HTTPS_RECORD, MAIL, RETRYING, ROTATING, SHARED, SHARED6, SHORT,
};
use super::super::order::{Order, Part, Tcp, Tls};
use super::super::trial::{Step, Trial, Verdict, Who, ask, bytes, exchange, http, https, tls};

/// Longer than an answer for [`SHORT`] is good, with whatever grace: milliseconds.
const PAST_ITS_TIME: u64 = 3000;

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = secured();
    trials.extend(clear());
    trials.extend(others());
    trials
}

fn secured() -> Vec<Trial> {
    let good = || tls(SHARED, GOOD);
    let usual =
        |name, tried, order| Trial::usual(name, tried, (SHARED, GOOD)).knowing(GOOD).act(Order::Tls(order));
    vec![
        usual("tls", "a page over TLS", good()),
        usual(
            "tls-keep-alive",
            "three pages over one TLS connection",
            Tls { requests: vec![0; 3], ..good() },
        )
        .times(3),
        usual("tls-segments", "a hello in TCP segments of 100 bytes", Tls { segment: 100, ..good() }),
        usual("tls-records", "a hello in TLS records of 50 bytes", Tls { record: 50, ..good() }),
        usual("tls-bytes", "a hello in TLS records of one byte", Tls { record: 1, segment: 6, ..good() }),
        usual(
            "tls-post-quantum",
            "a hello of 2 KiB, as post-quantum keys make it",
            Tls { padding: 1800, ..good() },
        ),
        usual("tls-large", "a hello of 12 KiB", Tls { padding: 12_000, ..good() }),
        usual("tls-idle", "a page after three idle seconds", Tls { requests: vec![0, 3000], ..good() })
            .times(2),
        Trial::usual("tls-ipv6", "a page over TLS and IPv6", (SHARED6, GOOD))
            .step(Step::LookUp(Who::A, GOOD, AAAA_RECORD))
            .act(https(SHARED6, GOOD))
            .judged(Verdict::Heard(format!("to {GOOD}"), 1)),
        Trial::usual("tls-retry", "a server that wants another key share", (AT_RETRYING, RETRYING))
            .knowing(RETRYING)
            .act(https(AT_RETRYING, RETRYING)),
        Trial::usual("cname", "a name that is an alias", (AT_ALIAS, ALIAS))
            .knowing(ALIAS)
            .act(https(AT_ALIAS, ALIAS)),
        Trial::usual("long-flow", "a connection that lives longer than its answer", (AT_SHORT, SHORT))
            .knowing(SHORT)
            .act(Order::Tls(Tls { requests: vec![0, PAST_ITS_TIME], ..tls(AT_SHORT, SHORT) }))
            .times(2),
    ]
}

fn clear() -> Vec<Trial> {
    let usual = |name, tried| Trial::usual(name, tried, (AT_ALSO, ALSO)).knowing(ALSO);
    let post = |head: &str| format!("POST / HTTP/1.1\r\nHost: {ALSO}\r\n{head}\r\n\r\n");
    let whole = post("Content-Length: 5") + "hello";
    let chunked = post("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n";
    let expecting = post("Content-Length: 5\r\nExpect: 100-continue").into_bytes();
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {ALSO}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bmFtZWdhdGUgbmFtZWdhdGU=\r\n\r\n"
    );
    vec![
        usual("http", "a page in clear").act(http(AT_ALSO, &[ALSO])),
        usual("http-keep-alive", "three pages over one connection in clear")
            .act(http(AT_ALSO, &[ALSO, ALSO, ALSO]))
            .times(3),
        usual("http-pipelined", "two requests at once")
            .act(bytes(AT_ALSO, 80, craft::get(ALSO).repeat(2)))
            .times(2),
        usual("http-body", "a request with a body, and one after it")
            .act(exchange(AT_ALSO, 80, vec![whole.into_bytes(), craft::get(ALSO)]))
            .times(2),
        usual("http-chunked", "a request with a body in chunks, and one after it")
            .act(exchange(AT_ALSO, 80, vec![chunked.into_bytes(), craft::get(ALSO)]))
            .times(2),
        usual("http-continue", "a body that waits for 100 Continue").act(exchange(
            AT_ALSO,
            80,
            vec![expecting, b"hello".to_vec()],
        )),
        usual("websocket", "an upgrade to WebSocket, and a frame after it")
            .act(exchange(AT_ALSO, 80, vec![upgrade.into_bytes(), b"\x81\x05hello".to_vec()]))
            .judged(Verdict::Heard("hello from ".to_owned(), 1)),
        usual("h2-prior-knowledge", "a page over HTTP/2 with prior knowledge, in clear")
            .act(bytes(AT_ALSO, 80, craft::h2(ALSO)))
            .judged(Verdict::Heard(format!("hello from {AT_ALSO}"), 1)),
    ]
}

fn others() -> Vec<Trial> {
    let database = Tls {
        to: Some(SocketAddr::new(AT_DATABASE, 5432)),
        before: craft::SSL_REQUEST.to_vec(),
        ..tls(AT_DATABASE, DATABASE)
    };
    let mail = Tcp {
        to: Some(SocketAddr::new(AT_MAIL, 25)),
        parts: vec![Part::default()],
        pages: 1,
        ..Tcp::default()
    };
    vec![
        Trial::usual("rotation", "every address of the last two answers", (SHARED, ROTATING))
            .knowing(ROTATING)
            .knowing(ROTATING)
            .step(Step::DialGiven(ROTATING))
            .judged(Verdict::Heard(format!("to {ROTATING}"), 0)),
        Trial::usual("hint", "the address that an HTTPS record hints at, if it is given", (SHARED, HINTED))
            .act(ask(HINTED, HTTPS_RECORD))
            .step(Step::DialHint(HINTED))
            .judged(Verdict::Heard(format!("to {HINTED}"), 1)),
        Trial::usual("postgres", "PostgreSQL, which asks before it says hello", (AT_DATABASE, DATABASE))
            .knowing(DATABASE)
            .act(Order::Tls(database)),
        Trial::usual("server-first", "a mail server, which speaks first", (AT_MAIL, MAIL))
            .knowing(MAIL)
            .act(Order::Tcp(mail))
            .judged(Verdict::Heard(format!("220 hello from {AT_MAIL}"), 1)),
    ]
}
