//! Holds a TLS client back until it is known whether a second hello follows, and has that one judged too.
//!
//! A server may ask for another ClientHello (HelloRetryRequest), and act on the name in that one. 0-RTT data need not
//! wait for that. Must not know which names are allowed.

use crate::facts::{Claim, Fault, Protocol};
use crate::wire::Look;
use crate::wire::tls::HelloReader;
use crate::wire::tls_retry::{Ahead, Answer, AnswerReader, Before, before_hello, message_end};

use super::later::Next;
use super::sniff::claim_of_hello;

/// One TLS connection up to its last ClientHello.
#[derive(Debug)]
pub(super) struct Retry {
    /// What led to TLS: both hellos are judged as this.
    protocol: Protocol,
    at: At,
}

#[derive(Debug)]
enum At {
    /// The first hello, judged, is to pass.
    First,
    /// What the server makes of it is awaited.
    Answer(AnswerReader, Ahead),
    /// The second hello is awaited or read, behind what is left of a record that was passing.
    Second(HelloReader, Ahead),
    /// A second hello was asked for where records cannot be told any more.
    Astray,
    /// The second hello was read and is being judged, or may pass.
    Judged { approved: bool },
    /// No more hellos.
    Over,
}

impl Retry {
    /// Starts at the first byte of a hello that was judged and may pass.
    pub(super) fn after(protocol: Protocol) -> Self {
        Self { protocol, at: At::First }
    }

    /// Looks at the client's bytes that have not passed yet.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Next {
        match &mut self.at {
            At::First => {
                self.at = At::Answer(AnswerReader::default(), Ahead::default());
                match message_end(bytes) {
                    Some(end) => Next::Pass(end),
                    None => Next::Judge(Claim::Garbled(Fault::Length)),
                }
            }
            At::Answer(_, ahead) => match ahead.passing(bytes) {
                0 => Next::Wait,
                passing => Next::Pass(passing),
            },
            At::Judged { approved: false } => Next::Wait,
            At::Astray => Next::Judge(Claim::Garbled(Fault::Record)),
            At::Second(_, ahead) if !ahead.is_between() => match ahead.left_of(bytes) {
                0 => Next::Wait,
                passing => Next::Pass(passing),
            },
            At::Second(reader, _) => match before_hello(bytes) {
                Err(fault) => Next::Judge(Claim::Garbled(fault)),
                Ok(Before::More) => Next::Wait,
                Ok(Before::Skip(len)) => Next::Pass(len),
                Ok(Before::Hello) => match reader.look(bytes) {
                    Look::More => Next::Wait,
                    Look::Foreign => Next::Judge(Claim::Garbled(Fault::Handshake)),
                    Look::Bad(fault) => Next::Judge(Claim::Garbled(fault)),
                    Look::Got(hello) => {
                        self.at = At::Judged { approved: false };
                        Next::Judge(claim_of_hello(hello, self.protocol))
                    }
                },
            },
            At::Judged { approved: true } | At::Over => Next::Free,
        }
    }

    /// The hello that was to be judged may pass.
    pub(super) fn approve(&mut self) {
        self.at = At::Judged { approved: true };
    }

    /// Follows what the server sent.
    pub(super) fn answered(&mut self, bytes: &[u8]) {
        if let At::Answer(reader, ahead) = &mut self.at {
            match reader.feed(bytes) {
                Answer::Unknown => {}
                Answer::Retry if ahead.has_strayed() => self.at = At::Astray,
                Answer::Retry => self.at = At::Second(HelloReader::default(), *ahead),
                Answer::Final => self.at = At::Over,
            }
        }
    }

    /// Whether a second hello was read and waits to be approved.
    pub(super) fn is_judged(&self) -> bool {
        matches!(self.at, At::Judged { approved: false })
    }

    /// Whether the client is in the middle of a hello.
    pub(super) fn is_in_hello(&self, unjudged: &[u8]) -> bool {
        matches!(self.at, At::Second(..)) && !unjudged.is_empty()
    }
}
