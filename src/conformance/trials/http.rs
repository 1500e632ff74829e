//! Requests for names that come later, twice, or between the lines.

use super::super::craft;
use super::super::map::{ATTACKER, GOOD, OTHER, SHARED};
use super::super::trial::{Trial, Verdict, bytes, exchange};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = later();
    trials.extend(ambiguous());
    trials.push(
        Trial::attack(32, "http-forged-host", "an allowed name, in clear, at the attacker's address")
            .knowing(GOOD)
            .act(bytes(ATTACKER, 80, craft::get(GOOD)))
            .judged(Verdict::NotAt(ATTACKER)),
    );
    trials
}

/// A request for a denied name, with the trial's name as its path: that is what must not arrive.
fn denied(trial: &str) -> String {
    format!("GET /{trial} HTTP/1.1\r\nHost: {OTHER}\r\n\r\n")
}

fn allowed(more: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {GOOD}\r\n{more}\r\n")
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: bmFtZWdhdGUgbmFtZWdhdGU=\r\n";
const H2C: &str =
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";

fn later() -> Vec<Trial> {
    let attack = |number, name: &'static str, tried, first: String| {
        let order = exchange(SHARED, 80, vec![first.into_bytes(), denied(name).into_bytes()]);
        Trial::attack(number, name, tried).knowing(GOOD).act(order).unseen()
    };
    let at_once = |number, name: &'static str, tried, first: String| {
        Trial::attack(number, name, tried)
            .knowing(GOOD)
            .act(bytes(SHARED, 80, first + &denied(name)))
            .unseen()
    };
    let expecting =
        format!("POST / HTTP/1.1\r\nHost: {GOOD}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let continued = format!("hello{}", denied("host-swap-after-continue"));
    let connect = format!("CONNECT {GOOD}:80 HTTP/1.1\r\nHost: {GOOD}\r\n\r\n");
    vec![
        attack(29, "host-swap-keep-alive", "another name in the second request", allowed("")),
        at_once(29, "host-swap-pipelined", "another name in a request sent along", allowed("")),
        Trial::attack(29, "host-swap-after-continue", "another name after 100 Continue and a body")
            .knowing(GOOD)
            .act(exchange(SHARED, 80, vec![expecting.into_bytes(), continued.into_bytes()]))
            .unseen(),
        attack(31, "connect", "CONNECT, and a request for another name", connect),
        at_once(31, "upgrade-early", "another name before the server agreed to an upgrade", allowed(UPGRADE)),
        at_once(31, "h2c-upgrade", "an upgrade to HTTP/2, and another name behind it", allowed(H2C)),
        Trial::attack(31, "h2-prior-knowledge-denied", "another name over HTTP/2 with prior knowledge")
            .knowing(GOOD)
            .act(bytes(SHARED, 80, craft::h2(OTHER))),
    ]
}

fn ambiguous() -> Vec<Trial> {
    let smuggled = |name: &'static str, tried, framing: &str| {
        let body = denied(name);
        let head = format!("POST / HTTP/1.1\r\nHost: {GOOD}\r\n{framing}\r\n");
        Trial::attack(31, name, tried).knowing(GOOD).act(bytes(SHARED, 80, head + &body)).unseen()
    };
    let doubtful = |name: &'static str, tried, request: String| {
        Trial::attack(30, name, tried).knowing(GOOD).act(bytes(SHARED, 80, request))
    };
    let length = denied("smuggling-cl-te").len() + 5;
    let clte = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
    let spaced = format!("Content-Length: {length}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n");
    vec![
        smuggled("smuggling-cl-te", "a request hidden behind a length and chunks", &clte),
        smuggled(
            "smuggling-two-lengths",
            "a request hidden behind two lengths",
            "Content-Length: 0\r\nContent-Length: 44\r\n",
        ),
        smuggled("smuggling-te-space", "a request hidden behind a space before a colon", &spaced),
        smuggled(
            "smuggling-te-odd",
            "a request hidden behind a coding nobody knows",
            "Content-Length: 80\r\nTransfer-Encoding: xchunked\r\n",
        ),
        doubtful(
            "absolute-form",
            "another name in the request line",
            format!("GET http://{OTHER}/ HTTP/1.1\r\nHost: {GOOD}\r\n\r\n"),
        ),
        doubtful(
            "two-hosts",
            "two hosts, the denied one last",
            format!("GET / HTTP/1.1\r\nHost: {GOOD}\r\nHost: {OTHER}\r\n\r\n"),
        ),
        doubtful(
            "two-hosts-denied-first",
            "two hosts, the denied one first",
            format!("GET / HTTP/1.1\r\nHost: {OTHER}\r\nHost: {GOOD}\r\n\r\n"),
        ),
        doubtful(
            "obs-fold",
            "a host that goes on in the next line",
            format!("GET / HTTP/1.1\r\nHost: {GOOD}\r\n .attacker.test\r\n\r\n"),
        ),
        doubtful(
            "space-before-colon",
            "a second host with a space before its colon",
            format!("GET / HTTP/1.1\r\nHost: {GOOD}\r\nHost : {OTHER}\r\n\r\n"),
        ),
        doubtful("no-host", "HTTP/1.0 without a host", "GET / HTTP/1.0\r\n\r\n".to_owned()),
        doubtful(
            "bare-lf",
            "lines that end without a carriage return",
            format!("GET / HTTP/1.1\nHost: {OTHER}\nX: y\r\nHost: {GOOD}\r\n\r\n"),
        ),
    ]
}
