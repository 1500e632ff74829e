//! Payloads of seven real servers against their own printed form. Knows the captures; reads the printed
//! form with a reader of its own.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::facts::{Address, Name};
use crate::wire::frames::{Session, Step};

macro_rules! capture {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../tests/data/dnstap/", $name, ".fstrm")),
            include_str!(concat!("../../tests/data/dnstap/", $name, ".yaml")),
        )
    };
}

const CAPTURES: [(&str, &[u8], &str); 7] = [
    capture!("bind9"),
    capture!("dnsdist"),
    capture!("knot-auth"),
    capture!("knot-resolver"),
    capture!("nsd-auth"),
    capture!("pdns-recursor"),
    capture!("unbound"),
];

fn payloads(mut stream: &[u8]) -> Vec<Bytes> {
    let mut session = Session::default();
    let mut found = Vec::new();
    while let Look::Got((step, used)) = session.step(stream) {
        if let Step::Data(data) = step {
            found.push(Bytes::copy_from_slice(data));
        }
        stream = &stream[used..];
    }
    found
}

fn decoded(frame: &Bytes) -> Tapped {
    match decode(frame.clone()) {
        Look::Got(tapped) => tapped,
        other @ (Look::More | Look::Foreign | Look::Bad(_)) => panic!("{other:?}"),
    }
}

/// One printed message: its fields, and the lines of its DNS message.
struct Printed<'a> {
    fields: HashMap<&'a str, &'a str>,
    question: Option<(&'a str, &'a str)>,
    answers: Vec<[&'a str; 4]>,
}

fn printed(document: &str) -> Printed<'_> {
    let mut all = Printed { fields: HashMap::new(), question: None, answers: Vec::new() };
    let mut section = "";
    for line in document.lines() {
        if let Some(text) = line.strip_prefix("    ") {
            if let Some(comment) = text.strip_prefix(";; ") {
                if comment.ends_with("SECTION:") {
                    section = comment;
                }
            } else if let Some(question) = text.strip_prefix(';') {
                let words: Vec<_> = question.split_whitespace().collect();
                all.question = Some((words[0], words[2]));
            } else if section == "ANSWER SECTION:" && !text.is_empty() {
                let words: Vec<_> = text.split_whitespace().collect();
                all.answers.push([words[0], words[1], words[3], words[4]]);
            }
        } else if let Some((key, value)) = line.trim().split_once(": ") {
            // The message's own type comes after the one of its envelope.
            all.fields.insert(key, value.trim_matches('"'));
        }
    }
    all
}

fn time(text: &str) -> SystemTime {
    let text = text.strip_prefix("!!timestamp ").unwrap().replace(' ', "T") + "Z";
    SystemTime::try_from(text.parse::<jiff::Timestamp>().unwrap()).unwrap()
}

fn micros(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()
}

fn kind(text: &str) -> Kind {
    match text {
        "AUTH_RESPONSE" => Kind::AuthResponse,
        "RESOLVER_QUERY" => Kind::ResolverQuery,
        "RESOLVER_RESPONSE" => Kind::ResolverResponse,
        "CLIENT_QUERY" => Kind::ClientQuery,
        "CLIENT_RESPONSE" => Kind::ClientResponse,
        other => panic!("{other}"),
    }
}

fn messages() -> Vec<(&'static str, Tapped, Printed<'static>)> {
    let mut all = Vec::new();
    for (name, stream, text) in CAPTURES {
        let frames = payloads(stream);
        let documents: Vec<_> = text.split("\n---\n").filter(|text| !text.trim().is_empty()).collect();
        assert_eq!(frames.len(), documents.len(), "{name}");
        all.extend(
            frames.iter().zip(documents).map(|(frame, document)| (name, decoded(frame), printed(document))),
        );
    }
    assert_eq!(all.len(), 127);
    all
}

#[test]
fn every_field_of_every_captured_message_is_read() {
    for (name, tapped, printed) in messages() {
        let field = |key: &str| printed.fields.get(key).copied();
        let address = |key| field(key).map(|text| text.parse::<IpAddr>().unwrap());
        let port = |key| field(key).map(|text| text.parse::<u16>().unwrap());
        let text =
            |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        assert_eq!(tapped.kind, kind(field("type").unwrap()), "{name}");
        let carrier = match field("socket_protocol").unwrap() {
            "UDP" => Carrier::Udp,
            "TCP" => Carrier::Tcp,
            other => panic!("{other}"),
        };
        assert_eq!(tapped.carrier, Some(carrier), "{name}");
        assert_eq!(tapped.query_address, address("query_address"), "{name}");
        assert_eq!(tapped.response_address, address("response_address"), "{name}");
        assert_eq!(tapped.query_port, port("query_port"), "{name}");
        assert_eq!(tapped.response_port, port("response_port"), "{name}");
        assert_eq!(tapped.query_time.map(micros), field("query_time").map(time).map(micros), "{name}");
        assert_eq!(tapped.response_time.map(micros), field("response_time").map(time).map(micros), "{name}");
        assert_eq!(text(&tapped.identity).as_deref(), field("identity"), "{name}");
        assert_eq!(text(&tapped.version).as_deref(), field("version"), "{name}");
        let printed_as = |kind: &str| field(kind).is_some();
        assert_eq!(tapped.query_message.is_some(), printed_as("query_message"), "{name}");
        assert_eq!(tapped.response_message.is_some(), printed_as("response_message"), "{name}");
    }
}

/// The chain and the addresses that printed records give, found in another way than the parser's.
fn expected(printed: &Printed<'_>) -> (Vec<Name>, Vec<Address>) {
    let (asked, kind) = printed.question.unwrap();
    let mut chain = vec![Name::parse(asked).unwrap()];
    let mut least = u32::MAX;
    loop {
        let next = printed.answers.iter().find(|[owner, _, kind, _]| {
            *kind == "CNAME" && Name::parse(owner).unwrap() == *chain.last().unwrap()
        });
        let Some([_, ttl, _, target]) = next else { break };
        least = least.min(ttl.parse().unwrap());
        chain.push(Name::parse(target).unwrap());
    }
    let addresses = printed
        .answers
        .iter()
        .filter(|[owner, _, found, _]| {
            *found == kind && Name::parse(owner).unwrap() == *chain.last().unwrap()
        })
        .filter_map(|[_, ttl, _, data]| {
            let ttl_secs = least.min(ttl.parse().unwrap());
            data.parse().ok().map(|ip| Address { ip, ttl_secs })
        })
        .collect();
    (chain, addresses)
}

#[test]
fn every_answer_to_a_client_is_the_observation_that_its_printed_form_tells() {
    let at = Tick::from_nanos(5);
    let (mut told, mut with_addresses, mut with_chain) = (0, 0, 0);
    for (name, tapped, printed) in messages() {
        let answer = match tapped.told() {
            Look::Got(answer) => answer,
            Look::Foreign => {
                let kind = printed.fields["type"];
                assert!(!matches!(kind, "CLIENT_RESPONSE" | "AUTH_RESPONSE"), "{name}: {kind}");
                continue;
            }
            other @ (Look::More | Look::Bad(_)) => panic!("{name}: {other:?}"),
        };
        told += 1;
        assert_eq!(answer.address, printed.fields["query_address"].parse::<IpAddr>().unwrap());
        assert_eq!(answer.transport.as_str(), printed.fields["socket_protocol"].to_lowercase());
        assert_eq!(answer.server, tapped.response_address);
        assert_eq!(answer.client_port, tapped.query_port);
        assert_eq!(answer.at, tapped.response_time);
        let (chain, mut addresses) = expected(&printed);
        let observation = answer.observation(Client::at(answer.address), at);
        assert_eq!(observation.is_some(), !addresses.is_empty(), "{name}");
        let Some(mut observation) = observation else { continue };
        with_addresses += 1;
        with_chain += usize::from(chain.len() > 1);
        addresses.sort_by_key(|address| address.ip);
        observation.addresses.sort_by_key(|address| address.ip);
        let client = Client::at("127.0.0.1".parse().unwrap());
        let source = Source::Dnstap;
        assert_eq!(observation, Observation { client, chain, addresses, source, at }, "{name}");
    }
    assert_eq!((told, with_addresses, with_chain), (55 + 28, 52, 10));
}

fn body() -> Body {
    let captured = payloads(CAPTURES[6].1).into_iter().find_map(|frame| {
        let body = Envelope::decode(frame).unwrap().message.unwrap();
        body.response_message.is_some().then_some(body)
    });
    captured.unwrap()
}

fn spelled(body: Body) -> Bytes {
    let envelope = Envelope { kind: Some(MESSAGE), message: Some(body), ..Envelope::default() };
    envelope.encode_to_vec().into()
}

#[test]
fn a_field_that_says_what_cannot_be_costs_the_frame() {
    let bytes = |length| Some(Bytes::from(vec![1; length]));
    let with = |change: fn(&mut Body)| {
        let mut body = body();
        change(&mut body);
        decode(spelled(body))
    };
    assert!(matches!(decode(spelled(body())), Look::Got(_)));
    for length in [0, 1, 3, 5, 15, 16, 17, 300] {
        let broken = Body { query_address: bytes(length), ..body() };
        assert_eq!(decode(spelled(broken)), Look::Bad(Fault::Dnstap), "{length} bytes");
        let broken = Body { response_address: bytes(length), ..body() };
        assert_eq!(decode(spelled(broken)), Look::Bad(Fault::Dnstap), "{length} bytes");
    }
    for change in [
        (|body| body.family = Some(INET6)) as fn(&mut Body),
        |body| body.family = Some(3),
        |body| body.kind = None,
        |body| body.query_port = Some(65_536),
        |body| body.response_port = Some(u32::MAX),
        |body| body.response_time_nsec = Some(1_000_000_000),
        |body| body.response_time_sec = Some(u64::MAX),
    ] {
        assert_eq!(with(change), Look::Bad(Fault::Dnstap));
    }
}

#[test]
fn a_family_that_is_not_stated_is_told_by_the_length() {
    let four = Body { family: None, ..body() };
    let Look::Got(tapped) = decode(spelled(four)) else { panic!("refused") };
    assert_eq!(tapped.query_address, Some("127.0.0.1".parse().unwrap()));
    let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
    let six = Body {
        family: Some(INET6),
        query_address: Some(Bytes::copy_from_slice(&mapped.octets())),
        response_address: None,
        ..body()
    };
    let Look::Got(tapped) = decode(spelled(six)) else { panic!("refused") };
    assert_eq!(tapped.query_address.map(Client::at), Some(Client::at("192.0.2.7".parse().unwrap())));
}

#[test]
fn a_message_without_bytes_or_without_an_asker_tells_of_no_answer() {
    let silent = decoded(&spelled(Body { query_message: None, response_message: None, ..body() }));
    assert_eq!(silent.told(), Look::Foreign);
    let nobody = decoded(&spelled(Body { query_address: None, ..body() }));
    assert_eq!(nobody.told(), Look::Bad(Fault::Dnstap));
    let garbage = decoded(&spelled(Body { response_message: Some(Bytes::from_static(b"x")), ..body() }));
    assert!(matches!(garbage.told(), Look::Bad(_)));
    // What a resolver hears is not what its client hears, whoever the frame says had asked.
    for kind in [1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, -1, i32::MAX] {
        let other = decoded(&spelled(Body { kind: Some(kind), ..body() }));
        assert_eq!(other.told(), Look::Foreign, "{kind}");
    }
}

#[test]
fn an_error_with_addresses_is_no_evidence() {
    let Look::Got(mut told) = messages()
        .into_iter()
        .map(|(_, tapped, _)| tapped.told())
        .find(|told| matches!(told, Look::Got(told) if !told.answer.addresses.is_empty()))
        .unwrap()
    else {
        panic!("no answer")
    };
    assert!(told.observation(Client::at(told.address), Tick::default()).is_some());
    told.answer.rcode = 3;
    assert_eq!(told.observation(Client::at(told.address), Tick::default()), None);
}

#[test]
fn other_payloads_are_foreign_and_empty_ones_broken() {
    let other = Envelope { kind: Some(2), ..Envelope::default() };
    assert_eq!(decode(other.encode_to_vec().into()), Look::Foreign);
    let hollow = Envelope { kind: Some(MESSAGE), ..Envelope::default() };
    assert_eq!(decode(hollow.encode_to_vec().into()), Look::Bad(Fault::Dnstap));
    assert_eq!(decode(Bytes::new()), Look::Bad(Fault::Dnstap));
}

#[test]
fn every_prefix_and_every_changed_byte_is_decoded_or_refused() {
    for (_, stream, _) in CAPTURES {
        for frame in payloads(stream) {
            for end in 0..frame.len() {
                try_all(frame.slice(..end));
            }
            let mut bytes = frame.to_vec();
            for at in 0..bytes.len() {
                for flip in [0x01, 0x80, 0xff] {
                    bytes[at] ^= flip;
                    try_all(bytes.clone().into());
                    bytes[at] ^= flip;
                }
            }
        }
    }
}

fn try_all(frame: Bytes) {
    if let Look::Got(tapped) = decode(frame)
        && let Look::Got(told) = tapped.told()
        && let Some(observation) = told.observation(Client::at(told.address), Tick::default())
    {
        assert!(!observation.chain.is_empty() && !observation.addresses.is_empty());
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        try_all(bytes.into());
    }
}
