//! Holds every request on an HTTP/2 connection back until it was judged, and lets the rest of it pass.
//!
//! A client that says no name before a server speaks is greeted in the server's place; the one acknowledgement of
//! that greeting never reaches the server. Must not know which names are allowed.

use std::collections::BTreeSet;

use crate::facts::{Claim, Fault, Named, Protocol, Via};
use crate::wire::h2::{self, ClientFrames, Request, ServerFrames, Step, Told};

use super::later::Next;

/// Requests whose answers are followed at a time; servers allow 100 to 250.
const MAX_OPEN: usize = 1024;

/// Both sides of one HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Streams {
    client: ClientFrames,
    server: ServerFrames,
    at: At,
    /// Bytes that were looked at before there was a server, and are to pass.
    first: usize,
    greeting: Greeting,
    /// SETTINGS of the server that were not acknowledged yet.
    settings: u32,
    open: BTreeSet<u32>,
    /// There were too many to follow: nobody knows when all are answered.
    uncounted: bool,
    /// Words for the client that wait for a place between the server's frames.
    pub(super) aside: Option<Vec<u8>>,
    /// Longest head.
    limit: usize,
}

/// The first words of a server, spoken in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    NotSaid,
    Said,
    Acknowledged,
}

#[derive(Debug)]
enum At {
    Frames,
    /// A request was read and is being judged.
    Judged(Request),
    /// A request was refused: no other passes, what was opened before goes on.
    Closing,
    /// Nothing of the client passes any more.
    Stopped,
    /// Nothing is judged any more.
    Blind,
}

impl Streams {
    /// Starts at the first byte of a connection.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            client: ClientFrames::default(),
            server: ServerFrames::default(),
            at: At::Frames,
            first: 0,
            greeting: Greeting::NotSaid,
            settings: 0,
            open: BTreeSet::new(),
            uncounted: false,
            aside: None,
            limit,
        }
    }

    /// Whether the bytes open such a connection; `None`: they may.
    pub(super) fn speaks(bytes: &[u8]) -> Option<bool> {
        if bytes.len() < h2::PREFACE.len() && h2::PREFACE.starts_with(bytes) {
            return None;
        }
        Some(bytes.starts_with(h2::PREFACE))
    }

    /// Whether a server, or we in its place, has said nothing yet.
    pub(super) fn is_ungreeted(&self) -> bool {
        self.greeting == Greeting::NotSaid
    }

    /// The client was greeted.
    pub(super) fn greeted(&mut self) {
        self.greeting = Greeting::Said;
    }

    /// Looks for the first claim, before there is a server. Takes out what it is never to see.
    pub(super) fn opening(&mut self, received: &mut Vec<u8>) -> Option<Claim> {
        loop {
            match self.step(received.get(self.first..).unwrap_or_default()) {
                Next::Pass(len) | Next::Weigh(len) => self.first += len,
                Next::Drop(len) => drop(received.drain(self.first..self.first + len)),
                Next::Judge(claim) => return Some(claim),
                Next::Wait => return None,
                Next::Free => return Some(Claim::Nameless(Some(Protocol::H2))),
            }
        }
    }

    /// Looks at the client's bytes that have not passed yet.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Next {
        match std::mem::take(&mut self.first) {
            0 => self.step(bytes),
            first => Next::Pass(first),
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Next {
        match self.at {
            At::Judged(_) | At::Stopped => return Next::Wait,
            At::Blind if self.greeting != Greeting::Said => return Next::Free,
            At::Blind | At::Frames | At::Closing => {}
        }
        if self.server.is_lost() {
            return self.claim(Claim::Garbled(Fault::Frame));
        }
        match self.client.next(bytes) {
            Step::More if bytes.len() < self.limit => Next::Wait,
            Step::More => self.claim(Claim::Garbled(Fault::TooBig)),
            Step::Pass(len) => Next::Pass(len),
            Step::Trailers(len) => Next::Weigh(len),
            Step::Drop(len) => Next::Drop(len),
            Step::Ack(len) => self.acknowledged(len),
            Step::Reset(len, stream) => {
                self.open.remove(&stream);
                Next::Pass(len)
            }
            Step::Request(request) => {
                let claim = claim_of(&request);
                self.at = At::Judged(request);
                Next::Judge(claim)
            }
            Step::Bad(fault) => self.claim(Claim::Garbled(fault)),
        }
    }

    fn claim(&self, claim: Claim) -> Next {
        if matches!(self.at, At::Blind) { Next::Free } else { Next::Judge(claim) }
    }

    /// The client acknowledges in the order in which it was told, and it was greeted first.
    fn acknowledged(&mut self, len: usize) -> Next {
        if self.greeting == Greeting::Said {
            self.greeting = Greeting::Acknowledged;
            return Next::Drop(len);
        }
        match self.settings.checked_sub(1) {
            Some(left) => {
                self.settings = left;
                Next::Pass(len)
            }
            None => self.claim(Claim::Garbled(Fault::Frame)),
        }
    }

    /// The request that was to be judged may pass.
    pub(super) fn approve(&mut self) {
        let At::Judged(request) = &self.at else { return };
        if self.open.len() < MAX_OPEN {
            self.open.insert(request.stream);
        } else {
            self.uncounted = true;
        }
        self.client.approve();
        self.at = At::Frames;
    }

    /// What was to be judged is refused. Returns the last stream that goes on, where there is one and the client
    /// is to hear of the refusal before the answers under way are complete.
    pub(super) fn refuse(&mut self) -> Option<u32> {
        let was_read = matches!(self.at, At::Judged(_));
        if self.may_answer() || !was_read {
            // Where frames cannot be told apart none can be let through.
            if !was_read {
                self.at = At::Stopped;
            }
            return None;
        }
        self.at = At::Closing;
        Some(self.client.close())
    }

    /// Lets everything pass from here on. Returns whether that needs no more than to let it.
    pub(super) fn go_blind(&mut self) -> bool {
        self.client.go_blind();
        self.at = At::Blind;
        self.greeting != Greeting::Said && self.first == 0
    }

    /// Follows what the server sent. Returns how many of the bytes stand behind a place where a frame may be put
    /// in, where there is one.
    pub(super) fn answered(&mut self, bytes: &[u8]) -> Option<usize> {
        let Self { client, server, settings, open, .. } = self;
        server.feed(bytes, |told| match told {
            Told::Answered(stream) => drop(open.remove(&stream)),
            Told::Reset(stream) => {
                open.remove(&stream);
                client.server_reset(stream);
            }
            Told::Settings => *settings = settings.saturating_add(1),
            Told::Setting(setting, value) => client.server_set(setting, value),
        })
    }

    /// Whether a frame may be put into what the server says, here and now.
    pub(super) fn is_between(&self) -> bool {
        self.server.is_between()
    }

    /// Whether a refusal may be said as the last word: everything asked before it was answered in full.
    pub(super) fn may_answer(&self) -> bool {
        self.server.is_between() && self.open.is_empty() && !self.uncounted
    }

    /// Whether the client's bytes still pass although a request was refused.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.at, At::Closing)
    }

    /// Whether the client's bytes are the middle of a frame that is read as a whole.
    pub(super) fn is_in_frame(&self, unjudged: &[u8]) -> bool {
        !unjudged.is_empty() && matches!(self.at, At::Frames)
    }

    /// Whether the server does not speak HTTP/2.
    pub(super) fn is_lost(&self) -> bool {
        self.server.is_lost()
    }

    /// Returns the request that is judged.
    pub(super) fn judged(&self) -> Option<&Request> {
        match &self.at {
            At::Judged(request) => Some(request),
            At::Frames | At::Closing | At::Stopped | At::Blind => None,
        }
    }
}

fn claim_of(request: &Request) -> Claim {
    match &request.name {
        Some(name) => Claim::Named(Named {
            name: name.clone(),
            protocol: Protocol::H2,
            via: Via::Authority,
            ech: false,
        }),
        None => Claim::Nameless(Some(Protocol::H2)),
    }
}
