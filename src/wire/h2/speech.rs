//! What a gate says to an HTTP/2 client in the server's place.
//!
//! Fields are written without the dynamic table, so that the server's own compression is not disturbed. Must
//! not know why something is said.

use super::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, SETTINGS};

/// Empty SETTINGS: what a server says first, and what some clients wait for (RFC 9113 section 3.4).
pub const GREETING: [u8; 9] = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];

/// How a connection ends (RFC 9113 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// All that was asked up to the last stream is answered or will be.
    InOrder,
    /// What was said could not be read, or never was complete.
    Protocol,
}

/// Says that no stream beyond `last` will be served, and why (RFC 9113 section 6.8).
pub fn goaway(last: u32, goodbye: Goodbye, why: &str) -> Vec<u8> {
    let code: u32 = match goodbye {
        Goodbye::InOrder => 0,
        Goodbye::Protocol => 1,
    };
    let payload = [&last.to_be_bytes()[..], &code.to_be_bytes(), why.as_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// Answers a request with a status of three digits and a text; `None`: it was HEAD. One frame holds the text:
/// it is short.
pub fn response(stream: u32, status: &str, length: usize, text: Option<&str>) -> Vec<u8> {
    let mut block = Vec::new();
    field(&mut block, STATUS, status);
    field(&mut block, CONTENT_TYPE, "text/plain; charset=utf-8");
    field(&mut block, CONTENT_LENGTH, &length.to_string());
    field(&mut block, CACHE_CONTROL, "no-store");
    let end = if text.is_none() { END_STREAM } else { 0 };
    let mut said = frame(HEADERS, END_HEADERS | end, stream, &block);
    if let Some(text) = text {
        said.extend(frame(DATA, END_STREAM, stream, text.as_bytes()));
    }
    said
}

/// Indices of names in the static table (RFC 7541 appendix A).
const STATUS: u8 = 8;
const CACHE_CONTROL: u8 = 24;
const CONTENT_LENGTH: u8 = 28;
const CONTENT_TYPE: u8 = 31;

/// Writes a field without indexing, its name from the static table (RFC 7541 section 6.2.2).
fn field(block: &mut Vec<u8>, name: u8, value: &str) {
    match name.checked_sub(15) {
        None => block.push(name),
        Some(more) => block.extend([15, more]),
    }
    // Every value is shorter than the prefix holds: 127 bytes.
    block.push(value.len() as u8);
    block.extend_from_slice(value.as_bytes());
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
    [&[high, middle, low, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}
