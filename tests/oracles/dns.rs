//! DNS: dnspython on answers, on their mutations, and on what we make of them for the client; dig on the latter.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query as HickoryQuery};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, TXT};
use hickory_proto::rr::{Name as HickoryName, RData, Record, RecordType};
use namegate::facts::{Scope, canonical, scope};
use namegate::wire::dns::{Answer, answer, query, reply};
use serde::Deserialize;

use crate::python::opinions;
use crate::with_mutations;

/// Bytes that matter in an answer.
const FAVOURITES: &[u8] = &[0, 1, 2, 3, 4, 5, 12, 16, 28, 41, 0xc0, 0x0c, 0x80, 0xff, b'a', b'.', b'-'];

/// What dnspython reads.
#[derive(Debug, Deserialize)]
struct DnsPython {
    error: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    qtype: u16,
    #[serde(default)]
    id: u16,
    #[serde(default)]
    rcode: u16,
    #[serde(default)]
    chain: Vec<String>,
    #[serde(default)]
    addresses: Vec<(IpAddr, u32)>,
}

fn name(text: &str) -> HickoryName {
    HickoryName::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, ttl: u32, ip: &str) -> Record {
    record(owner, ttl, RData::A(A(ip.parse().unwrap())))
}

fn aaaa(owner: &str, ttl: u32, ip: &str) -> Record {
    record(owner, ttl, RData::AAAA(AAAA(ip.parse().unwrap())))
}

fn cname(owner: &str, ttl: u32, to: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(name(to))))
}

fn response(asked: &str, kind: RecordType, answers: Vec<Record>, edns: bool) -> Message {
    let mut message = Message::response(7, OpCode::Query);
    message.metadata.recursion_available = true;
    message.add_query(HickoryQuery::query(name(asked), kind));
    message.add_answers(answers);
    if edns {
        message.set_edns(Edns::new());
    }
    message
}

/// Answers as resolvers give them, and some that they should not give.
fn answers() -> Vec<Vec<u8>> {
    let (w, c, d) = ("www.example.com", "cdn.example.net", "edge.example.org");
    let long: Vec<Record> = (0..14)
        .map(|n| cname(&format!("l{n}.example.com"), 90, &format!("l{}.example.com", n + 1)))
        .collect();
    let mut mixed = response(w, RecordType::A, vec![cname(w, 60, c), a(c, 30, "203.0.113.7")], true);
    mixed.add_authorities([record("example.com", 300, RData::MX(MX::new(10, name("mail.example.com"))))]);
    mixed.add_additionals([a("mail.example.com", 300, "203.0.113.25")]);
    let messages = [
        response(w, RecordType::A, vec![a(w, 300, "203.0.113.1"), a(w, 200, "203.0.113.2")], false),
        response(
            w,
            RecordType::AAAA,
            vec![aaaa(w, 300, "2001:db8::1"), aaaa(w, 300, "::ffff:203.0.113.1")],
            true,
        ),
        response(w, RecordType::A, vec![cname(w, 10, c), cname(c, 20, d), a(d, 5, "203.0.113.3")], true),
        response(w, RecordType::A, vec![a(d, 5, "203.0.113.3"), cname(c, 20, d), cname(w, 10, c)], false),
        response(w, RecordType::A, vec![cname(w, 10, c), cname(c, 20, w)], false),
        response(w, RecordType::A, vec![cname(w, 10, c), cname(w, 10, d), a(c, 1, "203.0.113.4")], false),
        response(
            w,
            RecordType::A,
            vec![a(w, 0, "10.0.0.1"), a(w, 0x8000_0000, "203.0.113.5"), a(d, 9, "203.0.113.6")],
            true,
        ),
        response(
            "l0.example.com",
            RecordType::A,
            [long, vec![a("l14.example.com", 7, "203.0.113.9")]].concat(),
            false,
        ),
        response(
            w,
            RecordType::TXT,
            vec![record(w, 60, RData::TXT(TXT::new(vec!["v=spf1 -all".into()])))],
            true,
        ),
        mixed,
    ];
    messages.iter().map(|message| message.to_vec().unwrap()).collect()
}

fn given(answer: &Answer) -> Vec<(IpAddr, u32)> {
    sorted(answer.addresses.iter().map(|address| (address.ip, address.ttl_secs)).collect())
}

fn sorted(mut addresses: Vec<(IpAddr, u32)>) -> Vec<(IpAddr, u32)> {
    addresses.sort_unstable();
    addresses
}

fn compare(bytes: &[u8], ours: &Answer, theirs: &DnsPython) {
    let shown = || format!("{theirs:?}, we {ours:?}: {}", bytes.escape_ascii());
    assert_eq!(ours.question.name.as_str(), theirs.name, "{}", shown());
    assert_eq!(
        (ours.question.id, ours.question.qtype, ours.rcode),
        (theirs.id, theirs.qtype, theirs.rcode),
        "{}",
        shown()
    );
    let chain: Vec<&str> = ours.chain.iter().map(|name| name.as_str()).collect();
    assert_eq!(
        chain,
        theirs.chain.iter().take(chain.len()).map(String::as_str).collect::<Vec<_>>(),
        "{}",
        shown()
    );
    if !ours.addresses.is_empty() {
        assert_eq!(chain.len(), theirs.chain.len(), "{}", shown());
        let plain = theirs.addresses.iter().map(|(ip, ttl)| (canonical(*ip), *ttl));
        assert_eq!(given(ours), sorted(plain.collect()), "{}", shown());
    }
}

/// The query that an answer is an answer to.
fn asking(of: &Answer) -> Vec<u8> {
    let mut message = Message::query();
    // Host names may begin with what no hickory text may.
    let labels = of.question.name.as_str().split('.').map(str::as_bytes);
    let asked = HickoryName::from_labels(labels).unwrap();
    message.add_query(HickoryQuery::query(asked, RecordType::from(of.question.qtype)));
    message.set_edns(Edns::new());
    message.to_vec().unwrap()
}

#[test]
fn dnspython_never_reads_another_chain_or_address_than_we_do() {
    let cases = with_mutations(&answers(), 1_500, 5, FAVOURITES);
    let Some(views) = opinions::<DnsPython>("dns", "python3-dnspython", &cases) else { return };
    let (mut agreed, mut opening, mut looser) = (0, 0, Vec::new());
    for (bytes, theirs) in cases.iter().zip(&views) {
        let Ok(ours) = answer(bytes) else { continue };
        if let Some(error) = &theirs.error {
            looser.push(error.clone());
            continue;
        }
        compare(bytes, &ours, theirs);
        agreed += 1;
        opening += usize::from(!ours.addresses.is_empty());
    }
    assert!(
        agreed > 2_500 && opening > 1_000,
        "{agreed} answers were read by both, {opening} with addresses"
    );
    looser.sort_unstable();
    let total = looser.len();
    looser.dedup();
    assert!(total < agreed / 5, "{total} answers dnspython alone refuses: {looser:#?}");
}

#[test]
fn dnspython_reads_in_our_replies_what_the_ledger_learns() {
    let (mut replies, mut learnt) = (Vec::new(), Vec::new());
    for bytes in with_mutations(&answers(), 700, 6, FAVOURITES) {
        let Ok(read) = answer(&bytes) else { continue };
        let asked = asking(&read);
        let asked = query(&asked).unwrap();
        for limit in [512, 120] {
            let Ok(reply) = reply(bytes.clone(), &asked, false, limit) else { continue };
            assert!(reply.bytes.len() <= limit);
            assert!(reply.answer.addresses.iter().all(|address| scope(address.ip) == Scope::Public));
            replies.push(reply.bytes);
            learnt.push(reply.answer);
        }
    }
    let Some(views) = opinions::<DnsPython>("dns", "python3-dnspython", &replies) else { return };
    let mut agreed = 0;
    for ((bytes, ours), theirs) in replies.iter().zip(&learnt).zip(&views) {
        if theirs.error.is_none() {
            compare(bytes, ours, theirs);
            agreed += 1;
        }
    }
    assert!(agreed > 2_000, "{agreed} replies were read by both");
}

#[test]
fn dig_prints_the_addresses_that_the_ledger_learns() {
    if Command::new("dig").arg("-v").output().is_err() {
        eprintln!("SKIPPED: dig (bind9-dnsutils) is not installed");
        assert!(std::env::var_os("NAMEGATE_TEST_ALL").is_none(), "dig is not installed");
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    for bytes in answers() {
        let read = answer(&bytes).unwrap();
        let asked = read.question.name.as_str().to_owned();
        let mut dig = Command::new("dig");
        dig.args(["@127.0.0.1", "-p", &port, "+noall", "+answer", "+tries=1", "+timeout=20", "-t"]);
        dig.arg(format!("TYPE{}", read.question.qtype)).arg(&asked).stdout(std::process::Stdio::piped());
        let child = dig.spawn().unwrap();
        let mut buffer = [0; 1500];
        let (len, client) = socket.recv_from(&mut buffer).unwrap();
        let asking = query(&buffer[..len]).unwrap();
        let reply = reply(bytes, &asking, false, asking.udp_limit()).unwrap();
        socket.send_to(&reply.bytes, client).unwrap();
        let printed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        // OWNER TTL IN TYPE DATA
        let lines = printed.lines().filter(|line| !line.starts_with(';'));
        let end = reply.answer.chain.last().unwrap().as_str();
        let at_end = lines.map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|words| {
            words[0].trim_end_matches('.').eq_ignore_ascii_case(end) && matches!(words[3], "A" | "AAAA")
        });
        let found: Vec<IpAddr> = at_end.map(|words| canonical(words[4].parse().unwrap())).collect();
        let told: Vec<IpAddr> = reply.answer.addresses.iter().map(|address| address.ip).collect();
        assert!(told.iter().all(|ip| found.contains(ip)), "we tell {told:?}, dig:\n{printed}");
        assert!(told.is_empty() || found.len() == told.len(), "we tell {told:?}, dig:\n{printed}");
    }
}
