//! HTTP/2 with prior knowledge in clear text: which requests a client makes, and where they stand.
//!
//! Follows frames as they pass, without ending the protocol: one file for each direction, one for what is said
//! in the server's place. Must not know which names are allowed, nor sockets.

mod client;
mod fields;
mod hpack;
mod huffman;
mod server;
mod speech;
mod static_table;
mod uploads;

pub use client::{ClientFrames, Request, Step};
pub use server::{ServerFrames, Told};
pub use speech::{GREETING, Goodbye, goaway, response};

/// What a client says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header.
const FRAME_HEADER: usize = 9;
/// Longest frame that every receiver takes (RFC 9113 section 4.2).
const DEFAULT_MAX_FRAME: usize = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

const HEADER_TABLE_SIZE: u16 = 1;
const MAX_FRAME_SIZE: u16 = 5;

/// A frame's header (RFC 9113 section 4.1).
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Bytes of the payload.
    len: usize,
    kind: u8,
    flags: u8,
    /// The reserved bit included.
    stream: u32,
}

impl Frame {
    /// Reads the header that the bytes start with; `None`: more bytes are needed.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, a, b, c, d] = *bytes.first_chunk::<FRAME_HEADER>()?;
        let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Some(Self { len, kind, flags, stream: u32::from_be_bytes([a, b, c, d]) })
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
