//! Holds every request on an HTTP/1 connection back until it was judged.
//!
//! Knows where heads and bodies begin and end, not which names are allowed. After a WebSocket switch that
//! the server itself announced, bytes pass as they are.

use super::Look;
use super::http::{Head, HeadReader};
use super::http_body::{BodyReader, Request};
use super::http_response::{Asked, Responses};
use crate::facts::{Claim, Fault, Named, Protocol, Via};

/// What is to be done with the client's next bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// So many may pass.
    Pass(usize),
    /// So many may pass, and reading them can have cost as much as a claim. Not for HTTP/1.
    Weigh(usize),
    /// So many are never to pass, what follows them may. Not for HTTP/1.
    Drop(usize),
    /// Nothing can be said before more bytes come, from the client or from the server.
    Wait,
    /// This is claimed; nothing passes before it was judged.
    Judge(Claim),
    /// No more names will come: everything passes from here on.
    Free,
}

/// Requests that may wait for their responses before the next one is read.
const MAX_PIPELINED: usize = 64;

/// The client's side of one HTTP/1 connection, and what the server has answered.
#[derive(Debug)]
pub struct Requests {
    at: At,
    responses: Responses,
    /// Longest head.
    limit: usize,
}

#[derive(Debug)]
enum At {
    /// A head is awaited or read.
    Head(HeadReader),
    /// A head was read and is being judged.
    Judged(Request),
    /// A judged head is to pass.
    Approved(Request),
    Body(BodyReader),
    /// Asked for WebSocket: nothing passes before the server's answer.
    Switching,
}

impl Requests {
    /// Starts at the first byte of a connection whose first request was judged and may pass.
    pub fn after(first: Request, limit: usize) -> Self {
        Self { at: At::Approved(first), responses: Responses::default(), limit }
    }

    /// The request that was to be judged may pass.
    pub fn approve(&mut self) {
        if let At::Judged(request) = self.at {
            self.at = At::Approved(request);
        }
    }

    /// Looks at the client's bytes that have not passed yet.
    pub fn next(&mut self, bytes: &[u8]) -> Next {
        if self.responses.switched() {
            return Next::Free;
        }
        let too_far = self.is_too_far_ahead();
        match &mut self.at {
            At::Head(_) if bytes.is_empty() || too_far => Next::Wait,
            At::Head(reader) => {
                let look = reader.look(bytes);
                self.head(look, bytes)
            }
            At::Judged(_) => Next::Wait,
            At::Approved(request) => {
                let Request { head, body, head_only, websocket } = *request;
                self.responses.asked(Asked { head_only, websocket });
                self.at = if websocket { At::Switching } else { At::Body(BodyReader::new(body)) };
                Next::Pass(head)
            }
            At::Body(body) if body.is_done() => {
                self.at = At::Head(HeadReader::default());
                self.next(bytes)
            }
            At::Body(body) => match body.take(bytes) {
                Ok(0) => Next::Wait,
                Ok(taken) => Next::Pass(taken),
                Err(fault) => Next::Judge(Claim::Garbled(fault)),
            },
            At::Switching if self.responses.outstanding() == 0 => {
                // Refused by the server, or the answer could not be followed: this is HTTP still.
                self.at = At::Head(HeadReader::default());
                self.next(bytes)
            }
            At::Switching => Next::Wait,
        }
    }

    fn head(&mut self, look: Look<Head>, bytes: &[u8]) -> Next {
        match look {
            Look::More if bytes.len() < self.limit => Next::Wait,
            Look::More => Next::Judge(Claim::Garbled(Fault::TooBig)),
            Look::Foreign => Next::Judge(Claim::Nameless(Some(Protocol::Http))),
            Look::Bad(fault) => Next::Judge(Claim::Garbled(fault)),
            Look::Got(head) => {
                let (claim, request) = claim_of_head(bytes, head);
                if let Some(request) = request {
                    self.at = At::Judged(request);
                }
                Next::Judge(claim)
            }
        }
    }

    /// Follows what the server sent.
    pub fn answered(&mut self, bytes: &[u8]) {
        self.responses.feed(bytes);
    }

    /// Whether the client is in the middle of a head: these have a deadline, bodies have not.
    pub fn is_in_head(&self, unjudged: &[u8]) -> bool {
        matches!(self.at, At::Head(_)) && !unjudged.is_empty() && !self.is_too_far_ahead()
    }

    /// Returns how many of the client's next bytes need not be shown, only counted.
    pub fn mute(&self) -> u64 {
        match &self.at {
            At::Body(body) => body.mute(),
            At::Head(_) | At::Judged(_) | At::Approved(_) | At::Switching => 0,
        }
    }

    /// Counts bytes of the client that were not shown.
    pub fn skip(&mut self, bytes: u64) {
        if let At::Body(body) = &mut self.at {
            body.skip(bytes);
        }
    }

    /// The same of the server's bytes.
    pub fn mute_answer(&self) -> u64 {
        self.responses.mute()
    }

    /// Counts bytes of the server that were not shown.
    pub fn skip_answer(&mut self, bytes: u64) {
        self.responses.skip(bytes);
    }

    /// Whether a request was read to its end and waits to be approved.
    pub fn is_judged(&self) -> bool {
        matches!(self.at, At::Judged(_))
    }

    /// Whether a refusal may be written as the next response: every request before it was answered in full.
    pub fn may_answer(&self) -> bool {
        self.responses.all_answered()
    }

    /// Whether the request that is judged is HEAD: a refusal of it has no body.
    pub fn is_head_only(&self) -> bool {
        matches!(self.at, At::Judged(Request { head_only: true, .. }))
    }

    /// Whether a request's body is open: the server waits for the rest of it.
    pub fn is_in_body(&self) -> bool {
        matches!(self.at, At::Body(_))
    }

    /// Whether the responses cannot be told apart: the end of the stream alone ends them.
    pub fn is_lost(&self) -> bool {
        self.responses.lost()
    }

    fn is_too_far_ahead(&self) -> bool {
        !self.responses.lost() && self.responses.outstanding() >= MAX_PIPELINED
    }
}

/// Turns a request head into a claim; without a sound extent there is none but `Garbled`.
pub fn claim_of_head(received: &[u8], head: Head) -> (Claim, Option<Request>) {
    let request = match Request::read(&head, received) {
        Ok(request) => Some(request),
        Err(fault) => return (Claim::Garbled(fault), None),
    };
    let claim = match head.name {
        Some(name) => Claim::Named(Named { name, protocol: Protocol::Http, via: Via::Host, ech: false }),
        None => Claim::Nameless(Some(Protocol::Http)),
    };
    (claim, request)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::facts::Name;

    /// Runs a client's bytes through, in pieces, judging every head by its name; returns what passed and the
    /// claim that was refused.
    fn run(requests: &mut Requests, bytes: &[u8], step: usize, allowed: &str) -> (Vec<u8>, Option<Claim>) {
        let allowed = Name::parse(allowed).unwrap();
        let mut passed = Vec::new();
        // The first head has come in full: it was judged.
        let mut end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 3;
        while end < bytes.len() {
            end = (end + step).min(bytes.len());
            loop {
                match requests.next(&bytes[passed.len()..end]) {
                    Next::Pass(len) | Next::Weigh(len) => {
                        passed.extend_from_slice(&bytes[passed.len()..passed.len() + len])
                    }
                    Next::Wait => break,
                    Next::Drop(_) => panic!("nothing is taken out"),
                    Next::Free => panic!("nothing was switched"),
                    Next::Judge(claim) if claim.name() == Some(&allowed) => requests.approve(),
                    Next::Judge(claim) => return (passed, Some(claim)),
                }
            }
        }
        (passed, None)
    }

    fn after_first(bytes: &[u8]) -> Requests {
        let Look::Got(head) = HeadReader::default().look(bytes) else { panic!("{bytes:?}") };
        Requests::after(claim_of_head(bytes, head).1.unwrap(), 4096)
    }

    const GOOD: &str = "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 40\r\n\r\n\
                        GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n12";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n\
                           28\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n\r\n12\r\n0\r\n\r\n";
    const EVIL: &str = "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n";

    #[test]
    fn every_head_is_judged_and_none_in_a_body_however_the_bytes_are_cut() {
        let allowed = [GOOD, POST, CHUNKED, GOOD].concat();
        let all = [&allowed, EVIL, GOOD].concat();
        for step in 1..all.len() {
            let mut requests = after_first(all.as_bytes());
            let (passed, refused) = run(&mut requests, all.as_bytes(), step, "good.example");
            assert_eq!(passed, allowed.as_bytes(), "cut every {step}");
            assert_eq!(refused.unwrap().name(), Some(&Name::parse("evil.example").unwrap()));
        }
    }

    #[test]
    fn bytes_that_are_no_request_never_pass_after_one() {
        for tail in ["\x16\x03\x01\x02\x00\x01", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "hello\r\n"] {
            let all = [GOOD, tail].concat();
            let (passed, refused) = run(&mut after_first(all.as_bytes()), all.as_bytes(), 3, "good.example");
            assert_eq!(passed, GOOD.as_bytes());
            assert!(refused.is_some(), "{tail:?}");
        }
    }

    #[test]
    fn nothing_passes_after_an_upgrade_before_the_server_agreed_to_it() {
        let upgrade = "GET /chat HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\n\r\n";
        let all = [upgrade, EVIL].concat();
        let mut requests = after_first(all.as_bytes());
        assert_eq!(run(&mut requests, all.as_bytes(), 1000, "good.example"), (upgrade.into(), None));
        requests.answered(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
        assert_eq!(requests.next(EVIL.as_bytes()), Next::Free);

        let mut requests = after_first(all.as_bytes());
        run(&mut requests, all.as_bytes(), 1000, "good.example");
        requests.answered(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(requests.next(EVIL.as_bytes()), Next::Judge(_)));
    }

    #[test]
    fn a_switch_that_was_not_to_websocket_opens_nothing() {
        let upgrade = "GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: h2c\r\n\r\n";
        let mut requests = after_first(upgrade.as_bytes());
        run(&mut requests, upgrade.as_bytes(), 1000, "good.example");
        requests.answered(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n");
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        assert!(matches!(requests.next(preface), Next::Judge(Claim::Nameless(_))));
    }

    #[test]
    fn a_client_far_ahead_of_the_answers_waits() {
        let all = GOOD.repeat(MAX_PIPELINED + 1);
        let mut requests = after_first(all.as_bytes());
        let (passed, refused) = run(&mut requests, all.as_bytes(), 4096, "good.example");
        assert_eq!((passed.len(), refused), (GOOD.len() * MAX_PIPELINED, None));
        requests.answered(b"HTTP/1.1 204 No Content\r\n\r\n");
        assert!(matches!(requests.next(GOOD.as_bytes()), Next::Judge(_)));
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_limit() {
        let endless = [GOOD.as_bytes(), b"GET /", &[b'a'; 4096]].concat();
        let (passed, refused) = run(&mut after_first(&endless), &endless, 100, "good.example");
        assert_eq!((passed.len(), refused), (GOOD.len(), Some(Claim::Garbled(Fault::TooBig))));
    }
}
