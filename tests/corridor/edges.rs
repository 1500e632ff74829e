//! Where ends of stream, refusals and deadlines meet: nothing hangs, nothing is lost, nothing runs hot.

use std::time::Duration;

use namegate::gate::Mode;
use namegate::record::Ending;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::world::*;

const EMPTY_ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A flow whose first request for `good.example` has reached the server, followed by what else was said.
async fn asked(plan: Plan, more: &[u8]) -> (World, TcpStream, TcpStream) {
    let first = get("good.example");
    let world = World::new(plan).await;
    let client = world.say(&[&first[..], more].concat()).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, first.len()).await, first);
    (world, client, server)
}

/// Reads once; how many bytes came, zero at the end of stream.
async fn read_once(stream: &mut TcpStream) -> std::io::Result<usize> {
    within(stream.read(&mut [0; 4096])).await
}

#[tokio::test]
async fn an_upload_goes_on_after_a_second_hello_that_came_in_two_pieces() {
    let plan = Plan::on_port(443);
    let deadline = plan.config.sniff_timeout;
    let world = World::new(plan).await;
    let hello = hello("good.example");
    let mut client = world.say(&hello).await;
    let mut server = world.accepted().await;
    take(&mut server, hello.len()).await;
    server.write_all(&retry_request()).await.unwrap();
    take(&mut client, retry_request().len()).await;
    client.write_all(&hello[..50]).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    client.write_all(&hello[50..]).await.unwrap();
    assert_eq!(take(&mut server, hello.len()).await, hello);
    client.write_all(b"early").await.unwrap();
    assert_eq!(take(&mut server, 5).await, b"early");
    sleep(deadline + Duration::from_millis(200)).await;
    client.write_all(b"late").await.unwrap();
    assert_eq!(take(&mut server, 4).await, b"late");
}

/// What this thread has used; a test's runtime has no other.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // proc_pid_stat(5): utime and stime, in ticks of which every Linux that Rust runs on has 100 a second.
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::test]
async fn half_a_later_head_in_observe_mode_costs_no_processor_time() {
    let plan = Plan { mode: Mode::Observe, ..Plan::on_port(80) };
    let deadline = plan.config.sniff_timeout;
    let (_world, _client, _server) = asked(plan, b"GET / HT").await;
    sleep(deadline + Duration::from_millis(200)).await;
    let before = processor_time();
    sleep(Duration::from_secs(1)).await;
    let used = processor_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?}");
}

#[tokio::test]
async fn a_policy_that_changed_while_dialling_lets_no_byte_out() {
    let plan = Plan { dial_delay: Duration::from_millis(300), ..Plan::on_port(443) };
    let world = World::new(plan).await;
    let _client = world.say(&hello("good.example")).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.dialled().len(), 1, "dialling is under way");
    world.gate.replace(policy(vec![rule("none", &["else.example"])], Mode::Enforce));
    world.changes.send_modify(|version| *version += 1);
    let mut server = world.accepted().await;
    assert!(!matches!(read_once(&mut server).await, Ok(1..)));
    let closed = world.closed().await;
    assert_eq!((closed.ending, closed.sent), (Ending::Revoked, 0));
}

#[tokio::test]
async fn what_the_server_said_before_it_closed_is_delivered_although_the_client_still_speaks() {
    let world = World::new(Plan::on_port(443)).await;
    let hello = hello("good.example");
    let mut client = world.say(&hello).await;
    let mut server = world.accepted().await;
    take(&mut server, hello.len()).await;
    server.write_all(&ANSWERED).await.unwrap();
    take(&mut client, ANSWERED.len()).await;
    // As much as the sockets on the way take while the client does not read.
    let body = vec![7_u8; 1_500_000];
    within(server.write_all(&body)).await.unwrap();
    server.shutdown().await.unwrap();
    sleep(Duration::from_millis(300)).await;
    drop(server);
    // The first of these is answered by a reset, the second fails.
    for _ in 0..2 {
        client.write_all(b"more").await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert!(rest(&mut client).await.unwrap() == body);
}

#[tokio::test]
async fn keep_alive_goes_on_for_long_although_the_framing_of_answers_is_not_followed() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let request = get("good.example");
    let (_world, mut client, mut server) = asked(Plan::on_port(80), b"").await;
    for _ in 0..100 {
        server.write_all(answer).await.unwrap();
        assert_eq!(take(&mut client, answer.len()).await, answer);
        client.write_all(&request).await.unwrap();
        assert_eq!(take(&mut server, request.len()).await, request);
    }
}

#[tokio::test]
async fn the_end_of_stream_of_the_client_is_passed_on_after_half_a_head_was_dropped() {
    let upgrade = b"GET / HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\n\r\n";
    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&[&upgrade[..], b"GET"].concat()).await;
    client.shutdown().await.unwrap();
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, upgrade.len()).await, upgrade);
    sleep(Duration::from_millis(50)).await;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(read_once(&mut server).await.unwrap(), 0);
}

#[tokio::test]
async fn the_end_of_stream_of_a_client_far_ahead_of_the_answers_is_passed_on() {
    let request = get("good.example");
    let (_world, mut client, mut server) =
        asked(Plan::on_port(80), &[request.repeat(65), b"GET".to_vec()].concat()).await;
    client.shutdown().await.unwrap();
    take(&mut server, request.len() * 63).await;
    for _ in 0..66 {
        server.write_all(EMPTY_ANSWER).await.unwrap();
        sleep(Duration::from_millis(2)).await;
    }
    take(&mut server, request.len() * 2).await;
    assert_eq!(read_once(&mut server).await.unwrap(), 0);
}

#[tokio::test]
async fn pipelining_that_always_ends_in_the_middle_of_a_head_is_not_called_silent() {
    let plan = Plan::on_port(80);
    let deadline = plan.config.sniff_timeout;
    let request = get("good.example");
    let (_world, mut client, mut server) = asked(plan, &request[..10]).await;
    let start = Instant::now();
    while start.elapsed() < 3 * deadline {
        sleep(Duration::from_millis(20)).await;
        client.write_all(&[&request[10..], &request[..10]].concat()).await.unwrap();
        assert_eq!(take(&mut server, request.len()).await, request);
        server.write_all(EMPTY_ANSWER).await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_ever_for_the_answers_before_it() {
    for client_leaves in [false, true] {
        let (world, mut client, mut server) = asked(Plan::on_port(80), &get("evil.example")).await;
        server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        take(&mut client, 25).await;
        let start = Instant::now();
        if client_leaves {
            drop(client);
        } else {
            assert!(is_reset(&mut client).await, "half an answer is not followed by a refusal");
        }
        assert!(read_once(&mut server).await.is_err());
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        world.ends(Ending::NameChanged).await;
    }
}

#[tokio::test]
async fn answers_that_keep_coming_before_a_refusal_are_delivered_however_long_they_take() {
    let (_world, mut client, mut server) = asked(Plan::on_port(80), &get("evil.example")).await;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await.unwrap();
    for _ in 0..5 {
        sleep(Duration::from_millis(200)).await;
        server.write_all(b"x").await.unwrap();
    }
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.contains("\r\n\r\nxxxxxHTTP/1.1 403 "), "{told}");
}

#[tokio::test]
async fn a_revocation_in_the_middle_of_an_answer_is_not_followed_by_a_refusal() {
    let (world, mut client, mut server) = asked(Plan::on_port(80), &get("evil.example")).await;
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf";
    server.write_all(half).await.unwrap();
    take(&mut client, half.len()).await;
    world.gate.replace(policy(vec![rule("none", &["else.example"])], Mode::Enforce));
    world.changes.send_modify(|version| *version += 1);
    assert!(!matches!(read_once(&mut client).await, Ok(1..)));
    world.ends(Ending::Revoked).await;
}

#[tokio::test]
async fn a_later_head_request_is_refused_without_a_body() {
    let (_world, mut client, mut server) = asked(Plan::on_port(80), b"").await;
    server.write_all(EMPTY_ANSWER).await.unwrap();
    take(&mut client, EMPTY_ANSWER.len()).await;
    client.write_all(b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.unwrap();
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.starts_with("HTTP/1.1 403 ") && told.ends_with("\r\n\r\n"), "{told}");
}

#[tokio::test]
async fn a_request_hidden_in_the_body_of_a_get_never_reaches_the_server() {
    let hidden = get("evil.example");
    let head = format!("GET / HTTP/1.1\r\nHost: good.example\r\nContent-Length: {}\r\n\r\n", hidden.len());
    let sent = [head.as_bytes(), &hidden].concat();

    let world = World::new(Plan::on_port(80)).await;
    let mut client = world.say(&sent).await;
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.contains("namegate: garbled\n"), "{told}");
    assert!(world.dialled().is_empty());

    let (world, mut client, mut server) = asked(Plan::on_port(80), &sent).await;
    server.write_all(EMPTY_ANSWER).await.unwrap();
    let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
    assert!(told.contains("namegate: garbled\n"), "{told}");
    assert_eq!(rest(&mut server).await.unwrap(), b"");
    world.ends(Ending::Garbled).await;
}
