//! Heads made line by line, each looked at whole and byte by byte. Real ones are in `tests/corpus`.

use super::*;

fn look(bytes: &[u8]) -> Look<Head> {
    let whole = HeadReader::default().look(bytes);
    let mut reader = HeadReader::default();
    for end in 0..bytes.len() {
        let early = reader.look(&bytes[..end]);
        assert!(matches!(early, Look::More) || early == whole, "{early:?} at {end}, then {whole:?}");
    }
    assert_eq!(reader.look(bytes), whole, "byte by byte");
    assert_eq!(reader.look(bytes), whole, "asked again");
    whole
}

fn request(line: &str, fields: &str) -> Look<Head> {
    let fields: String =
        fields.split('|').filter(|field| !field.is_empty()).map(|f| f.to_owned() + "\r\n").collect();
    look(format!("{line}\r\n{fields}\r\n").as_bytes())
}

fn named(line: &str, fields: &str) -> Option<String> {
    match request(line, fields) {
        Look::Got(head) => head.name.map(|name| name.as_str().to_owned()),
        other @ (Look::More | Look::Bad(_) | Look::Foreign) => panic!("{line} | {fields}: {other:?}"),
    }
}

fn fault(line: &str, fields: &str) -> Fault {
    match request(line, fields) {
        Look::Bad(fault) => fault,
        other @ (Look::More | Look::Got(_) | Look::Foreign) => panic!("{line} | {fields}: {other:?}"),
    }
}

const GET: &str = "GET / HTTP/1.1";
const HOST: &str = "Host: example.com";

#[test]
fn a_head_gives_its_name_and_its_length_and_leaves_the_rest() {
    let bytes = b"GET /x HTTP/1.1\r\nhost: \tExample.COM.:8080 \r\nAccept: */*\r\n\r\nGET / HTTP/1.1\r\n";
    let expected = Head {
        name: Some(Name::parse("example.com").unwrap()),
        len: bytes.len() - 16,
        body: Body::Empty,
        upgrade: false,
    };
    assert_eq!(look(bytes), Look::Got(expected));
}

#[test]
fn requests_without_a_name_are_nameless() {
    for fields in ["", "Accept: */*", "Host:", "Host: 192.0.2.7", "Host: [2001:db8::1]:80"] {
        assert_eq!(named(GET, fields), None, "{fields}");
        assert_eq!(named("GET / HTTP/1.0", fields), None, "{fields}");
    }
}

#[test]
fn all_forms_of_a_target_are_read_but_those_that_lead_elsewhere() {
    for line in [
        "GET http://example.com/x HTTP/1.1",
        "GET HTTP://EXAMPLE.com. HTTP/1.1",
        "GET http://example.com:80?x HTTP/1.1",
        "GET https://example.com/ HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "get //example.net/ HTTP/1.1",
        "M-SEARCH /http://example.net HTTP/1.1",
    ] {
        assert_eq!(named(line, HOST).as_deref(), Some("example.com"), "{line}");
    }
    assert_eq!(named("GET http://example.com/ HTTP/1.1", "").as_deref(), Some("example.com"));
    for line in [
        "CONNECT example.com:443 HTTP/1.1",
        "connect http://example.com/ HTTP/1.1",
        "GET example.com:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://example.com/ HTTP/1.1",
        "GET http:example.com HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET http://example.com#@example.net/ HTTP/1.1",
    ] {
        assert_eq!(fault(line, HOST), Fault::RequestLine, "{line}");
    }
    for line in [
        "GET http://user@example.com/ HTTP/1.1",
        "GET http://example.com\\@example.net/ HTTP/1.1",
        "GET http:/// HTTP/1.1",
        "GET http://example.com:/ HTTP/1.1",
    ] {
        assert_eq!(fault(line, HOST), Fault::Name, "{line}");
    }
}

#[test]
fn a_request_line_has_two_spaces_and_a_known_version() {
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET / x HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /\r HTTP/1.1",
    ] {
        assert_eq!(fault(line, HOST), Fault::RequestLine, "{line:?}");
    }
    assert_eq!(look(b"\r\nGET / HTTP/1.1\r\n"), Look::Bad(Fault::RequestLine), "empty line first");
    assert_eq!(look(b"GET / HTTP/1.1\nHost: example.com\n\n"), Look::Bad(Fault::RequestLine), "bare LF");
    assert_eq!(look(b"GET / HTTP/1.1\0\r\n"), Look::Bad(Fault::RequestLine), "NUL behind the version");
}

#[test]
fn host_and_target_must_agree_on_name_and_port() {
    for (line, host) in [
        ("GET http://example.net/ HTTP/1.1", "Host: example.com"),
        ("GET http://example.com:8080/ HTTP/1.1", "Host: example.com"),
        ("GET http://example.com/ HTTP/1.1", "Host: example.com:443"),
        ("GET https://example.com/ HTTP/1.1", "Host: example.com:80"),
        ("GET http://192.0.2.7/ HTTP/1.1", "Host: 192.0.2.8"),
        ("GET http://192.0.2.7/ HTTP/1.1", "Host: example.com"),
        ("GET http://example.com/ HTTP/1.1", "Host:"),
    ] {
        assert_eq!(fault(line, host), Fault::HostMismatch, "{line} {host}");
    }
    assert!(named("GET https://example.com/ HTTP/1.1", "Host: example.com:443").is_some());
    assert!(named("GET http://example.com:080/ HTTP/1.1", "Host: EXAMPLE.COM.").is_some());
}

#[test]
fn two_hosts_are_no_host() {
    for second in ["Host: example.com", "HOST: example.net", "host:"] {
        assert_eq!(fault(GET, &format!("{HOST}|X: y|{second}")), Fault::TwoNames, "{second}");
        assert_eq!(fault(GET, &format!("{second}|{HOST}")), Fault::TwoNames, "{second}");
    }
}

#[test]
fn a_broken_host_is_a_fault_and_never_a_shorter_name() {
    for value in [
        "example.com:80x",
        "example.com:-1",
        "user@example.com",
        "example.com, example.net",
        "example.com example.net",
        "example.com/x",
        "example%2ecom",
        "example.com..",
        "*.example.com",
        "2001:db8::1",
        "0x7f.1",
        "b\u{fc}cher.example",
    ] {
        assert_eq!(fault(GET, &format!("Host: {value}")), Fault::Name, "{value}");
    }
}

#[test]
fn fields_that_servers_read_in_two_ways_are_refused() {
    for fields in [
        "Host : example.com",
        "Host",
        ": x",
        "X: y| folded",
        "X: y|\tfolded: z",
        "X: a\0b",
        "X: a\u{7f}b",
        "X: a\rb",
        "X: a\nb",
        "X(: y",
        "\u{fc}: y",
    ] {
        assert_eq!(fault(GET, &format!("{HOST}|{fields}")), Fault::HeaderField, "{fields:?}");
    }
    assert_eq!(
        look(b"GET / HTTP/1.1\r\nHost: example.com\r\n\n"),
        Look::Bad(Fault::HeaderField),
        "bare LF last"
    );
    assert_eq!(named(GET, "X: caf\u{e9}\t!|Host: example.com").as_deref(), Some("example.com"));
}

#[test]
fn framing_has_one_reading_or_the_head_is_refused() {
    let body = |fields: &str| match request("POST / HTTP/1.1", &format!("{HOST}|{fields}")) {
        Look::Got(head) => Ok(head.body),
        Look::Bad(fault) => Err(fault),
        other @ (Look::More | Look::Foreign) => panic!("{other:?}"),
    };
    assert_eq!(body(""), Ok(Body::Empty));
    assert_eq!(body("content-length: 0042"), Ok(Body::Length(42)));
    assert_eq!(body("Content-Length: 9223372036854775807"), Ok(Body::Length(LONGEST_BODY)));
    assert_eq!(body("Transfer-Encoding:  Chunked "), Ok(Body::Chunked));
    for fields in [
        "Content-Length: 5|Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked|Content-Length: 5",
        "Content-Length: 5|Content-Length: 6",
        "Content-Length: 5|Content-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 9223372036854775808",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
    ] {
        assert_eq!(body(fields), Err(Fault::Framing), "{fields}");
    }
    assert_eq!(fault("POST / HTTP/1.0", "Transfer-Encoding: chunked"), Fault::Framing, "chunks in HTTP/1.0");
}

#[test]
fn a_wish_to_leave_http_is_told() {
    for (fields, expected) in
        [("Upgrade: h2c", true), ("upgrade: websocket", true), ("Upgrade-Insecure-Requests: 1", false)]
    {
        match request(GET, &format!("{HOST}|{fields}")) {
            Look::Got(head) => assert_eq!(head.upgrade, expected, "{fields}"),
            other @ (Look::More | Look::Bad(_) | Look::Foreign) => panic!("{other:?}"),
        }
    }
}

#[test]
fn other_protocols_are_foreign() {
    for bytes in [
        &b"\x16\x03\x01"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"EHLO client.example\r\n",
        b"*1\r\n$4\r\nping\r\n",
        b"<policy-file-request/>",
        b"INVITE sip:a@example.com SIP/2.0\r\n",
        b"GET /\r\n",
        b"J\x01\0\0",
        b"003bgit-upload-pack /r.git\0host=example.org",
        b"\xff\xff",
    ] {
        assert_eq!(look(bytes), Look::Foreign, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_head_without_end_is_refused_at_the_limit_however_it_arrives() {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: example.com\r\n".to_vec();
    while bytes.len() < HeadReader::MAX - 2 {
        let room = (HeadReader::MAX - 2 - bytes.len()).min(1000);
        let filler = if room > 1000 - 5 { room / 2 } else { room };
        bytes.extend(
            b"X:".iter().copied().chain(std::iter::repeat_n(b'y', filler.saturating_sub(4))).chain(*b"\r\n"),
        );
    }
    bytes.truncate(HeadReader::MAX - 4);
    let fits = [&bytes[..], b"\r\n\r\n"].concat();
    let over = [&bytes[..], b"y\r\n\r\n"].concat();
    assert!(matches!(HeadReader::default().look(&fits), Look::Got(head) if head.len == HeadReader::MAX));
    assert_eq!(HeadReader::default().look(&over), Look::Bad(Fault::TooBig));
    assert_eq!(look(&[&bytes[..], b"yyyyyyyyyy"].concat()), Look::Bad(Fault::TooBig));
    assert_eq!(HeadReader::default().look(&vec![b'A'; HeadReader::MAX]), Look::Bad(Fault::TooBig));
}
