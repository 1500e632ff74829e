//! The client program against the demo's own servers, and against servers that say no in every way there is.

use std::future::Future;
use std::io::{BufReader, Cursor};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::demo::map::{ALSO, CERTIFIED, GOOD, Map, OTHER, PRIVATE, TUNNEL};
use crate::demo::order::request;
use crate::demo::world::World;
use crate::facts::Transport;
use crate::props::{Authority, Mark, Notes};
use crate::sys::socket::reset_on_close;
use crate::wire::dns::{Query, ede, qtype, query, rcode, refusal};

use super::*;

/// Runs the program on one order, as its own thread of orders and answers.
async fn act_on(order: Order, trust: &str) -> Answer {
    let line = Posted { id: 3, order, trust: trust.to_owned() }.to_line();
    let lines = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        act(BufReader::new(Cursor::new(line)), &mut answers).unwrap();
        String::from_utf8(answers).unwrap()
    });
    let (id, answer) = Answer::read(lines.await.unwrap().trim_end()).unwrap();
    assert_eq!(id, 3);
    answer
}

fn https(to: SocketAddr, sni: Option<&str>, host: &str) -> Order {
    Order::Https { to, sni: sni.map(str::to_owned), host: host.to_owned() }
}

fn http(to: SocketAddr, hosts: &[&str]) -> Order {
    Order::Http { to, hosts: hosts.iter().map(|host| (*host).to_owned()).collect() }
}

fn question(server: SocketAddr, over: Transport, name: &str, qtype: u16) -> Order {
    Order::Ask { server, over, name: name.to_owned(), qtype }
}

async fn world() -> (Map, Authority, World) {
    let map = Map::on_loopback();
    let authority = Authority::new(&CERTIFIED).unwrap();
    let world = World::open(&map, authority.server.clone()).await.unwrap();
    (map, authority, world)
}

#[tokio::test]
async fn pages_come_over_tls_and_in_clear_and_all_is_written_down() {
    let (map, authority, world) = world().await;
    let (tls, plain) = (map.https_at(map.shared), map.http_at(map.also));
    for sni in [Some(GOOD), None] {
        let answer = act_on(https(tls, sni, GOOD), &authority.pem).await;
        assert_eq!((answer.heard, answer.pages), (Heard::Passed, 1), "{answer:?}");
        assert_eq!(answer.detail, format!("hello from {} to {GOOD}", tls.ip()));
    }
    let answer = act_on(http(plain, &[ALSO, OTHER]), "").await;
    assert_eq!((answer.heard, answer.pages), (Heard::Passed, 2), "{answer:?}");
    assert_ne!(answer.port, 0);

    let Notes { arrivals, questions } = world.seen.since(Mark::default());
    let hosts: Vec<_> = arrivals.iter().map(|arrival| (arrival.at, arrival.hosts.join(" "))).collect();
    assert_eq!(hosts, [(tls, GOOD.into()), (tls, GOOD.into()), (plain, format!("{ALSO} {OTHER}"))]);
    // The hello, its key share and the request: more than the request alone.
    assert!(arrivals[0].bytes > request(GOOD, true).len() + 200, "{arrivals:?}");
    assert_eq!(arrivals[2].bytes, request(ALSO, false).len() + request(OTHER, true).len());
    assert!(questions.is_empty());
}

#[tokio::test]
async fn another_authoritys_certificate_is_not_trusted() {
    let (map, _, _world) = world().await;
    let stranger = Authority::new(&CERTIFIED).unwrap();
    let answer = act_on(https(map.https_at(map.shared), Some(GOOD), GOOD), &stranger.pem).await;
    assert_eq!(answer.heard, Heard::Untrusted, "{answer:?}");
}

#[tokio::test]
async fn questions_are_answered_over_udp_and_tcp_and_all_are_written_down() {
    let (map, _, world) = world().await;
    let (resolver, rogue) = (map.dns_at(map.resolver), map.dns_at(map.attacker));
    for over in [Transport::Udp, Transport::Tcp] {
        for (server, address) in [(resolver, map.shared), (rogue, map.attacker)] {
            let answer = act_on(question(server, over, GOOD, qtype::A), "").await;
            assert_eq!((answer.heard, answer.addresses), (Heard::Passed, vec![address.into()]));
        }
    }
    let answer = act_on(question(resolver, Transport::Udp, PRIVATE, qtype::AAAA), "").await;
    assert_eq!(answer.heard, Heard::NoAddress);
    let answer = act_on(question(resolver, Transport::Udp, TUNNEL, qtype::A), "").await;
    assert_eq!(answer.heard, Heard::Other, "{answer:?}");

    let Notes { arrivals, questions } = world.seen.since(Mark::default());
    let asked: Vec<_> = questions.iter().map(|question| (question.at, question.name.as_str())).collect();
    let good = [(resolver, GOOD), (rogue, GOOD)];
    assert_eq!(asked, [&good[..], &good, &[(resolver, PRIVATE), (resolver, TUNNEL)]].concat());
    let dialled: Vec<_> = arrivals.iter().map(|arrival| arrival.at).collect();
    assert_eq!(dialled, [resolver, rogue]);
}

/// A server that takes one connection after the other.
async fn scripted<F: Future<Output = ()> + Send + 'static>(
    script: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            script(stream).await;
        }
    });
    at
}

/// Says something once the client has begun, and closes when the client has.
async fn say(mut stream: TcpStream, words: &[u8]) {
    let mut heard = [0; 4096];
    assert_ne!(stream.read(&mut heard).await.unwrap(), 0);
    stream.write_all(words).await.unwrap();
    stream.shutdown().await.unwrap();
    while stream.read(&mut heard).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn a_tls_alert_is_told_from_other_ends() {
    let pem = Authority::new(&CERTIFIED).unwrap().pem;
    let hello = |to| https(to, Some(GOOD), GOOD);
    let denied = scripted(|stream| say(stream, b"\x15\x03\x03\x00\x02\x02\x31")).await;
    let answer = act_on(hello(denied), &pem).await;
    assert_eq!(answer.heard, Heard::AccessDenied, "{answer:?}");
    let other = scripted(|stream| say(stream, b"\x15\x03\x03\x00\x02\x02\x28")).await;
    let answer = act_on(hello(other), &pem).await;
    assert_eq!(answer.heard, Heard::Other, "{answer:?}");
    let wordless = scripted(|stream| say(stream, b"")).await;
    let answer = act_on(hello(wordless), &pem).await;
    assert_eq!(answer.heard, Heard::Closed, "{answer:?}");
}

#[tokio::test]
async fn a_reset_a_closed_port_and_silence_are_told_apart() {
    let to = scripted(|mut stream| async move {
        stream.read_u8().await.unwrap();
        reset_on_close(&stream).unwrap();
    })
    .await;
    assert_eq!(act_on(http(to, &[GOOD]), "").await.heard, Heard::Reset);

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(act_on(http(nobody, &[GOOD]), "").await.heard, Heard::Refused);
    let ask = question(nobody, Transport::Udp, GOOD, qtype::A);
    assert_eq!(act_on(ask, "").await.heard, Heard::Refused);

    let mute = scripted(|mut stream| async move {
        let page = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        stream.read_u8().await.unwrap();
        stream.write_all(page.as_bytes()).await.unwrap();
        while stream.read_u8().await.is_ok() {}
    })
    .await;
    let answer = act_on(http(mute, &[GOOD, OTHER]), "").await;
    assert_eq!((answer.heard, answer.pages), (Heard::Timeout, 1));
}

#[tokio::test]
async fn a_refusal_in_http_gives_its_reason_and_its_flow() {
    let body = format!("namegate: name_changed\nname: {OTHER}\nflow: 00000000000000ab\n");
    let length = body.len();
    let words =
        format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let to = scripted(move |stream| {
        let words = words.clone();
        async move { say(stream, words.as_bytes()).await }
    })
    .await;
    let answer = act_on(http(to, &[OTHER]), "").await;
    assert_eq!(answer.heard, Heard::Forbidden);
    assert_eq!(answer.reason.as_deref(), Some("name_changed"));
    assert_eq!(answer.flow.as_deref(), Some("00000000000000ab"));
}

#[tokio::test]
async fn a_refusal_in_dns_gives_its_reason() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut message = [0; 2048];
        let (length, peer) = socket.recv_from(&mut message).await.unwrap();
        let query: Query<'_> = query(&message[..length]).unwrap();
        let text = format!("name_not_allowed: {TUNNEL}");
        let reply = refusal(&query, rcode::REFUSED, Some((ede::BLOCKED, &text)), 1232);
        socket.send_to(&reply, peer).await.unwrap();
    });
    let answer = act_on(question(server, Transport::Udp, TUNNEL, 16), "").await;
    assert_eq!(answer.heard, Heard::DnsRefused, "{answer:?}");
    assert_eq!(answer.reason.as_deref(), Some("name_not_allowed"));
    assert_eq!(answer.detail, format!("name_not_allowed: {TUNNEL}"));
}

#[test]
fn what_is_no_order_is_an_error() {
    let error = act("{\"do\":\"fly\"}\n".as_bytes(), Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
