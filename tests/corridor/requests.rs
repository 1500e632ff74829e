//! Every name of a connection is judged, not the first alone: later HTTP requests, and a second ClientHello.

use std::collections::HashSet;
use std::time::Duration;

use namegate::gate::{Action, Mode, Ports, Reason, Rule};
use namegate::record::{Decided, Ending};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::world::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test]
async fn requests_for_the_same_name_share_a_connection() {
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&get("good.example")).await;
    let mut server = world.accepted().await;
    for _ in 0..3 {
        assert_eq!(take(&mut server, get("good.example").len()).await, get("good.example"));
        server.write_all(ANSWER).await.unwrap();
        assert_eq!(take(&mut client, ANSWER.len()).await, ANSWER);
        client.write_all(&get("GOOD.example")).await.unwrap();
        assert_eq!(take(&mut server, get("good.example").len()).await, get("GOOD.example"));
        server.write_all(ANSWER).await.unwrap();
        assert_eq!(take(&mut client, ANSWER.len()).await, ANSWER);
        client.write_all(&get("good.example")).await.unwrap();
    }
    assert_eq!(world.decided().len(), 1, "one decision a flow");
}

#[tokio::test]
async fn a_swapped_host_on_keep_alive_never_reaches_the_server() {
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&get("good.example")).await;
    let mut server = world.accepted().await;
    take(&mut server, get("good.example").len()).await;
    server.write_all(ANSWER).await.unwrap();
    take(&mut client, ANSWER.len()).await;
    client.write_all(&get("evil.example")).await.unwrap();
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.starts_with("HTTP/1.1 403 "), "{told}");
    assert!(told.contains("namegate: name_changed\nname: evil.example\n"), "{told}");
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    world.ends(Ending::NameChanged).await;
}

#[tokio::test]
async fn another_allowed_name_without_an_answer_for_this_address_is_refused_too() {
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&[get("good.example"), get("other.example")].concat()).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, get("good.example").len()).await, get("good.example"));
    server.write_all(ANSWER).await.unwrap();
    take(&mut client, ANSWER.len()).await;
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.contains("namegate: name_changed\nname: other.example\n"), "{told}");
}

#[tokio::test]
async fn another_name_that_is_allowed_at_this_address_goes_on() {
    let world = World::new(Plan { leases: vec!["good.example", "other.example"], ..Plan::on_port(80) }).await;
    let sent = [get("good.example"), get("other.example")].concat();
    let _client = world.say(&sent).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, sent.len()).await, sent);
}

fn lines(world: &World) -> Vec<(String, Reason)> {
    let name = |line: &Decided| line.name.as_ref().map_or(String::new(), ToString::to_string);
    world.decided().iter().map(|line| (name(line), line.reason)).collect()
}

#[tokio::test]
async fn every_name_of_a_connection_has_one_line_and_the_refused_one_too() {
    let plan = Plan { leases: vec!["good.example", "other.example"], ..Plan::on_port(80) };
    let world = World::new(plan).await;
    let good = ["good.example", "other.example", "good.example", "other.example"].map(get).concat();
    let mut client = world.say(&good).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, good.len()).await, good);
    client.write_all(&get("evil.example")).await.unwrap();
    for _ in 0..4 {
        server.write_all(ANSWER).await.unwrap();
    }
    rest(&mut client).await.unwrap();
    world.ends(Ending::NameChanged).await;
    let expected = [
        ("good.example", Reason::Allowed),
        ("other.example", Reason::Allowed),
        ("evil.example", Reason::NameChanged),
    ];
    assert_eq!(lines(&world), expected.map(|(name, reason)| (name.to_owned(), reason)));
    assert_eq!(world.decided().iter().map(|line| line.later).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(world.decided().iter().map(|line| line.flow.id).collect::<HashSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_name_that_is_not_allowed_any_more_ends_a_connection_that_went_on_with_another() {
    let plan = Plan { leases: vec!["good.example", "other.example"], ..Plan::on_port(80) };
    let world = World::new(plan).await;
    let sent = [get("good.example"), get("other.example")].concat();
    let mut client = world.say(&sent).await;
    let mut server = world.accepted().await;
    take(&mut server, sent.len()).await;
    world.gate.replace(policy(vec![rule("other", &["other.example"])], Mode::Enforce));
    world.changes.send_modify(|generation| *generation += 1);
    assert!(is_reset(&mut client).await);
    world.ends(Ending::Revoked).await;
}

#[tokio::test]
async fn a_pipelined_refusal_comes_after_the_answers_before_it() {
    let world = World::new(Plan::on_port(80)).await;
    let sent = [get("good.example"), get("good.example"), get("evil.example"), get("good.example")].concat();
    let mut client = world.say(&sent).await;
    let mut server = world.accepted().await;
    let allowed = [get("good.example"), get("good.example")].concat();
    assert_eq!(take(&mut server, allowed.len()).await, allowed);
    server.write_all(ANSWER).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    server.write_all(ANSWER).await.unwrap();
    let told = rest(&mut client).await.unwrap();
    let (answers, refusal) = told.split_at(2 * ANSWER.len());
    assert_eq!(answers, [ANSWER, ANSWER].concat());
    assert!(refusal.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(rest(&mut server).await.unwrap(), b"");
}

#[tokio::test]
async fn an_answer_that_only_the_end_of_stream_ends_is_delivered_whole() {
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&[get("good.example"), get("evil.example")].concat()).await;
    let mut server = world.accepted().await;
    take(&mut server, get("good.example").len()).await;
    let answer = b"HTTP/1.0 200 OK\r\n\r\nhello";
    server.write_all(&answer[..20]).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    server.write_all(&answer[20..]).await.unwrap();
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    drop(server);
    assert_eq!(rest(&mut client).await.unwrap(), answer);
    world.ends(Ending::NameChanged).await;
}

#[tokio::test]
async fn a_request_hidden_behind_a_body_is_found() {
    let body = get("evil.example");
    let post =
        |framing: &str| format!("POST / HTTP/1.1\r\nHost: good.example\r\n{framing}\r\n\r\n").into_bytes();
    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    for first in [
        [post(&format!("Content-Length: {}", body.len())), body.clone()].concat(),
        [post("Transfer-Encoding: chunked"), chunk].concat(),
    ] {
        let world = World::new(Plan::on_port(80)).await;
        let mut client = world.say(&[&first[..], &get("evil.example")].concat()).await;
        let mut server = world.accepted().await;
        assert_eq!(take(&mut server, first.len()).await, first);
        server.write_all(ANSWER).await.unwrap();
        assert!(rest(&mut client).await.unwrap().starts_with(ANSWER));
        assert_eq!(rest(&mut server).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn a_later_head_that_never_ends_is_refused_at_its_deadline() {
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&[get("good.example"), b"GET / HTTP/1.1\r\nHo".to_vec()].concat()).await;
    let mut server = world.accepted().await;
    take(&mut server, get("good.example").len()).await;
    server.write_all(ANSWER).await.unwrap();
    let told = rest(&mut client).await.unwrap();
    assert!(String::from_utf8(told).unwrap().contains("namegate: silent\n"));
    world.ends(Ending::Garbled).await;
}

#[tokio::test]
async fn a_broken_chunk_ends_the_connection() {
    let world = World::new(Plan::on_port(80)).await;
    let head = b"POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = world.say(&[&head[..], b"4 \r\nwiki\r\n0\r\n\r\n"].concat()).await;
    let mut server = world.accepted().await;
    assert!(rest(&mut server).await.is_err());
    assert!(rest(&mut client).await.is_err());
    world.ends(Ending::Garbled).await;
}

#[tokio::test]
async fn a_websocket_is_carried_blindly_once_the_server_agreed() {
    let world = World::new(Plan::on_port(80)).await;
    let upgrade =
        b"GET /chat HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = world.say(&[&upgrade[..], b"\x81\x00"].concat()).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, upgrade.len()).await, upgrade);
    sleep(Duration::from_millis(50)).await;
    assert!(server.try_read(&mut [0; 1]).is_err(), "nothing more before the answer");
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    server.write_all(switch).await.unwrap();
    assert_eq!(take(&mut client, switch.len()).await, switch);
    assert_eq!(take(&mut server, 2).await, b"\x81\x00");
    server.write_all(b"\x81\x01x").await.unwrap();
    assert_eq!(take(&mut client, 3).await, b"\x81\x01x");
}

const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

#[tokio::test]
async fn a_second_hello_for_the_same_name_passes_and_opens_the_rest() {
    let first = hello("good.example");
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.say(&first).await;
    let mut server = world.accepted().await;
    take(&mut server, first.len()).await;
    server.write_all(&retry_request()).await.unwrap();
    take(&mut client, retry_request().len()).await;
    let second = [&CHANGE_CIPHER_SPEC[..], &hello("good.example"), b"anything"].concat();
    for piece in second.chunks(50) {
        client.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(take(&mut server, second.len()).await, second);
    client.write_all(b" at all").await.unwrap();
    assert_eq!(take(&mut server, 7).await, b" at all");
}

#[tokio::test]
async fn a_second_hello_for_another_name_never_reaches_the_server() {
    for other in ["evil.example", "other.example"] {
        let first = hello("good.example");
        let plan = Plan { leases: vec!["good.example", "other.example"], ..Plan::on_port(443) };
        let world = World::new(plan).await;
        let mut client = world.say(&first).await;
        let mut server = world.accepted().await;
        take(&mut server, first.len()).await;
        server.write_all(&retry_request()).await.unwrap();
        take(&mut client, retry_request().len()).await;
        client.write_all(&[&CHANGE_CIPHER_SPEC[..], &hello(other)].concat()).await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), [0x15, 3, 3, 0, 2, 2, 0x31]);
        let arrived = rest(&mut server).await.unwrap();
        assert!(CHANGE_CIPHER_SPEC.starts_with(&arrived), "{arrived:?}");
        world.ends(Ending::NameChanged).await;
    }
}

#[tokio::test]
async fn a_second_hello_sent_before_the_server_asked_for_it_waits_to_be_judged() {
    let first = hello("good.example");
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.say(&[&first[..], &hello("evil.example")].concat()).await;
    // One hello a record: what follows in the same segment is the next record.
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, first.len()).await, first);
    sleep(Duration::from_millis(50)).await;
    assert!(server.try_read(&mut [0; 1]).is_err(), "nothing more before the answer");
    server.write_all(&retry_request()).await.unwrap();
    assert!(rest(&mut client).await.unwrap().ends_with(&[0x15, 3, 3, 0, 2, 2, 0x31]));
    assert_eq!(rest(&mut server).await.unwrap(), b"");
}

/// A record of early data.
fn early_data(len: u8) -> Vec<u8> {
    [&[23, 3, 3, 0, len][..], &vec![b'e'; usize::from(len)]].concat()
}

#[tokio::test]
async fn early_data_does_not_wait_and_a_second_hello_behind_it_does() {
    let first = hello("good.example");
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.say(&[&first[..], &CHANGE_CIPHER_SPEC, &early_data(90)[..40]].concat()).await;
    let mut server = world.accepted().await;
    let ahead = [&first[..], &CHANGE_CIPHER_SPEC, &early_data(90)[..40]].concat();
    assert_eq!(take(&mut server, ahead.len()).await, ahead);
    // The server asks again in the middle of a record.
    server.write_all(&retry_request()).await.unwrap();
    take(&mut client, retry_request().len()).await;
    let rest_of_it = [&early_data(90)[40..], &early_data(7)].concat();
    client.write_all(&[&rest_of_it[..], &hello("evil.example")].concat()).await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), [0x15, 3, 3, 0, 2, 2, 0x31]);
    let arrived = rest(&mut server).await.unwrap();
    assert!(rest_of_it.starts_with(&arrived), "{arrived:?}");
    world.ends(Ending::NameChanged).await;
}

#[tokio::test]
async fn early_data_and_then_a_second_hello_for_the_same_name_are_served() {
    let first = hello("good.example");
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.say(&[&first[..], &early_data(30)].concat()).await;
    let mut server = world.accepted().await;
    take(&mut server, first.len() + 35).await;
    server.write_all(&retry_request()).await.unwrap();
    take(&mut client, retry_request().len()).await;
    let more = [&early_data(200)[..], &hello("good.example"), b"and on"].concat();
    for piece in more.chunks(33) {
        client.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(take(&mut server, more.len()).await, more);
}

#[tokio::test]
async fn where_records_cannot_be_told_a_server_that_asks_again_gets_nothing_more() {
    let first = hello("good.example");
    let world = World::new(Plan::on_port(443)).await;
    let mut client = world.say(&[&first[..], b"no record"].concat()).await;
    let mut server = world.accepted().await;
    take(&mut server, first.len() + 9).await;
    server.write_all(&retry_request()).await.unwrap();
    take(&mut client, retry_request().len()).await;
    client.write_all(&hello("good.example")).await.unwrap();
    let _ = rest(&mut client).await;
    assert_eq!(rest(&mut server).await.unwrap_or_default(), b"");
    world.ends(Ending::Garbled).await;
}

#[tokio::test]
async fn observing_reads_on_past_a_request_without_a_name_to_what_is_denied() {
    let deny = Rule { action: Action::Deny, mode: Some(Mode::Enforce), ..rule("deny", &["evil.example"]) };
    let plan = Plan { mode: Mode::Observe, ..Plan::on_port(80) };
    let world = World::new(Plan { rules: vec![deny, rule("good", &["good.example"])], ..plan }).await;
    let nameless = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec();
    let sent = [nameless.clone(), get("other.example"), get("evil.example")].concat();
    let mut client = world.say(&sent).await;
    let mut server = world.accepted().await;
    let passed = [nameless, get("other.example")].concat();
    assert_eq!(take(&mut server, passed.len()).await, passed);
    server.write_all(&ANSWER.repeat(2)).await.unwrap();
    let told = rest(&mut client).await.unwrap();
    assert!(told[ANSWER.len() * 2..].starts_with(b"HTTP/1.1 403 "));
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    let said: Vec<_> = lines(&world).into_iter().map(|(name, _)| name).collect();
    assert_eq!(said, ["", "other.example", "evil.example"]);
}

/// The address rule comes into force only after the first hello was judged by its name.
#[tokio::test]
async fn a_second_hello_without_a_name_is_refused_though_an_address_rule_would_now_allow_it() {
    let mut plan = Plan::on_port(6379);
    plan.rules[0].ports = Ports(vec![(6379, 6379)]);
    plan.rules.push(address_rule("db", &["db.example"]));
    let world = World::new(plan).await;
    let first = hello("good.example");
    let mut client = world.say(&first).await;
    let mut server = world.accepted().await;
    take(&mut server, first.len()).await;
    observe(&world.gate, "db.example");
    server.write_all(&retry_request()).await.unwrap();
    take(&mut client, retry_request().len()).await;
    // A client that was given an address sends no name.
    client.write_all(&hello("192.0.2.1")).await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), [0x15, 3, 3, 0, 2, 2, 0x31]);
    assert_eq!(rest(&mut server).await.unwrap(), b"", "the second hello did not arrive");
    let closed = world.closed().await;
    assert_eq!((closed.ending, closed.sent), (Ending::NameChanged, first.len() as u64));
    let told: Vec<_> =
        world.decided().into_iter().map(|decided| (decided.name.is_some(), decided.reason)).collect();
    assert_eq!(told, [(true, Reason::Allowed), (false, Reason::NameChanged)]);
}
