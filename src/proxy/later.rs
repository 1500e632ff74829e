//! Names that a connection claims later than its first: HTTP requests, and a second ClientHello.
//!
//! Must not know which names are allowed.

use crate::facts::Protocol;
use crate::wire::http_requests::Requests;

use super::retry::Retry;

pub(super) use crate::wire::http_requests::Next;

/// A connection on which more names may be claimed.
#[derive(Debug)]
pub(super) enum Later {
    Requests(Requests),
    Retry(Retry),
}

impl Later {
    /// Looks at the client's bytes that have not passed yet.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Next {
        match self {
            Self::Requests(requests) => requests.next(bytes),
            Self::Retry(retry) => retry.next(bytes),
        }
    }

    /// What was to be judged may pass.
    pub(super) fn approve(&mut self) {
        match self {
            Self::Requests(requests) => requests.approve(),
            Self::Retry(retry) => retry.approve(),
        }
    }

    /// Follows what the server sent.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        match self {
            Self::Requests(requests) => requests.answered(bytes),
            Self::Retry(retry) => retry.answered(bytes),
        }
    }

    /// Whether the client is in the middle of a head or hello: these have a deadline, what follows has not.
    pub(super) fn is_underway(&self, unjudged: &[u8]) -> bool {
        match self {
            Self::Requests(requests) => requests.is_in_head(unjudged),
            Self::Retry(retry) => retry.is_in_hello(unjudged),
        }
    }

    /// Whether another name that is allowed may follow. A second hello may differ from the first in a few
    /// fields, the name not among them (RFC 8446 section 4.1.2).
    pub(super) fn may_change_name(&self) -> bool {
        match self {
            Self::Requests(_) => true,
            Self::Retry(_) => false,
        }
    }

    /// Returns the language of a refusal.
    pub(super) fn protocol(&self) -> Protocol {
        match self {
            Self::Requests(_) => Protocol::Http,
            Self::Retry(_) => Protocol::Tls,
        }
    }

    /// Whether a refusal may be said now: everything asked before it was answered in full.
    pub(super) fn may_answer(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.may_answer(),
            Self::Retry(_) => true,
        }
    }

    /// Whether the request that is judged is HEAD: a refusal of it has no body.
    pub(super) fn is_head_only(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.is_head_only(),
            Self::Retry(_) => false,
        }
    }

    /// Whether a request's body is open: the server waits for the rest of it.
    pub(super) fn is_in_body(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.is_in_body(),
            Self::Retry(_) => false,
        }
    }

    /// Whether the responses cannot be told apart: the end of the stream alone ends them.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            Self::Requests(requests) => requests.is_lost(),
            Self::Retry(_) => false,
        }
    }
}
