//! The second ClientHello: whether the server asked for one, and where in the client's bytes it stands.
//!
//! Must not know names, nor what becomes of a hello that claims another one.

use crate::facts::Fault;

/// Bytes of a record's header (RFC 8446 section 5.1).
const HEADER: usize = 5;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;
/// First byte of every record's version, up to TLS 1.3.
const MAJOR: u8 = 3;
const SERVER_HELLO: u8 = 2;

/// The `random` that makes a ServerHello a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2,
    0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// Message header, version and `random` of a ServerHello.
const OPENING: usize = 4 + 2 + RETRY.len();

/// Returns where the handshake message that the bytes start with ends, records and all; `None`: not yet, or
/// these are no handshake records.
pub fn message_end(bytes: &[u8]) -> Option<usize> {
    let mut opening: Vec<u8> = Vec::with_capacity(4);
    let mut payload = 0;
    let mut at = 0;
    loop {
        let (kind, len) = header(bytes.get(at..)?)?;
        if kind != HANDSHAKE {
            return None;
        }
        let end = at + HEADER + len;
        let body = bytes.get(at + HEADER..end)?;
        opening.extend(body.iter().take(4 - opening.len()));
        payload += len;
        at = end;
        if let [_, high, middle, low] = opening[..] {
            let message = 4 + (usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low));
            if payload >= message {
                return Some(end);
            }
        }
    }
}

fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    match bytes {
        [kind, _, _, high, low, ..] => Some((*kind, usize::from(u16::from_be_bytes([*high, *low])))),
        _ => None,
    }
}

/// Walks over records as they pass, in pieces.
#[derive(Debug, Default)]
struct Records {
    header: Vec<u8>,
    left: usize,
}

/// What a server's first bytes turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// More bytes are needed.
    Unknown,
    /// A HelloRetryRequest: the client will send a second hello.
    Retry,
    /// Anything else: there is no second hello.
    Final,
}

/// Reads the beginning of a server's answer to a ClientHello.
#[derive(Debug, Default)]
pub struct AnswerReader {
    records: Records,
    opening: Vec<u8>,
}

impl AnswerReader {
    /// Takes the bytes that follow those of the last call. Alerts before the answer are stepped over.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Answer {
        loop {
            let Some((kind, piece, rest)) = self.records.piece(bytes) else { return Answer::Unknown };
            bytes = rest;
            match kind {
                ALERT | CHANGE_CIPHER_SPEC => continue,
                HANDSHAKE => self.opening.extend(piece.iter().take(OPENING - self.opening.len())),
                _ => return Answer::Final,
            }
            match self.opening.first() {
                Some(&SERVER_HELLO) | None => {}
                Some(_) => return Answer::Final,
            }
            if self.opening.len() == OPENING {
                return if self.opening.ends_with(&RETRY) { Answer::Retry } else { Answer::Final };
            }
        }
    }
}

impl Records {
    /// Returns the next piece of a record's body and its type, and the bytes after it; `None`: more bytes are
    /// needed.
    fn piece<'a>(&mut self, mut bytes: &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
        while self.left == 0 {
            if self.header.len() == HEADER {
                self.header.clear();
            }
            let (taken, rest) = bytes.split_at(bytes.len().min(HEADER - self.header.len()));
            self.header.extend_from_slice(taken);
            bytes = rest;
            self.left = header(&self.header)?.1;
        }
        if bytes.is_empty() {
            return None;
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(self.left));
        self.left -= piece.len();
        Some((header(&self.header)?.0, piece, rest))
    }
}

/// Follows what a client sends behind its hello while the server's answer is awaited.
///
/// Early data, alerts and what middleboxes are sent pass as they come. A handshake record may be a second hello, and
/// waits. Bytes that are no record at all are no hello to anybody who speaks TLS: they pass too, and are remembered.
#[derive(Debug, Default, Clone, Copy)]
pub struct Ahead {
    left: usize,
    strayed: bool,
}

impl Ahead {
    /// Returns how many of the bytes may pass; zero: they wait.
    pub fn passing(&mut self, bytes: &[u8]) -> usize {
        if self.left == 0 && !self.strayed {
            match bytes {
                [] | [HANDSHAKE, ..] => return 0,
                [CHANGE_CIPHER_SPEC..=HEARTBEAT] | [CHANGE_CIPHER_SPEC..=HEARTBEAT, MAJOR, ..] => {
                    let Some((_, len)) = header(bytes) else { return 0 };
                    self.left = HEADER + len;
                }
                _ => self.strayed = true,
            }
        }
        if self.strayed {
            return bytes.len();
        }
        self.left_of(bytes)
    }

    /// Returns how many of the bytes belong to a record that has begun to pass.
    pub fn left_of(&mut self, bytes: &[u8]) -> usize {
        let passing = bytes.len().min(self.left);
        self.left -= passing;
        passing
    }

    /// Whether what passed ends with a whole record.
    pub fn is_between(&self) -> bool {
        self.left == 0
    }

    /// Whether something passed that is no TLS record.
    pub fn has_strayed(&self) -> bool {
        self.strayed
    }
}

/// Tells what stands first in bytes in which a second hello is sought. Whole records may stand before it, to
/// be passed unread: early data that the server throws away, and what middleboxes are sent (RFC 8446 sections
/// 4.2.10 and D.4).
///
/// # Errors
/// [`Fault::Record`]: a record that has no place there.
pub fn before_hello(bytes: &[u8]) -> Result<Before, Fault> {
    let Some((kind, len)) = header(bytes) else { return Ok(Before::More) };
    match kind {
        HANDSHAKE => Ok(Before::Hello),
        CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA if bytes.len() >= HEADER + len => {
            Ok(Before::Skip(HEADER + len))
        }
        CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA => Ok(Before::More),
        _ => Err(Fault::Record),
    }
}

/// What stands first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// More bytes are needed.
    More,
    /// So many bytes are something else.
    Skip(usize),
    /// The hello.
    Hello,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3][..], &(body.len() as u16).to_be_bytes(), body].concat()
    }

    fn server_hello(random: &[u8; 32]) -> Vec<u8> {
        [&[SERVER_HELLO, 0, 0, 40, 3, 3][..], random, &[0; 6]].concat()
    }

    fn answered(bytes: &[u8], step: usize) -> Answer {
        let mut reader = AnswerReader::default();
        bytes
            .chunks(step)
            .map(|piece| reader.feed(piece))
            .find(|answer| *answer != Answer::Unknown)
            .unwrap_or(Answer::Unknown)
    }

    fn passed_ahead(bytes: &[u8], step: usize) -> usize {
        let mut ahead = Ahead::default();
        let (mut passed, mut there) = (0, 0);
        while there < bytes.len() {
            there = (there + step).min(bytes.len());
            while passed < there {
                match ahead.passing(&bytes[passed..there]) {
                    0 => break,
                    passing => passed += passing,
                }
            }
        }
        passed
    }

    #[test]
    fn what_may_pass_ahead_of_the_answer_is_the_same_however_it_is_cut() {
        let data = [record(20, &[1]), record(23, &[9; 300]), record(21, &[1, 0]), record(23, &[])].concat();
        let hello = record(HANDSHAKE, &[1, 0, 0, 0]);
        let none = [23, 2, 3, 0, 0];
        let cases = [
            (data.clone(), data.len()),
            ([&data[..], &hello, &data].concat(), data.len()),
            ([&data[..], &none].concat(), data.len() + none.len()),
            (hello.clone(), 0),
            (b"GET / HTTP/1.1".to_vec(), 14),
            (vec![23, 3, 3, 0], 0),
        ];
        for (bytes, expected) in cases {
            for step in 1..=bytes.len() {
                assert_eq!(passed_ahead(&bytes, step), expected, "{bytes:?} cut every {step}");
            }
        }
    }

    #[test]
    fn a_retry_is_told_from_an_answer_however_it_is_cut_and_framed() {
        for (random, expected) in [(&RETRY, Answer::Retry), (&[7; 32], Answer::Final)] {
            let hello = server_hello(random);
            let whole = record(HANDSHAKE, &hello);
            let split: Vec<u8> = hello.chunks(9).flat_map(|part| record(HANDSHAKE, part)).collect();
            let warned = [record(ALERT, &[1, 112]), whole.clone()].concat();
            for bytes in [whole, split, warned] {
                for step in 1..bytes.len() {
                    assert_eq!(answered(&bytes, step), expected, "cut every {step}");
                }
            }
        }
    }

    #[test]
    fn other_answers_are_final_and_half_ones_unknown() {
        assert_eq!(answered(&record(APPLICATION_DATA, b"x"), 100), Answer::Final);
        assert_eq!(answered(&record(HANDSHAKE, &[11, 0, 0, 0]), 100), Answer::Final);
        assert_eq!(answered(b"HTTP/1.1 400 Bad Request\r\n", 100), Answer::Final);
        let retry = record(HANDSHAKE, &server_hello(&RETRY));
        for len in 0..HEADER + OPENING {
            assert_eq!(answered(&retry[..len], 100), Answer::Unknown);
        }
    }

    #[test]
    fn the_end_of_a_message_is_the_end_of_its_last_record() {
        let message = [&[1, 0, 0, 20][..], &[0; 20]].concat();
        for size in 1..=message.len() {
            let records: Vec<u8> = message.chunks(size).flat_map(|part| record(HANDSHAKE, part)).collect();
            let followed = [&records[..], &record(APPLICATION_DATA, b"early")].concat();
            assert_eq!(message_end(&followed), Some(records.len()), "records of {size}");
            for len in 0..records.len() {
                assert_eq!(message_end(&records[..len]), None);
            }
        }
    }

    #[test]
    fn what_stands_before_a_second_hello_is_stepped_over_record_by_record() {
        let data = record(APPLICATION_DATA, b"early");
        assert_eq!(before_hello(&data), Ok(Before::Skip(data.len())));
        assert_eq!(before_hello(&data[..7]), Ok(Before::More));
        assert_eq!(before_hello(&record(HANDSHAKE, b"")), Ok(Before::Hello));
        assert_eq!(before_hello(b"GET / HTTP/1.1\r\n"), Err(Fault::Record));
    }
}
