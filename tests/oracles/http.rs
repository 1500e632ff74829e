//! HTTP/1: httparse for heads, h11 for the framing of whole connections.

use namegate::facts::Name;
use namegate::wire::Look;
use namegate::wire::http::{Head, HeadReader};
use namegate::wire::http_requests::{Next, Requests, claim_of_head};
use serde::Deserialize;

use crate::python::opinions;
use crate::{openings, with_mutations};

/// Bytes that matter in a head.
const FAVOURITES: &[u8] = b"\0\r\n\t :/@,;#?%*-0aHh.[]\x7f\xff";

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
    for bytes in with_mutations(&openings(["http1-real", "http1-adv"]), 200, 2, FAVOURITES) {
        compare(&bytes);
    }
    assert!(agreed > 5_000, "{agreed} heads were read by both");
    assert!(stricter > 1_000, "{stricter} heads were refused by us alone");
}

/// How h11 frames the requests of one connection.
#[derive(Debug, Deserialize)]
struct H11 {
    requests: Vec<H11Request>,
    /// Where it stopped, why.
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct H11Request {
    start: usize,
    end: Option<usize>,
    hosts: Vec<String>,
    target: String,
}

/// Every request that the corridor would forward when every name is allowed, and how many bytes in all.
fn forwarded(bytes: &[u8]) -> (Vec<(usize, Name)>, usize) {
    let Look::Got(head) = HeadReader::default().look(bytes) else { return (Vec::new(), 0) };
    let (claim, request) = claim_of_head(bytes, head);
    let (Some(name), Some(request)) = (claim.name(), request) else { return (Vec::new(), 0) };
    let mut found = vec![(0, name.clone())];
    let mut corridor = Requests::after(request, HeadReader::MAX);
    let (mut passed, mut answered) = (0, 0);
    loop {
        match corridor.next(&bytes[passed..]) {
            Next::Pass(len) | Next::Weigh(len) => passed += len,
            Next::Judge(claim) => {
                let Some(name) = claim.name() else { return (found, passed) };
                found.push((passed, name.clone()));
                corridor.approve();
            }
            Next::Wait if answered < found.len() && passed > found[answered].0 => {
                corridor.answered(b"HTTP/1.1 204 No Content\r\n\r\n");
                answered += 1;
            }
            Next::Wait => return (found, passed),
            Next::Free => panic!("nobody switched"),
            Next::Drop(_) => panic!("HTTP/1 leaves nothing out"),
        }
    }
}

/// The name that h11 hands to its application.
fn name_by_h11(request: &H11Request) -> Option<Name> {
    let authority = request.target.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap());
    let host = request.hosts.first().map(String::as_str).or(authority)?;
    plain_name(host.as_bytes())
}

#[test]
fn h11_never_begins_or_names_a_request_otherwise_than_we_do() {
    let real = openings(["http1-real", "http1-adv"]);
    // Several requests after each other, too: the second one stands behind a body or none.
    let pairs =
        real.iter().enumerate().map(|(at, one)| [&one[..], &real[(at * 7 + 1) % real.len()]].concat());
    let openings: Vec<Vec<u8>> =
        real.iter().cloned().chain(pairs.filter(|pair| pair.len() < 20_000)).collect();
    let cases = with_mutations(&openings, 40, 4, FAVOURITES);
    let Some(views) = opinions::<H11>("http", "python3-h11", &cases) else { return };
    let (mut agreed, mut later, mut looser) = (0, 0, Vec::new());
    for (bytes, theirs) in cases.iter().zip(views) {
        let (ours, passed) = forwarded(bytes);
        let shown = || format!("{theirs:?}, we {ours:?} of {passed}: {}", bytes.escape_ascii());
        for (at, (start, name)) in ours.iter().enumerate().filter(|(_, (start, _))| *start < passed) {
            let Some(request) = theirs.requests.get(at) else {
                looser.push(theirs.error.clone().unwrap_or_else(|| panic!("h11 waits: {}", shown())));
                break;
            };
            assert_eq!(request.start, *start, "{}", shown());
            assert_eq!(name_by_h11(request).as_ref(), Some(name), "{}", shown());
            let next = ours.get(at + 1).map(|(start, _)| *start);
            assert!(next.is_none() || request.end == next, "{}", shown());
            // Nothing passes beyond the end of the last one.
            assert!(next.is_some() || request.end.is_none_or(|end| passed <= end), "{}", shown());
            agreed += 1;
            later += usize::from(at > 0);
        }
    }
    assert!(
        agreed > 2_000 && later > 500,
        "{agreed} requests were framed by both, {later} of them later ones"
    );
    looser.sort_unstable();
    let total = looser.len();
    looser.dedup();
    assert!(total < agreed / 5, "{total} requests h11 alone refuses: {looser:#?}");
}
