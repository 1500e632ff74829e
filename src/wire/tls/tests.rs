//! Hellos made field by field, each looked at whole and byte by byte. Real ones are in `tests/corpus`.

use super::*;

fn vector16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector16(content)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0], &*vector16(name)].concat()))
}

fn body(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(vector16(&extensions.concat()));
    body
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, len[1], len[2], len[3]], body].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat()).collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(1, &body(extensions)), MAX_FRAGMENT)
}

fn look(bytes: &[u8]) -> Look<Hello> {
    let whole = HelloReader::default().look(bytes);
    let mut reader = HelloReader::default();
    for end in 0..bytes.len() {
        let early = reader.look(&bytes[..end]);
        assert!(matches!(early, Look::More) || early == whole, "{early:?} at {end}, then {whole:?}");
    }
    assert_eq!(reader.look(bytes), whole, "byte by byte");
    assert_eq!(reader.look(bytes), whole, "asked again");
    whole
}

fn fault(bytes: &[u8]) -> Fault {
    match look(bytes) {
        Look::Bad(fault) => fault,
        other @ (Look::More | Look::Got(_) | Look::Foreign) => panic!("{other:?}"),
    }
}

fn got(bytes: &[u8]) -> Hello {
    match look(bytes) {
        Look::Got(hello) => hello,
        other @ (Look::More | Look::Bad(_) | Look::Foreign) => panic!("{other:?}"),
    }
}

fn name(text: &str) -> Option<Name> {
    Some(Name::parse(text).unwrap())
}

#[test]
fn a_hello_gives_its_name_its_protocols_and_whether_ech_is_there() {
    let alpn = extension(16, &vector16(b"\x02h2\x08http/1.1"));
    let read = got(&hello(&[sni(b"WWW.Example.com."), alpn, extension(0xfe0d, &[0; 8])]));
    assert_eq!(
        read,
        Hello { name: name("www.example.com"), ech: true, alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()] }
    );
    for kind in [0xfe08, 0xfe0a, 0xff02, 0xffce] {
        assert!(got(&hello(&[extension(kind, &[])])).ech, "{kind:#x}");
    }
}

#[test]
fn a_hello_without_server_name_or_with_an_address_in_it_is_nameless() {
    assert_eq!(got(&hello(&[])).name, None);
    assert_eq!(got(&hello(&[sni(b"192.0.2.7")])).name, None);
    assert_eq!(got(&hello(&[sni(b"2001:db8::1")])).name, None);
    let no_block = &body(&[])[..41];
    assert_eq!(got(&records(&message(1, no_block), 100)).name, None);
}

#[test]
fn a_hello_in_records_of_any_size_is_the_same_hello() {
    let message = message(1, &body(&[sni(b"example.com"), extension(21, &[0; 300])]));
    for size in [1, 2, 3, 4, 5, 7, 50, 299, message.len() - 1, message.len()] {
        assert_eq!(got(&records(&message, size)).name, name("example.com"), "{size}");
    }
}

#[test]
fn a_hello_in_one_record_is_not_copied() {
    let mut reader = HelloReader::default();
    let bytes = hello(&[sni(b"example.com")]);
    assert_eq!(reader.look(&bytes[..40]), Look::More);
    assert!(matches!(reader.look(&bytes), Look::Got(_)));
    assert_eq!(reader.joined.capacity(), 0);
}

#[test]
fn an_announced_length_allocates_nothing_and_is_refused_at_once_over_the_limit() {
    let mut reader = HelloReader::default();
    assert_eq!(reader.look(&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3]), Look::More);
    assert_eq!(reader.joined.capacity(), 0);
    assert_eq!(fault(&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]), Fault::TooBig);
    assert_eq!(fault(&[22, 3, 1, 0, 4, 1, 1, 0, 1]), Fault::TooBig);
}

#[test]
fn the_largest_hello_is_read_and_one_byte_more_is_not() {
    let sized = |len: usize| {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector16(&[0x13; 60_000]));
        body.extend([1, 0]);
        let extensions = sni(b"example.com");
        let padding = vec![0; len - body.len() - 2 - extensions.len() - 4];
        body.extend(vector16(&[extensions, extension(21, &padding)].concat()));
        assert_eq!(body.len(), len);
        records(&message(1, &body), MAX_FRAGMENT)
    };
    assert_eq!(got(&sized(HelloReader::MAX)).name, name("example.com"));
    assert_eq!(HelloReader::default().look(&sized(HelloReader::MAX + 1)), Look::Bad(Fault::TooBig));
}

#[test]
fn records_that_have_no_place_in_a_hello_are_refused() {
    let whole = message(1, &body(&[sni(b"example.com")]));
    let (first, second) = whole.split_at(20);
    let record = |kind, payload: &[u8]| [&[kind, 3, 3][..], &vector16(payload)].concat();
    for kind in [20, 21, 23, 24] {
        assert_eq!(
            fault(&[record(kind, &[1, 1]), records(&whole, 999)].concat()),
            Fault::Record,
            "{kind} first"
        );
        let between = [records(first, 99), record(kind, &[1, 1]), records(second, 999)].concat();
        assert_eq!(fault(&between), Fault::Record, "{kind} between");
    }
    assert_eq!(fault(&[record(22, &[]), records(&whole, 999)].concat()), Fault::Record);
    assert_eq!(fault(&[records(first, 99), record(22, &[])].concat()), Fault::Record);
    assert_eq!(fault(&[22, 3, 1, 0x40, 1]), Fault::Record);
    assert_eq!(fault(&[22, 2, 0]), Fault::Record);
}

#[test]
fn only_a_client_hello_alone_in_its_records_is_taken() {
    let body = body(&[sni(b"example.com")]);
    for kind in [0, 2, 11, 255] {
        assert_eq!(fault(&records(&message(kind, &body), 999)), Fault::Handshake, "{kind}");
    }
    let twice = [message(1, &body), message(1, &body)].concat();
    assert_eq!(fault(&records(&twice, 999)), Fault::Handshake, "two hellos in one record");
    assert_eq!(
        fault(&records(&twice, 50)),
        Fault::Handshake,
        "the record that ends the hello starts another"
    );
}

#[test]
fn bytes_behind_the_last_record_of_the_hello_are_not_looked_at() {
    let bytes = [hello(&[sni(b"example.com")]), hello(&[sni(b"example.net")]), vec![0; 9]].concat();
    assert_eq!(got(&bytes).name, name("example.com"));
}

#[test]
fn two_names_are_no_name() {
    assert_eq!(fault(&hello(&[sni(b"example.com"), sni(b"example.net")])), Fault::TwoNames);
    assert_eq!(fault(&hello(&[sni(b"example.com"), sni(b"example.com")])), Fault::TwoNames);
    let entry = |name: &[u8]| [&[0], &*vector16(name)].concat();
    let both = vector16(&[entry(b"example.com"), entry(b"example.net")].concat());
    assert_eq!(fault(&hello(&[extension(0, &both)])), Fault::TwoNames);
}

#[test]
fn a_broken_name_is_a_fault_and_never_a_shorter_name() {
    for broken in [
        &b"good.example.com\0.example.net"[..],
        b"good.example.com ",
        b"good.example.com:443",
        b"good.example.com\n",
        b".example.com",
        b"*.example.com",
        b"b\xc3\xbccher.example",
        b"0x7f.1",
        b"[::1]",
        b"",
        &[b'a'; 64],
        &[b'a'; 300],
    ] {
        assert_eq!(fault(&hello(&[sni(broken)])), Fault::Name, "{}", broken.escape_ascii());
    }
}

#[test]
fn a_hello_that_contradicts_itself_is_refused() {
    let ticket = || extension(35, &[]);
    assert_eq!(fault(&hello(&[ticket(), ticket()])), Fault::Hello, "an extension twice");
    let many: Vec<_> = (0..129).map(|kind| extension(0x4000 + kind, &[])).collect();
    assert_eq!(fault(&hello(&many)), Fault::Hello, "extensions without end");
    assert!(got(&hello(&many[..128])).name.is_none());
    assert_eq!(fault(&hello(&[extension(0, &vector16(&[1, 0, 1, b'a']))])), Fault::Hello, "name type 1");
    assert_eq!(fault(&hello(&[extension(0, &[])])), Fault::Length, "empty server_name");
    assert_eq!(fault(&hello(&[extension(16, &vector16(&[]))])), Fault::Length, "empty ALPN list");
    assert_eq!(fault(&hello(&[extension(16, &vector16(&[0]))])), Fault::Hello, "empty protocol");
    let swarm = vector16(&b"\x01a".repeat(65));
    assert_eq!(fault(&hello(&[extension(16, &swarm)])), Fault::Hello, "65 protocols");
    let mut old = body(&[sni(b"example.com")]);
    old[0] = 2;
    assert_eq!(fault(&records(&message(1, &old), 999)), Fault::Hello, "SSL 2 inside");
    let mut tail = body(&[sni(b"example.com")]);
    tail.push(0);
    assert_eq!(fault(&records(&message(1, &tail), 999)), Fault::Length, "bytes after the extensions");
}

#[test]
fn other_protocols_are_foreign_from_their_first_bytes() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x80\x2e\x01\x03\x03", b"\0", b"\x14BitTorrent", b"SSH-2.0-x\r\n"]
    {
        assert_eq!(look(bytes), Look::Foreign, "{}", bytes.escape_ascii());
    }
    assert_eq!(look(&[]), Look::More);
    assert_eq!(look(&[22]), Look::More);
}
