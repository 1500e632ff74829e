//! Which HTTP/1 responses have passed: tells when every request was answered, and whether the server
//! has switched protocols.
//!
//! Nothing is refused here, the bytes have passed already; where the framing cannot be told, the
//! tracker says that it is lost, and then nothing may be concluded. Must not know requests' names.

use std::collections::VecDeque;

use super::http_body::{Chunking, Chunks, take_length};

/// What was asked, as far as it bears on the answer's framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// HEAD: no body follows.
    pub head_only: bool,
    /// A change to WebSocket was asked for.
    pub websocket: bool,
}

/// Follows the responses on one connection.
#[derive(Debug)]
pub struct Responses {
    asked: VecDeque<Asked>,
    head: Vec<u8>,
    at: At,
}

#[derive(Debug)]
enum At {
    Head,
    Length(u64),
    Chunked(Chunks),
    UntilEnd,
    Switched,
    Lost,
}

/// Longest response head that is followed.
const MAX_HEAD: usize = 65_536;

impl Default for Responses {
    fn default() -> Self {
        Self { asked: VecDeque::new(), head: Vec::new(), at: At::Head }
    }
}

impl Responses {
    /// Notes that a request is on its way to the server.
    pub fn asked(&mut self, asked: Asked) {
        if !matches!(self.at, At::Lost | At::UntilEnd) {
            self.asked.push_back(asked);
        }
    }

    /// Returns how many requests have no complete response yet.
    pub fn outstanding(&self) -> usize {
        self.asked.len()
    }

    /// Whether every request was answered in full, so that a response of our own may follow.
    pub fn all_answered(&self) -> bool {
        matches!(self.at, At::Head) && self.asked.is_empty() && self.head.is_empty()
    }

    /// Whether the server has changed to WebSocket as it was asked to: from here on, bytes are not HTTP.
    pub fn switched(&self) -> bool {
        matches!(self.at, At::Switched)
    }

    /// Whether the responses can no longer be told apart.
    pub fn lost(&self) -> bool {
        matches!(self.at, At::Lost | At::UntilEnd)
    }

    /// Returns how many of the server's next bytes say nothing: they need not be shown, only counted.
    pub fn mute(&self) -> u64 {
        match self.at {
            At::Length(left) => left,
            At::UntilEnd | At::Switched | At::Lost => u64::MAX,
            At::Head | At::Chunked(_) => 0,
        }
    }

    /// Counts bytes that were not shown; at most as many as say nothing.
    pub fn skip(&mut self, bytes: u64) {
        if let At::Length(left) = &mut self.at {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.answered();
            }
        }
    }

    /// Follows bytes that the server sent.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.at {
                At::Head => self.feed_head(bytes),
                At::Length(left) => {
                    let taken = take_length(left, bytes.len());
                    if *left == 0 {
                        self.answered();
                    }
                    taken
                }
                At::Chunked(chunks) => match chunks.take(bytes) {
                    Ok(taken) => {
                        if chunks.is_done() {
                            self.answered();
                        }
                        taken
                    }
                    Err(_) => self.lose(bytes.len()),
                },
                At::UntilEnd | At::Switched | At::Lost => bytes.len(),
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    fn feed_head(&mut self, bytes: &[u8]) -> usize {
        // A server may talk unasked (408); no request of ours can be matched with that.
        let Some(&asked) = self.asked.front() else { return self.lose(bytes.len()) };
        let before = self.head.len();
        let room = MAX_HEAD - before;
        self.head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let from = before.saturating_sub(3);
        let end = self.head.get(from..).unwrap_or_default().windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else {
            return if self.head.len() >= MAX_HEAD { self.lose(bytes.len()) } else { bytes.len() };
        };
        let len = from + end + 4;
        self.head.truncate(len);
        let head = std::mem::take(&mut self.head);
        let next = after_head(&head, asked);
        match next {
            Some(After::Interim) => {}
            Some(After::Switched) => {
                self.asked.pop_front();
                self.at = At::Switched;
            }
            Some(After::Length(0)) => self.answered(),
            Some(After::Length(length)) => self.at = At::Length(length),
            Some(After::Chunked) => self.at = At::Chunked(Chunks::new(Chunking::Lenient)),
            Some(After::UntilEnd) => self.at = At::UntilEnd,
            None => return self.lose(bytes.len()),
        }
        len - before
    }

    fn answered(&mut self) {
        self.asked.pop_front();
        self.at = At::Head;
    }

    /// Gives up; returns that all of these bytes are done with.
    fn lose(&mut self, all: usize) -> usize {
        self.asked.clear();
        self.head = Vec::new();
        self.at = At::Lost;
        all
    }
}

/// What follows a response head (RFC 9112 section 6.3).
enum After {
    Interim,
    Switched,
    Length(u64),
    Chunked,
    UntilEnd,
}

fn after_head(head: &[u8], asked: Asked) -> Option<After> {
    let mut lines = head.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status_line = lines.next()?;
    if !(status_line.starts_with(b"HTTP/1.1 ") || status_line.starts_with(b"HTTP/1.0 ")) {
        return None;
    }
    if !matches!(status_line.get(12), None | Some(b' ')) {
        return None;
    }
    let status = decimal(status_line.get(9..12)?)?;
    match status {
        101 if asked.websocket => return Some(After::Switched),
        101 | 0..=99 => return None,
        102..=199 | 100 => return Some(After::Interim),
        204 | 304 => return Some(After::Length(0)),
        _ => {}
    }
    let mut length = None;
    let mut coding = None;
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") && length.replace(decimal(value)?).is_some() {
            return None;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") && coding.replace(value).is_some() {
            return None;
        }
    }
    match (coding, length) {
        _ if asked.head_only => Some(After::Length(0)),
        (Some(_), Some(_)) => None,
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Some(After::Chunked),
        (None, Some(length)) => Some(After::Length(length)),
        (Some(_), None) | (None, None) => Some(After::UntilEnd),
    }
}

/// Reads digits alone, at most 18 of them: no sign, no list, no overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => Some(value * 10 + u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    const GET: Asked = Asked { head_only: false, websocket: false };
    const HEAD: Asked = Asked { head_only: true, websocket: false };
    const WEBSOCKET: Asked = Asked { head_only: false, websocket: true };

    #[test]
    fn bytes_that_say_nothing_may_be_counted_alone() {
        let two = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        let mut responses = fed(&[GET, GET], two, 64);
        assert_eq!(responses.mute(), 9);
        responses.skip(4);
        responses.feed(b"five5");
        assert_eq!((responses.mute(), responses.outstanding()), (0, 1));
        responses.feed(two);
        responses.skip(9);
        assert!(responses.all_answered());
        let chunked = fed(&[GET], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n", 64);
        assert_eq!(chunked.mute(), 0);
        let to_the_end = fed(&[GET], b"HTTP/1.0 200 OK\r\n\r\n", 64);
        assert_eq!(to_the_end.mute(), u64::MAX);
    }

    fn fed(asked: &[Asked], bytes: &[u8], step: usize) -> Responses {
        let mut responses = Responses::default();
        for &asked in asked {
            responses.asked(asked);
        }
        for piece in bytes.chunks(step) {
            responses.feed(piece);
        }
        responses
    }

    #[test]
    fn responses_are_counted_however_they_are_cut() {
        let stream = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
            HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n\
            HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
        for step in 1..stream.len() {
            let all = fed(&[GET, HEAD, GET, GET], stream, step);
            assert!(all.all_answered(), "cut every {step}: {all:?}");
            let short = fed(&[GET, HEAD, GET, GET], &stream[..stream.len() - 1], step);
            assert!(!short.all_answered());
            assert_eq!(short.outstanding(), 1);
        }
    }

    #[test]
    fn a_body_without_length_is_never_known_to_be_complete() {
        let responses = fed(&[GET], b"HTTP/1.0 200 OK\r\n\r\nabc", 100);
        assert!(!responses.all_answered() && responses.lost());
    }

    #[test]
    fn only_a_101_to_a_websocket_request_switches() {
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00";
        assert!(fed(&[WEBSOCKET], switch, 7).switched());
        assert!(fed(&[GET], switch, 7).lost());
        let refused = fed(&[WEBSOCKET], b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 7);
        assert!(refused.all_answered() && !refused.switched());
    }

    #[test]
    fn a_101_inside_a_body_switches_nothing() {
        let body = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let stream = [head.as_bytes(), body].concat();
        let responses = fed(&[GET, WEBSOCKET], &stream, 5);
        assert!(!responses.switched());
        assert_eq!(responses.outstanding(), 1);
    }

    #[test]
    fn doubtful_framing_and_unasked_responses_lose_the_track() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 1010 OK\r\n\r\n",
        ] {
            assert!(fed(&[WEBSOCKET], head.as_bytes(), 3).lost(), "{head:?}");
        }
        assert!(fed(&[], b"HTTP/1.1 408 Request Timeout\r\n\r\n", 100).lost());
        assert!(fed(&[GET], &vec![b'a'; MAX_HEAD + 1], 1000).lost());
    }
}
