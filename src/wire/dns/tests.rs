//! Tests of the wire format: by hand, by mutation, and against an independent decoder.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic, and looks for the records it knows"
)]

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{
    Edns as HickoryEdns, Message, MessageType, OpCode, Query as HickoryQuery, ResponseCode,
};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::svcb::{
    Alpn, EchConfigList, IpHint, Mandatory, SVCB, SvcParamKey, SvcParamValue,
};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, MX};
use hickory_proto::rr::{Name as HickoryName, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;
use crate::facts::{Fault, Name};
use crate::wire::Look;

fn wire_name(text: &str) -> HickoryName {
    HickoryName::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(wire_name(owner), ttl, data)
}

fn a(owner: &str, ttl: u32, ip: &str) -> Record {
    record(owner, ttl, RData::A(A(ip.parse::<Ipv4Addr>().unwrap())))
}

fn aaaa(owner: &str, ttl: u32, ip: &str) -> Record {
    record(owner, ttl, RData::AAAA(AAAA(ip.parse::<Ipv6Addr>().unwrap())))
}

fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(wire_name(target))))
}

fn asking(name: &str, qtype: u16) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.add_query(HickoryQuery::query(wire_name(name), RecordType::from(qtype)));
    message.metadata.recursion_desired = true;
    message
}

fn with_edns(mut message: Message, payload: u16) -> Vec<u8> {
    let mut edns = HickoryEdns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

fn response(name: &str, qtype: u16, answers: Vec<Record>) -> Message {
    let mut message = Message::response(7, OpCode::Query);
    message.metadata.recursion_available = true;
    message.add_query(HickoryQuery::query(wire_name(name), RecordType::from(qtype)));
    message.add_answers(answers);
    message
}

fn read(message: &Message) -> Answer {
    answer(&message.to_vec().unwrap()).unwrap()
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.chain.iter().map(Name::as_str).collect()
}

fn given(answer: &Answer) -> Vec<(String, u32)> {
    answer.addresses.iter().map(|address| (address.ip.to_string(), address.ttl_secs)).collect()
}

/// A query by hand: header, then whatever is given.
fn raw(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34];
    message.extend(flags.to_be_bytes());
    counts.iter().for_each(|count| message.extend(count.to_be_bytes()));
    message.extend(rest);
    message
}

#[test]
fn a_query_is_read_with_all_that_its_answer_depends_on() {
    let bytes = with_edns(asking("WWW.Example.com.", 28), 1400);
    let read = query(&bytes).unwrap();
    assert_eq!(read.question.name.as_str(), "www.example.com");
    assert_eq!((read.question.id, read.question.qtype), (0x1234, 28));
    assert_eq!(read.section, b"\x03WWW\x07Example\x03com\0\0\x1c\0\x01");
    assert!(read.recursion_desired && !read.checking_disabled);
    assert_eq!(read.edns, Some(Edns { payload: 1400, dnssec_ok: false }));
    assert_eq!(read.udp_limit(), 1232);
    assert_eq!(question(&bytes), Look::Got(read.question));
    let plain = asking("localhost", 1).to_vec().unwrap();
    assert_eq!(query(&plain).unwrap().udp_limit(), 512);
    let tiny = with_edns(asking("example.com", 1), 100);
    assert_eq!(query(&tiny).unwrap().udp_limit(), 512);
}

#[test]
fn everything_that_is_no_plain_question_is_refused_with_its_fault() {
    let good = b"\x01a\x04test\0\0\x01\0\x01";
    let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let bad_version = b"\0\0\x29\x04\xd0\0\x01\0\0\0\0";
    let owned_opt = b"\x01a\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let cases: Vec<(Vec<u8>, QueryFault)> = vec![
        (vec![], QueryFault::NoQuery),
        (vec![0; 11], QueryFault::NoQuery),
        (raw(0x8100, [1, 0, 0, 0], good), QueryFault::NoQuery),
        (raw(0x2800, [1, 0, 0, 0], good), QueryFault::Opcode),
        (raw(0x0100, [0, 0, 0, 0], b""), QueryFault::Malformed),
        (raw(0x0100, [2, 0, 0, 0], &[good.as_slice(), good].concat()), QueryFault::Malformed),
        (raw(0x0100, [0xffff, 0, 0, 0], good), QueryFault::Malformed),
        (raw(0x0100, [1, 1, 0, 0], good), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 0], &[good.as_slice(), b"x"].concat()), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 1], good), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 2], &[good.as_slice(), opt, opt].concat()), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 1], &[good.as_slice(), owned_opt].concat()), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 1], &[good.as_slice(), bad_version].concat()), QueryFault::Version),
        (raw(0x0100, [1, 0, 0, 0], b"\x01a\x04test\0\0\x01\0\x03"), QueryFault::Class),
        (raw(0x0100, [1, 0, 0, 0], b"\x01a\x04test\0\0\x01\0\xff"), QueryFault::Class),
        (raw(0x0100, [1, 0, 0, 0], b"\0\0\x01\0\x01"), QueryFault::Name),
        (raw(0x0100, [1, 0, 0, 0], b"\x03a.b\x03com\0\0\x01\0\x01"), QueryFault::Name),
        (raw(0x0100, [1, 0, 0, 0], b"\x03a\0b\x03com\0\0\x01\0\x01"), QueryFault::Name),
        (raw(0x0100, [1, 0, 0, 0], b"\x03a b\x03com\0\0\x01\0\x01"), QueryFault::Name),
        (raw(0x0100, [1, 0, 0, 0], b"\x041.10\0\0\x01\0\x01"), QueryFault::Name),
        // A pointer to itself, and one to the header.
        (raw(0x0100, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01"), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 0], b"\x01a\xc0\x02\0\x01\0\x01"), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 0], b"\x41a\0\0\x01\0\x01"), QueryFault::Malformed),
        (raw(0x0100, [1, 0, 0, 0], b"\x81a\0\0\x01\0\x01"), QueryFault::Malformed),
    ];
    for (bytes, fault) in cases {
        assert_eq!(query(&bytes).err(), Some(fault), "{bytes:02x?}");
        assert_eq!(question(&bytes), Look::Bad(Fault::Dns), "{bytes:02x?}");
    }
}

#[test]
fn a_name_over_255_bytes_is_malformed_and_one_of_255_is_taken() {
    let label = |byte: u8, len: u8| [vec![len], vec![byte; usize::from(len)]].concat();
    let tail = b"\0\0\x01\0\x01".to_vec();
    let longest = [label(b'a', 63), label(b'b', 63), label(b'c', 63), label(b'd', 61), tail.clone()].concat();
    assert_eq!(query(&raw(0x0100, [1, 0, 0, 0], &longest)).unwrap().question.name.as_str().len(), 253);
    let over = [label(b'a', 63), label(b'b', 63), label(b'c', 63), label(b'd', 62), tail].concat();
    assert_eq!(query(&raw(0x0100, [1, 0, 0, 0], &over)).err(), Some(QueryFault::Malformed));
}

#[test]
fn addresses_at_the_end_of_the_chain_count_with_the_smallest_ttl_on_the_way() {
    let read = read(&response(
        "www.example.com",
        1,
        vec![
            a("edge.example.net", 300, "203.0.113.1"),
            cname("WWW.example.com", 60, "cdn.example.net"),
            a("edge.example.net", 20, "203.0.113.2"),
            cname("cdn.example.net", 90, "edge.example.net"),
        ],
    ));
    assert_eq!(names(&read), ["www.example.com", "cdn.example.net", "edge.example.net"]);
    assert_eq!(given(&read), [("203.0.113.1".into(), 60), ("203.0.113.2".into(), 20)]);
    assert_eq!((read.question.id, read.rcode), (7, 0));
}

#[test]
fn records_off_the_chain_count_for_nothing() {
    let mut message = response(
        "www.example.com",
        1,
        vec![
            a("evil.example.net", 300, "203.0.113.66"),
            cname("other.example.com", 60, "www.example.com"),
            cname("www.example.com", 60, "cdn.example.net"),
            // The alias's own addresses are not at the end.
            a("www.example.com", 60, "203.0.113.67"),
            a("cdn.example.net", 60, "203.0.113.1"),
        ],
    );
    message.add_additional(a("cdn.example.net", 60, "203.0.113.68"));
    message.add_authority(a("cdn.example.net", 60, "203.0.113.69"));
    let read = read(&message);
    assert_eq!(names(&read), ["www.example.com", "cdn.example.net"]);
    assert_eq!(given(&read), [("203.0.113.1".into(), 60)]);
}

#[test]
fn loops_forks_and_overlong_chains_lead_nowhere() {
    let looped = response(
        "a.test",
        1,
        vec![cname("a.test", 1, "b.test"), cname("b.test", 1, "a.test"), a("a.test", 1, "203.0.113.1")],
    );
    assert!(read(&looped).addresses.is_empty());
    let own = response("a.test", 1, vec![cname("a.test", 1, "a.test"), a("a.test", 1, "203.0.113.1")]);
    assert!(read(&own).addresses.is_empty());
    let forked = response(
        "a.test",
        1,
        vec![cname("a.test", 1, "b.test"), cname("a.test", 1, "c.test"), a("b.test", 1, "203.0.113.1")],
    );
    assert_eq!((names(&read(&forked)), read(&forked).addresses.len()), (vec!["a.test"], 0));
    let long = |links: usize| {
        let mut records: Vec<_> =
            (0..links).map(|n| cname(&format!("n{n}.test"), 9, &format!("n{}.test", n + 1))).collect();
        records.push(a(&format!("n{links}.test"), 9, "203.0.113.1"));
        read(&response("n0.test", 1, records))
    };
    assert_eq!((long(16).chain.len(), long(16).addresses.len()), (17, 1));
    assert_eq!((long(17).chain.len(), long(17).addresses.len()), (17, 0));
}

#[test]
fn a_ttl_over_31_bits_counts_as_zero_and_an_error_gives_no_addresses() {
    let long = read(&response("a.test", 1, vec![a("a.test", 0x8000_0000, "203.0.113.1")]));
    assert_eq!(given(&long), [("203.0.113.1".into(), 0)]);
    let mut failed = response("a.test", 1, vec![a("a.test", 60, "203.0.113.1")]);
    failed.metadata.response_code = ResponseCode::NXDomain;
    assert_eq!((read(&failed).rcode, read(&failed).addresses.len()), (3, 0));
}

#[test]
fn mapped_addresses_are_given_in_canonical_form() {
    let mapped = read(&response("a.test", 28, vec![aaaa("a.test", 60, "::ffff:203.0.113.9")]));
    assert_eq!(given(&mapped), [("203.0.113.9".into(), 60)]);
}

#[test]
fn a_response_that_lies_about_lengths_is_refused() {
    let good = response("a.test", 1, vec![a("a.test", 60, "203.0.113.1")]).to_vec().unwrap();
    let mut short_address = good.clone();
    let at = short_address.len() - 5;
    short_address[at] = 3;
    short_address.pop();
    let mut left_over = good.clone();
    left_over.push(0);
    let mut more_records = good.clone();
    more_records[7] = 200;
    let query = asking("a.test", 1).to_vec().unwrap();
    for bad in [short_address, left_over, more_records, query] {
        assert_eq!(answer(&bad), Err(Fault::Dns));
    }
    for end in 0..good.len() {
        assert_eq!(answer(&good[..end]), Err(Fault::Dns), "cut at {end}");
    }
}

#[test]
fn compression_loops_end() {
    // The owner points at itself, forward, and into a ring of two.
    for tail in [&b"\xc0\x17"[..], b"\xc0\x40", b"\x01x\xc0\x17"] {
        let mut bytes = raw(0x8180, [1, 1, 0, 0], b"\x01a\x04test\0\0\x01\0\x01");
        bytes.extend(tail);
        bytes.extend(b"\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x01");
        assert_eq!(answer(&bytes), Err(Fault::Dns));
    }
}

#[test]
fn a_huge_answer_is_read_in_one_walk() {
    let records = (0..3000).map(|n: u32| {
        let [.., high, low] = n.to_be_bytes();
        a("a.test", 60, &Ipv4Addr::new(203, 0, high, low).to_string())
    });
    assert_eq!(read(&response("a.test", 1, records.collect())).addresses.len(), 3000);
}

#[test]
fn an_answer_with_nothing_to_hide_is_relayed_byte_for_byte() {
    let asked = asking("A.teST", 1).to_vec().unwrap();
    let theirs = response("a.test", 1, vec![a("a.test", 60, "203.0.113.1")]).to_vec().unwrap();
    let reply = reply(theirs.clone(), &query(&asked).unwrap(), false, 512).unwrap();
    assert_eq!(reply.bytes[..2], asked[..2]);
    assert_eq!(reply.bytes[12..24], asked[12..24]);
    assert_eq!(reply.bytes[24..], theirs[24..]);
    assert_eq!((reply.stripped, reply.answer.addresses.len()), (0, 1));
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let asked = asking("a.test", 1).to_vec().unwrap();
    for (name, qtype) in [("b.test", 1), ("a.test", 28), ("aa.test", 1)] {
        let theirs = response(name, qtype, vec![a(name, 60, "203.0.113.1")]).to_vec().unwrap();
        assert_eq!(reply(theirs, &query(&asked).unwrap(), false, 512), Err(Fault::Dns));
    }
}

#[test]
fn private_addresses_are_taken_out_unless_the_rule_permits_them() {
    let asked = with_edns(asking("a.test", 1), 1232);
    let mut theirs = response(
        "a.test",
        1,
        vec![
            a("a.test", 60, "169.254.169.254"),
            a("a.test", 60, "203.0.113.1"),
            a("a.test", 60, "10.0.0.1"),
            aaaa("a.test", 60, "64:ff9b::a9fe:a9fe"),
        ],
    );
    theirs.metadata.authentic_data = true;
    let bytes = theirs.to_vec().unwrap();
    let strict = reply(bytes.clone(), &query(&asked).unwrap(), false, 1232).unwrap();
    assert_eq!(given(&strict.answer), [("203.0.113.1".into(), 60)]);
    assert_eq!(strict.stripped, 3);
    let decoded = Message::from_vec(&strict.bytes).unwrap();
    assert_eq!((decoded.answers.len(), decoded.metadata.authentic_data), (1, false));
    let open = reply(bytes.clone(), &query(&asked).unwrap(), true, 1232).unwrap();
    assert_eq!((open.answer.addresses.len(), open.stripped), (4, 0));
    assert_eq!(
        open.bytes[2..],
        bytes[2..]
            .iter()
            .enumerate()
            .map(|(at, byte)| if at == 0 { byte | 1 } else { *byte })
            .collect::<Vec<_>>()[..]
    );
}

fn https(params: Vec<(SvcParamKey, SvcParamValue)>) -> Record {
    let binding = SVCB::new(1, HickoryName::root(), params);
    record("a.test", 60, RData::HTTPS(HTTPS(binding)))
}

fn alpn(protocols: &[&str]) -> (SvcParamKey, SvcParamValue) {
    let protocols = protocols.iter().map(ToString::to_string).collect();
    (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(protocols)))
}

fn defused(records: Vec<Record>) -> Vec<Vec<(SvcParamKey, SvcParamValue)>> {
    let asked = asking("a.test", 65).to_vec().unwrap();
    let theirs = response("a.test", 65, records).to_vec().unwrap();
    let bytes = reply(theirs, &query(&asked).unwrap(), false, 512).unwrap().bytes;
    let message = Message::from_vec(&bytes).unwrap();
    let params = message.answers.iter().filter_map(|record| match &record.data {
        RData::HTTPS(https) => Some(https.svc_params.clone()),
        _ => None,
    });
    params.collect()
}

#[test]
fn service_bindings_lose_what_leads_past_the_gate() {
    let mandatory =
        |keys: &[SvcParamKey]| (SvcParamKey::Mandatory, SvcParamValue::Mandatory(Mandatory(keys.to_vec())));
    let four =
        (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A(Ipv4Addr::new(203, 0, 113, 1))])));
    let six = (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA(Ipv6Addr::LOCALHOST)])));
    let ech = (SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(vec![0, 1, 2])));
    let port = (SvcParamKey::Port, SvcParamValue::Port(8443));
    let all = vec![
        mandatory(&[SvcParamKey::Alpn, SvcParamKey::Ipv4Hint]),
        alpn(&["h3", "h2", "h3-29"]),
        port.clone(),
        four,
        ech,
        six,
    ];
    assert_eq!(
        defused(vec![https(all)]),
        [vec![mandatory(&[SvcParamKey::Alpn]), alpn(&["h2"]), port.clone()]]
    );
    assert_eq!(defused(vec![https(vec![alpn(&["h3"]), port.clone()])]), [vec![port.clone()]]);
    let silent = (SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn);
    assert!(defused(vec![https(vec![alpn(&["h3"]), silent])]).is_empty());
    assert_eq!(defused(vec![https(vec![alpn(&["h2"]), port.clone()])]), [vec![alpn(&["h2"]), port]]);
}

#[test]
fn a_service_binding_that_leads_to_another_name_is_taken_out() {
    let to = |target: &str| {
        let binding = SVCB::new(1, wire_name(target), vec![alpn(&["h2"])]);
        record("a.test", 60, RData::HTTPS(HTTPS(binding)))
    };
    let alias = record("a.test", 60, RData::HTTPS(HTTPS(SVCB::new(0, wire_name("b.test"), vec![]))));
    assert!(defused(vec![to("b.test"), alias]).is_empty());
    assert_eq!(defused(vec![to("A.test")]), [vec![alpn(&["h2"])]]);
}

#[test]
fn addresses_in_the_additional_section_are_taken_out() {
    let asked = asking("a.test", 15).to_vec().unwrap();
    let mx = record("a.test", 60, RData::MX(MX::new(10, wire_name("mail.test"))));
    let mut theirs = response("a.test", 15, vec![mx]);
    theirs.add_additional(a("mail.test", 60, "203.0.113.1"));
    let reply = reply(theirs.to_vec().unwrap(), &query(&asked).unwrap(), true, 512).unwrap();
    let decoded = Message::from_vec(&reply.bytes).unwrap();
    assert_eq!((decoded.answers.len(), decoded.additionals.len()), (1, 0));
}

#[test]
fn a_client_without_edns_gets_none() {
    let asked = asking("a.test", 1).to_vec().unwrap();
    let theirs = with_edns(response("a.test", 1, vec![a("a.test", 60, "203.0.113.1")]), 1232);
    let last = reply(theirs, &query(&asked).unwrap(), false, 512).unwrap().bytes;
    let decoded = Message::from_vec(&last).unwrap();
    assert!(decoded.edns.is_none() && decoded.answers.len() == 1);
    // Not the last record: another follows.
    let mut first = raw(0x8180, [1, 0, 0, 2], b"\x01a\x04test\0\0\x01\0\x01");
    first.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
    first.extend(b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x02\x01x");
    let inner = reply(first, &query(&asked).unwrap(), false, 512).unwrap().bytes;
    let decoded = Message::from_vec(&inner).unwrap();
    assert!(decoded.edns.is_none() && decoded.additionals.len() == 1);
}

#[test]
fn what_does_not_fit_is_cut_at_the_end_of_a_record_and_marked() {
    let records = (0..200u8).map(|n| a("a.test", 60, &format!("203.0.113.{n}"))).collect();
    let theirs = with_edns(response("a.test", 1, records), 1232);
    for (asked, limit) in
        [(asking("a.test", 1).to_vec().unwrap(), 512), (with_edns(asking("a.test", 1), 1232), 1232)]
    {
        let query = query(&asked).unwrap();
        let reply = reply(theirs.clone(), &query, false, query.udp_limit()).unwrap();
        assert!(reply.bytes.len() <= limit && reply.bytes.len() > limit - 16, "{}", reply.bytes.len());
        let decoded = Message::from_vec(&reply.bytes).unwrap();
        assert!(decoded.metadata.truncation);
        assert_eq!(decoded.answers.len(), reply.answer.addresses.len());
        assert_eq!(decoded.edns.is_some(), query.edns.is_some());
    }
}

#[test]
fn a_refusal_says_why_to_those_who_speak_edns() {
    let bytes = with_edns(asking("Blocked.test", 1), 1232);
    let told = refusal(
        &query(&bytes).unwrap(),
        rcode::REFUSED,
        Some((ede::BLOCKED, "name_not_allowed: blocked.test")),
        1232,
    );
    let decoded = Message::from_vec(&told).unwrap();
    assert_eq!((decoded.metadata.id, decoded.metadata.response_code), (0x1234, ResponseCode::Refused));
    assert_eq!(decoded.queries[0].name().to_string(), "Blocked.test.");
    let edns = decoded.edns.unwrap();
    let Some(EdnsOption::Unknown(15, error)) = edns.option(EdnsCode::from(15)) else {
        panic!("no extended error: {edns:?}")
    };
    assert_eq!(error[..2], [0, 15]);
    assert_eq!(&error[2..], b"name_not_allowed: blocked.test");
    let plain = asking("blocked.test", 1).to_vec().unwrap();
    let short = refusal(&query(&plain).unwrap(), rcode::NXDOMAIN, Some((15, "x")), 512);
    assert!(Message::from_vec(&short).unwrap().edns.is_none());
}

#[test]
fn the_text_of_a_refusal_never_bursts_the_limit() {
    let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let bytes = with_edns(asking(&name, 1), 512);
    let told = refusal(&query(&bytes).unwrap(), 5, Some((15, &format!("name_not_allowed: {name}"))), 512);
    assert_eq!(told.len(), 512);
    assert!(Message::from_vec(&told).is_ok());
}

#[test]
fn a_broken_query_is_told_so_and_a_response_is_not() {
    let told = format_error(&raw(0x0100, [9, 9, 9, 9], b"junk"), rcode::FORMERR).unwrap();
    assert_eq!(told, raw(0x8181, [0, 0, 0, 0], b""));
    let version = format_error(&raw(0x0100, [1, 0, 0, 0], b""), rcode::BADVERS).unwrap();
    assert_eq!(u16::from(Message::from_vec(&version).unwrap().metadata.response_code), 16);
    assert_eq!(format_error(&raw(0x8100, [1, 0, 0, 0], b""), rcode::FORMERR), None);
    assert_eq!(format_error(b"short", rcode::FORMERR), None);
}

#[test]
fn an_own_query_carries_name_type_and_nothing_of_the_client() {
    let mut message = asking("WWW.example.com", 65);
    message.metadata.checking_disabled = true;
    let mut edns = HickoryEdns::new();
    edns.set_dnssec_ok(true);
    edns.options_mut().insert(EdnsOption::Unknown(65001, b"smuggled".to_vec()));
    message.set_edns(edns);
    let bytes = message.to_vec().unwrap();
    let ask = Ask::of(&query(&bytes).unwrap());
    let ours = ask.encode(9, &Spelling([0xff; 32]), true);
    let decoded = Message::from_vec(&ours).unwrap();
    assert_eq!(decoded.queries[0].name().to_string(), "WWW.EXAMPLE.COM.");
    assert_eq!(u16::from(decoded.queries[0].query_type()), 65);
    assert!(!decoded.metadata.checking_disabled && decoded.metadata.recursion_desired);
    let edns = decoded.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
    assert!(Message::from_vec(&ask.encode(9, &Spelling::PLAIN, false)).unwrap().edns.is_none());
    let theirs = response("www.example.com", 65, vec![]).to_vec().unwrap();
    let back = reply(theirs, &query(&bytes).unwrap(), false, 512).unwrap().bytes;
    assert!(Message::from_vec(&back).unwrap().metadata.checking_disabled);
}

#[test]
fn an_echo_is_exact_only_down_to_the_case_of_each_letter() {
    let ours = Ask::new(Name::parse("a.test").unwrap(), 1).encode(9, &Spelling([0b101; 32]), true);
    let mut theirs = ours.clone();
    theirs[2] |= 0x80;
    assert_eq!(echo(&theirs, &ours), Echo::Exact);
    assert_eq!(echo(&ours, &ours), Echo::Foreign);
    let mut other_case = theirs.clone();
    other_case[13] ^= 0x20;
    assert_eq!(echo(&other_case, &ours), Echo::OtherCase);
    for (at, mask) in [(0, 1), (1, 1), (13, 1), (20, 1), (22, 1), (5, 1)] {
        let mut foreign = theirs.clone();
        foreign[at] ^= mask;
        assert_eq!(echo(&foreign, &ours), Echo::Foreign, "byte {at}");
    }
}

/// A response with a bit of everything, for the tests that break it.
fn rich() -> Vec<u8> {
    let binding = SVCB::new(1, wire_name("svc.test"), vec![alpn(&["h2", "h3"])]);
    let mut message = response(
        "a.test",
        1,
        vec![
            cname("a.test", 60, "b.test"),
            a("b.test", 60, "203.0.113.1"),
            a("b.test", 60, "10.0.0.1"),
            record("a.test", 60, RData::HTTPS(HTTPS(binding))),
        ],
    );
    message.add_additional(aaaa("b.test", 60, "fd00::1"));
    with_edns(message, 1232)
}

#[test]
fn every_prefix_and_every_changed_byte_is_survived() {
    let (bytes, asked) = (rich(), with_edns(asking("a.test", 1), 1232));
    let query = query(&asked).unwrap();
    for end in 0..bytes.len() {
        assert!(reply(bytes[..end].to_vec(), &query, false, 512).is_err());
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x20] {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(reply) = reply(changed, &query, false, 512) {
                assert!(answer(&reply.bytes).is_ok());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn noise_and_mutations_never_panic_and_replies_hold_no_private_address(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let _ = (query(&noise).is_ok(), answer(&noise).is_ok(), format_error(&noise, 1));
        let asked = asking("a.test", 1).to_vec().unwrap();
        let mut changed_query = with_edns(asking("a.test", 1), 1232);
        let mut changed = rich();
        for (at, value) in changes {
            let at_query = at.index(changed_query.len());
            changed_query[at_query] = value;
            let at = at.index(changed.len());
            changed[at] = value;
        }
        if let Ok(query) = query(&changed_query) {
            let _ = refusal(&query, 5, Some((15, "x")), 512);
        }
        if let Ok(reply) = reply(changed, &query(&asked).unwrap(), false, 512) {
            let again = answer(&reply.bytes).unwrap();
            let public = |address: &crate::facts::Address| {
                crate::facts::scope(address.ip) == crate::facts::Scope::Public
            };
            prop_assert!(again.addresses.iter().all(public));
            prop_assert!(reply.bytes.len() <= 512);
        }
    }

    /// The walk against a decoder that shares no code with it.
    #[test]
    fn the_walk_agrees_with_an_independent_decoder(
        links in proptest::collection::vec((0usize..5, 0usize..5, 0u32..100, any::<bool>(), any::<u8>()), 0..10),
    ) {
        let name = |n: usize| format!("n{n}.example.test");
        let records: Vec<Record> = links.iter().map(|&(from, to, ttl, alias, last)| {
            if alias { cname(&name(from), ttl, &name(to)) } else { a(&name(from), ttl, &format!("203.0.113.{last}")) }
        }).collect();
        let bytes = response(&name(0), 1, records).to_vec().unwrap();
        let decoded = Message::from_vec(&bytes).unwrap();
        let (mut at, mut least, mut seen) = (wire_name(&name(0)), u32::MAX, vec![]);
        let expected = loop {
            let here: Vec<&Record> = decoded.answers.iter().filter(|record| {
                record.name.to_string().trim_end_matches('.') == at.to_string().trim_end_matches('.')
            }).collect();
            let aliases: Vec<_> = here.iter().filter_map(|record| match &record.data {
                RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
                _ => None,
            }).collect();
            match aliases.as_slice() {
                [] => break here.iter().filter_map(|record| match &record.data {
                    RData::A(a) => Some((a.0.to_string(), record.ttl.min(least))),
                    _ => None,
                }).collect::<Vec<_>>(),
                [(target, ttl)] if !seen.contains(target) && *target != wire_name(&name(0)) => {
                    seen.push(target.clone());
                    (at, least) = (target.clone(), least.min(*ttl));
                }
                _ => break vec![],
            }
        };
        prop_assert_eq!(given(&answer(&bytes).unwrap()), expected);
    }
}
