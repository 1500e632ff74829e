//! Holds a TLS client back until it is known whether a second hello follows, and has that one judged too.
//!
//! A server may ask for another ClientHello (HelloRetryRequest), and act on the name in that one. Costs 0-RTT
//! data the round trip it would have saved. Must not know which names are allowed.

use crate::facts::{Claim, Fault};
use crate::wire::Look;
use crate::wire::tls::HelloReader;
use crate::wire::tls_retry::{Answer, AnswerReader, Before, before_hello, message_end};

use super::later::Next;
use super::sniff::claim_of_hello;

/// One TLS connection up to its last ClientHello.
#[derive(Debug)]
pub(super) enum Retry {
    /// The first hello, judged, is to pass.
    First,
    /// What the server makes of it is awaited.
    Answer(AnswerReader),
    /// The second hello is awaited or read.
    Second(HelloReader),
    /// The second hello was read and is being judged, or may pass.
    Judged { approved: bool },
    /// No more hellos.
    Over,
}

impl Retry {
    /// Looks at the client's bytes that have not passed yet.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Next {
        match self {
            Self::First => {
                *self = Self::Answer(AnswerReader::default());
                match message_end(bytes) {
                    Some(end) => Next::Pass(end),
                    None => Next::Judge(Claim::Garbled(Fault::Length)),
                }
            }
            Self::Answer(_) | Self::Judged { approved: false } => Next::Wait,
            Self::Second(reader) => match before_hello(bytes) {
                Err(fault) => Next::Judge(Claim::Garbled(fault)),
                Ok(Before::More) => Next::Wait,
                Ok(Before::Skip(len)) => Next::Pass(len),
                Ok(Before::Hello) => match reader.look(bytes) {
                    Look::More => Next::Wait,
                    Look::Foreign => Next::Judge(Claim::Garbled(Fault::Handshake)),
                    Look::Bad(fault) => Next::Judge(Claim::Garbled(fault)),
                    Look::Got(hello) => {
                        *self = Self::Judged { approved: false };
                        Next::Judge(claim_of_hello(hello))
                    }
                },
            },
            Self::Judged { approved: true } | Self::Over => Next::Free,
        }
    }

    /// The hello that was to be judged may pass.
    pub(super) fn approve(&mut self) {
        *self = Self::Judged { approved: true };
    }

    /// Follows what the server sent.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        if let Self::Answer(reader) = self {
            match reader.feed(bytes) {
                Answer::Unknown => {}
                Answer::Retry => *self = Self::Second(HelloReader::default()),
                Answer::Final => *self = Self::Over,
            }
        }
    }

    /// Whether the client is in the middle of a hello.
    pub(super) fn is_in_hello(&self, unjudged: &[u8]) -> bool {
        matches!(self, Self::Second(_)) && !unjudged.is_empty()
    }
}
