//! Other people's parsers over the corpus and thousands of its mutations: where both give a name it is
//! the same name, and what they take for their protocol we never call foreign.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "corpus/cases.rs"]
#[allow(dead_code, reason = "names and segments are the corpus test's matter")]
mod cases;

use std::collections::HashSet;

use cases::{Dice, family};
use namegate::facts::Name;
use namegate::wire::Look;
use namegate::wire::http::{Head, HeadReader};
use namegate::wire::tls::HelloReader;
use rustls::server::Acceptor;

/// Distinct openings of these families.
fn openings(families: [&str; 2]) -> Vec<Vec<u8>> {
    let mut seen = HashSet::new();
    let cases = families.into_iter().flat_map(family);
    cases.map(|case| case.bytes).filter(|bytes| bytes.len() < 20_000 && seen.insert(bytes.clone())).collect()
}

/// One to three small changes: a byte replaced, put in or taken out, or a piece doubled.
fn mutate(bytes: &[u8], dice: &mut Dice, favourites: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(3) {
        // Half of the changes are near the start, where the lengths and the names are.
        let reach = if dice.below(2) == 0 { bytes.len() } else { bytes.len().min(160) };
        let at = dice.below(reach);
        let byte =
            if dice.below(3) == 0 { dice.below(256) as u8 } else { favourites[dice.below(favourites.len())] };
        match dice.below(8) {
            0 => bytes.insert(at, byte),
            1 if !bytes.is_empty() => _ = bytes.remove(at),
            2 => {
                let end = (at + 1 + dice.below(40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(1),
            4 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_sub(1),
            _ if !bytes.is_empty() => bytes[at] = byte,
            _ => {}
        }
    }
    bytes
}

/// Returns the name that rustls would serve, `None` inside where it accepts a hello without one.
fn rustls_view(bytes: &[u8]) -> Option<Option<Name>> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    loop {
        if acceptor.read_tls(&mut rest).ok()? == 0 {
            return None;
        }
        if let Some(accepted) = acceptor.accept().ok()? {
            return Some(accepted.client_hello().server_name().map(|name| Name::parse(name).unwrap()));
        }
    }
}

#[test]
fn rustls_never_sees_another_name_than_we_do() {
    let (mut agreed, mut stricter) = (0, 0);
    let mut compare = |bytes: &[u8]| {
        let ours = HelloReader::default().look(bytes);
        let shown = || bytes.escape_ascii().to_string();
        match (rustls_view(bytes), ours) {
            (Some(theirs), Look::Got(hello)) => {
                assert_eq!(hello.name, theirs, "{}", shown());
                agreed += 1;
            }
            (Some(theirs), Look::Foreign | Look::More) => {
                panic!("rustls: {theirs:?}, we: no hello: {}", shown())
            }
            (Some(_), Look::Bad(_)) => stricter += 1,
            (None, _) => {}
        }
    };
    let mut dice = Dice(1);
    for bytes in openings(["tls-real", "tls-adv"]) {
        compare(&bytes);
        for _ in 0..150 {
            compare(&mutate(
                &bytes,
                &mut dice,
                &[0, 1, 2, 3, 0x16, 0x17, 0x14, 0xfe, 0xff, b'.', b'a', b'-'],
            ));
        }
    }
    assert!(agreed > 5_000, "{agreed} hellos were read by both");
    assert!(stricter < agreed / 5, "{stricter} hellos of {agreed} were refused by us alone");
}

/// What `httparse` makes of the same bytes: the length of the head, and the value of every Host.
fn httparse_view(bytes: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    let mut headers = vec![httparse::EMPTY_HEADER; 2_000];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(len) = request.parse(bytes).ok()? else {
        return None;
    };
    let hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    Some((len, hosts.map(|header| header.value.to_vec()).collect()))
}

/// A host with its port taken off, where it is a plain name.
fn plain_name(value: &[u8]) -> Option<Name> {
    let host = value.split(|&byte| byte == b':').next()?;
    Name::parse(host).ok()
}

fn agrees(head: &Head, len: usize, hosts: &[Vec<u8>]) -> bool {
    let same_host = match hosts {
        // The name then is the target's.
        [] => true,
        [host] => head.name == plain_name(host),
        _ => false,
    };
    head.len == len && same_host
}

#[test]
fn httparse_never_sees_another_host_or_another_end_than_we_do() {
    let (mut agreed, mut stricter) = (0, 0);
    let mut compare = |bytes: &[u8]| {
        let ours = HeadReader::default().look(bytes);
        let shown = || bytes.escape_ascii().to_string();
        match (httparse_view(bytes), ours) {
            (Some((len, hosts)), Look::Got(head)) => {
                assert!(agrees(&head, len, &hosts), "{head:?}, httparse: {len} {hosts:?}: {}", shown());
                agreed += 1;
            }
            (Some((_, hosts)), Look::Foreign | Look::More) => panic!("httparse: {hosts:?}: {}", shown()),
            (Some(_), Look::Bad(_)) => stricter += 1,
            (None, Look::Got(head)) => panic!("httparse takes no head, we {head:?}: {}", shown()),
            (None, Look::More | Look::Foreign | Look::Bad(_)) => {}
        }
    };
    let mut dice = Dice(2);
    for bytes in openings(["http1-real", "http1-adv"]) {
        compare(&bytes);
        for _ in 0..200 {
            compare(&mutate(&bytes, &mut dice, b"\0\r\n\t :/@,;#?%*-0aHh.[]\x7f\xff"));
        }
    }
    assert!(agreed > 5_000, "{agreed} heads were read by both");
    assert!(stricter > 1_000, "{stricter} heads were refused by us alone");
}
