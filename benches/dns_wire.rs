//! What one DNS message costs: a question read, an answer read, relayed, edited, refused.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

use std::net::Ipv4Addr;

use divan::{Bencher, black_box};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use namegate::wire::dns;

fn main() {
    divan::main();
}

fn message(kind: MessageType, addresses: u8) -> Vec<u8> {
    let name = |text| Name::from_ascii(text).unwrap();
    let mut message = Message::new(7, kind, OpCode::Query);
    message.add_query(Query::query(name("www.example.com"), RecordType::A));
    message.set_edns(Edns::new());
    if addresses > 0 {
        let target = RData::CNAME(CNAME(name("edge.example.net")));
        message.add_answer(Record::from_rdata(name("www.example.com"), 60, target));
    }
    for last in 0..addresses {
        let data = RData::A(A(Ipv4Addr::new(203, 0, 113, last)));
        message.add_answer(Record::from_rdata(name("edge.example.net"), 60, data));
    }
    message.to_vec().unwrap()
}

#[divan::bench]
fn question_read(bencher: Bencher<'_, '_>) {
    let query = message(MessageType::Query, 0);
    bencher.bench(|| dns::query(black_box(&query)).is_ok());
}

#[divan::bench(args = [1, 4, 16])]
fn answer_read(bencher: Bencher<'_, '_>, addresses: u8) {
    let answer = message(MessageType::Response, addresses);
    bencher.bench(|| dns::answer(black_box(&answer)).is_ok());
}

#[divan::bench(args = [1, 4, 16])]
fn answer_relayed(bencher: Bencher<'_, '_>, addresses: u8) {
    let (query, answer) = (message(MessageType::Query, 0), message(MessageType::Response, addresses));
    let query = dns::query(&query).unwrap();
    bencher
        .with_inputs(|| answer.clone())
        .bench_values(|answer| dns::reply(answer, &query, false, 1232).is_ok());
}

#[divan::bench(args = [1, 4, 16])]
fn answer_edited(bencher: Bencher<'_, '_>, addresses: u8) {
    let query = message(MessageType::Query, 0);
    let mut answer = message(MessageType::Response, addresses);
    // The last address becomes a private one.
    let last = answer.windows(3).rposition(|bytes| bytes == [203, 0, 113]).unwrap();
    answer[last..last + 3].copy_from_slice(&[10, 0, 0]);
    let query = dns::query(&query).unwrap();
    bencher
        .with_inputs(|| answer.clone())
        .bench_values(|answer| dns::reply(answer, &query, false, 1232).is_ok());
}

#[divan::bench]
fn question_refused(bencher: Bencher<'_, '_>) {
    let query = message(MessageType::Query, 0);
    bencher.bench(|| {
        let query = dns::query(black_box(&query)).unwrap();
        dns::refusal(&query, 5, Some((15, "name_not_allowed: www.example.com")), 1232)
    });
}
