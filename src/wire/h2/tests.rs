//! HTTP/2 as bytes: frames, heads, compression, both directions, however they are cut.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use super::hpack::Decoder;
use super::*;
use crate::facts::Fault;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A block without indexing.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| {
        assert!(text.len() < 127);
        [&[text.len() as u8], text.as_bytes()].concat()
    };
    fields.iter().flat_map(|(name, value)| [vec![0], string(name), string(value)].concat()).collect()
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "good.example")];

fn with(extra: &[(&str, &str)]) -> Vec<u8> {
    block(&[&GET[..], extra].concat())
}

fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

fn opened(frames: &[Vec<u8>]) -> Vec<u8> {
    [&PREFACE[..], &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat()
}

/// What a connection came to, every request approved.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    passed: Vec<u8>,
    requests: Vec<(u32, Option<String>)>,
    acks: usize,
    fault: Option<Fault>,
}

/// Feeds pieces of so many bytes.
fn run(bytes: &[u8], step: usize) -> Seen {
    let mut frames = ClientFrames::default();
    let mut seen = Seen::default();
    let (mut at, mut received) = (0, 0);
    while received < bytes.len() {
        received = (received + step).min(bytes.len());
        loop {
            match frames.next(&bytes[at..received]) {
                Step::More => break,
                Step::Pass(len) | Step::Trailers(len) | Step::Reset(len, _) => {
                    seen.passed.extend(&bytes[at..at + len]);
                    at += len;
                }
                Step::Ack(len) => {
                    seen.acks += 1;
                    at += len;
                }
                Step::Request(request) => {
                    assert!(request.len <= received - at);
                    seen.requests.push((request.stream, request.name.map(|name| name.as_str().to_owned())));
                    frames.approve();
                }
                Step::Drop(_) => panic!("nothing was refused"),
                Step::Bad(fault) => {
                    assert_eq!(frames.next(&bytes[at..received]), Step::Bad(fault), "asked again");
                    seen.fault = Some(fault);
                    return seen;
                }
            }
        }
    }
    seen
}

/// As [`run`], in every way of cutting the bytes evenly and in two.
fn run_all(bytes: &[u8]) -> Seen {
    let whole = run(bytes, bytes.len());
    for step in 1..bytes.len() {
        assert_eq!(run(bytes, step), whole, "in pieces of {step}");
    }
    whole
}

fn fault(frames: &[Vec<u8>]) -> Option<Fault> {
    run_all(&opened(frames)).fault
}

fn name_of(block: &[u8]) -> Result<Option<String>, Fault> {
    let mut seen = run_all(&opened(&[headers(1, block)]));
    match seen.fault {
        Some(fault) => Err(fault),
        None => Ok(seen.requests.remove(0).1),
    }
}

#[test]
fn every_request_of_a_connection_is_shown_before_a_byte_of_it_passes() {
    let other: Vec<_> = GET[..3].iter().copied().chain([(":authority", "other.example:8080")]).collect();
    let bytes = opened(&[
        headers(1, &block(&GET)),
        frame(SETTINGS, ACK, 0, &[]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(6, 0, 0, &[7; 8]),
        frame(0x7a, 0xff, 99, b"nobody knows this"),
        headers(3, &block(&other)),
    ]);
    let seen = run_all(&bytes);
    let name = |name: &str| Some(name.to_owned());
    assert_eq!(seen.requests, [(1, name("good.example")), (3, name("other.example"))]);
    assert_eq!((seen.acks, seen.fault), (1, None));
    let ack = frame(SETTINGS, ACK, 0, &[]);
    assert_eq!(seen.passed.len(), bytes.len() - ack.len());
    for len in 0..bytes.len() {
        let early = run(&bytes[..len], 1000);
        assert!(early.fault.is_none() && seen.passed.starts_with(&early.passed), "{len}");
    }
}

#[test]
fn bodies_and_trailers_belong_to_their_request() {
    let head = frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "5")]));
    let data = |flags, payload: &[u8]| frame(DATA, flags, 1, payload);
    let trailers = headers(1, &block(&[("grpc-status", "0")]));
    for good in [
        vec![head.clone(), data(0, b"hel"), data(END_STREAM, b"lo")],
        vec![head.clone(), data(PADDED, b"\x02hel\0\0"), data(PADDED | END_STREAM, b"\0lo")],
        vec![head.clone(), data(0, b"hello"), trailers.clone()],
        vec![head.clone(), data(0, b"h"), frame(RST_STREAM, 0, 1, &[0; 4]), headers(3, &block(&GET))],
        vec![frame(HEADERS, END_HEADERS, 1, &block(&GET)), data(0, b"any"), data(END_STREAM, b"thing")],
    ] {
        let seen = run_all(&opened(&good));
        assert_eq!(seen.fault, None, "{good:?}");
        assert_eq!(seen.passed, opened(&good));
    }
    for bad in [
        vec![head.clone(), data(0, b"hello!")],
        vec![head.clone(), data(END_STREAM, b"hell")],
        vec![head.clone(), trailers.clone()],
        vec![headers(1, &with(&[("content-length", "5")]))],
        vec![headers(1, &with(&[("content-length", "0"), ("content-length", "0")]))],
        vec![headers(1, &with(&[("content-length", "+0")]))],
    ] {
        assert_eq!(fault(&bad), Some(Fault::Framing), "{bad:?}");
    }
    for bad in [
        // A second head on an open stream, trailers that end nothing, padding beyond the end.
        vec![head.clone(), frame(HEADERS, END_HEADERS, 1, &block(&[("a", "b")]))],
        vec![head.clone(), data(PADDED, b"\x06hello")],
        vec![head, data(PADDED, b"")],
    ] {
        assert_eq!(fault(&bad), Some(Fault::Frame), "{bad:?}");
    }
}

#[test]
fn trailers_are_weighed_like_requests() {
    let trailers = headers(1, &block(&[("grpc-status", "0")]));
    let mut frames = ClientFrames::default();
    let bytes = opened(&[frame(HEADERS, END_HEADERS, 1, &block(&GET)), trailers.clone()]);
    let (mut at, mut weighed) = (0, 0);
    while at < bytes.len() {
        at += match frames.next(&bytes[at..]) {
            Step::Request(_) => {
                frames.approve();
                0
            }
            Step::Trailers(len) => {
                weighed += len;
                len
            }
            Step::Pass(len) => len,
            Step::More | Step::Drop(_) | Step::Ack(_) | Step::Reset(..) | Step::Bad(_) => {
                panic!("only requests and trailers were sent")
            }
        };
    }
    assert_eq!(weighed, trailers.len());
}

#[test]
fn trailers_that_could_be_a_request_are_refused() {
    let head = frame(HEADERS, END_HEADERS, 1, &block(&GET));
    for bad in [block(&GET), block(&[(":authority", "evil.example")]), block(&[("host", "evil.example")])] {
        assert!(fault(&[head.clone(), headers(1, &bad)]).is_some());
    }
    assert_eq!(fault(&[head, headers(1, &[])]), None);
}

#[test]
fn authority_and_host_say_one_name() {
    let good = Ok(Some("good.example".to_owned()));
    assert_eq!(name_of(&block(&GET)), good);
    assert_eq!(name_of(&with(&[("host", "GOOD.example.")])), good);
    assert_eq!(name_of(&with(&[("host", "good.example:80"), ("x-forwarded-host", "evil.example")])), good);
    assert_eq!(name_of(&block(&[&GET[..3], &[("host", "good.example")]].concat())), good);
    assert_eq!(name_of(&block(&GET[..3])), Ok(None));
    assert_eq!(name_of(&block(&[&GET[..3], &[(":authority", "192.0.2.7:80")]].concat())), Ok(None));
    assert_eq!(name_of(&with(&[("host", "evil.example")])), Err(Fault::HostMismatch));
    assert_eq!(name_of(&with(&[("host", "good.example:81")])), Err(Fault::HostMismatch));
    assert_eq!(name_of(&with(&[("host", "good.example"), ("host", "good.example")])), Err(Fault::TwoNames));
    assert_eq!(name_of(&block(&[&GET[..], &GET[3..]].concat())), Err(Fault::TwoNames));
    for odd in ["a@good.example", "", "good.example,evil.example", "good.example\\evil.example"] {
        let fields = [&GET[..3], &[(":authority", odd)]].concat();
        assert_eq!(name_of(&block(&fields)), Err(Fault::Name), "{odd}");
    }
}

#[test]
fn heads_that_break_the_rules_of_the_protocol_are_refused() {
    let replaced = |at: usize, field: (&'static str, &'static str)| {
        let mut fields = GET;
        fields[at] = field;
        block(&fields)
    };
    for (block, expected) in [
        (block(&GET[1..]), Fault::RequestLine),
        (block(&[GET[0], GET[2], GET[3]]), Fault::RequestLine),
        (block(&[GET[0], GET[1], GET[3]]), Fault::RequestLine),
        (replaced(0, (":method", "CONNECT")), Fault::RequestLine),
        (replaced(0, (":method", "connect")), Fault::RequestLine),
        (replaced(0, (":method", "G T")), Fault::RequestLine),
        (with(&[]).into_iter().chain(block(&[(":protocol", "websocket")])).collect(), Fault::RequestLine),
        (with(&[(":method", "GET")]), Fault::RequestLine),
        (with(&[(":status", "200")]), Fault::RequestLine),
        (replaced(1, (":scheme", "ftp")), Fault::RequestLine),
        (replaced(2, (":path", "")), Fault::RequestLine),
        (replaced(2, (":path", "*")), Fault::RequestLine),
        (replaced(2, (":path", "http://evil.example/")), Fault::RequestLine),
        (replaced(2, (":path", "/ HTTP/1.1")), Fault::RequestLine),
        (with(&[("a", "b"), (":authority", "good.example")]), Fault::HeaderField),
        (with(&[("Host", "evil.example")]), Fault::HeaderField),
        (with(&[("", "b")]), Fault::HeaderField),
        (with(&[("a b", "b")]), Fault::HeaderField),
        (with(&[("a", "b\r\nhost: evil.example")]), Fault::HeaderField),
        (with(&[("a", "b\0")]), Fault::HeaderField),
        (with(&[("a", " b")]), Fault::HeaderField),
        (with(&[("transfer-encoding", "chunked")]), Fault::Framing),
        (with(&[("connection", "host")]), Fault::Framing),
        (with(&[("upgrade", "websocket")]), Fault::Framing),
        (with(&[("te", "gzip")]), Fault::Framing),
    ] {
        assert_eq!(name_of(&block), Err(expected), "{:?}", String::from_utf8_lossy(&block));
    }
    assert!(name_of(&with(&[("te", "trailers"), ("a", "b\tc")])).is_ok());
    let asterisk = [(":method", "OPTIONS"), GET[1], (":path", "*"), GET[3]];
    assert!(name_of(&block(&asterisk)).is_ok());
}

#[test]
fn a_block_in_many_frames_with_padding_and_priority_is_one_block() {
    let whole = block(&GET);
    let padded = [&[3][..], &[0, 0, 0, 0, 9], &whole[..7], &[0; 3]].concat();
    let mut frames = vec![frame(HEADERS, END_STREAM | PADDED | PRIORITY, 1, &padded)];
    frames.push(frame(CONTINUATION, 0, 1, &[]));
    frames.extend(whole[7..30].chunks(5).map(|part| frame(CONTINUATION, 0, 1, part)));
    frames.push(frame(CONTINUATION, END_HEADERS, 1, &whole[30..]));
    let seen = run_all(&opened(&frames));
    assert_eq!((seen.requests.len(), seen.fault), (1, None));
    assert_eq!(seen.passed, opened(&frames));
}

#[test]
fn blocks_without_end_are_refused_as_soon_as_they_are_too_long() {
    let start = |len: usize| frame(HEADERS, 0, 1, &vec![0; len]);
    let mut flood = vec![start(0)];
    flood.resize(MANY, frame(CONTINUATION, 0, 1, &[]));
    assert_eq!(run(&opened(&flood), 7).fault, Some(Fault::TooBig));
    let mut long = vec![start(1 << 14)];
    long.resize(6, frame(CONTINUATION, 0, 1, &vec![0; 1 << 14]));
    assert_eq!(run(&opened(&long), 1000).fault, Some(Fault::TooBig));
    // Refused by its header: it is not awaited.
    let announced = [0, 0x40, 1, HEADERS, 0, 0, 0, 0, 1];
    assert_eq!(run(&opened(&[announced.to_vec()]), 1).fault, Some(Fault::TooBig));
}

const MANY: usize = 20;

#[test]
fn frames_out_of_place_are_refused() {
    let get = block(&GET);
    let one = headers(1, &get);
    for bad in [
        vec![headers(0, &get)],
        vec![headers(2, &get)],
        vec![headers(1 | 1 << 31, &get)],
        vec![headers(3, &get), headers(1, &get)],
        vec![frame(HEADERS, END_HEADERS | 0x40, 1, &get)],
        vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[])],
        vec![frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0])],
        vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0, 0, 0, 0])],
        vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, &[&[0, 0, 0, 1, 0][..], &get].concat())],
        vec![frame(CONTINUATION, END_HEADERS, 1, &get)],
        vec![frame(HEADERS, 0, 1, &get), frame(CONTINUATION, END_HEADERS, 3, &[])],
        vec![frame(HEADERS, 0, 1, &get), frame(CONTINUATION, END_HEADERS | PADDED, 1, &[])],
        vec![frame(HEADERS, 0, 1, &get), frame(8, 0, 0, &[0, 0, 0, 1])],
        vec![one.clone(), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &get].concat())],
        vec![frame(DATA, 0, 1, b"x")],
        vec![frame(DATA, 0, 0, b"x")],
        vec![one.clone(), frame(DATA, 0, 3, b"x")],
        vec![frame(RST_STREAM, 0, 1, &[0; 4])],
        vec![one, frame(RST_STREAM, 0, 1, &[0; 5])],
        vec![frame(SETTINGS, 0, 1, &[])],
        vec![frame(SETTINGS, 0, 0, &[0; 7])],
        vec![frame(SETTINGS, ACK, 0, &[0; 6])],
    ] {
        let bytes = opened(&bad);
        // A trailing request, so that a half-read frame is completed.
        let got = run_all(&[bytes, headers(9, &get)].concat()).fault;
        assert!(got.is_some(), "{bad:?}");
    }
    for bad in [
        [&PREFACE[..], &headers(1, &get)].concat(),
        [&PREFACE[..], &frame(SETTINGS, ACK, 0, &[])].concat(),
        b"PRI * HTTP/2.0\n\nSM\n\n".to_vec(),
    ] {
        assert_eq!(run_all(&bad).fault, Some(Fault::Frame));
    }
}

#[test]
fn a_server_that_takes_longer_frames_gets_them() {
    let data = frame(DATA, 0, 1, &[0; 20_000]);
    let bytes = opened(&[frame(HEADERS, END_HEADERS, 1, &block(&GET)), data]);
    assert_eq!(run(&bytes, 5000).fault, Some(Fault::TooBig));
    let mut frames = ClientFrames::default();
    frames.server_set(MAX_FRAME_SIZE, 20_000);
    let mut at = 0;
    loop {
        match frames.next(&bytes[at..]) {
            Step::Pass(len) | Step::Trailers(len) => at += len,
            Step::Request(_) => frames.approve(),
            Step::More => break,
            odd @ (Step::Drop(_) | Step::Ack(_) | Step::Reset(..) | Step::Bad(_)) => {
                panic!("{odd:?}")
            }
        }
    }
    assert_eq!(at, bytes.len());
}

#[test]
fn after_a_refusal_open_streams_go_on_and_nothing_else_does() {
    let open = opened(&[frame(HEADERS, END_HEADERS, 1, &block(&GET))]);
    let data = frame(DATA, 0, 1, b"goes on");
    let update = frame(8, 0, 0, &[0, 0, 0, 9]);
    let refused = [
        frame(HEADERS, 0, 3, &block(&GET)),
        frame(CONTINUATION, END_HEADERS, 3, &[]),
        frame(DATA, END_STREAM, 3, b"never"),
        headers(5, b"\xff\xff\xff is not read"),
    ];
    let bytes = [&open[..], &refused[0], &refused[1], &data, &refused[2], &update, &refused[3]].concat();
    let mut frames = ClientFrames::default();
    let (mut at, mut passed) = (0, Vec::<u8>::new());
    while at < bytes.len() {
        match frames.next(&bytes[at..]) {
            Step::Request(request) if request.stream == 1 => frames.approve(),
            Step::Request(_) => assert_eq!(frames.close(), 1),
            Step::Pass(len) | Step::Trailers(len) => {
                passed.extend(&bytes[at..at + len]);
                at += len;
            }
            Step::Drop(len) => at += len,
            odd @ (Step::More | Step::Ack(_) | Step::Reset(..) | Step::Bad(_)) => {
                panic!("{odd:?}")
            }
        }
    }
    assert_eq!(passed, [open, data, update].concat());
    let trailers = headers(1, &block(&[("a", "b")]));
    assert_eq!(frames.next(&trailers), Step::Bad(Fault::Frame), "compression is out of step");
}

#[test]
fn the_server_s_frames_are_told_apart_however_they_are_cut() {
    let settings = frame(SETTINGS, 0, 0, &[0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0x20, 0]);
    let pieces = [
        settings,
        frame(SETTINGS, ACK, 0, &[]),
        frame(HEADERS, 0, 1, b"\x88"),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
        frame(DATA, END_STREAM, 1, b"hello"),
        frame(RST_STREAM, 0, 3, &[0; 4]),
    ];
    let bytes = pieces.concat();
    let told =
        [Told::Settings, Told::Setting(5, 65536), Told::Setting(1, 8192), Told::Answered(1), Told::Reset(3)];
    // Not inside the header block.
    let mut places: Vec<usize> = Vec::new();
    let mut end = 0;
    for (index, piece) in pieces.iter().enumerate() {
        end += piece.len();
        if index != 2 {
            places.push(end);
        }
    }
    for step in 1..=bytes.len() {
        let mut server = ServerFrames::default();
        let (mut heard, mut fed) = (Vec::new(), 0);
        for piece in bytes.chunks(step) {
            let behind = server.feed(piece, |told| heard.push(told));
            let from = fed;
            fed += piece.len();
            let last = places.iter().copied().filter(|place| (from + 1..=fed).contains(place)).max();
            assert_eq!(behind.map(|behind| fed - behind), last, "pieces of {step}, at {fed}");
            assert_eq!(server.is_between(), places.contains(&fed));
        }
        assert_eq!(heard, told);
    }
    let mut server = ServerFrames::default();
    assert_eq!(server.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n", |_| panic!()), None);
    assert!(server.is_lost());
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, String)>, Fault> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    decoder.decode(block, |name, value| {
        fields.push((text(name), text(value)));
        Ok(())
    })?;
    Ok(fields)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// RFC 7541 appendix C.4: requests with Huffman coding and a dynamic table.
#[test]
fn the_requests_of_the_standard_decode_as_it_says() {
    let mut decoder = Decoder::default();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let common = [pair(":method", "GET"), pair(":scheme", "http"), pair(":path", "/")];
    let authority = pair(":authority", "www.example.com");
    let first = decoded(&mut decoder, &unhex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).unwrap();
    assert_eq!(first, [&common[..], std::slice::from_ref(&authority)].concat());
    let second = decoded(&mut decoder, &unhex("8286 84be 5886 a8eb 1064 9cbf")).unwrap();
    assert_eq!(second[3..], [authority, pair("cache-control", "no-cache")]);
    let third =
        decoded(&mut decoder, &unhex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")).unwrap();
    assert_eq!(third[2..4], [pair(":path", "/index.html"), pair(":authority", "www.example.com")]);
    assert_eq!(third[4], pair("custom-key", "custom-value"));
}

/// RFC 7541 appendix C.6: responses in a table of 256 bytes, with evictions.
#[test]
fn the_oldest_entries_are_forgotten_as_the_standard_says() {
    let mut decoder = Decoder::default();
    let first = "3fe1 0148 8264 0258 85ae c377 1a4b 6196 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d \
        1bff 6e91 9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3";
    let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
        821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 \
        3d50 07";
    decoded(&mut decoder, &unhex(first)).unwrap();
    decoded(&mut decoder, &unhex("4883 640e ffc1 c0bf")).unwrap();
    let fields = decoded(&mut decoder, &unhex(third)).unwrap();
    let (name, value) = fields.last().unwrap();
    assert_eq!((name.as_str(), value.len()), ("set-cookie", 56));
    assert_eq!(fields[1].1, "private");
    // Only three entries are left.
    assert!(decoded(&mut decoder, &[0x80 | 64]).is_ok());
    assert_eq!(decoded(&mut decoder, &[0x80 | 65]), Err(Fault::FieldBlock));
}

#[test]
fn compression_that_a_decoder_may_refuse_is_refused() {
    for bad in [
        "80",                // index 0
        "be",                // an entry that is not there
        "7fffffffffffffff",  // an integer without end
        "ffffffffff7f",      // an integer that is too large
        "82 3f e1 1f",       // a size after a field
        "3f e2 1f",          // 4097, one more than was offered
        "00",                // a literal that ends early
        "00 01 61",          // no value
        "00 01 61 05 61",    // a value that ends early
        "00 81 ff 00",       // padding of eight bits
        "00 84 ffffffff 00", // the end-of-string symbol
        "00 81 18 00",       // padding of zeros
    ] {
        assert_eq!(decoded(&mut Decoder::default(), &unhex(bad)), Err(Fault::FieldBlock), "{bad}");
    }
    let mut offered = Decoder::default();
    offered.allow(8192);
    assert!(decoded(&mut offered, &unhex("3f e1 1f 3f e1 3f 82")).is_ok());
    // A whole table, again and again, by one byte each.
    let entry = [&[0x40, 1, b'a', 0x7f, 0x81, 0x1e][..], &[b'b'; 3968]].concat();
    let bomb = [&entry[..], &[0xbe; 1000]].concat();
    let result = Decoder::default().decode(&bomb, |_, _| Ok(()));
    assert_eq!(result, Err(Fault::TooBig));
}
