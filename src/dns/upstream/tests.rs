//! Tests of the upstreams over loopback, with servers that lie, stall and refuse.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::dns::Denial;
use crate::facts::Name;
use crate::wire::dns::answer;

pub(super) const ANY: &str = "127.0.0.1:0";

pub(super) fn config(upstreams: Vec<Upstream>) -> DnsConfig {
    DnsConfig {
        cache: 0,
        upstreams,
        ca_file: None,
        types: vec![1],
        denial: Denial::Refused,
        timeout: Duration::from_millis(1500),
        max_inflight: 10,
        max_inflight_per_client: 10,
        questions_per_second: 100,
        new_names_per_minute: 100,
        no_ipv6: false,
    }
}

pub(super) fn ask() -> Ask {
    Ask::new(Name::parse("www.example.com").unwrap(), 1)
}

/// The answer to `query`: its own bytes as a response, with one address.
pub(super) fn answered(query: &[u8], last: u8) -> Vec<u8> {
    let mut answer = query.to_vec();
    let end = 12 + answer[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    answer.truncate(end);
    answer[2] |= 0x80;
    answer[3] = 0x80;
    answer[7] = 1;
    answer[11] = 0;
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, last]);
    answer
}

pub(super) fn given(bytes: &[u8]) -> Vec<String> {
    answer(bytes).unwrap().addresses.iter().map(|address| address.ip.to_string()).collect()
}

async fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(ANY).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// UDP and TCP on one port, as real servers have it.
async fn both() -> (UdpSocket, TcpListener, SocketAddr) {
    loop {
        let (socket, address) = udp().await;
        if let Ok(listener) = TcpListener::bind(address).await {
            return (socket, listener, address);
        }
    }
}

pub(super) async fn framed<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await.ok()?)];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

pub(super) async fn put<S: AsyncWrite + Unpin>(stream: &mut S, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await.unwrap();
    stream.flush().await.unwrap();
}

/// Answers every question of every connection with this address; counts connections.
fn serve_tcp(listener: TcpListener, last: u8) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while let Some(query) = framed(&mut stream).await {
                    put(&mut stream, &answered(&query, last)).await;
                }
            });
        }
    });
    count
}

async fn heard(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 1500];
    let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
    (buffer[..len].to_vec(), peer)
}

#[tokio::test]
async fn forged_answers_are_passed_over_until_the_right_one_comes() {
    let (server, address) = udp().await;
    let forger = UdpSocket::bind(ANY).await.unwrap();
    tokio::spawn(async move {
        let (query, peer) = heard(&server).await;
        let mut wrong_id = answered(&query, 66);
        wrong_id[0] ^= 1;
        let mut wrong_question = answered(&query, 66);
        wrong_question[13] = b'x';
        let mut wrong_type = answered(&query, 66);
        wrong_type[30] = 28;
        let mut no_response = answered(&query, 66);
        no_response[2] &= 0x7f;
        forger.send_to(&answered(&query, 66), peer).await.unwrap();
        for bytes in [&wrong_id, &wrong_question, &wrong_type, &no_response, &vec![1, 2, 3]] {
            server.send_to(bytes, peer).await.unwrap();
        }
        server.send_to(&answered(&query, 1), peer).await.unwrap();
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(address)])).unwrap();
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
}

#[tokio::test]
async fn ids_ports_and_letters_differ_from_question_to_question() {
    let (server, address) = udp().await;
    let pool = Arc::new(Pool::new(&config(vec![Upstream::Udp(address)])).unwrap());
    let mut seen = Vec::new();
    let mut asking = Vec::new();
    for _ in 0..8 {
        let pool = Arc::clone(&pool);
        asking.push(tokio::spawn(async move { pool.ask(&ask()).await.unwrap() }));
        seen.push(heard(&server).await);
    }
    for (query, peer) in &seen {
        server.send_to(&answered(query, 1), peer).await.unwrap();
    }
    for task in asking {
        task.await.unwrap();
    }
    let ids: HashSet<_> = seen.iter().map(|(query, _)| query[..2].to_vec()).collect();
    let ports: HashSet<_> = seen.iter().map(|(_, peer)| peer.port()).collect();
    let spellings: HashSet<_> = seen.iter().map(|(query, _)| query[12..30].to_vec()).collect();
    assert!(ids.len() >= 7 && ports.len() == 8 && spellings.len() >= 6);
}

#[tokio::test]
async fn an_answer_in_another_case_is_not_trusted_but_asked_again_over_tcp() {
    let (server, listener, address) = both().await;
    serve_tcp(listener, 2);
    tokio::spawn(async move {
        loop {
            let (query, peer) = heard(&server).await;
            let mut flipped = answered(&query, 66);
            flipped[13] ^= 0x20;
            server.send_to(&flipped, peer).await.unwrap();
        }
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(address)])).unwrap();
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.2"]);
}

#[tokio::test]
async fn a_truncated_answer_is_asked_again_over_tcp() {
    let (server, listener, address) = both().await;
    let connections = serve_tcp(listener, 2);
    tokio::spawn(async move {
        loop {
            let (query, peer) = heard(&server).await;
            let mut truncated = answered(&query, 1);
            truncated[2] |= 2;
            server.send_to(&truncated, peer).await.unwrap();
        }
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(address)])).unwrap();
    for _ in 0..3 {
        assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.2"]);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let (server, address) = udp().await;
    tokio::spawn(async move {
        let (lost, _) = heard(&server).await;
        let (query, peer) = heard(&server).await;
        assert_eq!(lost, query);
        server.send_to(&answered(&query, 1), peer).await.unwrap();
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(address)])).unwrap();
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
}

#[tokio::test]
async fn a_server_from_before_edns_is_asked_without() {
    let (server, address) = udp().await;
    tokio::spawn(async move {
        let (query, peer) = heard(&server).await;
        assert_eq!(query[11], 1);
        let mut refusal = answered(&query, 1);
        refusal.truncate(refusal.len() - 16);
        refusal[3] = 1;
        refusal[7] = 0;
        server.send_to(&refusal, peer).await.unwrap();
        let (query, peer) = heard(&server).await;
        assert_eq!(query[11], 0);
        server.send_to(&answered(&query, 1), peer).await.unwrap();
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(address)])).unwrap();
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
}

#[tokio::test]
async fn a_dead_upstream_is_passed_over_and_remembered_for_a_while() {
    let (silent, silent_address) = udp().await;
    let (server, address) = udp().await;
    tokio::spawn(async move {
        loop {
            let (query, peer) = heard(&server).await;
            server.send_to(&answered(&query, 1), peer).await.unwrap();
        }
    });
    let mut config = config(vec![Upstream::Udp(silent_address), Upstream::Udp(address)]);
    config.timeout = Duration::from_millis(300);
    let pool = Pool::new(&config).unwrap();
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
    let again = timeout(Duration::from_millis(250), pool.ask(&ask())).await.unwrap();
    assert_eq!(given(&again.unwrap()), ["203.0.113.1"]);
    let mut buffer = [0; 512];
    let asked_once = silent.try_recv(&mut buffer).is_ok() && silent.try_recv(&mut buffer).is_err();
    assert!(asked_once);
}

#[tokio::test]
async fn a_refusing_upstream_is_passed_over_but_its_word_counts_when_no_other_has_one() {
    let (refusing, refusing_address) = udp().await;
    tokio::spawn(async move {
        loop {
            let (query, peer) = heard(&refusing).await;
            let mut refusal = answered(&query, 66);
            refusal[3] |= 5;
            refusing.send_to(&refusal, peer).await.unwrap();
        }
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(refusing_address)])).unwrap();
    assert_eq!(answer(&pool.ask(&ask()).await.unwrap()).unwrap().rcode, 5);
    let (server, address) = udp().await;
    tokio::spawn(async move {
        let (query, peer) = heard(&server).await;
        server.send_to(&answered(&query, 1), peer).await.unwrap();
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(refusing_address), Upstream::Udp(address)])).unwrap();
    assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
}

#[tokio::test]
async fn answers_over_one_connection_may_come_in_any_order() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let first = framed(&mut stream).await.unwrap();
        let second = framed(&mut stream).await.unwrap();
        put(&mut stream, &answered(&second, 2)).await;
        put(&mut stream, &answered(&first, 1)).await;
    });
    let pool = Pool::new(&config(vec![Upstream::Tcp(address)])).unwrap();
    let other = Ask::new(Name::parse("other.example.com").unwrap(), 1);
    let first_ask = ask();
    let (first, second) = tokio::join!(pool.ask(&first_ask), pool.ask(&other));
    assert_eq!(given(&first.unwrap()), ["203.0.113.1"]);
    assert_eq!(given(&second.unwrap()), ["203.0.113.2"]);
}

#[tokio::test]
async fn a_connection_closed_behind_our_back_is_replaced() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // One question a connection, as some servers do.
            let query = framed(&mut stream).await.unwrap();
            put(&mut stream, &answered(&query, 1)).await;
        }
    });
    let pool = Pool::new(&config(vec![Upstream::Tcp(address)])).unwrap();
    for _ in 0..4 {
        assert_eq!(given(&pool.ask(&ask()).await.unwrap()), ["203.0.113.1"]);
    }
}

#[tokio::test]
async fn a_stream_that_answers_something_else_is_an_error_not_an_answer() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let query = framed(&mut stream).await.unwrap();
            let mut wrong = answered(&query, 66);
            wrong[13] = b'x';
            put(&mut stream, &wrong).await;
        }
    });
    let pool = Pool::new(&config(vec![Upstream::Tcp(address)])).unwrap();
    assert!(matches!(pool.ask(&ask()).await, Err(UpstreamError::Closed)));
}

#[tokio::test]
async fn an_unusable_ca_file_is_an_error_at_start() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let name = Name::parse("dns.example.net").unwrap();
    let mut config = config(vec![Upstream::Tls("192.0.2.1:853".parse().unwrap(), name)]);
    config.ca_file = Some(empty.path().to_path_buf());
    assert!(matches!(Pool::new(&config), Err(StartError::Certificates(_))));
    config.ca_file = Some("/nonexistent/ca.pem".into());
    assert!(matches!(Pool::new(&config), Err(StartError::Read { .. })));
}

#[tokio::test]
async fn an_answer_that_comes_late_or_twice_serves_no_other_question() {
    let (server, address) = udp().await;
    tokio::spawn(async move {
        let (first, asked_by) = heard(&server).await;
        server.send_to(&answered(&first, 1), asked_by).await.unwrap();
        let (second, peer) = heard(&server).await;
        // Again, and otherwise: a port may serve several questions, one after the other.
        for to in [asked_by, peer] {
            for last in [1, 66] {
                server.send_to(&answered(&first, last), to).await.ok();
            }
        }
        server.send_to(&answered(&second, 2), peer).await.unwrap();
        server.send_to(&answered(&second, 66), peer).await.ok();
        let (third, peer) = heard(&server).await;
        server.send_to(&answered(&second, 66), peer).await.unwrap();
        server.send_to(&answered(&third, 3), peer).await.unwrap();
    });
    let pool = Pool::new(&config(vec![Upstream::Udp(address)])).unwrap();
    for right in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        assert_eq!(given(&pool.ask(&ask()).await.unwrap()), [right]);
    }
}
