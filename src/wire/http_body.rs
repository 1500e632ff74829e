//! How far an HTTP/1 request reaches: its body's framing, and where the next head begins.
//!
//! Must not know names or sockets. Reads strictly: what two servers could frame in two ways is
//! [`Fault::Framing`], because a body for one of them is a second request for the other.

use super::http::{Body, Head, check_trailer};
use crate::facts::Fault;

/// How far a request reaches, and what its answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Bytes of the head.
    pub head: usize,
    /// How the body ends.
    pub body: Body,
    /// HEAD: the response has no body, whatever its head says.
    pub head_only: bool,
    /// Asks for a change to WebSocket (RFC 6455 section 4.1).
    pub websocket: bool,
}

impl Request {
    /// Reads what bears on framing from a head that was read already, and its bytes.
    ///
    /// # Errors
    /// [`Fault::Framing`] for a body under GET, HEAD or TRACE, which has no meaning there (RFC 9110 section
    /// 9.3) and which a server that leaves it unread would take for the next request; for a body under a
    /// request to change protocols, since a server that changes early would read it in the new one; and for
    /// two such requests in one. [`Fault::Length`] when these are not the bytes of the head.
    pub fn read(head: &Head, bytes: &[u8]) -> Result<Self, Fault> {
        let bytes = bytes.get(..head.len).ok_or(Fault::Length)?;
        let mut lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
        let request_line = lines.next().unwrap_or_default();
        let mut upgrades = lines.filter_map(|line| {
            let (name, value) = line.split_at(line.iter().position(|&byte| byte == b':')?);
            name.eq_ignore_ascii_case(b"upgrade").then(|| value.get(1..).unwrap_or_default().trim_ascii())
        });
        let upgrade = upgrades.next();
        if upgrades.next().is_some() {
            return Err(Fault::Framing);
        }
        match head.body {
            Body::Empty | Body::Length(0) => {}
            Body::Length(_) | Body::Chunked if head.upgrade || is_bodiless(request_line) => {
                return Err(Fault::Framing);
            }
            Body::Length(_) | Body::Chunked => {}
        }
        let websocket = request_line.starts_with(b"GET ")
            && request_line.ends_with(b" HTTP/1.1")
            && upgrade.is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
        let head_only = request_line.starts_with(b"HEAD ");
        Ok(Self { head: head.len, body: head.body, head_only, websocket })
    }
}

/// Whether the method is one whose body servers may leave unread. Letters of either case: a server that
/// folds them must not be the one that is fooled.
fn is_bodiless(request_line: &[u8]) -> bool {
    let method = request_line.split(|&byte| byte == b' ').next().unwrap_or_default();
    [&b"GET"[..], b"HEAD", b"TRACE"].iter().any(|bodiless| method.eq_ignore_ascii_case(bodiless))
}

/// Counts the bytes of one body as they pass.
#[derive(Debug)]
pub struct BodyReader {
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(Chunks),
}

impl BodyReader {
    /// Starts at the first byte after the head.
    pub fn new(body: Body) -> Self {
        let rest = match body {
            Body::Empty => Rest::Length(0),
            Body::Length(length) => Rest::Length(length),
            Body::Chunked => Rest::Chunked(Chunks::new(Chunking::Strict)),
        };
        Self { rest }
    }

    /// Returns how many of these bytes belong to the body.
    ///
    /// # Errors
    /// [`Fault::Framing`]: the chunks are not as RFC 9112 section 7.1 says, or servers differ over their
    /// extensions. [`Fault::HeaderField`]: a trailer that is no field, or one that no trailer may be.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        match &mut self.rest {
            Rest::Length(left) => Ok(take_length(left, bytes.len())),
            Rest::Chunked(chunks) => chunks.take(bytes),
        }
    }

    /// Returns how many of the next bytes are content, whatever they are: they need not be shown, only counted.
    pub fn mute(&self) -> u64 {
        match &self.rest {
            Rest::Length(left) => *left,
            Rest::Chunked(_) => 0,
        }
    }

    /// Counts bytes that were not shown; at most as many as say nothing.
    pub fn skip(&mut self, bytes: u64) {
        if let Rest::Length(left) = &mut self.rest {
            *left = left.saturating_sub(bytes);
        }
    }

    /// Whether the body is complete: what follows is the next head.
    pub fn is_done(&self) -> bool {
        match &self.rest {
            Rest::Length(left) => *left == 0,
            Rest::Chunked(chunks) => chunks.is_done(),
        }
    }
}

/// Takes up to `len` bytes off what is left.
pub(super) fn take_length(left: &mut u64, len: usize) -> usize {
    let taken = usize::try_from(*left).map_or(len, |left| left.min(len));
    *left -= taken as u64;
    taken
}

/// How chunks are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunking {
    /// Extensions and trailers that every server reads alike.
    Strict,
    /// Whatever ends with its line: responses are only counted, not judged.
    Lenient,
}

/// Reads chunk by chunk.
#[derive(Debug)]
pub(super) struct Chunks {
    chunking: Chunking,
    at: At,
    /// Bytes of the extensions of one chunk, or of all trailers, so far.
    extra: usize,
    /// The trailer under way; empty unless it is to be judged.
    trailer: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size { size: u64, digits: u8 },
    Extension { size: u64, quoted: bool },
    SizeEnd { size: u64 },
    Data(u64),
    DataEnd,
    DataEndLf,
    LineStart,
    Trailer,
    TrailerEnd,
    LastLf,
    Done,
}

/// Bytes of the extensions of one chunk, and of all trailers; what a common server takes for a head.
const MAX_EXTRA: usize = 65_536;

impl Chunks {
    pub(super) fn new(chunking: Chunking) -> Self {
        Self { chunking, at: At::Size { size: 0, digits: 0 }, extra: 0, trailer: Vec::new() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Returns how many of these bytes belong to the chunked body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while !self.is_done() {
            if let At::Data(left) = &mut self.at {
                let here = take_length(left, bytes.len() - taken);
                taken += here;
                if *left == 0 {
                    self.at = At::DataEnd;
                } else {
                    return Ok(taken);
                }
            }
            let Some(&byte) = bytes.get(taken) else { break };
            self.at = self.next(byte)?;
            taken += 1;
        }
        Ok(taken)
    }

    /// Moves on by one byte that is not chunk data.
    fn next(&mut self, byte: u8) -> Result<At, Fault> {
        let lenient = self.chunking == Chunking::Lenient;
        let next = match (self.at, byte) {
            (At::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                // Nothing overflows, and in a request nothing that a server would count in 31 bits.
                if digits == 15 || !lenient && (digits == 8 || size >= 1 << 27) {
                    return Err(Fault::Framing);
                }
                At::Size { size: size * 16 + digit, digits: digits + 1 }
            }
            (At::Size { digits: 0, .. }, _) => return Err(Fault::Framing),
            (At::Size { size, .. } | At::Extension { size, quoted: false }, b'\r') => At::SizeEnd { size },
            (At::Extension { size, quoted: true }, b'\r') if lenient => At::SizeEnd { size },
            (At::Size { size, .. }, b';') => self.beyond(At::Extension { size, quoted: false })?,
            (At::Size { size, .. }, b' ' | b'\t') if lenient => {
                self.beyond(At::Extension { size, quoted: false })?
            }
            (At::Extension { size, quoted }, b'"') => self.beyond(At::Extension { size, quoted: !quoted })?,
            (At::Extension { .. }, _) if byte != b'\n' && (lenient || is_extension_byte(byte)) => {
                self.beyond(self.at)?
            }
            (At::SizeEnd { size: 0 }, b'\n') => At::LineStart,
            (At::SizeEnd { size }, b'\n') => At::Data(size),
            (At::DataEnd, b'\r') => At::DataEndLf,
            (At::DataEndLf, b'\n') => {
                self.extra = 0;
                At::Size { size: 0, digits: 0 }
            }
            (At::LineStart, b'\r') => At::LastLf,
            (At::LastLf, b'\n') => At::Done,
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::LineStart | At::Trailer, _) if byte != b'\n' => {
                if !lenient {
                    self.trailer.push(byte);
                }
                self.beyond(At::Trailer)?
            }
            (At::TrailerEnd, b'\n') if lenient => At::LineStart,
            (At::TrailerEnd, b'\n') => {
                check_trailer(&std::mem::take(&mut self.trailer))?;
                At::LineStart
            }
            (
                At::Size { .. }
                | At::Extension { .. }
                | At::SizeEnd { .. }
                | At::Data(_)
                | At::DataEnd
                | At::DataEndLf
                | At::LineStart
                | At::Trailer
                | At::TrailerEnd
                | At::LastLf
                | At::Done,
                _,
            ) => return Err(Fault::Framing),
        };
        Ok(next)
    }

    fn beyond(&mut self, next: At) -> Result<At, Fault> {
        self.extra += 1;
        if self.extra > MAX_EXTRA { Err(Fault::Framing) } else { Ok(next) }
    }
}

/// Whether the byte may stand in a chunk's extension. A backslash escapes a quote for some readers only.
const fn is_extension_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~') && byte != b'\\'
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::wire::Look;
    use crate::wire::http::HeadReader;

    fn read(lines: &str) -> Result<Request, Fault> {
        let bytes = format!("{lines}\r\nHost: a.example\r\n\r\nGET / HTTP/1.1\r\nUpgrade: x");
        match HeadReader::default().look(bytes.as_bytes()) {
            Look::Got(head) => Request::read(&head, bytes.as_bytes()),
            Look::Bad(fault) => Err(fault),
            Look::More | Look::Foreign => panic!("{bytes:?}"),
        }
    }

    #[test]
    fn a_request_tells_its_body_and_whether_its_answer_has_one() {
        let plain = read("GET / HTTP/1.1").unwrap();
        assert_eq!((plain.body, plain.head_only, plain.websocket), (Body::Empty, false, false));
        assert!(read("HEAD / HTTP/1.1").unwrap().head_only);
        assert_eq!(read("POST / HTTP/1.1\r\nContent-Length: 12").unwrap().body, Body::Length(12));
    }

    #[test]
    fn a_body_under_an_upgrade_and_two_upgrades_are_refused() {
        for fields in [
            "Upgrade: h2c\r\nContent-Length: 4",
            "Upgrade: websocket\r\nTransfer-Encoding: chunked",
            "Upgrade: websocket\r\nUpgrade: h2c",
        ] {
            assert_eq!(read(&format!("POST / HTTP/1.1\r\n{fields}")), Err(Fault::Framing), "{fields}");
        }
    }

    #[test]
    fn a_body_that_servers_leave_unread_is_refused() {
        for method in ["GET", "HEAD", "TRACE", "get"] {
            for framing in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
                let lines = format!("{method} / HTTP/1.1\r\n{framing}");
                assert_eq!(read(&lines), Err(Fault::Framing), "{lines}");
            }
            let empty = read(&format!("{method} / HTTP/1.1\r\nContent-Length: 0"));
            assert_eq!(empty.unwrap().body, Body::Length(0), "{method}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GETS"] {
            assert!(read(&format!("{method} / HTTP/1.1\r\nContent-Length: 1")).is_ok(), "{method}");
        }
    }

    #[test]
    fn only_a_get_that_asks_for_websocket_asks_for_it() {
        assert!(read("GET / HTTP/1.1\r\nUpgrade: WebSocket").unwrap().websocket);
        assert!(!read("GET / HTTP/1.1\r\nUpgrade: h2c").unwrap().websocket);
        assert!(!read("GET / HTTP/1.1\r\nUpgrade: websocket, h2c").unwrap().websocket);
        assert!(!read("POST / HTTP/1.1\r\nUpgrade: websocket").unwrap().websocket);
        assert!(!read("GET / HTTP/1.0\r\nUpgrade: websocket").unwrap().websocket);
    }

    #[test]
    fn a_chunked_body_ends_at_the_same_byte_however_it_is_cut() {
        let body = b"4\r\nwiki\r\n00A\r\n0123456789\r\n0\r\n\r\n";
        let stream = [&body[..], b"GET / HTTP/1.1"].concat();
        for step in 1..stream.len() {
            let mut reader = BodyReader::new(Body::Chunked);
            let mut at = 0;
            for piece in stream.chunks(step) {
                let taken = reader.take(piece).unwrap();
                at += taken;
                if taken < piece.len() {
                    break;
                }
            }
            assert!(reader.is_done());
            assert_eq!(at, body.len(), "cut every {step}");
        }
    }

    #[test]
    fn broken_chunks_and_extensions_that_servers_read_in_two_ways_are_refused() {
        for body in [
            "\r\n",
            "g\r\n",
            "4 \r\nwiki\r\n",
            "4 ;a\r\nwiki\r\n",
            "4;a\nwiki\r\n",
            "4;a\rb\r\nwiki\r\n",
            "4;a=\"\r\n\"\r\n",
            "4;a=\"\\\"\"\r\n",
            "4;a\0\r\nwiki\r\n",
            "4;\x0b\r\nwiki\r\n",
            "4;\u{e9}\r\nwiki\r\n",
            "+4\r\n",
            "4_0\r\n",
            "4\r\nwiki0\r\n\r\n",
            ";a\r\n",
            "4\nwiki\r\n",
            "4\r\nwikiX",
            "4\r\nwiki\n",
            "0\r\n\n",
            "0\r\nX: y\n\r\n",
            "0\n\n",
            "-1\r\n",
            "0x4\r\n",
            "1000000000000000\r\n",
            "100000005\r\n",
            "000000001\r\n",
            "80000000\r\n",
        ] {
            let mut reader = BodyReader::new(Body::Chunked);
            assert_eq!(reader.take(body.as_bytes()), Err(Fault::Framing), "{body:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_part_of_the_body_however_it_is_cut() {
        let body = b"4;a=b;c=\"d;e\" ;f\r\nwiki\r\n0;last\r\nX-Sum: caf\xe9\r\nEtag:\r\n\r\n";
        let stream = [&body[..], b"GET / HTTP/1.1"].concat();
        for step in 1..stream.len() {
            let mut reader = BodyReader::new(Body::Chunked);
            let taken: usize = stream.chunks(step).map(|piece| reader.take(piece).unwrap()).sum();
            assert!(reader.is_done());
            assert_eq!(taken, body.len(), "cut every {step}");
        }
    }

    #[test]
    fn trailers_that_some_server_could_act_on_are_refused() {
        for trailer in [
            "Host: evil.example",
            "host:",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Upgrade: websocket",
            "Connection: upgrade",
            "GET http://evil.example/ HTTP/1.1",
            "A: http://evil.example/ HTTP/1.1",
            " X: folded",
            "X : y",
            "X",
            ": y",
            "X: a\0b",
            "X: a\rb",
        ] {
            let body = format!("0\r\nX: y\r\n{trailer}\r\n\r\n");
            let read = BodyReader::new(Body::Chunked).take(body.as_bytes());
            assert!(matches!(read, Err(Fault::HeaderField | Fault::Framing)), "{trailer}: {read:?}");
        }
    }

    #[test]
    fn extensions_are_bounded_by_chunk_and_trailers_by_body() {
        let mut many = BodyReader::new(Body::Chunked);
        let chunk = format!("1;{}\r\nx\r\n", "a".repeat(MAX_EXTRA - 1));
        for _ in 0..3 {
            assert_eq!(many.take(chunk.as_bytes()), Ok(chunk.len()));
        }
        let long = format!("1;{}", "a".repeat(MAX_EXTRA));
        assert_eq!(many.take(long.as_bytes()), Err(Fault::Framing));
        let trailers = format!("0\r\n{}", "X: y\r\n".repeat(MAX_EXTRA / 4 + 1));
        assert_eq!(BodyReader::new(Body::Chunked).take(trailers.as_bytes()), Err(Fault::Framing));
    }

    #[test]
    fn lenient_chunks_pass_extensions_and_trailers_up_to_a_limit() {
        let body = b"4;a=b\r\nwiki\r\n0\r\nX: y\r\n\r\n";
        let mut chunks = Chunks::new(Chunking::Lenient);
        assert_eq!(chunks.take(body), Ok(body.len()));
        assert!(chunks.is_done());
        let endless = [b"4;".to_vec(), vec![b'a'; MAX_EXTRA + 1]].concat();
        assert_eq!(Chunks::new(Chunking::Lenient).take(&endless), Err(Fault::Framing));
    }

    #[test]
    fn a_length_body_takes_no_byte_of_the_next_request() {
        let mut reader = BodyReader::new(Body::Length(5));
        assert_eq!(reader.take(b"abc"), Ok(3));
        assert!(!reader.is_done());
        assert_eq!(reader.take(b"deGET /"), Ok(2));
        assert!(reader.is_done());
        assert_eq!(reader.take(b"GET /"), Ok(0));
    }
}
