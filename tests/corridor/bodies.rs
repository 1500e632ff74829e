//! HTTP/1 as it is spoken: bodies of every kind arrive as they were sent, and a name behind them does not.

use namegate::facts::Fault;
use namegate::gate::Reason;
use namegate::record::Ending;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::world::*;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn post(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: good.example\r\n{fields}\r\n\r\n").into_bytes()
}

/// The client hears these answers, and then a refusal of another name; the server hears no more.
async fn is_refused_after(answers: &[u8], client: &mut TcpStream, server: &mut TcpStream) {
    let told = rest(client).await.unwrap();
    let (first, refusal) = told.split_at(answers.len().min(told.len()));
    assert_eq!(first, answers);
    let refusal = String::from_utf8_lossy(refusal);
    assert!(refusal.starts_with("HTTP/1.1 403 ") && refusal.contains("name: evil.example\n"), "{refusal}");
    assert_eq!(rest(server).await.unwrap(), b"");
}

#[tokio::test]
async fn extensions_and_trailers_arrive_as_they_were_sent() {
    let body = b"4;sign=\"a;b\"\r\nwiki\r\n5\r\npedia\r\n0\r\nX-Sum: 1234\r\nX-Sign:\r\n\r\n";
    let sent = [post("Transfer-Encoding: chunked\r\nTrailer: X-Sum"), body.to_vec()].concat();
    for step in [1, 7, 1000] {
        let world = World::new(Plan::on_port(80)).await;
        let mut client = world.connect().await;
        client.set_nodelay(true).unwrap();
        for piece in [&sent[..], &get("evil.example")].concat().chunks(step) {
            client.write_all(piece).await.unwrap();
        }
        let mut server = world.accepted().await;
        assert_eq!(take(&mut server, sent.len()).await, sent);
        server.write_all(ANSWER).await.unwrap();
        is_refused_after(ANSWER, &mut client, &mut server).await;
    }
}

#[tokio::test]
async fn a_trailer_that_names_a_host_ends_the_connection_before_it_is_whole() {
    for trailer in ["Host: evil.example", "A: http://evil.example/ HTTP/1.1"] {
        let world = World::new(Plan::on_port(80)).await;
        let head = post("Transfer-Encoding: chunked");
        let mut client = world.say(&head).await;
        let mut server = world.accepted().await;
        take(&mut server, head.len()).await;
        let body = format!("4\r\nwiki\r\n0\r\n{trailer}\r\n\r\n");
        client.write_all(body.as_bytes()).await.unwrap();
        let arrived = rest(&mut server).await.unwrap_or_default();
        assert!(!String::from_utf8_lossy(&arrived).contains("evil"), "{arrived:?}");
        world.ends(Ending::Garbled).await;
    }
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_carried_and_what_follows_it_is_judged() {
    let world = World::new(Plan::on_port(80)).await;
    let head = post("Content-Length: 4\r\nExpect: 100-continue");
    let mut client = world.say(&head).await;
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, head.len()).await, head);
    server.write_all(CONTINUE).await.unwrap();
    assert_eq!(take(&mut client, CONTINUE.len()).await, CONTINUE);
    client.write_all(&[b"wiki", &get("evil.example")[..]].concat()).await.unwrap();
    assert_eq!(take(&mut server, 4).await, b"wiki");
    server.write_all(ANSWER).await.unwrap();
    is_refused_after(ANSWER, &mut client, &mut server).await;
}

#[tokio::test]
async fn an_early_answer_does_not_end_a_body() {
    let world = World::new(Plan::on_port(80)).await;
    let head = post("Content-Length: 100000");
    let mut client = world.say(&[&head[..], b"xxxx"].concat()).await;
    let mut server = world.accepted().await;
    take(&mut server, head.len() + 4).await;
    server.write_all(ANSWER).await.unwrap();
    assert_eq!(take(&mut client, ANSWER.len()).await, ANSWER);
    let body = get("evil.example").repeat(3000);
    client.write_all(&body[..99_996]).await.unwrap();
    client.write_all(&get("evil.example")).await.unwrap();
    assert_eq!(take(&mut server, 99_996).await, &body[..99_996]);
    is_refused_after(b"", &mut client, &mut server).await;
}

#[tokio::test]
async fn a_pipeline_of_thousands_is_carried_up_to_the_name_that_is_denied() {
    const REQUESTS: usize = 3000;
    let good = get("good.example");
    let world = World::new(Plan::on_port(80)).await;
    let client = world.connect().await;
    let (mut from, mut to) = client.into_split();
    let sent = [good.repeat(REQUESTS), get("evil.example"), good.clone()].concat();
    let sending = tokio::spawn(async move {
        let _ = to.write_all(&sent).await;
        to
    });
    let mut server = world.accepted().await;
    let serving = tokio::spawn(async move {
        for _ in 0..REQUESTS {
            assert_eq!(take(&mut server, get("good.example").len()).await, get("good.example"));
            server.write_all(ANSWER).await.unwrap();
        }
        assert_eq!(rest(&mut server).await.unwrap(), b"");
    });
    let mut told = Vec::new();
    within(tokio::io::AsyncReadExt::read_to_end(&mut from, &mut told)).await.unwrap();
    within(serving).await.unwrap();
    drop(within(sending).await.unwrap());
    let (answers, refusal) = told.split_at(ANSWER.len() * REQUESTS);
    assert_eq!(answers, ANSWER.repeat(REQUESTS));
    assert!(refusal.starts_with(b"HTTP/1.1 403 "));
    assert_eq!(world.decided().len(), 2, "one decision a name");
}

#[tokio::test]
async fn old_and_rare_forms_of_requests_pass_for_the_name_they_name() {
    for sent in [
        "GET / HTTP/1.0\r\nHost: good.example\r\nConnection: keep-alive\r\n\r\n",
        "GET http://good.example/x HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "GET http://good.example/x HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: good.example\r\n\r\n",
        "PROPFIND / HTTP/1.1\r\nHost: good.example:80\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let world = World::new(Plan::on_port(80)).await;
        let mut client = world.say(&[sent.as_bytes(), &get("evil.example")].concat()).await;
        let mut server = world.accepted().await;
        assert_eq!(take(&mut server, sent.len()).await, sent.as_bytes());
        server.write_all(ANSWER).await.unwrap();
        is_refused_after(ANSWER, &mut client, &mut server).await;
    }
}

#[tokio::test]
async fn what_names_nobody_or_two_is_refused_first_and_later() {
    let nameless = (Reason::Nameless, None);
    let garbled = |fault| (Reason::Garbled, Some(fault));
    for (sent, (reason, fault)) in [
        ("GET /\r\n", nameless),
        ("GET / HTTP/1.0\r\n\r\n", nameless),
        ("GET / HTTP/1.1\r\n\r\n", nameless),
        ("CONNECT good.example:80 HTTP/1.1\r\nHost: good.example\r\n\r\n", garbled(Fault::RequestLine)),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", garbled(Fault::HostMismatch)),
        ("GET / HTTP/1.1\r\nHost: good.example\r\nHost: evil.example\r\n\r\n", garbled(Fault::TwoNames)),
        ("GET / HTTP/1.1\r\nHost : good.example\r\n\r\n", garbled(Fault::HeaderField)),
        ("GET / HTTP/1.1\nHost: good.example\n\n", garbled(Fault::RequestLine)),
        ("GET / HTTP/1.1\r\nHost: good.example\r\nX: y\r\n z\r\n\r\n", garbled(Fault::HeaderField)),
        ("GET / HTTP/1.1\r\nHost: good.example\r\nX: \0\r\n\r\n", garbled(Fault::HeaderField)),
    ] {
        let world = World::new(Plan::on_port(80)).await;
        let _client = world.say(sent.as_bytes()).await;
        let decided = world.decision().await;
        assert_eq!((decided.reason, decided.fault), (reason, fault), "{sent:?}");
        assert!(world.dialled().is_empty());

        let world = World::new(Plan::on_port(80)).await;
        let mut client = world.say(&[&get("good.example"), sent.as_bytes()].concat()).await;
        let mut server = world.accepted().await;
        take(&mut server, get("good.example").len()).await;
        server.write_all(ANSWER).await.unwrap();
        let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
        assert!(told.contains("helloHTTP/1.1 403 "), "{sent:?}: {told}");
        assert!(told.contains(&format!("namegate: {reason}\n")), "{sent:?}: {told}");
        assert_eq!(rest(&mut server).await.unwrap(), b"", "{sent:?}");
    }
}

#[tokio::test]
async fn framing_that_two_servers_read_in_two_ways_never_leaves() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: -1",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding",
    ] {
        let world = World::new(Plan::on_port(80)).await;
        let sent = [post(fields), b"0\r\n\r\n".to_vec(), get("evil.example")].concat();
        let mut client = world.say(&sent).await;
        let told = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
        assert!(
            told.starts_with("HTTP/1.1 403 ") && told.contains("namegate: garbled\n"),
            "{fields}: {told}"
        );
        assert!(world.dialled().is_empty(), "{fields}");
    }
}

/// Bytes that differ at every place for a while.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

#[tokio::test]
async fn bodies_of_many_megabytes_pass_byte_for_byte_and_the_next_request_is_judged() {
    let body = pattern(20 << 20);
    let length = body.len();
    let world = World::new(Plan::on_port(80)).await;
    let head = format!("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: {length}\r\n\r\n");
    let sent = [head.as_bytes(), &body, &get("good.example"), &get("evil.example")].concat();
    let client = world.connect().await;
    let (mut from, mut to) = client.into_split();
    let sending = tokio::spawn(async move {
        // The refusal ends the connection while the last bytes may still be under way.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut to, &sent).await;
        to
    });
    let mut server = world.accepted().await;
    assert_eq!(take(&mut server, head.len()).await, head.as_bytes());
    assert!(take(&mut server, length).await == body, "the upload");
    assert_eq!(take(&mut server, get("good.example").len()).await, get("good.example"));
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let answers = [answer.as_bytes(), &body, answer.as_bytes(), &body].concat();
    let serving = tokio::spawn(async move {
        server.write_all(&answers).await.unwrap();
        assert_eq!(rest(&mut server).await.unwrap(), b"", "nothing of the denied request");
        answers
    });
    let mut told = Vec::new();
    within(tokio::io::AsyncReadExt::read_to_end(&mut from, &mut told)).await.unwrap();
    let answers = within(serving).await.unwrap();
    assert!(told[..answers.len()] == answers, "the downloads");
    assert!(told[answers.len()..].starts_with(b"HTTP/1.1 403 "));
    drop(within(sending).await.unwrap());
    let closed = world.closed().await;
    assert_eq!(closed.ending, Ending::NameChanged);
    assert_eq!(closed.received, answers.len() as u64);
    assert_eq!(closed.sent, (head.len() + length + get("good.example").len()) as u64);
}
