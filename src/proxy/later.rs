//! Names that a connection claims later than its first: requests, and a second ClientHello.
//!
//! Must not know which names are allowed.

use crate::facts::Protocol;
use crate::wire::http_requests::Requests;

use super::retry::Retry;
use super::streams::Streams;

pub(super) use crate::wire::http_requests::Next;

/// A connection on which more names may be claimed.
#[derive(Debug)]
pub(super) enum Later {
    Requests(Requests),
    Retry(Retry),
    Streams(Box<Streams>),
}

impl Later {
    /// Looks at the client's bytes that have not passed yet.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Next {
        match self {
            Self::Requests(requests) => requests.next(bytes),
            Self::Retry(retry) => retry.next(bytes),
            Self::Streams(streams) => streams.next(bytes),
        }
    }

    /// What was to be judged may pass.
    pub(super) fn approve(&mut self) {
        match self {
            Self::Requests(requests) => requests.approve(),
            Self::Retry(retry) => retry.approve(),
            Self::Streams(streams) => streams.approve(),
        }
    }

    /// Whether what is judged was read to its end, so that what follows it can be.
    pub(super) fn is_read(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.is_judged(),
            Self::Retry(retry) => retry.is_judged(),
            Self::Streams(streams) => streams.judged().is_some(),
        }
    }

    /// What was to be judged is refused. Returns the last HTTP/2 stream that goes on, where the client is to be
    /// told at once.
    pub(super) fn refuse(&mut self) -> Option<u32> {
        match self {
            Self::Requests(_) | Self::Retry(_) => None,
            Self::Streams(streams) => streams.refuse(),
        }
    }

    /// What was to be judged could not be read and may pass, with all that follows. Returns whether nothing is
    /// left to do.
    pub(super) fn go_blind(&mut self) -> bool {
        match self {
            Self::Requests(_) | Self::Retry(_) => true,
            Self::Streams(streams) => streams.go_blind(),
        }
    }

    /// Follows what the server sent. Returns how many of the bytes stand behind the last place where something
    /// may be said between them.
    pub(super) fn answered(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Requests(requests) => {
                requests.answered(bytes);
                None
            }
            Self::Retry(retry) => {
                retry.answered(bytes);
                None
            }
            Self::Streams(streams) => streams.answered(bytes),
        }
    }

    /// Returns how many of the next bytes need not be read, only counted: of the client's, and of the server's.
    pub(super) fn mute(&self) -> (u64, u64) {
        match self {
            Self::Requests(requests) => (requests.mute(), requests.mute_answer()),
            Self::Retry(_) | Self::Streams(_) => (0, 0),
        }
    }

    /// Counts bytes that were not read: of the client's, and of the server's.
    pub(super) fn skip(&mut self, client: usize, server: usize) {
        match self {
            Self::Requests(requests) => {
                requests.skip(client as u64);
                requests.skip_answer(server as u64);
            }
            Self::Retry(_) | Self::Streams(_) => {}
        }
    }

    /// Keeps words for the client until there is a place for them.
    pub(super) fn tell(&mut self, words: Vec<u8>) {
        match self {
            Self::Requests(_) | Self::Retry(_) => {}
            Self::Streams(streams) => streams.aside = Some(words),
        }
    }

    /// Returns the words that were kept.
    pub(super) fn aside(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Requests(_) | Self::Retry(_) => None,
            Self::Streams(streams) => streams.aside.take(),
        }
    }

    /// Whether something may be said behind what the server has said so far.
    pub(super) fn is_between(&self) -> bool {
        match self {
            Self::Requests(_) | Self::Retry(_) => false,
            Self::Streams(streams) => streams.is_between(),
        }
    }

    /// Whether the client's bytes still pass although something was refused.
    pub(super) fn is_closing(&self) -> bool {
        match self {
            Self::Requests(_) | Self::Retry(_) => false,
            Self::Streams(streams) => streams.is_closing(),
        }
    }

    /// Whether the client is in the middle of a head or hello: these have a deadline, what follows has not.
    pub(super) fn is_underway(&self, unjudged: &[u8]) -> bool {
        match self {
            Self::Requests(requests) => requests.is_in_head(unjudged),
            Self::Retry(retry) => retry.is_in_hello(unjudged),
            Self::Streams(streams) => streams.is_in_frame(unjudged),
        }
    }

    /// Whether another name that is allowed may follow. A second hello may differ from the first in a few
    /// fields, the name not among them (RFC 8446 section 4.1.2).
    pub(super) fn may_change_name(&self) -> bool {
        match self {
            Self::Requests(_) | Self::Streams(_) => true,
            Self::Retry(_) => false,
        }
    }

    /// Returns the language of a refusal.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Requests(_) => Protocol::Http,
            Self::Retry(_) => Protocol::Tls,
            Self::Streams(_) => Protocol::H2,
        }
    }

    /// Whether a refusal may be said now: everything asked before it was answered in full.
    pub(super) fn may_answer(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.may_answer(),
            Self::Retry(_) => true,
            Self::Streams(streams) => streams.may_answer(),
        }
    }

    /// Whether the request that is judged is HEAD: a refusal of it has no body.
    pub(super) fn is_head_only(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.is_head_only(),
            Self::Retry(_) => false,
            Self::Streams(streams) => streams.judged().is_some_and(|request| request.head_only),
        }
    }

    /// Returns the stream of the HTTP/2 request that is judged.
    pub(super) fn stream(&self) -> Option<u32> {
        match self {
            Self::Requests(_) | Self::Retry(_) => None,
            Self::Streams(streams) => streams.judged().map(|request| request.stream),
        }
    }

    /// Whether a request's body is open: the server waits for the rest of it.
    pub(super) fn is_in_body(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.is_in_body(),
            Self::Retry(_) | Self::Streams(_) => false,
        }
    }

    /// Whether the responses cannot be told apart: the end of the stream alone ends them.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.is_lost(),
            Self::Retry(_) => false,
            Self::Streams(streams) => streams.is_lost(),
        }
    }
}
