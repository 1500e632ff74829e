//! A whole HTTP/1 connection, cut anywhere and with answers in between: a second reader of the framing finds the
//! same requests in what is forwarded, each was judged before a byte of it passed, and no cut changes that.
#![no_main]

use libfuzzer_sys::fuzz_target;
use namegate::facts::{Claim, Name};
use namegate::wire::Look;
use namegate::wire::http::HeadReader;
use namegate::wire::http_requests::{Next, Requests, claim_of_head};
use namegate_fuzz::Dice;
use namegate_fuzz::reading::{Framed, requests};

/// Longest head: no input reaches it, for how much lies over it when it is seen depends on the cuts.
const LIMIT: usize = HeadReader::MAX;

/// What happened on one connection.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// Where each request starts that was allowed, and its name.
    allowed: Vec<(usize, Name)>,
    /// How many bytes were forwarded.
    passed: usize,
    /// Whether the rest would pass unread, since the server changed to WebSocket.
    free: bool,
    /// What was refused.
    refused: Option<Claim>,
}

/// How the server behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    /// Answers every request, in pieces, with 204.
    Polite,
    /// Says anything, `101` too.
    Wild,
}

const ANSWERS: [&[u8]; 8] = [
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"101\r\n\r\n",
];

/// Some names are allowed and some are not, and both are near each other.
fn is_allowed(name: &Name) -> bool {
    name.as_str().len() % 4 != 3
}

fn head_of(data: &[u8], limit: usize) -> Option<(Name, Requests)> {
    let Look::Got(head) = HeadReader::default().look(&data[..data.len().min(limit)]) else { return None };
    let (claim, request) = claim_of_head(data, head);
    let name = claim.name().filter(|name| is_allowed(name))?.clone();
    Some((name, Requests::after(request?, limit)))
}

/// Lets one connection happen. `longest`: bytes that come at once at most.
fn connection(data: &[u8], server: Server, longest: usize) -> Option<Told> {
    let (first, mut corridor) = head_of(data, LIMIT)?;
    let mut told = Told { allowed: vec![(0, first)], passed: 0, free: false, refused: None };
    let mut dice = Dice::of(data);
    let (mut end, mut answered) = (0, 0);
    loop {
        let moved = admit(data, end, &mut corridor, &mut told);
        if told.free || told.refused.is_some() {
            return Some(told);
        }
        let heads = told.allowed.iter().filter(|(start, _)| *start < told.passed).count();
        match server {
            Server::Polite if answered < heads => {
                answered += 1;
                let (one, two) = ANSWERS[6].split_at(dice.below(ANSWERS[6].len()));
                corridor.answered(one);
                corridor.answered(two);
            }
            Server::Wild if dice.below(3) == 0 => corridor.answered(ANSWERS[dice.below(ANSWERS.len())]),
            Server::Polite | Server::Wild if end < data.len() => {
                end = (end + 1 + dice.below(longest)).min(data.len());
            }
            Server::Polite | Server::Wild if !moved => return Some(told),
            Server::Polite | Server::Wild => {}
        }
    }
}

/// Forwards what may pass of the first `end` bytes; returns whether anything happened.
fn admit(data: &[u8], end: usize, corridor: &mut Requests, told: &mut Told) -> bool {
    let mut moved = false;
    loop {
        match corridor.next(&data[told.passed..end.max(told.passed)]) {
            // The head of the first request was read before.
            Next::Pass(len) | Next::Weigh(len) if told.passed == 0 => told.passed = len,
            Next::Pass(len) | Next::Weigh(len) => {
                assert!(len > 0 && told.passed + len <= end);
                told.passed += len;
            }
            Next::Drop(_) => panic!("HTTP/1 leaves nothing out"),
            Next::Wait => return moved,
            Next::Free => {
                told.free = true;
                return true;
            }
            Next::Judge(claim) => match claim.name().filter(|name| is_allowed(name)) {
                Some(name) => {
                    told.allowed.push((told.passed, name.clone()));
                    corridor.approve();
                }
                None => {
                    told.refused = Some(claim);
                    return true;
                }
            },
        }
        moved = true;
    }
}

/// A host without its port, as a name.
fn name_of(host: &[u8]) -> Option<Name> {
    Name::parse(host.split(|&byte| byte == b':').next()?).ok()
}

/// Holds what was forwarded against the second reading of the same bytes.
fn compare(data: &[u8], told: &Told) {
    let passed = &data[..told.passed];
    let (theirs, rest) = requests(passed).unwrap_or_else(|(why, at)| {
        panic!("forwarded what a second reader refuses at {at} ({why}): {told:?} {}", passed.escape_ascii())
    });
    let shown = || format!("{told:?}, second reading {theirs:?}: {}", passed.escape_ascii());
    assert_eq!(rest, told.passed, "half a head was forwarded: {}", shown());
    // The last one may have been allowed and not have passed yet.
    let ours = told.allowed.iter().filter(|(start, _)| *start < told.passed);
    assert!(ours.clone().count() == theirs.len(), "{}", shown());
    for ((start, name), framed) in ours.zip(&theirs) {
        assert_eq!(*start, framed.start, "{}", shown());
        assert!(!framed.hosts.is_empty(), "{}", shown());
        for host in &framed.hosts {
            assert_eq!(name_of(host).as_ref(), Some(name), "{}", shown());
        }
    }
    let asked = theirs.last().is_some_and(|last: &Framed| last.websocket);
    assert!(!told.free || asked, "unread after no switch: {}", shown());
}

fuzz_target!(|data: &[u8]| {
    let Some(polite) = connection(data, Server::Polite, 60) else { return };
    compare(data, &polite);
    assert!(!polite.free);
    let at_once = connection(data, Server::Polite, usize::MAX - 1).unwrap();
    compare(data, &at_once);
    assert_eq!((&at_once.allowed, &at_once.refused), (&polite.allowed, &polite.refused));
    // How much of a body passes before its fault is seen depends on the cuts; nothing else does.
    let broken = matches!(polite.refused, Some(Claim::Garbled(_)));
    assert!(at_once.passed == polite.passed || (broken && at_once.passed < polite.passed));
    if let Some(wild) = connection(data, Server::Wild, 200) {
        compare(data, &wild);
        assert!(polite.allowed.starts_with(&wild.allowed));
    }
});
