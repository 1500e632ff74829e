//! Every recorded and every made opening of a connection, in every cut: the right name, or none.
//!
//! What the cases say is in `tests/corpus/README.md`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "corpus/cases.rs"]
mod cases;

use std::time::Duration;

use cases::{Case, Dice, Expected, Opening, Sniffer, family};
use namegate::facts::Fault;
use namegate::sys::clock::tick;
use namegate::wire::Look;
use namegate::wire::http::HeadReader;
use namegate::wire::tls::HelloReader;

const FAMILIES: [&str; 7] = ["tls-real", "tls-adv", "http1-real", "http1-adv", "h2-real", "h2-adv", "other"];

/// Cases that are refused although they name one host, with the fault.
const REFUSED: [(&str, Fault); 1] = [
    // A tunnel to another host: whatever is said in it, no gate reads.
    ("h1-curl-connect.0", Fault::RequestLine),
];

fn each_case(mut check: impl FnMut(&Case)) {
    let mut count = 0;
    for case in FAMILIES.into_iter().flat_map(family) {
        check(&case);
        count += 1;
    }
    assert_eq!(count, 633);
}

/// Feeds the bytes up to each end in turn; a result, once given, must stay.
fn feed(case: &Case, ends: impl IntoIterator<Item = usize>) -> Look<Opening> {
    let mut sniffer = Sniffer::default();
    let mut last = Look::More;
    for end in ends {
        let now = sniffer.look(&case.bytes[..end]);
        assert!(last == Look::More || last == now, "{}: {last:?}, then {now:?} at {end}", case.id);
        if let Look::Got(Opening { name: Some(name), .. }) = &now {
            assert!(end >= case.complete_at.unwrap_or(case.bytes.len()), "{}: {name} after {end}", case.id);
            assert!(!case.must_not.iter().any(|no| no == name.as_str()), "{}: {name}", case.id);
        }
        last = now;
    }
    last
}

fn whole(case: &Case) -> Look<Opening> {
    feed(case, [case.bytes.len()])
}

/// At the end of the stream, `More` is an opening that never was complete.
fn fits(result: &Look<Opening>, expected: &Expected) -> bool {
    match result {
        Look::More => expected.kind == "incomplete",
        Look::Bad(_) => expected.kind == "malformed",
        Look::Foreign => expected.kind == "none",
        Look::Got(Opening { name, tls }) => {
            let kind = if name.is_some() { "name" } else { "none" };
            let same_tls = tls.as_ref().is_none_or(|(alpn, ech)| {
                let offered = expected.alpn.iter().map(|protocol| protocol.as_bytes());
                offered.eq(alpn.iter().map(Vec::as_slice)) && *ech == (expected.ech == "present")
            });
            expected.kind == kind && expected.name.as_deref() == name.as_ref().map(|n| n.as_str()) && same_tls
        }
    }
}

/// All cuts of a small opening; of a large one those near its ends, and some between.
fn cuts(case: &Case) -> Vec<usize> {
    let len = case.bytes.len();
    if len <= 2500 {
        return (0..=len).collect();
    }
    let mut dice = Dice(len as u64);
    let end = case.complete_at.unwrap_or(len);
    let edges = (0..=200).chain(end.saturating_sub(50)..=(end + 50).min(len)).chain(len - 50..=len);
    edges.chain((0..200).map(|_| dice.below(len))).collect()
}

#[test]
fn every_case_gives_the_name_that_is_in_it() {
    let mut wrong = Vec::new();
    each_case(|case| {
        let result = feed(case, case.segment_ends());
        let refused = REFUSED.iter().any(|(id, fault)| *id == case.id && result == Look::Bad(*fault));
        let accepted = std::iter::once(&case.expected).chain(&case.also_ok);
        if !refused && !accepted.into_iter().any(|expected| fits(&result, expected)) {
            wrong.push(format!("{}: {result:?}, expected {:?}", case.id, case.expected));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_real_client_that_asks_for_a_name_gets_it_unless_it_asks_for_a_tunnel() {
    for case in ["tls-real", "http1-real", "h2-real"].into_iter().flat_map(family) {
        if case.expected.kind == "name" && !REFUSED.iter().any(|(id, _)| *id == case.id) {
            assert!(fits(&whole(&case), &case.expected), "{}: {:?}", case.id, whole(&case));
        }
    }
}

#[test]
fn no_prefix_gives_a_name_too_early_and_no_cut_in_two_changes_the_result() {
    each_case(|case| {
        let expected = whole(case);
        for cut in cuts(case) {
            assert_eq!(feed(case, [cut, case.bytes.len()]), expected, "{} cut at {cut}", case.id);
            let named = matches!(expected, Look::Got(_));
            if named && case.complete_at.is_some_and(|complete| cut >= complete) {
                assert_eq!(feed(case, [cut]), expected, "{} needs more than {cut}", case.id);
            }
        }
    });
}

#[test]
fn random_segments_change_nothing() {
    each_case(|case| {
        let expected = whole(case);
        for seed in 0..12 {
            let mut dice = Dice(seed);
            let longest = [1, 2, 7, 60, 600, 6000][dice.below(6)];
            let mut end = 0;
            let ends = std::iter::from_fn(|| {
                let more = end < case.bytes.len();
                end = (end + 1 + dice.below(longest)).min(case.bytes.len());
                more.then_some(end)
            });
            assert_eq!(feed(case, ends), expected, "{} in pieces of up to {longest}, seed {seed}", case.id);
        }
    });
}

/// Looks after every byte, and says how long that took.
fn byte_by_byte<T>(bytes: &[u8], mut look: impl FnMut(&[u8]) -> Look<T>) -> (Look<T>, Duration) {
    let start = tick();
    let mut last = Look::More;
    for end in 1..=bytes.len() {
        last = look(&bytes[..end]);
        if !matches!(last, Look::More) {
            break;
        }
    }
    (last, tick().since(start))
}

/// What one pass over any of these openings may take, in a debug build on a busy machine. Work that
/// grows with the square of the bytes takes minutes.
const LINEAR: Duration = Duration::from_secs(5);

#[test]
fn a_hello_of_64_kib_in_records_and_segments_of_one_byte_costs_no_more_than_its_bytes() {
    let mut hello = vec![1, 0, 0xff, 0xff, 3, 3];
    hello.extend([0; 33]);
    hello.extend([0, 2, 0x13, 1, 1, 0]);
    let block = 0xffff - (hello.len() - 4) - 2;
    let sni = b"\0\0\0\x10\0\x0e\0\0\x0bexample.com";
    hello.extend(u16::try_from(block).unwrap().to_be_bytes());
    hello.extend(sni);
    hello.extend([0, 21]);
    hello.extend(u16::try_from(block - sni.len() - 4).unwrap().to_be_bytes());
    hello.resize(4 + 0xffff, 0);
    let bytes: Vec<u8> = hello.iter().flat_map(|&byte| [22, 3, 1, 0, 1, byte]).collect();

    let mut reader = HelloReader::default();
    let (result, took) = byte_by_byte(&bytes, |received| reader.look(received));
    assert!(matches!(result, Look::Got(hello) if hello.name.as_ref().unwrap().as_str() == "example.com"));
    assert!(took < LINEAR, "{took:?}");
}

#[test]
fn a_head_of_64_kib_in_segments_of_one_byte_costs_no_more_than_its_bytes() {
    let start = "GET / HTTP/1.1\r\nHost: example.com\r\n";
    let shortest = "a:\r\n".repeat((HeadReader::MAX - start.len() - 2) / 4);
    let openings = [
        (format!("{start}{shortest}\r\n"), None),
        ("A".repeat(HeadReader::MAX), Some(Fault::TooBig)),
        (format!("GET /{}", "HTTP/".repeat(HeadReader::MAX / 5)), Some(Fault::TooBig)),
        (format!("{start}X: {}", "y".repeat(HeadReader::MAX)), Some(Fault::TooBig)),
    ];
    for (text, fault) in openings {
        let mut reader = HeadReader::default();
        let (result, took) = byte_by_byte(text.as_bytes(), |received| reader.look(received));
        match fault {
            None => assert!(matches!(result, Look::Got(_)), "{result:?}"),
            Some(fault) => assert_eq!(result, Look::Bad(fault)),
        }
        assert!(took < LINEAR, "{took:?}");
    }
}
