//! What it costs to read a name: hellos and heads of several sizes, in one piece and byte by byte.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use divan::Bencher;
use divan::counter::BytesCount;
use namegate::wire::Look;
use namegate::wire::http::HeadReader;
use namegate::wire::tls::HelloReader;

fn main() {
    divan::main();
}

/// Bytes: OpenSSL without post-quantum keys, a browser with them, one full record, the limit.
const HELLOS: [usize; 4] = [250, 1_800, 16_000, 65_000];
/// Bytes: curl, a browser with cookies, a common server limit, near ours.
const HEADS: [usize; 4] = [80, 800, 8_000, 65_000];

/// A hello of `len` bytes in records of at most `record`.
fn hello(len: usize, record: usize) -> Vec<u8> {
    let vector = |content: &[u8]| [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat();
    let mut extensions = [&[0, 0][..], &vector(&vector(b"\0\0\x0fwww.example.com"))].concat();
    extensions.extend([&[0, 16][..], &vector(&vector(b"\x02h2\x08http/1.1"))].concat());
    for kind in [5, 10, 11, 13, 22, 23, 35, 43, 45, 51] {
        extensions.extend([&[0, kind][..], &vector(&[kind; 6])].concat());
    }
    let fixed = 4 + 2 + 32 + 1 + 2 + 4 + 2 + 2;
    let padding = vec![0; len.saturating_sub(fixed + extensions.len() + 4)];
    extensions.extend([&[0, 21][..], &vector(&padding)].concat());
    let suites_and_compression = [0, 0, 4, 0x13, 1, 0x13, 2, 1, 0];
    let body = [&[3, 3][..], &[7; 32], &suites_and_compression, &vector(&extensions)].concat();
    let size = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1, size[1], size[2], size[3]][..], &body].concat();
    message.chunks(record).flat_map(|part| [&[22, 3, 1][..], &vector(part)].concat()).collect()
}

/// A head of about `len` bytes, Host first.
fn head(len: usize) -> Vec<u8> {
    let mut text = "GET /index.html HTTP/1.1\r\nHost: www.example.com\r\n".to_owned();
    while text.len() + 80 < len {
        text.push_str("X-Filler: 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmno\r\n");
    }
    text.push_str("Accept: */*\r\n\r\n");
    text.into_bytes()
}

fn read_hello(bytes: &[u8], step: usize) {
    let mut reader = HelloReader::default();
    let found = (step..bytes.len() + step)
        .step_by(step)
        .map(|end| reader.look(&bytes[..end.min(bytes.len())]))
        .last();
    assert!(matches!(divan::black_box(found), Some(Look::Got(_))));
}

fn read_head(bytes: &[u8], step: usize) {
    let mut reader = HeadReader::default();
    let found = (step..bytes.len() + step)
        .step_by(step)
        .map(|end| reader.look(&bytes[..end.min(bytes.len())]))
        .last();
    assert!(matches!(divan::black_box(found), Some(Look::Got(_))));
}

#[divan::bench(args = HELLOS)]
fn hello_in_one_segment(bencher: Bencher, len: usize) {
    let bytes = hello(len, 1 << 14);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| read_hello(&bytes, bytes.len()));
}

#[divan::bench(args = HELLOS)]
fn hello_byte_by_byte(bencher: Bencher, len: usize) {
    let bytes = hello(len, 1 << 14);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| read_hello(&bytes, 1));
}

#[divan::bench(args = HELLOS)]
fn hello_in_records_and_segments_of_one_byte(bencher: Bencher, len: usize) {
    let bytes = hello(len, 1);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| read_hello(&bytes, 1));
}

#[divan::bench(args = HEADS)]
fn head_in_one_segment(bencher: Bencher, len: usize) {
    let bytes = head(len);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| read_head(&bytes, bytes.len()));
}

#[divan::bench(args = HEADS)]
fn head_byte_by_byte(bencher: Bencher, len: usize) {
    let bytes = head(len);
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| read_head(&bytes, 1));
}
